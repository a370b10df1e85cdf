"""The rulebook without a database: who is refused and why, and which rows are written."""

import pytest

from producer.schemas import Code, ResultStatus
from support.rulebook import BROKEN, NOW, codes, counts, decide, incoming, plan_at_noon
from worker.enrollment.incoming import IncomingRequest, read_request
from worker.enrollment.problems import lines_about, not_processed
from worker.enrollment.rules import Decision
from worker.enrollment.values import StoredResult

# --- One request ------------------------------------------------------------------------------


def test_a_student_is_enrolled_in_every_course_in_the_requested_order() -> None:
    request = incoming("A", ["M3", 1])
    assert [*plan_at_noon([request]).rows] == [(1, 3), (1, 1)]
    (decision,) = decide(request, rows=[(1, 1)], batch_id="b")
    assert decision == Decision(
        request,
        StoredResult(
            request_id="r",
            fingerprint=request.fingerprint(),
            student_id=1,
            student_sis_id="A",
            status=ResultStatus.ENROLLED,
            enrolled_ids=[3, 1],
            already_enrolled_ids=[1],
            errors=(),
            batch_id="b",
            completed_at=NOW,
            moment=NOW,
        ),
        is_new=True,
        is_repeat=False,
    )


def test_a_student_named_by_key_is_stored_without_a_sis_id() -> None:
    (decision,) = decide(incoming(2, ["M1"]))
    assert (decision.result.student_id, decision.result.student_sis_id) == (2, None)


@pytest.mark.parametrize(
    ("asked", "key", "sis_id"), [("Z", None, "Z"), (99, 99, None), ("1", None, "1")]
)
def test_the_result_of_an_unknown_student_holds_the_requested_id(
    asked: int | str, key: int | None, sis_id: str | None
) -> None:
    request = incoming(asked, ["M1", "X"], atomic=False)
    assert [*plan_at_noon([request]).rows] == []
    (decision,) = decide(request)
    assert (decision.result.status, codes(decision)) == ("rejected", ["unknown_student"])
    assert (decision.result.student_id, decision.result.student_sis_id) == (key, sis_id)
    assert decision.result.errors[0].field == "student_id"
    assert str(asked) in decision.result.errors[0].message


@pytest.mark.parametrize(
    ("asked", "lines", "shown"),
    [
        (99, [], "key 99 (our own number, not a SIS id; the SIS id would be the string '99')"),
        ("99", [], "SIS id '99' (for our key, send the integer 99, or key:99 in a command)"),
        ("X9", [], "SIS id 'X9'"),
        # A reader of a refused line cannot send an integer or a string.
        (99, [7], "key 99 (our own number, not a SIS id)"),
        ("99", [7], "SIS id '99'"),
    ],
)
def test_an_unknown_id_is_shown_as_what_it_was_read_as(
    asked: int | str, lines: list[int], shown: str
) -> None:
    (student,) = decide(incoming(asked, ["M1"], lines=lines))
    (course,) = decide(incoming("A", [asked], lines=lines))
    assert student.result.errors[0].message == f"no student has the {shown}"
    assert course.result.errors[0].message == f"no course has the {shown}"


def test_one_unknown_course_refuses_an_atomic_request_as_a_whole() -> None:
    request = incoming("A", ["M1", "X", 77])
    assert [*plan_at_noon([request]).rows] == []
    (decision,) = decide(request)
    assert (decision.result.status, codes(decision)) == ("rejected", ["unknown_course"] * 2)
    assert [problem.course_id for problem in decision.result.errors] == ["X", 77]
    assert decision.result.enrolled_ids == []
    assert decision.result.student_id == 1
    assert decision.count_rows(3) == counts(0, 0, 3)


def test_a_request_that_is_not_atomic_enrolls_in_its_good_courses() -> None:
    request = incoming("A", ["X", "M3", "M1"], atomic=False)
    assert [*plan_at_noon([request]).rows] == [(1, 3), (1, 1)]
    (decision,) = decide(request, rows=[(1, 1)])
    assert (decision.result.status, codes(decision)) == ("partial", ["unknown_course"])
    assert decision.result.enrolled_ids == [3, 1]
    assert decision.count_rows(3) == counts(1, 1, 1)


