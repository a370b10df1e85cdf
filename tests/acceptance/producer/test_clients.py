"""What every client promises: the same tests for the real ones and for the stand-ins."""

import uuid
from collections import deque
from datetime import datetime
from typing import Any, cast

import pytest

from producer.client import EnrollmentClient
from producer.contract.batches import BatchPage, BatchState
from producer.errors import BatchConflict, ClientClosed, InvalidRequest, LookupFailed
from producer.fields import MAX_LOOKUP
from producer.publishing.chunking import CHUNK_ROWS
from producer.schemas import Kind, StudentEnrollmentRequest, StudentRecord
from support.waiting import wait_for


def own_id(name: str = "own") -> str:
    return f"{name}-{uuid.uuid4().hex}"


@pytest.fixture
def client(any_client: EnrollmentClient) -> EnrollmentClient:
    return any_client


@pytest.fixture
def roster(client: EnrollmentClient) -> tuple[str, str]:
    """A student and a course of this test's own, by SIS id."""
    student, course = own_id("S"), own_id("C")
    people = client.submit_batch(Kind.STUDENTS, [StudentRecord(sis_id=student, name="Ada")])
    client.wait(client.submit_batch("courses", [{"sis_id": course, "title": "Logic"}]))
    client.wait(people)
    return student, course


def enter(client: EnrollmentClient, kind: str, *sis_ids: str) -> None:
    client.wait(client.submit_batch(kind, [{"sis_id": sis_id} for sis_id in sis_ids]))


def enroll(client: EnrollmentClient, student: Any, *courses: Any, **fields: Any) -> Any:
    return client.enroll({"student_id": student, "course_ids": list(courses), **fields})


# --- requests ---------------------------------------------------------------------------------


def test_a_submitted_request_is_done_and_can_be_read(
    client: EnrollmentClient, roster: tuple[str, str]
) -> None:
    student, course = roster
    request_id = client.submit({"student_id": student, "course_ids": [course, course]})
    wait_for(lambda: client.status(request_id).state == "done")
    status = client.status(request_id)
    assert status.result is not None
    assert status.result.status == "enrolled"
    assert client.results(student) == [status.result]
    found = client.student(student)
    assert found is not None
    assert (found.sis_id, found.name, found.email) == (student, "Ada", None)
    assert [(c.sis_id, c.title) for c in found.courses] == [(course, "Logic")]
    assert client.student(found.id) == found


def test_enroll_waits_and_returns_the_result(
    client: EnrollmentClient, roster: tuple[str, str]
) -> None:
    student, course = roster
    request = StudentEnrollmentRequest(student_id=student, course_ids=(course, "no such course"))
    result = client.enroll(request)
    assert (result.status, [e.code for e in result.errors]) == ("rejected", ["unknown_course"])
    assert client.status(result.request_id).result == result
    assert client.student(student) is not None


def test_a_request_that_is_not_atomic_is_enrolled_in_part(
    client: EnrollmentClient, roster: tuple[str, str]
) -> None:
    student, course = roster
    result = enroll(client, student, "nowhere", course, atomic=False)
    assert result.status == "partial"
    assert [enrolled.sis_id for enrolled in result.enrolled_courses] == [course]
    assert result.errors[0].course_id == "nowhere"
    assert "no course has the SIS id 'nowhere'" in result.errors[0].message


def test_an_unknown_student_is_refused_and_the_result_can_be_found(
    client: EnrollmentClient, roster: tuple[str, str]
) -> None:
    nobody = own_id("nobody")
    result = enroll(client, nobody, roster[1])
    assert [error.code for error in result.errors] == ["unknown_student"]
    assert client.results(nobody) == [result]
    assert client.student(nobody) is None


def test_a_key_and_a_sis_id_are_never_confused(
    client: EnrollmentClient, roster: tuple[str, str]
) -> None:
    found = client.student(roster[0])
    assert found is not None
    by_key = enroll(client, found.id, roster[1])
    assert (by_key.student_id, by_key.student_sis_id) == (found.id, roster[0])
    as_text = enroll(client, str(found.id), roster[1])
    assert [error.code for error in as_text.errors] == ["unknown_student"]
    assert f"send the integer {found.id}" in as_text.errors[0].message


