"""The rules for one request: every refusal, all-or-nothing, repeats. On both databases."""

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress

import pytest
from sqlalchemy import event, text

from producer.contract.explain import explain
from producer.schemas import (
    EnrollmentProblem,
    Kind,
    StudentEnrollmentRequest,
    StudentEnrollmentResponse,
)
from support.chunks import apply_chunk, chunk
from support.databases import count_rows, store_roster
from worker.database.engine import Database
from worker.enrollment.incoming import IncomingRequest
from worker.enrollment.lookups import student_results, students
from worker.enrollment.results import to_response
from worker.enrollment.rules import Decisions
from worker.models import EnrollmentResult
from worker.service import Overlap, add_enrollment, add_enrollments


@pytest.fixture(autouse=True)
def roster(database: Database) -> None:
    """Students A, B (keys 1, 2) and courses M1, M2, M3 (keys 1, 2, 3)."""
    store_roster(database, ["A", "B"], ["M1", "M2", "M3"])


def enroll(
    database: Database,
    student: int | str,
    courses: Sequence[int | str],
    request_id: str = "r",
    *,
    atomic: bool = True,
) -> StudentEnrollmentResponse:
    request = StudentEnrollmentRequest(student_id=student, course_ids=tuple(courses), atomic=atomic)
    return add_enrollment(database, request, request_id)


def decide(database: Database, incoming: IncomingRequest) -> StudentEnrollmentResponse:
    decisions = add_enrollments(database, [incoming])
    return to_response(decisions.decided[0].result, decisions.courses, decisions.sis_ids)


def rows(database: Database) -> set[tuple[int, int]]:
    with database.reading() as connection:
        found = connection.execute(text("SELECT student_id, course_id FROM student_courses"))
        return {(student, course) for student, course in found}


def codes(response: StudentEnrollmentResponse) -> list[str]:
    return [problem.code.value for problem in response.errors]


def test_a_student_is_enrolled_in_every_requested_course(database: Database) -> None:
    response = enroll(database, "A", ["M2", 1])
    assert response.status == "enrolled"
    assert response.student_id == "A"
    assert [(c.id, c.sis_id, c.added) for c in response.enrolled_courses] == [
        (2, "M2", True),
        (1, "M1", True),
    ]
    assert rows(database) == {(1, 1), (1, 2)}


def test_an_unknown_student_is_refused(database: Database) -> None:
    response = enroll(database, "Z", ["M1"])
    assert (response.status, codes(response)) == ("rejected", ["unknown_student"])
    assert "'Z'" in response.errors[0].message
    assert rows(database) == set()


@pytest.mark.parametrize(("asked", "hint"), [("1", "the integer 1"), (99, "the string '99'")])
def test_a_key_is_never_confused_with_a_sis_id(
    database: Database, asked: int | str, hint: str
) -> None:
    student = enroll(database, asked, ["M1"], "by-student")
    course = enroll(database, "A", [asked], "by-course")
    assert (codes(student), codes(course)) == (["unknown_student"], ["unknown_course"])
    assert hint in student.errors[0].message
    assert hint in course.errors[0].message


def test_one_unknown_course_refuses_an_atomic_request(database: Database) -> None:
    response = enroll(database, "A", ["M1", "X", 77])
    assert (response.status, codes(response)) == ("rejected", ["unknown_course"] * 2)
    assert [problem.course_id for problem in response.errors] == ["X", 77]
    assert response.enrolled_courses == ()
    assert rows(database) == set()


def test_a_request_that_is_not_atomic_enrolls_in_its_good_courses(database: Database) -> None:
    response = enroll(database, "A", ["X", "M3"], atomic=False)
    assert (response.status, codes(response)) == ("partial", ["unknown_course"])
    assert [course.sis_id for course in response.enrolled_courses] == ["M3"]
    assert rows(database) == {(1, 3)}


def test_a_request_without_any_good_course_is_rejected_even_if_not_atomic(
    database: Database,
) -> None:
    assert enroll(database, "A", ["X"], atomic=False).status == "rejected"


def test_existing_rows_are_distinguished_from_added_rows(database: Database) -> None:
    enroll(database, "A", ["M1"], "first")
    response = enroll(database, "A", ["M1", "M2"], "second")
    assert [course.added for course in response.enrolled_courses] == [False, True]


def test_two_names_of_one_course_are_one_enrollment(database: Database) -> None:
    response = enroll(database, "A", ["M1", 1])
    assert [course.sis_id for course in response.enrolled_courses] == ["M1"]
    assert response.status == "enrolled"


def test_a_repeated_request_enrolls_once_and_gets_the_first_result(database: Database) -> None:
    first = enroll(database, "A", ["M1", "X"], atomic=False)
    assert enroll(database, "A", ["M1", "X"], atomic=False) == first
    assert count_rows(database, EnrollmentResult) == 1