def test_a_request_without_any_good_course_is_rejected_even_if_it_is_not_atomic() -> None:
    (decision,) = decide(incoming("A", ["X"], atomic=False))
    assert decision.result.status is ResultStatus.REJECTED


def test_two_names_of_one_course_are_one_row_that_is_counted_once_as_added() -> None:
    request = incoming("A", ["M1", 1])
    assert [*plan_at_noon([request]).rows] == [(1, 1)]
    (decision,) = decide(request)
    assert (decision.result.status, decision.result.enrolled_ids) == ("enrolled", [1])
    assert decision.result.already_enrolled_ids == []
    assert decision.count_rows(2) == counts(1, 1, 0)


@pytest.mark.parametrize("readable", [True, False])
def test_a_request_with_problems_is_refused_whatever_it_asks_for(readable: bool) -> None:
    request = incoming("A", ["M1"], problems=(BROKEN,))
    if not readable:
        request = request._replace(request=None, record={"student_id": "A", "course_ids": 7})
    assert [*plan_at_noon([request]).rows] == []
    (decision,) = decide(request)
    assert (decision.result.status, decision.result.errors) == ("rejected", (BROKEN,))
    assert decision.is_new
    # It can be found by its student.
    assert (decision.result.student_id, decision.result.student_sis_id) == (None, "A")


@pytest.mark.parametrize("record", [None, "text", [], {"student_id": True}, {"student_id": ""}])
def test_a_record_without_a_readable_student_has_a_result_without_one(record: object) -> None:
    (decision,) = decide(IncomingRequest("r", record, None, (BROKEN,)))
    assert (decision.result.student_id, decision.result.student_sis_id) == (None, None)


# --- One id, several times --------------------------------------------------------------------


def test_an_id_repeated_within_a_call_gets_the_first_result() -> None:
    once = incoming("A", ["M1", "X"], atomic=False)
    assert [*plan_at_noon([once, once]).rows] == [(1, 1)]
    first, again = decide(once, once)
    assert (first.is_new, first.is_repeat) == (True, False)
    assert (again.is_new, again.is_repeat) == (False, True)
    assert again.result is first.result
    assert (first.count_rows(2), again.count_rows(2)) == (counts(1, 0, 1), counts(0, 1, 1))


@pytest.mark.parametrize(
    "other",
    [
        incoming("B", ["M1"]),
        incoming("A", ["M2"]),
        incoming("A", ["M1"], atomic=False),
        incoming("A", ["M1", "M2"]),
        incoming(1, ["M1"]),
        IncomingRequest("r", {"student_id": "A"}, None, (BROKEN,)),
    ],
)
def test_a_reused_id_is_refused_and_the_refusal_is_not_stored(other: IncomingRequest) -> None:
    once = incoming("A", ["M1"])
    planned = plan_at_noon([once, other])
    assert planned.rows == {(1, 1): NOW}
    first, refused = decide(once, other)
    assert (first.result.status, first.is_new) == ("enrolled", True)
    assert (refused.result.status, codes(refused)) == ("rejected", ["request_id_reused"])
    assert (refused.is_new, refused.is_repeat) == (False, False)
    assert refused.result.enrolled_ids == []
    assert "'r'" in refused.result.errors[0].message


def test_an_earlier_result_is_returned_even_if_the_roster_has_changed() -> None:
    request = incoming("A", ["M1"])
    earlier = decide(incoming("A", ["M1"]))[0].result._replace(
        status=ResultStatus.REJECTED, enrolled_ids=[], errors=(BROKEN,), batch_id="earlier"
    )
    assert [*plan_at_noon([request], [earlier]).rows] == []
    (decision,) = decide(request, results=[earlier])
    assert decision == Decision(request, earlier, is_new=False, is_repeat=True)
    assert decision.count_rows(1) == counts(0, 0, 1)


def test_an_earlier_result_of_a_different_request_refuses_the_request() -> None:
    earlier = decide(incoming("A", ["M1"]))[0].result
    other = incoming("A", ["M2"])
    assert [*plan_at_noon([other], [earlier]).rows] == []
    (decision,) = decide(other, results=[earlier])
    assert codes(decision) == ["request_id_reused"]
    assert not decision.is_new
    assert decision.count_rows(1) == counts(0, 0, 1)


