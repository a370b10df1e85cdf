"""In whatever order batches are undone, the others decide what is enrolled. Both databases.

The plain model is a set of pairs to which the batches that count are applied, one after another.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from support.databases import opened_database, without_syncing
from support.snapshots import Feeds, Pair, at, chunk_of, clear, clock, deliver, grid, make_feeds
from worker.database.engine import Database, transaction
from worker.intervals.undone.repository import find_undone, find_undos
from worker.undo.run import rehearse, undo
from worker.undo.start import begin, stop

PAIRS = grid((1, 2), (1, 2))
P = PAIRS[0]

QUICK = settings(
    max_examples=4,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
)


class Step(NamedTuple):
    """A batch of the data set, or a list of drops, that may be undone, or single requests."""

    form: str
    pairs: Sequence[Pair]


ENROLL, DROP, SNAPSHOT = (Step(form, [P]) for form in ("enroll", "drop", "snapshot"))
EMPTY = Step("snapshot", [])
BY_HAND, BY_HAND_DROP = Step("enroll by hand", [P]), Step("drop by hand", [P])

some_pairs = st.lists(st.sampled_from(PAIRS), unique=True, max_size=3)
FORMS = ["enroll", "drop", "snapshot", "drop by hand"]
steps = st.builds(Step, st.sampled_from(FORMS), some_pairs).filter(
    lambda step: bool(step.pairs) or step.form == "snapshot"
)


def expected(counting: Iterable[Step]) -> set[Pair]:
    """Return what is enrolled after these steps; a snapshot is the whole truth."""
    enrolled: set[Pair] = set()
    for form, pairs in counting:
        if form == "snapshot":
            enrolled = set(pairs)
        elif form.startswith("enroll"):
            enrolled |= set(pairs)
        else:
            enrolled -= set(pairs)
    return enrolled


@pytest.fixture
def feeds(database: Database) -> Feeds:
    return make_feeds(database, 2, 2)


def apply(feeds: Feeds, step: Step, minute: int) -> None:
    batch_id = f"step-{minute}"
    if step.form == "snapshot":
        feeds.snapshot("sis", step.pairs, at(minute), batch_id=batch_id)
    elif step.form == "drop by hand":
        feeds.by_hand(at(minute), drop=step.pairs)
    elif step.form == "enroll by hand":
        feeds.by_hand(at(minute), enroll=step.pairs)
    else:
        is_drop = step.form == "drop"
        data_set = None if is_drop else "sis"
        feeds.batch(data_set, step.pairs, at(minute), batch_id=batch_id, drops=is_drop)


@QUICK
@given(script=st.lists(steps, min_size=2, max_size=4), data=st.data())
def test_what_is_enrolled_follows_from_the_batches_that_count(
    feeds: Feeds, script: list[Step], data: st.DataObject
) -> None:
    undoable = [number for number, step in enumerate(script) if "hand" not in step.form]
    order = data.draw(st.permutations(undoable), "order")
    check(feeds, script, order)


@pytest.fixture
def sqlite_feeds(new_database: Callable[[str], str]) -> Iterator[Feeds]:
    with opened_database(new_database("sqlite")) as database:
        yield make_feeds(without_syncing(database), 2, 2)


@pytest.mark.one_database
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize(
    "script",
    [
        [ENROLL, DROP],
        [ENROLL, ENROLL],
        [ENROLL, DROP, ENROLL],
        [ENROLL, DROP, DROP],
        [BY_HAND, DROP, DROP],
        [SNAPSHOT, EMPTY, EMPTY],
        [SNAPSHOT, EMPTY, ENROLL, DROP, EMPTY],
        [ENROLL, BY_HAND_DROP, ENROLL],
    ],
)
def test_one_pair_and_several_batches_that_are_undone(
    sqlite_feeds: Feeds, script: list[Step], backwards: bool
) -> None:
    order = [number for number, step in enumerate(script) if "hand" not in step.form]
    check(sqlite_feeds, script, order[::-1] if backwards else order)


@pytest.mark.one_database
@pytest.mark.parametrize("enrolled", [[], [PAIRS[0]], [PAIRS[1]], [PAIRS[0], PAIRS[2]]])
def test_requests_of_which_a_part_was_enrolled_before_are_undone_once(
    sqlite_feeds: Feeds, enrolled: list[Pair]
) -> None:
    sqlite_feeds.by_hand(at(0), enroll=enrolled)
    records = [{"student_id": student, "course_ids": ["C1", "C2"]} for student in ("S1", "S2")]
    deliver(sqlite_feeds.database, chunk_of("first", records=records), at(1))
    sqlite_feeds.batch(None, [PAIRS[3]], at(2), batch_id="second", drops=True)
    undo(sqlite_feeds.database, "second", clock=clock)
    report = undo(sqlite_feeds.database, "first", clock=clock)
    assert sqlite_feeds.pairs() == set(enrolled)
    assert report.counts["dropped"] == len(PAIRS) - len(enrolled)


@pytest.mark.one_database
def test_a_batch_of_the_same_moment_counts_only_for_what_it_names(sqlite_feeds: Feeds) -> None:
    for batch_id, pair, minute in (("first", P, 0), ("other", PAIRS[3], 0), ("last", PAIRS[1], 1)):
        sqlite_feeds.batch(None, [pair], at(minute), batch_id=batch_id)
    for batch_id in ("last", "first"):
        undo(sqlite_feeds.database, batch_id, clock=clock)
    assert sqlite_feeds.pairs() == {PAIRS[3]}


INTERRUPTED = [
    ([ENROLL, DROP], 0, 1),
    ([ENROLL, DROP], 1, 0),
    ([ENROLL, ENROLL], 1, 0),
    ([SNAPSHOT, EMPTY, EMPTY], 2, 1),
]
"""Batches, the one whose undo is interrupted, and the one that is undone meanwhile."""


@pytest.mark.one_database
@pytest.mark.parametrize(("script", "first", "second"), INTERRUPTED)
@pytest.mark.parametrize("minutes", [-1, 1], ids=["clock behind", "clock ahead"])
def test_an_undo_that_was_interrupted_goes_on_after_another_one(
    sqlite_feeds: Feeds, script: Sequence[Step], first: int, second: int, minutes: int
) -> None:
    database = sqlite_feeds.database
    for number, step in enumerate(script):
        apply(sqlite_feeds, step, number)
    transaction(database, lambda c: stop(c, f"step-{first}", clock()))
    transaction(database, lambda c: begin(c, f"step-{first}"))
    undo(database, f"step-{second}", clock=lambda: clock() + timedelta(minutes=minutes))
    undo(database, f"step-{first}", clock=clock)
    counting = [step for number, step in enumerate(script) if number not in (first, second)]
    assert sqlite_feeds.pairs() == expected(counting)


@pytest.mark.one_database
def test_the_clock_of_a_later_undo_may_be_behind(sqlite_feeds: Feeds) -> None:
    for number, step in enumerate([ENROLL, DROP]):
        apply(sqlite_feeds, step, number)
    undo(sqlite_feeds.database, "step-0", clock=clock)
    undo(sqlite_feeds.database, "step-1", clock=lambda: clock() - timedelta(minutes=1))
    assert sqlite_feeds.pairs() == set()


@pytest.mark.one_database
def test_only_the_beginning_of_an_id_says_what_it_undoes(sqlite_feeds: Feeds) -> None:
    database, batch_id = sqlite_feeds.database, "how-to-undo:it"
    sqlite_feeds.batch(None, [P], at(0), batch_id=batch_id)
    undo(database, batch_id, clock=clock)
    with database.reading() as connection:
        assert find_undone(connection, [batch_id]) == {batch_id}
        assert find_undos(connection, [batch_id])[batch_id].batch_id == f"undo:{batch_id}"


def check(feeds: Feeds, script: Sequence[Step], order: Sequence[int]) -> None:
    """Apply steps, undo some in this order, and undo their undos; compare with the model."""
    clear(feeds)
    for number, step in enumerate(script):
        apply(feeds, step, number)
    assert feeds.pairs() == expected(script)
    undone: set[int] = set()
    for prefix in ("", "undo:"):
        for number in order:
            batch_id = f"{prefix}step-{number}"
            shown = None if prefix else rehearse(feeds.database, batch_id, clock=clock)
            report = undo(feeds.database, batch_id, clock=clock)
            assert shown in (None, report)
            undone ^= {number}
            counting = [step for i, step in enumerate(script) if i not in undone]
            assert feeds.pairs() == expected(counting), f"after the undo of {batch_id}"