def test_a_repeated_refusal_stays_a_refusal_after_the_roster_changed(database: Database) -> None:
    first = enroll(database, "A", ["X"])
    store_roster(database, [], ["X"])
    assert enroll(database, "A", ["X"]) == first
    assert enroll(database, "A", ["X"], "a new id").status == "enrolled"


def test_a_result_of_a_newer_version_is_repeated_although_its_code_is_unknown(
    database: Database,
) -> None:
    """Two versions run at the same time during an upgrade."""
    enroll(database, "nobody", ["M1"])
    document = '[{"code": "course_full", "message": "It is full.", "seats": 0}]'
    with database.writing() as connection:
        connection.execute(text("UPDATE enrollment_results SET errors = :e"), {"e": document})
    repeat = enroll(database, "nobody", ["M1"])
    (problem,) = repeat.model_dump(mode="json", warnings=False)["errors"]
    assert (problem["code"], problem["message"]) == ("course_full", "It is full.")
    assert rows(database) == set()


@pytest.mark.parametrize("student", ["A", 1])
@pytest.mark.parametrize("courses", [["M2", "M1"], [2, 1], ["M2", 1]])
def test_a_lone_request_loads_all_that_it_names_in_one_statement(
    database: Database, student: int | str, courses: list[int | str]
) -> None:
    enroll(database, "B", ["M1"], "earlier")
    enroll(database, "A", ["M1"], "before")
    statements: list[str] = []
    event.listen(
        database.engine, "before_cursor_execute", lambda *about: statements.append(about[2])
    )
    response = enroll(database, student, courses)
    # On PostgreSQL, the lock is taken with the driver's `BEGIN`, and the result is stored with the
    # driver's `COMMIT`: see test_lock and test_last_write.
    own = [text for text in statements if not text.startswith("BEGIN")]
    result = ["INSERT"] if database.engine.dialect.name == "sqlite" else []
    assert [text.split()[0] for text in own] == ["SELECT", "INSERT", *result]
    assert (response.status, response.student_id) == ("enrolled", student)
    assert response.student_sis_id == "A"
    assert [(c.id, c.sis_id, c.added) for c in response.enrolled_courses] == [
        (2, "M2", True),
        (1, "M1", False),
    ]
    assert student_results(database, ["A"], 1) == [[response]]
    assert rows(database) == {(1, 1), (1, 2), (2, 1)}


@pytest.mark.parametrize(
    ("student", "courses", "atomic"),
    [("B", ["M1"], True), ("A", ["M2"], True), ("A", ["M1"], False)],
)
def test_a_reused_request_id_is_refused_and_changes_nothing(
    database: Database, student: str, courses: list[str], atomic: bool
) -> None:
    first = enroll(database, "A", ["M1"])
    other = enroll(database, student, courses, atomic=atomic)
    assert (other.status, codes(other)) == ("rejected", ["request_id_reused"])
    assert rows(database) == {(1, 1)}
    assert enroll(database, "A", ["M1"]) == first


def test_a_request_that_breaks_the_contract_has_a_stored_result(database: Database) -> None:
    record = {"student_id": "A", "course_ids": [True], "surprise": "\x00"}
    with pytest.raises(ValueError, match="course_ids") as caught:
        StudentEnrollmentRequest.model_validate(record)
    problems: tuple[EnrollmentProblem, ...] = explain(caught.value)  # type: ignore[arg-type]
    refused = IncomingRequest("bad", record, None, problems)
    response = decide(database, refused)
    assert (response.status, response.student_id) == ("rejected", "A")
    assert {problem.field for problem in response.errors} == {"course_ids[0]", "surprise"}
    assert student_results(database, ["A"], 10) == [[response]]
    assert decide(database, refused) == response