def test_a_drop_a_swap_and_a_late_drop_are_decided_in_order(
    client: EnrollmentClient, roster: tuple[str, str]
) -> None:
    student, course = roster
    other = own_id("C")
    enter(client, "courses", other)
    own = own_id()
    enroll(client, student, course)
    drop = {
        "student_id": student,
        "drop_course_ids": [course],
        "reason": "moved",
        "request_id": own,
    }
    dropped = client.enroll(drop)
    assert (dropped.status, dropped.reason, dropped.enrolled_courses) == ("dropped", "moved", ())
    assert [(c.sis_id, c.removed) for c in dropped.dropped_courses] == [(course, True)]
    assert client.enroll(drop) == dropped
    reused = client.enroll({**drop, "reason": "ill"})
    assert [error.code for error in reused.errors] == ["request_id_reused"]
    assert enroll(client, student, course).status == "enrolled"
    swap = enroll(client, student, other, drop_course_ids=[course])
    assert (swap.status, swap.dropped_courses[0].removed) == ("changed", True)
    refused = enroll(client, student, course, drop_course_ids=["nowhere"])
    assert [error.code for error in refused.errors] == ["unknown_course"]
    late = client.enroll(
        {"student_id": student, "drop_course_ids": [other], "as_of": "2026-01-01T00:00:00Z"}
    )
    assert (late.status, late.errors) == ("superseded", ())
    (superseded,) = late.superseded_courses
    assert (superseded.action, superseded.moment) == ("drop", swap.moment)
    found = client.student(student)
    assert found is not None
    assert [c.sis_id for c in found.courses] == [other]


@pytest.mark.parametrize("ordered", [True, False])
def test_the_later_request_of_a_batch_wins_only_if_it_is_in_order(
    client: EnrollmentClient, roster: tuple[str, str], ordered: bool
) -> None:
    student, course = roster
    records = [
        {"student_id": student, "course_ids": [course]},
        {"student_id": student, "drop_course_ids": [course]},
    ]
    status = client.wait(client.submit_batch("enrollments", records, ordered=ordered))
    books = status.books
    applied = books.enrolled + books.already_enrolled + books.dropped + books.not_enrolled
    assert (books.received, applied + books.superseded) == (2, 2)
    found = client.student(student)
    assert found is not None
    assert [c.sis_id for c in found.courses] == ([] if ordered else [course])


def test_a_repeated_request_enrolls_once(client: EnrollmentClient, roster: tuple[str, str]) -> None:
    student, course = roster
    own = own_id()
    first = enroll(client, student, course, request_id=own)
    assert enroll(client, student, course, request_id=own) == first
    assert first.request_id == own
    other = enroll(client, student, "another", request_id=own)
    assert [error.code for error in other.errors] == ["request_id_reused"]
    assert client.status(own).result == first
    assert client.results(student) == [first]


def test_requests_that_are_submitted_together_are_all_decided(
    client: EnrollmentClient, roster: tuple[str, str]
) -> None:
    requests = [{"student_id": roster[0], "course_ids": [roster[1]]} for _ in range(20)]
    ids = client.submit_all(requests)
    assert len(set(ids)) == 20
    wait_for(lambda: {status.state for status in client.statuses(ids)} == {"done"})
    results = client.results(roster[0], limit=1000)
    assert {result.request_id for result in results} == set(ids)
    assert sum(result.enrolled_courses[0].added for result in results) == 1


def test_each_request_has_its_own_call_id_or_nothing_is_published(
    client: EnrollmentClient, roster: tuple[str, str]
) -> None:
    ids = [own_id() for _ in range(3)]
    requests = [{"student_id": roster[0], "course_ids": [roster[1]], "request_id": i} for i in ids]
    for call_ids in ([], ["a"], ["a", None, "c", "d"]):
        with pytest.raises(InvalidRequest, match="call_ids: must have an entry for each of the 3"):
            client.submit_all(requests, call_ids)
    with pytest.raises(InvalidRequest, match="call_ids: must be an iterable"):
        client.submit_all(requests, "abc")
    assert {status.state for status in client.statuses(ids)} == {"unknown"}
    assert client.submit_all(requests, ["a", None, "c"]) == ids
    wait_for(lambda: {status.state for status in client.statuses(ids)} == {"done"})


