"""The rulebook, for any sequence of calls, against a model that decides one by one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from support.rulebook import BROKEN, COURSES, NOW, STUDENTS, codes, incoming, plan_at_noon
from worker.enrollment.incoming import IncomingRequest
from worker.enrollment.problems import not_processed
from worker.enrollment.rules import Changed, Decision, conclude
from worker.enrollment.values import StoredResult
from worker.models import Pair


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
        problems = errors["all"] or errors["some"]
        status = "enrolled" if not problems else "partial" if enrolled else "rejected"
        student = STUDENTS.get(request.student_id, 0) if request else 0
        already = [course for course in enrolled if (student, course) in self.rows]
        self.rows |= {(student, course) for course in enrolled}
        added = len(enrolled) - len(already)
        rejected = total if status == "rejected" else len(problems)
        counts = (added, total - added - rejected, rejected)
        return Outcome(status, enrolled, already, problems, True, False, counts)

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
    counts = decision.count_rows(len(request.course_ids) if request else 1)
    return Outcome(
        result.status.value,
        result.enrolled_ids,
        result.already_enrolled_ids,
        codes(decision),
        decision.is_new,
        decision.is_repeat,
        (counts.enrolled, counts.already_enrolled, counts.rejected),
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
        planned = plan_at_noon(requests, stored.values())
        before = set(model.rows)
        expected = [model.decide(request) for request in requests]
        decided = conclude(planned, Changed(set(planned.rows) - rows, ()), None, NOW)
        assert set(planned.rows) - rows == model.rows - before
        rows |= set(planned.rows)
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
