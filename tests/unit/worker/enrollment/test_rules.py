"""The rulebook without a database: who is refused and why, and which rows are written."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.schemas import Code, EnrollmentProblem, ResultStatus, StudentEnrollmentRequest
from worker.enrollment.incoming import IncomingRequest, read_request
from worker.enrollment.rules import Decision, conclude, lines_about, not_processed, plan
from worker.enrollment.values import CourseSummary, RequestLookup, StoredResult
from worker.models import Pair

NOW = datetime(2026, 9, 1, 12, tzinfo=UTC)
STUDENTS: dict[int | str | None, int] = {"A": 1, 1: 1, "B": 2, 2: 2}
COURSES: dict[int | str, int] = {"M1": 1, 1: 1, "M2": 2, 2: 2, "M3": 3, 3: 3}
BROKEN = EnrollmentProblem(code=Code.INVALID_REQUEST, message="it is broken", field="student_id")


def lookup(results: Iterable[StoredResult] = ()) -> RequestLookup:
    """Return what a database with students A, B and courses M1, M2, M3 would say."""
    summaries = {key: CourseSummary(key, f"M{key}", None) for key in (1, 2, 3)}
    return RequestLookup(STUDENTS, COURSES, summaries, {r.request_id: r for r in results})


def incoming(
    student: int | str,
    courses: Sequence[int | str],
    request_id: str = "r",
    *,
    atomic: bool = True,
    **more: Any,
) -> IncomingRequest:
    request = StudentEnrollmentRequest(student_id=student, course_ids=tuple(courses), atomic=atomic)
    return IncomingRequest(request_id, request.model_dump(), request, **more)


def decide(
    *requests: IncomingRequest,
    rows: Iterable[Pair] = (),
    results: Iterable[StoredResult] = (),
    batch_id: str | None = None,
) -> list[Decision]:
    """Decide requests in one call; `rows` and `results` are those of earlier calls."""
    planned = plan(requests, lookup(results))
    return conclude(planned, set(planned.pairs) - set(rows), batch_id, NOW)


def codes(decision: Decision) -> list[str]:
    return [problem.code.value for problem in decision.result.errors]


# --- One request ------------------------------------------------------------------------------


def test_a_student_is_enrolled_in_every_course_in_the_requested_order() -> None:
    request = incoming("A", ["M3", 1])
    assert plan([request], lookup()).pairs == [(1, 3), (1, 1)]
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
    assert plan([request], lookup()).pairs == []
    (decision,) = decide(request)
    assert (decision.result.status, codes(decision)) == ("rejected", ["unknown_student"])
    assert (decision.result.student_id, decision.result.student_sis_id) == (key, sis_id)
    assert decision.result.errors[0].field == "student_id"
    assert str(asked) in decision.result.errors[0].message


def test_one_unknown_course_refuses_an_atomic_request_as_a_whole() -> None:
    request = incoming("A", ["M1", "X", 77])
    assert plan([request], lookup()).pairs == []
    (decision,) = decide(request)
    assert (decision.result.status, codes(decision)) == ("rejected", ["unknown_course"] * 2)
    assert [problem.course_id for problem in decision.result.errors] == ["X", 77]
    assert decision.result.enrolled_ids == []
    assert decision.result.student_id == 1
    assert decision.count_rows(3) == (0, 0, 3)


def test_a_request_that_is_not_atomic_enrolls_in_its_good_courses() -> None:
    request = incoming("A", ["X", "M3", "M1"], atomic=False)
    assert plan([request], lookup()).pairs == [(1, 3), (1, 1)]
    (decision,) = decide(request, rows=[(1, 1)])
    assert (decision.result.status, codes(decision)) == ("partial", ["unknown_course"])
    assert decision.result.enrolled_ids == [3, 1]
    assert decision.count_rows(3) == (1, 1, 1)


def test_a_request_without_any_good_course_is_rejected_even_if_it_is_not_atomic() -> None:
    (decision,) = decide(incoming("A", ["X"], atomic=False))
    assert decision.result.status is ResultStatus.REJECTED


def test_two_names_of_one_course_are_one_row_that_is_counted_once_as_added() -> None:
    request = incoming("A", ["M1", 1])
    assert plan([request], lookup()).pairs == [(1, 1)]
    (decision,) = decide(request)
    assert (decision.result.status, decision.result.enrolled_ids) == ("enrolled", [1])
    assert decision.result.already_enrolled_ids == []
    assert decision.count_rows(2) == (1, 1, 0)


@pytest.mark.parametrize("readable", [True, False])
def test_a_request_with_problems_is_refused_whatever_it_asks_for(readable: bool) -> None:
    request = incoming("A", ["M1"], problems=(BROKEN,))
    if not readable:
        request = request._replace(request=None, record={"student_id": "A", "course_ids": 7})
    assert plan([request], lookup()).pairs == []
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
    assert plan([once, once], lookup()).pairs == [(1, 1)]
    first, again = decide(once, once)
    assert (first.is_new, first.is_repeat) == (True, False)
    assert (again.is_new, again.is_repeat) == (False, True)
    assert again.result is first.result
    assert (first.count_rows(2), again.count_rows(2)) == ((1, 0, 1), (0, 1, 1))


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
    planned = plan([once, other], lookup())
    assert planned.pairs == [(1, 1)]
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
    assert plan([request], lookup([earlier])).pairs == []
    (decision,) = decide(request, results=[earlier])
    assert decision == Decision(request, earlier, is_new=False, is_repeat=True)
    assert decision.count_rows(1) == (0, 0, 1)


def test_an_earlier_result_of_a_different_request_refuses_the_request() -> None:
    earlier = decide(incoming("A", ["M1"]))[0].result
    other = incoming("A", ["M2"])
    assert plan([other], lookup([earlier])).pairs == []
    (decision,) = decide(other, results=[earlier])
    assert codes(decision) == ["request_id_reused"]
    assert not decision.is_new
    assert decision.count_rows(1) == (0, 0, 1)


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
    assert (first.count_rows(2), second.count_rows(2)) == ((2, 0, 0), (1, 1, 0))


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


# --- Reading and refusing ---------------------------------------------------------------------


def test_a_request_without_an_id_gets_the_id_of_its_task() -> None:
    record = {"student_id": "A", "course_ids": ["M1"]}
    assert read_request("t" * 200, [record], {}).request_id == "t" * 128
    assert read_request("task", [{**record, "request_id": "own"}], {}).request_id == "own"


@pytest.mark.parametrize(("own", "expected"), [("own", "own"), ("", "task"), (7, "task")])
def test_a_record_that_breaks_the_contract_keeps_its_id_if_that_is_valid(
    own: object, expected: str
) -> None:
    read = read_request("task", [{"student_id": None, "request_id": own}], {})
    assert (read.request_id, read.request) == (expected, None)
    assert read.problems


def test_a_call_that_is_not_one_record_is_stored_whole_and_refused() -> None:
    read = read_request("task", [1, 2], {"three": 3})
    assert read.record == {"args": [1, 2], "kwargs": {"three": 3}}
    assert read.problems


def test_the_refusal_of_poison_quotes_the_last_line_of_the_error() -> None:
    problem = not_processed("Traceback:\n  File x\nZeroDivisionError: \x1b[31m" + "é" * 900 + "\n")
    assert problem.code is Code.NOT_PROCESSED
    assert "Traceback" not in problem.message
    assert r"ZeroDivisionError: \x1b[31m\xe9" in problem.message
    assert len(problem.message) < 400
    assert "it failed" in not_processed("").message


# --- Any sequence, against a model that decides one request after another ----------------------


class Outcome(NamedTuple):
    """The model's result for a request."""

    status: str
    enrolled: list[int]
    already: list[int]
    errors: list[str]
    is_new: bool
    is_repeat: bool
    counts: tuple[int, int, int]