def test_courses_without_an_order_are_refused_and_others_are_counted(
    client: EnrollmentClient, roster: tuple[str, str]
) -> None:
    student, course = roster
    other = own_id("C")
    enter(client, "courses", other)
    for courses in ({course, other}, frozenset([course]), {course: 1}.keys()):
        for field in ("course_ids", "drop_course_ids"):
            request = {"student_id": student, field: courses}
            with pytest.raises(InvalidRequest, match=f"{field}: must be a list .* no order"):
                client.submit(request)
            status = client.wait(client.submit_batch("enrollments", [request]))
            (refusal,) = status.refusals
            assert (status.books.received, refusal.code) == (1, "invalid_request")
            assert "a set, which has no order" in (refusal.example or "")
    for several in (deque([course, other]), iter([course, other]), (course, other)):
        batch = client.submit_batch("enrollments", [{"student_id": student, "course_ids": several}])
        assert (batch.tally.rows, client.wait(batch).books.received) == (2, 2)
    result = client.enroll({"student_id": student, "course_ids": deque([other, course])})
    assert [enrolled.sis_id for enrolled in result.enrolled_courses] == [other, course]


def test_an_invalid_request_is_refused_before_it_is_published(client: EnrollmentClient) -> None:
    good = {"student_id": "S", "course_ids": ["C"]}
    bad = {"student_id": True, "course_ids": ["C"]}
    for call in (client.submit, client.enroll, lambda r: client.submit_all([good, r])):
        with pytest.raises(InvalidRequest, match=r"student_id: must be our key .*, not true"):
            call(bad)
    with pytest.raises(InvalidRequest, match=r"must not end in :NUMBER:NUMBER"):
        client.submit({**good, "request_id": "batch:0:1"})


# --- lookups ----------------------------------------------------------------------------------


def test_an_unknown_id_is_unknown(client: EnrollmentClient) -> None:
    nothing = own_id("nothing")
    assert client.status(nothing).state == "unknown"
    assert client.batch(nothing).state == "unknown"
    assert client.student(nothing) is None
    assert client.results(nothing) == []
    assert client.find_students(nothing).students == ()
    assert client.find_courses(nothing).courses == ()
    assert client.refusal_page(nothing) == []
    assert list(client.refusals(nothing)) == []
    assert client.applied_chunks(nothing, [0, 1]).fingerprints == (None, None)


def test_a_student_and_a_course_are_found_by_their_ids_in_any_case(
    client: EnrollmentClient, roster: tuple[str, str]
) -> None:
    student, course = roster
    for text in (student, f" {student} ", student.upper(), student.lower()):
        assert [found.sis_id for found in client.find_students(text).students] == [student]
    assert [found.sis_id for found in client.find_courses(course.swapcase()).courses] == [course]


def test_the_rolls_of_courses_have_the_students_of_each(
    client: EnrollmentClient, roster: tuple[str, str]
) -> None:
    student, course = roster
    other, without = own_id("other"), own_id("without")
    enter(client, "courses", other, without)
    enroll(client, student, course, other)
    students: dict[str, list[str]] = {}
    after = None
    while True:
        part = client.rolls([course, other, without, own_id("nowhere")], after)
        for name, enrolled in part.students.items():
            students.setdefault(name, []).extend(enrolled)
        after = part.next
        if after is None:
            break
    assert students == {course: [student], other: [student]}
    with pytest.raises(InvalidRequest, match="courses: must be an iterable"):
        client.rolls(course)
    with pytest.raises(InvalidRequest, match="after"):
        client.rolls([course], (-1, 0))


