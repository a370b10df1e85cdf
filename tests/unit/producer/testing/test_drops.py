"""The client in memory drops courses, swaps them, and says which requests were superseded."""

from typing import Any

import pytest

from producer.errors import LookupFailed
from producer.schemas import Action, StudentEnrollmentResponse
from support.in_memory import InMemory, at

SUPERSEDED_BY_DROP = [("X", Action.ENROLL, at(5))]


@pytest.fixture
def worker() -> InMemory:
    return InMemory()


def shown(response: StudentEnrollmentResponse) -> dict[str, Any]:
    """Return the parts of a result that are about courses, unless they are empty."""
    parts = {
        "enrolled": [(course.sis_id, course.added) for course in response.enrolled_courses],
        "dropped": [(course.sis_id, course.removed) for course in response.dropped_courses],
        "superseded": [(c.sis_id, c.action, c.moment) for c in response.superseded_courses],
        "errors": [error.code for error in response.errors],
    }
    return {"status": response.status, **{name: part for name, part in parts.items() if part}}


def test_a_drop_ends_an_enrollment(worker: InMemory) -> None:
    worker.enroll("A", "X")
    response = worker.drop("A", "X", reason="moved away")
    assert shown(response) == {"status": "dropped", "dropped": [("X", True)]}
    assert response.reason == "moved away"
    assert worker.pairs() == set()


def test_a_drop_of_a_pair_that_is_not_enrolled_succeeds(worker: InMemory) -> None:
    assert shown(worker.drop("A", "X")) == {"status": "dropped", "dropped": [("X", False)]}


def test_one_request_enrolls_and_drops(worker: InMemory) -> None:
    worker.enroll("A", "X")
    assert shown(worker.enroll("A", "Y", drop_course_ids=["Z", "X"])) == {
        "status": "changed",
        "enrolled": [("Y", True)],
        "dropped": [("Z", False), ("X", True)],
    }
    assert worker.pairs() == {("A", "Y")}


def test_a_late_enrollment_is_superseded_by_a_drop(worker: InMemory) -> None:
    worker.drop("A", "X", minute=5)
    late = {"status": "superseded", "superseded": SUPERSEDED_BY_DROP}
    assert shown(worker.enroll("A", "X", minute=4)) == late
    assert worker.pairs() == set()
    assert shown(worker.enroll("A", "X", "Y", minute=4)) == {
        "status": "enrolled",
        "enrolled": [("Y", True)],
        "superseded": SUPERSEDED_BY_DROP,
    }


def test_a_late_drop_is_superseded_by_a_confirmation(worker: InMemory) -> None:
    worker.enroll("A", "X", minute=1)
    worker.enroll("A", "X", minute=7)
    assert shown(worker.drop("A", "X", minute=6)) == {
        "status": "superseded",
        "superseded": [("X", Action.DROP, at(7))],
    }
    assert worker.pairs() == {("A", "X")}


def test_a_late_repeat_of_what_is_so_is_not_superseded(worker: InMemory) -> None:
    worker.enroll("A", "X", minute=5)
    assert shown(worker.enroll("A", "X", minute=4))["enrolled"] == [("X", False)]
    worker.drop("A", "X", minute=8)
    assert shown(worker.drop("A", "X", minute=6))["dropped"] == [("X", False)]


def test_an_impossible_half_refuses_a_swap(worker: InMemory) -> None:
    worker.enroll("A", "X")
    for swap in ({"courses": ["?"], "drops": ["X"]}, {"courses": ["Y"], "drops": ["?"]}):
        response = worker.enroll("A", *swap["courses"], drop_course_ids=swap["drops"])
        assert shown(response) == {"status": "rejected", "errors": ["unknown_course"]}
    assert worker.pairs() == {("A", "X")}


def test_the_possible_half_counts_if_the_request_is_not_atomic(worker: InMemory) -> None:
    worker.enroll("A", "X")
    assert shown(worker.enroll("A", "?", drop_course_ids=["X"], atomic=False)) == {
        "status": "partial",
        "dropped": [("X", True)],
        "errors": ["unknown_course"],
    }
    worker.drop("A", "X", minute=5)
    assert shown(worker.enroll("A", "X", "?", atomic=False, minute=1))["status"] == "partial"


def test_a_superseded_half_counts_as_done(worker: InMemory) -> None:
    worker.drop("A", "X", minute=5)
    worker.enroll("A", "Y", minute=1)
    assert shown(worker.enroll("A", "X", drop_course_ids=["Y"], minute=4)) == {
        "status": "dropped",
        "dropped": [("Y", True)],
        "superseded": SUPERSEDED_BY_DROP,
    }


