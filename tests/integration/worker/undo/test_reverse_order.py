"""Undoing the last batch first restores what was before each, with owners and notes."""

from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from support.snapshots import Feeds, Pair, at, clear, clock, grid, make_feeds
from worker.database.engine import Database
from worker.undo.run import undo

PAIRS = grid((1, 2, 3), (1, 2))
DATA_SETS = ("sis", "lms")

QUICK = settings(
    max_examples=12,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
)


class Step(NamedTuple):
    """A batch: of requests to enroll, to drop or to drop and enroll again, or a snapshot."""

    form: str
    pairs: list[Pair]
    data_set: str | None = None
    adopt: bool = False


some_pairs = st.lists(st.sampled_from(PAIRS), unique=True, max_size=4)
named_pairs = some_pairs.filter(bool)
steps = st.one_of(
    st.builds(
        Step,
        st.sampled_from(["enroll", "reopen"]),
        named_pairs,
        st.sampled_from([None, *DATA_SETS]),
        st.just(False),
    ),
    st.builds(Step, st.just("drop"), named_pairs, st.none(), st.just(False)),
    st.builds(Step, st.just("snapshot"), some_pairs, st.sampled_from(DATA_SETS), st.booleans()),
)


@pytest.fixture
def feeds(database: Database) -> Feeds:
    return make_feeds(database, 3, 2)


def apply(feeds: Feeds, step: Step, minute: int) -> str:
    """Apply a batch; return its id."""
    batch_id = f"step-{minute}"
    if step.form == "snapshot":
        assert step.data_set is not None
        feeds.snapshot(step.data_set, step.pairs, at(minute), adopt=step.adopt, batch_id=batch_id)
    elif step.form == "reopen":
        feeds.reopen(step.data_set, step.pairs, at(minute), batch_id=batch_id)
    else:
        feeds.batch(
            step.data_set, step.pairs, at(minute), batch_id=batch_id, drops=step.form == "drop"
        )
    return batch_id


def state(feeds: Feeds) -> tuple[Any, ...]:
    """Return what is enrolled, with owners, and which data sets are noted."""
    return feeds.owners(), feeds.notes()


@QUICK
@example(  # The undo of the list changed the owners of two pairs, and nothing else of them.
    before=[Step("enroll", [("S1", "C1"), ("S2", "C1")], "sis", False)],
    after=[
        Step("enroll", [("S2", "C2"), ("S3", "C1")], "sis", False),
        Step("reopen", [("S1", "C1"), ("S2", "C2"), ("S3", "C1")], "lms", False),
        Step("snapshot", [("S2", "C1")], "sis", False),
    ],
)
@given(before=st.lists(steps, max_size=4), after=st.lists(steps, min_size=1, max_size=4))
def test_undo_in_reverse_order_restores_every_state_and_undo_of_undo_as_well(
    feeds: Feeds, before: list[Step], after: list[Step]
) -> None:
    clear(feeds)
    for minute, step in enumerate(before):
        apply(feeds, step, minute)
    states, batches = [state(feeds)], []
    for minute, step in enumerate(after, len(before)):
        batches.append(apply(feeds, step, minute))
        states.append(state(feeds))
    for number, batch_id in reversed(list(enumerate(batches))):
        undo(feeds.database, batch_id, clock=clock)
        assert state(feeds) == states[number], f"after the undo of {batch_id}"
    for number, batch_id in enumerate(batches, 1):
        undo(feeds.database, f"undo:{batch_id}", clock=clock)
        assert state(feeds) == states[number], f"after the undo of undo:{batch_id}"