def test_a_page_of_refusals_has_those_for_one_cause_with_their_records(
    client: EnrollmentClient, roster: tuple[str, str]
) -> None:
    student, _ = roster
    ghosts = [own_id("no-course"), own_id("no-course")]
    records: list[Any] = [
        {"student_id": student, "course_ids": ghosts, "atomic": False},
        {"student_id": own_id("nobody"), "course_ids": ghosts[:1]},
    ]
    batch = client.submit_batch("enrollments", records)
    client.wait(batch)
    page = client.refusal_page(batch.batch_id, code="unknown_course")
    assert [(refusal.line, refusal.record["course_ids"]) for refusal in page] == [(1, ghosts)] * 2
    first = client.refusal_page(batch.batch_id, limit=1)
    after = (first[0].line, first[0].id)
    rest = client.refusal_page(batch.batch_id, after=after)
    assert [refusal.message for refusal in (*first, *rest)][:2] == [r.message for r in page]
    assert [refusal.code for refusal in rest] == ["unknown_course", "unknown_student"]


def test_many_results_are_returned_in_the_requested_order(
    client: EnrollmentClient, roster: tuple[str, str]
) -> None:
    student, course = roster
    enroll(client, student, course)
    asked = [f"nobody-{n}" for n in range(MAX_LOOKUP + 500)] + [student]
    assert [s is not None for s in client.students(asked)] == [False] * (len(asked) - 1) + [True]
    assert [len(r) for r in client.results_of(["nobody-0", student])] == [0, 1]
    assert [b.batch_id for b in client.batches(["x", "y", "x"])] == ["x", "y", "x"]
    assert [s.request_id for s in client.statuses(["x", "y", "x"])] == ["x", "y", "x"]
    for call in (client.students, client.statuses, client.batches, client.results_of):
        assert call([]) == []


def test_results_are_the_newest_first_and_come_in_pages(
    client: EnrollmentClient, roster: tuple[str, str]
) -> None:
    ids = [enroll(client, roster[0], roster[1]).request_id for _ in range(5)]
    newest = client.results(roster[0], limit=2)
    assert [result.request_id for result in newest] == [ids[4], ids[3]]
    older = client.results(roster[0], before=(newest[1].completed_at, newest[1].request_id))
    assert [result.request_id for result in older] == [ids[2], ids[1], ids[0]]
    (found,) = client.results_of([roster[0]], limit=1)
    assert found == newest[:1]


def test_an_invalid_lookup_is_explained_and_harms_no_other(client: EnrollmentClient) -> None:
    for call, reason in (
        (lambda: client.students(["fine", ""]), r"students\[1\]: must"),
        (lambda: client.status("\x00"), "request_id: must"),
        (lambda: client.batch(""), "batch_id: must"),
        (lambda: client.wait(""), "batch_id: must"),
        (lambda: client.results("S", limit=MAX_LOOKUP + 1), "limit: must"),
        (lambda: client.recent_batches(0), "limit: must"),
        (lambda: client.batch_page(MAX_LOOKUP + 1), "limit: must"),
        (lambda: client.batch_page(cursor=cast("Any", "x")), "cursor: must be the `next`"),
        (lambda: client.batch_page(cursor=(datetime(2026, 1, 1), "b")), "time zone"),  # noqa: DTZ001
        (lambda: client.batch_page(state="lost"), "state: must be queued, running"),
        (lambda: client.batch_page(kind="teachers"), "kind: must be students, courses"),
        (lambda: client.batch_page(submitter=" "), "submitter: must be a string of 1 to 255"),
        (lambda: client.batch_page(submitter="a\x00"), "submitter: must not contain"),
        (lambda: client.applied_chunks("", [0]), "batch_id: must"),
        (lambda: list(client.refusals("")), "batch_id: must"),
        (lambda: client.refusal_page("b", limit=0), "limit: must"),
        (lambda: client.refusal_page("b", code="bad"), "code: must be one of the codes"),
        (lambda: client.find_students(" "), "text: must be a text of 1 to 255"),
        (lambda: client.find_courses("x", limit=0), "limit: must"),
    ):
        with pytest.raises(InvalidRequest, match=reason):
            call()
    with pytest.raises(LookupFailed, match=r"The worker could not answer: numbers\[0\]"):
        client.applied_chunks("b", [-1])
    assert client.student("the worker goes on") is None


def test_a_worker_reports_its_health(client: EnrollmentClient) -> None:
    health = client.health()
    assert (health.database, bool(health.version)) == ("ready", True)