def test_a_refused_reuse_does_not_replace_the_first_result() -> None:
    once, other = incoming("A", ["M1"]), incoming("A", ["M2"])
    first, _, again = decide(once, other, once)
    assert again.is_repeat
    assert again.result is first.result


@pytest.mark.parametrize("own_ids", [(False, False), (False, True), (True, False)])
def test_an_id_made_from_a_chunks_number_is_never_a_repeat(own_ids: tuple[bool, bool]) -> None:
    first, second = decide(*(incoming("A", ["M1"], has_own_id=own) for own in own_ids))
    assert (first.result.fingerprint is not None) is own_ids[0]
    assert codes(second) == ["request_id_reused"]


def test_an_unreadable_record_is_compared_as_a_whole() -> None:
    one, same, other = (
        IncomingRequest("r", record, None, (BROKEN,))
        for record in ({"a": 1, "b": 2}, {"b": 2, "a": 1}, {"a": 1, "b": 3})
    )
    _, repeated, refused = decide(one, same, other)
    assert repeated.is_repeat
    assert codes(refused) == ["request_id_reused"]


# --- Several requests -------------------------------------------------------------------------


def test_the_first_of_two_requests_for_a_row_adds_it() -> None:
    first, second = decide(incoming("A", ["M1", "M2"], "r1"), incoming(1, [2, 3], "r2"))
    assert first.result.already_enrolled_ids == []
    assert second.result.already_enrolled_ids == [2]
    assert (first.count_rows(2), second.count_rows(2)) == (counts(2, 0, 0), counts(1, 1, 0))


def test_a_refused_request_adds_no_row() -> None:
    _, second = decide(incoming("A", ["M1", "X"], "r1"), incoming("A", ["M1"], "r2"))
    assert second.result.already_enrolled_ids == []


def test_results_come_in_the_order_of_the_requests() -> None:
    earlier = decide(incoming("A", ["M1"], "old"))[0].result
    requests = [
        incoming("B", ["M3"], "z"),
        incoming("Z", ["M1"], "a"),
        incoming("A", ["M1"], "old"),
        incoming("A", ["M2"], "m"),
        incoming("B", ["M3"], "z"),
    ]
    decided = decide(*requests, results=[earlier])
    assert [decision.incoming for decision in decided] == requests
    assert [decision.result.request_id for decision in decided] == ["z", "a", "old", "m", "z"]
    assert [decision.is_new for decision in decided] == [True, True, False, True, False]


# --- Lines of a file --------------------------------------------------------------------------


def test_a_problem_names_the_line_of_its_course() -> None:
    request = incoming("A", ["X", "M1", 77], atomic=False, lines=(7, 9, 12))
    (decision,) = decide(request)
    assert [(p.course_id, p.line) for p in decision.result.errors] == [("X", 7), (77, 12)]


@pytest.mark.parametrize(("lines", "line"), [((), None), ((4,), 4), ((4, 6), 4)])
def test_a_problem_of_the_whole_request_names_its_first_line(
    lines: tuple[int, ...], line: int | None
) -> None:
    request = incoming("Z", ["M1", "M2"], lines=lines)
    (decision,) = decide(request)
    assert [problem.line for problem in decision.result.errors] == [line]
    assert lines_about(request, decision.result.errors[0]) == list(enumerate(lines))


def test_a_field_of_an_unreadable_record_is_found_in_its_line() -> None:
    record = {"student_id": "A", "course_ids": ["M1", 0, "M2"]}
    broken = read_request("r", [record], {})
    (decision,) = decide(broken._replace(lines=(4, 5, 6)))
    assert {(problem.field, problem.line) for problem in decision.result.errors} == {
        ("course_ids[1]", 5)
    }


# --- Poison -----------------------------------------------------------------------------------


def test_the_refusal_of_poison_quotes_the_last_line_of_the_error() -> None:
    problem = not_processed("Traceback:\n  File x\nZeroDivisionError: \x1b[31m" + "é" * 900 + "\n")
    assert problem.code is Code.NOT_PROCESSED
    assert "Traceback" not in problem.message
    assert r"ZeroDivisionError: \x1b[31m\xe9" in problem.message
    assert len(problem.message) < 400
    assert "it failed" in not_processed("").message
