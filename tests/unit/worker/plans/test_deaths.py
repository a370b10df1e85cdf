"""Workers count as lost at one place only if they were lost there one after another."""

from types import SimpleNamespace
from typing import Any

import pytest

from producer.contract.plan_requests import PlanMember, PlanPurpose, PlanRequest
from producer.schemas import Kind
from worker.plans.deaths import Deaths

REQUEST = PlanRequest(
    id="b",
    members=(PlanMember(batch_id="b", kind=Kind.ENROLLMENTS),),
    purpose=PlanPurpose.APPLY,
)
FIRST, SECOND, END = ["b", 1], ["b", 2], ["", -1]


def stored(at: Any, died_at: Any = None, deaths: int = 0) -> dict[str, Any]:
    return {"at": at, "died_at": died_at, "deaths": deaths}


def deaths(progress: dict[str, Any] | None, attempts: int = 2) -> Deaths:
    return Deaths.of(SimpleNamespace(progress=progress, attempts=attempts))


def test_the_first_worker_stores_no_place() -> None:
    assert deaths(None) == Deaths()
    assert deaths(stored(FIRST), attempts=0) == Deaths()  # It did not die; the step ended.
    assert deaths({"fingerprints": {}}) == Deaths()


def test_only_deaths_at_one_place_add_up() -> None:
    assert deaths(stored(FIRST)) == Deaths(("b", 1), 1)
    assert deaths(stored(FIRST, FIRST, 1)) == Deaths(("b", 1), 2)
    assert deaths(stored(SECOND, FIRST, 2)) == Deaths(("b", 2), 1)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (deaths(stored(FIRST, FIRST, 1)), None),
        (deaths(stored(FIRST, FIRST, 2)), "at chunk 1 of the batch b. A record in it"),
        (deaths(stored(END, END, 2)), "while they wrote the report, after all chunks"),
    ],
)
def test_the_reason_names_the_place(found: Deaths, words: str | None) -> None:
    problem = found.problem(REQUEST)
    assert (problem is None) == (words is None)
    assert words is None or words in str(problem)