# --- batches ----------------------------------------------------------------------------------


def test_a_roster_is_added_changed_and_left_unchanged(client: EnrollmentClient) -> None:
    one, two = own_id("S"), own_id("S")
    counts = []
    for records in (
        [{"sis_id": one, "name": "Ada"}, {"sis_id": two}],
        [{"sis_id": one, "email": "ada@example.edu"}, {"sis_id": two}, {"sis_id": two}],
        [{"sis_id": one, "nick": "A"}, {"sis_id": ""}],
    ):
        batch = client.submit_batch(Kind.STUDENTS, records)
        books = client.wait(batch).books
        assert books.received == sum(books.model_dump().values()) - books.received
        counts.append((books.upserted, books.unchanged, books.rejected))
    assert counts == [(2, 0, 0), (1, 2, 0), (0, 0, 2)]
    found = client.student(one)
    assert found is not None
    assert (found.name, found.email) == ("Ada", "ada@example.edu")


def test_a_bad_record_of_a_batch_harms_no_other(
    client: EnrollmentClient, roster: tuple[str, str]
) -> None:
    student, course = roster
    records: list[Any] = [
        {"student_id": student, "course_ids": [course]},
        {"student_id": None, "course_ids": [course]},
        {"student_id": student, "course_ids": ["C"] * 101},
        {"student_id": student, "course_ids": [course], "extra": 1},
        {"student_id": student, "course_ids": [course, "nowhere"], "atomic": False},
    ]
    batch = client.submit_batch(Kind.ENROLLMENTS, records)
    status = client.wait(batch)
    books = status.books
    assert (books.received, books.enrolled, books.already_enrolled, books.rejected) == (6, 1, 1, 4)
    assert (status.requests, status.requests_rejected, status.chunks) == (5, 3, 1)
    assert [(g.code, g.count, g.first_lines) for g in status.refusals] == [
        ("invalid_request", 3, (2, 3, 4)),
        ("unknown_course", 1, (5,)),
    ]
    refusals = list(client.refusals(batch.batch_id))
    assert [refusal.line for refusal in refusals] == [2, 3, 4, 5]
    assert [refusal.record for refusal in refusals] == records[1:]
    assert status.requests_applied == 5
    assert client.batch(batch.batch_id, refusals=False).refusals == ()
    line_ids = [f"{batch.batch_id}:0:{position}" for position in range(5)]
    states = [status.result and status.result.status for status in client.statuses(line_ids)]
    assert states == ["enrolled", "rejected", "rejected", "rejected", "partial"]


def test_a_batch_of_several_chunks_is_applied_once(client: EnrollmentClient) -> None:
    prefix, batch_id = own_id("S"), own_id("batch")
    progress: list[int] = []

    def submit(last: int, batch_id: str) -> Any:
        records = ({"sis_id": f"{prefix}-{number}"} for number in range(last))
        return client.submit_batch(
            "students", records, batch_id=batch_id, on_progress=lambda b: progress.append(b.chunks)
        )

    first = submit(CHUNK_ROWS + 10, batch_id)
    assert (first.chunks, first.published, first.tally.rows) == (2, 2, CHUNK_ROWS + 10)
    assert client.wait(first, timeout=60).books.upserted == CHUNK_ROWS + 10
    assert progress == [1, 2]
    again = submit(CHUNK_ROWS + 10, batch_id)
    assert (again.chunks, again.published) == (2, 0)
    assert again.fingerprints == first.fingerprints
    assert client.count_applied(again) == 2
    assert client.applied_chunks(batch_id, [1, 2]).fingerprints == (first.fingerprints[1], None)
    with pytest.raises(BatchConflict, match=f"Batch {batch_id} was already submitted"):
        submit(CHUNK_ROWS + 11, batch_id)
    with pytest.raises(BatchConflict, match="already holds students, not courses"):
        client.submit_batch("courses", [{"sis_id": prefix}], batch_id=batch_id)