def test_a_course_in_both_lists_refuses_the_request(worker: InMemory) -> None:
    worker.enroll("A", "X")
    key = worker.results("A")[0].enrolled_courses[0].id
    response = worker.enroll("A", "Y", "X", drop_course_ids=["Z", key], atomic=False)
    assert shown(response) == {"status": "rejected", "errors": ["invalid_request"]}
    (problem,) = response.errors
    assert problem.field == "drop_course_ids[1]"
    assert problem.message == (
        f"drop_course_ids[1]: {key} and 'X' of course_ids are the same course;"
        " remove the course from one of the two lists"
    )
    assert worker.pairs() == {("A", "X")}


def test_a_repeated_request_drops_once(worker: InMemory) -> None:
    worker.enroll("A", "X")
    first = worker.drop("A", "X", request_id="mine", reason="r")
    worker.enroll("A", "X")
    assert worker.drop("A", "X", request_id="mine", reason="r") == first
    assert worker.pairs() == {("A", "X")}
    for other in ({"reason": "s"}, {"minute": 3, "reason": "r"}):
        reused = worker.drop("A", "X", request_id="mine", **other)
        assert shown(reused) == {"status": "rejected", "errors": ["request_id_reused"]}
    reused = worker.enroll("A", "X", request_id="mine", reason="r")
    assert shown(reused) == {"status": "rejected", "errors": ["request_id_reused"]}


# --- Batches ----------------------------------------------------------------------------------


def test_the_counts_of_a_batch_say_what_happened_to_each_row(worker: InMemory) -> None:
    worker.enroll("A", "X")
    worker.drop("B", "X", minute=5)
    worker.apply(
        {"student_id": "A", "course_ids": ["Y", "Z"], "drop_course_ids": ["X"]},
        {"student_id": "B", "course_ids": ["X"], "as_of": at(1).isoformat()},
        {"student_id": "C", "course_ids": ["X", "?"], "drop_course_ids": ["Y"], "atomic": False},
        {"student_id": "C", "course_ids": ["X"]},
        {"student_id": "?", "drop_course_ids": ["X", "Y"]},
    )
    assert worker.books() == {
        "received": 10,
        "enrolled": 3,
        "already_enrolled": 1,
        "dropped": 1,
        "not_enrolled": 1,
        "superseded": 1,
        "rejected": 3,
    }


def test_the_rows_of_a_repeat_change_nothing(worker: InMemory) -> None:
    worker.enroll("A", "X", "Y")
    worker.drop("A", "Z", minute=5)
    record = {"student_id": "A", "drop_course_ids": ["X"], "request_id": "mine"}
    swap = {**record, "course_ids": ["Z"], "as_of": at(1).isoformat(), "request_id": "swap"}
    worker.apply(record, swap, batch_id="first")
    assert worker.books("first") == {"received": 3, "dropped": 1, "superseded": 2}
    worker.apply(record, swap, {**swap}, batch_id="second")
    assert worker.books("second") == {"received": 5, "not_enrolled": 1, "superseded": 4}


def test_a_second_name_of_a_course_changes_nothing(worker: InMemory) -> None:
    worker.enroll("A", "X", "Y")
    x, y = [course.id for course in worker.results("A")[0].enrolled_courses]
    worker.apply(
        {"student_id": "A", "drop_course_ids": ["X", x]},
        {"student_id": "A", "course_ids": [y, "Y", "Z"]},
    )
    counts = {"received": 5, "dropped": 1, "not_enrolled": 1, "enrolled": 1, "already_enrolled": 2}
    assert worker.books() == counts


def test_columns_of_drops_are_read(worker: InMemory) -> None:
    worker.enroll("A", "X")
    columns = {"student_ids": ["A", "B"], "drop_course_ids": [["X", "Y"], ["Z"]]}
    worker.apply(requests=columns)
    assert worker.books() == {"received": 3, "dropped": 1, "not_enrolled": 2}


def test_a_refused_drop_names_its_line(worker: InMemory) -> None:
    record = {
        "student_id": "A",
        "course_ids": ["X", "Y"],
        "drop_course_ids": ["Z", "?"],
        "atomic": False,
        "reason": "r",
    }
    worker.apply(record, lines=[11, 12, 13, 14])
    (refusal,) = worker.refusals()
    assert (refusal.line, refusal.code) == (14, "unknown_course")
    shared = {"student_id": "A", "atomic": False, "reason": "r"}
    assert refusal.record == {**shared, "course_ids": [], "drop_course_ids": ["?"]}
    assert [error.line for error in worker.results("A")[0].errors] == [14]


def test_an_invalid_drop_names_its_line(worker: InMemory) -> None:
    record = {"student_id": "A", "course_ids": ["X", "Y"], "drop_course_ids": ["Z", "Y"]}
    worker.apply(record, lines=[11, 12, 13, 14])
    (refusal,) = worker.refusals()
    assert refusal.line == 14
    assert refusal.record == {"student_id": "A", "course_ids": [], "drop_course_ids": ["Y"]}