def test_concurrent_deliveries_of_one_request_enroll_once(database: Database) -> None:
    outcomes: list[StudentEnrollmentResponse] = []
    start = threading.Barrier(5)

    def deliver() -> None:
        start.wait()
        outcomes.append(enroll(database, "A", ["M1", "M2"]))

    threads = [threading.Thread(target=deliver) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 5
    assert all(outcome == outcomes[0] for outcome in outcomes)
    assert all(course.added for course in outcomes[0].enrolled_courses)
    assert count_rows(database, EnrollmentResult) == 1


@contextmanager
def meanwhile(database: Database, statement: str, *, committed: bool) -> Iterator[None]:
    """Hold another transaction open; it ends a moment after the block has begun."""
    with database.engine.connect() as other:
        transaction = other.begin()
        other.execute(text(statement))
        end = transaction.commit if committed else transaction.rollback
        ending = threading.Event()

        def finish() -> None:
            ending.set()  # Before the end: the block goes on as soon as the database has it.
            end()

        timer = threading.Timer(0.3, finish)
        timer.start()
        yield
        assert ending.is_set()
        timer.join()


@pytest.mark.parametrize("committed", [True, False])
def test_a_request_waits_for_a_row_that_another_transaction_is_writing(
    database: Database, committed: bool
) -> None:
    row = (
        "INSERT INTO student_courses (student_id, course_id, enrolled_at)"
        " VALUES (1, 1, '2026-09-01 00:00:00+00:00')"
    )
    with meanwhile(database, row, committed=committed):
        response = enroll(database, "A", ["M1", "M2"])
    assert [course.added for course in response.enrolled_courses] == [not committed, True]
    assert student_results(database, ["A"], 1) == [[response]]


@pytest.mark.parametrize("committed", [True, False])
def test_a_course_deleted_while_a_request_is_decided_is_unknown(
    database: Database, committed: bool
) -> None:
    with meanwhile(database, "DELETE FROM courses WHERE id = 1", committed=committed):
        response = enroll(database, "A", ["M1", "M2"])
    assert codes(response) == ["unknown_course"] * committed
    assert rows(database) == (set() if committed else {(1, 1), (1, 2)})


def test_after_a_lone_request_transactions_are_rolled_back_as_before(database: Database) -> None:
    enroll(database, "A", ["M1"])
    with suppress(ZeroDivisionError), database.writing() as connection:
        connection.execute(text("DELETE FROM student_courses"))
        raise ZeroDivisionError
    assert rows(database) == {(1, 1)}


@pytest.mark.parametrize(
    ("student", "sis_id"), [("A", "A"), (1, "A"), ("2", "2"), (99, None), ("nobody", "nobody")]
)
def test_a_result_names_the_sis_id_of_its_student(
    database: Database, student: int | str, sis_id: str | None
) -> None:
    batch = chunk({"sis_id": "2"}, batch_id="a number")
    apply_chunk(database, Kind.STUDENTS, batch)
    response = enroll(database, student, ["NOPE"])
    assert (response.student_id, response.student_sis_id) == (student, sis_id)
    assert student_results(database, [student], 1) == [[response]]


def test_names_from_upstream_may_hold_any_character(database: Database) -> None:
    odd = "Zoë 'Ø' \"$1\" {x} \\ 🎓; DROP TABLE students"
    apply_chunk(database, Kind.STUDENTS, chunk({"sis_id": odd, "name": odd}, batch_id="odd"))
    strange = (odd, "NULL", "{a,b}", ' " ', "\\")
    courses = chunk(*({"sis_id": name} for name in strange), batch_id="strange")
    apply_chunk(database, Kind.COURSES, courses)
    response = enroll(database, odd, strange)
    assert response.student_id == odd
    assert [course.sis_id for course in response.enrolled_courses] == list(strange)
    (found,) = students(database, [odd])
    assert found is not None
    assert (found.sis_id, found.name) == (odd, odd)


def test_a_request_that_must_not_begin_changes_nothing(database: Database) -> None:
    incoming = IncomingRequest(
        "r", {}, StudentEnrollmentRequest(student_id="A", course_ids=("M1",))
    )
    with pytest.raises(ZeroDivisionError):
        add_enrollments(database, [incoming], overlap=Overlap(while_locking=lambda: 1 // 0))
    assert rows(database) == set()
    assert student_results(database, ["A"], 10) == [[]]
    assert decide(database, incoming).status == "enrolled"


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_no_other_writer_of_sqlite_waits_for_the_start_of_a_request(database: Database) -> None:
    def write() -> None:
        path = str(database.engine.url.database)
        with closing(sqlite3.connect(path, timeout=0)) as other:
            other.execute("BEGIN IMMEDIATE")

    incoming = IncomingRequest(
        "r", {}, StudentEnrollmentRequest(student_id="A", course_ids=("M1",))
    )
    add_enrollments(database, [incoming], overlap=Overlap(while_locking=write))
    assert len(rows(database)) == 1


@pytest.mark.parametrize("ids", [["r"], ["r", "s"]])
def test_decisions_can_be_used_while_they_are_committed(database: Database, ids: list[str]) -> None:
    request = StudentEnrollmentRequest(student_id="A", course_ids=("M1",))
    incoming = [IncomingRequest(request_id, {}, request) for request_id in ids]
    used: list[Decisions] = []
    decisions = add_enrollments(database, incoming, overlap=Overlap(while_committing=used.append))
    assert used == [decisions]
    assert [len(results) for results in student_results(database, ["A"], 10)] == [len(ids)]