@dataclass
class Model:
    """A model of the rules that decides one request after another, in plain Python."""

    rows: set[Pair] = field(default_factory=set)
    results: dict[str, tuple[Any, Outcome]] = field(default_factory=dict)

    def decide(self, incoming: IncomingRequest) -> Outcome:
        content = _content(incoming)
        total = len(incoming.request.course_ids) if incoming.request else 1
        if incoming.request_id in self.results:
            first_content, first = self.results[incoming.request_id]
            if content is None or content != first_content:
                errors = ["request_id_reused"]
                return Outcome("rejected", [], [], errors, False, False, (0, 0, total))
            rejected = total if first.status == "rejected" else len(first.errors)
            counts = (0, total - rejected, rejected)
            return first._replace(is_new=False, is_repeat=True, counts=counts)
        outcome = self._decide_new(incoming, total)
        self.results[incoming.request_id] = (content, outcome)
        return outcome

    def _decide_new(self, incoming: IncomingRequest, total: int) -> Outcome:
        errors = self._errors(incoming)
        request = incoming.request
        enrolled: list[int] = []
        if request and not errors["all"] and not (request.atomic and errors["some"]):
            for course in request.course_ids:
                if course in COURSES and COURSES[course] not in enrolled:
                    enrolled.append(COURSES[course])
        told = errors["all"] or errors["some"]
        status = "enrolled" if not told else "partial" if enrolled else "rejected"
        student = STUDENTS.get(request.student_id, 0) if request else 0
        already = [course for course in enrolled if (student, course) in self.rows]
        self.rows |= {(student, course) for course in enrolled}
        added = len(enrolled) - len(already)
        rejected = total if status == "rejected" else len(told)
        counts = (added, total - added - rejected, rejected)
        return Outcome(status, enrolled, already, told, True, False, counts)

    @staticmethod
    def _errors(incoming: IncomingRequest) -> Mapping[str, list[str]]:
        request = incoming.request
        if incoming.problems or request is None:
            return {"all": [problem.code.value for problem in incoming.problems], "some": []}
        if request.student_id not in STUDENTS:
            return {"all": ["unknown_student"], "some": []}
        unknown = [course for course in request.course_ids if course not in COURSES]
        return {"all": [], "some": ["unknown_course"] * len(unknown)}