def test_a_request_that_is_refused_as_a_whole_names_all_its_lines(worker: InMemory) -> None:
    record = {"student_id": "?", "course_ids": ["X"], "drop_course_ids": ["Y"]}
    worker.apply(record, lines=[11, 12])
    assert [(refusal.line, refusal.record) for refusal in worker.refusals()] == [
        (11, {"student_id": "?", "course_ids": ["X"], "drop_course_ids": []}),
        (12, {"student_id": "?", "course_ids": [], "drop_course_ids": ["Y"]}),
    ]


# --- Histories and rolls ----------------------------------------------------------------------


def history_of(worker: InMemory, *args: Any, **kwargs: Any) -> list[tuple[str, str | None, int]]:
    """Return the entries of a history: what happened, the course, and the line."""
    return [
        (entry.change.value, entry.course.sis_id if entry.course else None, entry.line or 0)
        for entry in worker.history(*args, **kwargs).entries
    ]


def test_a_history_holds_what_changed_and_what_was_refused(worker: InMemory) -> None:
    worker.apply(
        {"student_id": "A", "course_ids": ["X"], "as_of": at(1).isoformat()},
        {"student_id": "A", "drop_course_ids": ["X"], "as_of": at(5).isoformat(), "reason": "r"},
        {"student_id": "A", "drop_course_ids": ["X", "Y"], "as_of": at(6).isoformat()},
        lines=[2, 3, 4],
    )
    worker.enroll("A", "X", minute=4)
    worker.enroll("A", "Z", "?", minute=8, atomic=False)
    worker.drop("A", "?", minute=9)
    worker.enroll("A", "?", "Z", minute=10)
    assert history_of(worker, "A") == [
        ("rejected", "?", 0),
        ("rejected", "?", 0),
        ("enrolled", "Z", 0),
        ("rejected", "?", 0),
        ("dropped", "X", 3),
        ("superseded", "X", 0),
        ("enrolled", "X", 2),
    ]
    assert history_of(worker, "A", "?") == []
    history = worker.history("A", "X")
    dropped, superseded, enrolled = history.entries
    assert (dropped.action, dropped.moment, dropped.reason) == (Action.DROP, at(5), "r")
    assert (superseded.action, superseded.superseded_by) == (Action.ENROLL, at(6))
    assert (enrolled.batch_id, enrolled.request_id) == ("b", "b:0:0")
    assert (history.student_sis_id, history.student_id) == ("A", 1)
    assert worker.history(1, dropped.course and dropped.course.id) == history


def test_a_history_goes_on_before_a_moment(worker: InMemory) -> None:
    for minute, course in enumerate("XYZ"):
        worker.enroll("A", course, minute=minute)
    newest = worker.history("A", limit=2)
    assert ([entry.moment for entry in newest.entries], newest.more) == ([at(2), at(1)], True)
    rest = worker.history("A", None, 2, at(1).isoformat())
    assert ([entry.moment for entry in rest.entries], rest.more) == ([at(0)], False)


def test_a_student_who_does_not_exist_has_a_history_of_refusals(worker: InMemory) -> None:
    response = worker.enroll("?", "X", drop_course_ids=["Y"])
    history = worker.history("?")
    assert (history.student_id, history.student_sis_id) == (None, "?")
    (entry,) = history.entries
    assert (entry.course, entry.action, entry.errors) == (None, None, response.errors)
    assert worker.history(99).student_sis_id is None


def test_a_broken_record_is_in_the_history_of_the_student_that_it_names(worker: InMemory) -> None:
    worker.apply({"student_id": "A", "course_ids": []})
    (entry,) = worker.history("A").entries
    assert (entry.change, entry.action, entry.course, entry.line) == ("rejected", None, None, 1)


def test_a_roll_says_who_was_enrolled_at_a_moment(worker: InMemory) -> None:
    worker.enroll("B", "X", minute=1)
    worker.enroll("A", "X", minute=2)
    worker.drop("B", "X", minute=3)
    worker.enroll("B", "X", minute=5)

    def roll(minute: int, **page: int) -> list[str]:
        return [s.sis_id for s in worker.roll("X", at(minute).isoformat(), **page).students]

    assert [roll(minute) for minute in range(6)] == [
        [], ["B"], ["A", "B"], ["A"], ["A"], ["A", "B"],
    ]  # fmt: skip
    assert (roll(5, limit=1), roll(5, limit=1, after=1)) == (["A"], ["B"])
    assert worker.roll("X", at(5).isoformat(), 1).more
    assert [s.ended_at for s in worker.roll("X", at(2).isoformat()).students] == [None, at(3)]
    assert [s.enrolled_at for s in worker.roll("X").students] == [at(2), at(5)]
    assert not worker.knows("?")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["A", None, 0], "limit: "),
        (["A", None, 5, "yesterday"], "before: .*time zone"),
        ([True], "student: must be our key .* not true"),
        (["A", ""], "course: must be our key"),
    ],
)
def test_a_lookup_with_invalid_arguments_is_refused(
    worker: InMemory, arguments: list[Any], message: str
) -> None:
    with pytest.raises(LookupFailed, match=message):
        worker.history(*arguments)