def test_records_that_cannot_be_read_to_the_end_leave_a_batch_that_continues(
    client: EnrollmentClient,
) -> None:
    prefix, batch_id = own_id("S"), own_id("batch")

    def records(fail_at: int) -> Any:
        for number in range(2 * CHUNK_ROWS + 5):
            if number == fail_at:
                raise OSError("the file is gone")
            yield {"sis_id": f"{prefix}-{number}"}

    with pytest.raises(OSError, match="the file is gone"):
        client.submit_batch("students", records(2 * CHUNK_ROWS + 2), batch_id=batch_id)
    assert client.batch(batch_id).state != "done"
    batch = client.submit_batch("students", records(-1), batch_id=batch_id)
    assert client.wait(batch, timeout=60).books.upserted == 2 * CHUNK_ROWS + 5


def test_the_list_of_batches_is_read_in_pages(client: EnrollmentClient) -> None:
    own = own_id("submitter")
    ids: list[str] = []
    for number in range(5):
        kind = "courses" if number % 2 else "students"
        records = [{"sis_id": own_id()}]
        batch = client.submit_batch(kind, records, submitter=f" {own}", file_name=f"{number}.csv")
        client.wait(batch)
        ids.insert(0, batch.batch_id)
    assert [batch.batch_id for batch in client.recent_batches(3)] == ids[:3]
    assert [batch.batch_id for batch in client.batch_page(3).batches] == ids[:3]
    first = client.batch_page(2, submitter=own)
    newest = first.batches[0]
    assert (newest.file_name, newest.submitter, newest.state) == ("4.csv", own, "done")
    assert newest.submitted_at is not None
    assert newest == client.batch(ids[0]).model_copy(update={"columns": None, "form": None})
    client.submit_batch("students", [{"sis_id": own_id()}], submitter=own)
    second = client.batch_page(2, submitter=own, cursor=first.next)
    third = client.batch_page(2, submitter=own, cursor=second.next)
    pages = (first, second, third)
    assert [[batch.batch_id for batch in page.batches] for page in pages] == [
        ids[:2], ids[2:4], ids[4:],
    ]  # fmt: skip
    assert third.next is None
    courses = client.batch_page(kind=Kind.COURSES, submitter=own, state=BatchState.DONE)
    assert [batch.batch_id for batch in courses.batches] == [ids[1], ids[3]]
    for nothing in (client.batch_page(submitter=own_id()), client.batch_page(state="unknown")):
        assert nothing == BatchPage()


def test_a_single_value_is_not_taken_for_several(client: EnrollmentClient) -> None:
    record: Any = {"sis_id": "S"}
    for call in (
        lambda: client.submit_batch("students", record),
        lambda: client.submit_all(record),
        lambda: client.statuses("r"),
        lambda: client.batches("b"),
        lambda: client.students("S"),
        lambda: client.results_of("S"),
    ):
        with pytest.raises(InvalidRequest, match="put a single one into a list"):
            call()
    with pytest.raises(InvalidRequest, match="kind: must be students, courses or enrollments"):
        client.submit_batch("teachers", [])
    with pytest.raises(InvalidRequest, match="batch_id: must"):
        client.submit_batch("students", [], batch_id="")


def test_ids_that_can_be_read_only_once_are_all_looked_up(
    client: EnrollmentClient, roster: tuple[str, str]
) -> None:
    student, course = roster
    request_id = enroll(client, student, course).request_id
    batch_id = client.wait(client.submit_batch("courses", [{"sis_id": course}])).batch_id
    once: Any = iter
    assert [s.state for s in client.statuses(once([request_id, "?"]))] == ["done", "unknown"]
    assert [s.state for s in client.batches(once([batch_id, "?"]))] == ["done", "unknown"]
    assert [s is None for s in client.students(once([student, "?"]))] == [False, True]
    assert [len(results) for results in client.results_of(once([student, "?"]))] == [1, 0]


def test_a_closed_client_raises(client: EnrollmentClient) -> None:
    client.close()
    assert client.closed
    for call in (
        lambda: client.submit({"student_id": "S", "course_ids": ["C"]}),
        lambda: client.submit_batch("students", [{"sis_id": "S"}]),
        lambda: client.status("r"),
        lambda: client.refusals("b"),
        lambda: client.wait("b"),
    ):
        with pytest.raises(ClientClosed, match="has been closed"):
            call()
    client.close()