def _content(incoming: IncomingRequest) -> Any:
    """Return what a request asks for; None where nothing is ever equal to it."""
    request = incoming.request
    if not incoming.has_own_id:
        return None
    if request is None:
        return incoming.record
    return (request.student_id, request.course_ids, request.atomic)


def _of_decision(decision: Decision) -> Outcome:
    result, request = decision.result, decision.incoming.request
    return Outcome(
        result.status.value,
        result.enrolled_ids,
        result.already_enrolled_ids,
        codes(decision),
        decision.is_new,
        decision.is_repeat,
        tuple(decision.count_rows(len(request.course_ids) if request else 1)),  # type: ignore[arg-type]
    )


good_requests = st.builds(
    incoming,
    st.sampled_from(["A", "B", 1, 2, "Z", 99, "1"]),
    st.lists(st.sampled_from(["M1", "M2", 1, 2, 3, "X", 77]), min_size=1, max_size=4),
    st.sampled_from(["r0", "r1", "r2", "r3", "r4", "r5"]),
    atomic=st.booleans(),
    problems=st.sampled_from([(), (), (), (not_processed("it died"),)]),
    has_own_id=st.sampled_from([True, True, True, False]),
)
broken_requests = st.builds(
    lambda *about: IncomingRequest(about[0], about[1], None, about[2]),
    st.sampled_from(["r0", "r1", "r2"]),
    st.sampled_from([{"student_id": "A"}, {"student_id": 0}]),
    st.sampled_from([(BROKEN,), (BROKEN, BROKEN)]),
)
calls = st.lists(st.lists(good_requests | broken_requests, max_size=6), max_size=5)


@given(rows=st.sets(st.tuples(st.integers(1, 2), st.integers(1, 3))), calls=calls)
def test_any_sequence_of_calls_decides_like_single_requests_in_order(
    rows: set[Pair], calls: list[list[IncomingRequest]]
) -> None:
    model = Model(rows=set(rows))
    stored: dict[str, StoredResult] = {}
    for requests in calls:
        planned = plan(requests, lookup(stored.values()))
        before = set(model.rows)
        expected = [model.decide(request) for request in requests]
        decided = conclude(planned, set(planned.pairs) - rows, None, NOW)
        assert set(planned.pairs) - rows == model.rows - before
        rows |= set(planned.pairs)
        assert [_of_decision(decision) for decision in decided] == expected
        for decision in decided:
            total = len(decision.incoming.request.course_ids) if decision.incoming.request else 1
            counts = decision.count_rows(total)
            assert sum(counts) == total
            assert min(counts) >= 0
            if decision.is_new:
                assert decision.incoming.request_id not in stored
                stored[decision.incoming.request_id] = decision.result
    assert rows == model.rows
    assert set(stored) == set(model.results)
