"""Find out what is probably wrong with the unknown ids of a batch, once the batch is done.

The ids that may have been meant are looked up in the roster by its index, many at a time. This is
bounded in ids and in time, because a client waits for it: how much was examined is reported.
"""

import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Final, NamedTuple

from sqlalchemy import Connection

from producer.contract.batches import (
    BatchState,
    BatchStatus,
    Cause,
    LikelyCause,
    RefusalGroup,
    UnknownId,
)
from producer.contract.ids import is_missing_value
from producer.schemas import Code
from worker.batches.candidates import (
    Causes,
    candidates,
    differences,
    is_scientific,
    outline,
    rounded_ranges,
)
from worker.database.engine import Database
from worker.models import Course, Student
from worker.refused_lines.repository import find_refused_ids
from worker.repository import find_keys, find_least_and_largest, sis_ids_of_small_roster

MAX_EXAMINED: Final = 10_000
"""The most refusals, for each of the two codes, that one lookup examines."""

MAX_SECONDS: Final = 2.0
"""After this many seconds no further ids are examined."""

_AT_ONCE: Final = 500
"""How many ids are looked up in one statement, with all that they may have been."""

_MOST_GROUPS: Final = 20
_MOST_EXAMPLES: Final = 3
_MOST_MEANT: Final = 3

ROSTERS: Final[Mapping[Code, type[Student | Course]]] = {
    Code.UNKNOWN_STUDENT: Student,
    Code.UNKNOWN_COURSE: Course,
}


Rosters = Sequence[Connection]
"""The connections on which the students and courses are looked up."""


class Guess(NamedTuple):
    """How an id was probably changed, and the ids that it may have been."""

    causes: Causes
    meant: tuple[str, ...] = ()


def add_likely_causes(database: Database, statuses: Sequence[BatchStatus]) -> list[BatchStatus]:
    """Return statuses with the likely causes of unknown ids, for the batches that are done.

    The bounds of one lookup hold for all of the batches together.
    """
    batches = [s for s in statuses if s.state is BatchState.DONE and _unknown_ids(s.refusals)]
    if not batches:
        return list(statuses)
    limit = MAX_EXAMINED // len(batches)
    until = time.monotonic() + MAX_SECONDS
    groups: dict[str, tuple[RefusalGroup, ...]] = {}
    with database.reading() as connection:
        for batch_id, refusals in {s.batch_id: s.refusals for s in batches}.items():
            rosters = (connection,)
            groups[batch_id] = _explained(connection, rosters, batch_id, refusals, limit, until)
    return [
        status.model_copy(update={"refusals": groups.get(status.batch_id, status.refusals)})
        for status in statuses
    ]


def explain_refusals(
    connection: Connection, roster: Connection, batch_id: str, refusals: Sequence[RefusalGroup]
) -> tuple[RefusalGroup, ...]:
    """Return the refusals of a planned batch with the likely causes of unknown ids.

    They are read on the connection on which the plan is made, which also has the rosters of its
    package, and the roster on another one. Raises DBAPIError.
    """
    until = time.monotonic() + MAX_SECONDS
    rosters = (roster, connection)
    return _explained(connection, rosters, batch_id, refusals, MAX_EXAMINED, until)


def _explained(
    connection: Connection,
    rosters: Rosters,
    batch_id: str,
    refusals: Sequence[RefusalGroup],
    limit: int,
    until: float,
) -> tuple[RefusalGroup, ...]:
    return tuple(
        _with_causes(connection, rosters, batch_id, group, limit, until)
        if group.code in ROSTERS
        else group
        for group in refusals
    )


def _unknown_ids(refusals: Iterable[RefusalGroup]) -> bool:
    return any(group.code in ROSTERS for group in refusals)


def _with_causes(
    connection: Connection,
    rosters: Rosters,
    batch_id: str,
    group: RefusalGroup,
    limit: int,
    until: float,
) -> RefusalGroup:
    if time.monotonic() > until:
        return group
    examined, refused = find_refused_ids(connection, batch_id, group.code, limit)
    counts = Counter(refused)
    guesses, seen = guess(rosters, ROSTERS[group.code], counts, until)
    if seen < len(counts):
        examined = sum(counts[sis_id] for sis_id in islice(counts, seen))
    causes = likely_causes(guesses, counts)
    return group.model_copy(update={"likely_causes": causes, "examined": examined})


def guess(
    rosters: Rosters, model: type[Student | Course], ids: Iterable[str], until: float
) -> tuple[dict[str, Guess], int]:
    """Return what SIS ids were probably meant to be, and how many of the ids were examined.

    Ids without a likely cause are left out. `until` is the moment on the monotonic clock after
    which no further ids are examined.
    """
    guesses: dict[str, Guess] = {}
    examined: list[str] = []
    remaining = iter(ids)
    while (some := list(islice(remaining, _AT_ONCE))) and time.monotonic() < until:
        guesses |= _guess_by_index(rosters, model, some)
        examined += some
    if time.monotonic() < until:
        small = chain.from_iterable(sis_ids_of_small_roster(each, model) for each in rosters)
        _add_guesses_by_outline(guesses, examined, dict.fromkeys(small))
    for sis_id in examined:
        if sis_id not in guesses and is_missing_value(sis_id):
            guesses[sis_id] = Guess((Cause.MISSING_VALUE,))
        elif sis_id not in guesses and is_scientific(sis_id):
            guesses[sis_id] = Guess((Cause.SCIENTIFIC,))
    return guesses, len(examined)


def _guess_by_index(
    rosters: Rosters, model: type[Student | Course], ids: Sequence[str]
) -> dict[str, Guess]:
    """Look up everything that these ids may have been, and the ids themselves."""
    possible = {sis_id: candidates(sis_id) for sis_id in ids}
    wanted = {*ids, *(text for texts in possible.values() for text in texts)}
    existing = set().union(*(find_keys(each, model, wanted) for each in rosters))
    ranges = [(sis_id, *limits) for sis_id in ids for limits in rounded_ranges(sis_id)]
    ends = [find_least_and_largest(each, model, ranges) for each in rosters if ranges]
    guesses = {}
    for sis_id, originals in possible.items():
        if sis_id in existing:
            guesses[sis_id] = Guess((Cause.IN_ROSTER,), (sis_id,))
            continue
        meant = {text: causes for text, causes in originals.items() if text in existing}
        for text in chain.from_iterable(numbers.get(sis_id, ()) for numbers in ends):
            zeros = (Cause.LEADING_ZEROS_LOST,) if text.startswith("0") else ()
            meant.setdefault(text, (*zeros, Cause.SCIENTIFIC))
        if meant:
            fewest = min(meant.values(), key=len)
            guesses[sis_id] = Guess(fewest, tuple(sorted(meant, key=lambda m: len(meant[m]))))
    return guesses


def _add_guesses_by_outline(
    guesses: dict[str, Guess], ids: Iterable[str], roster: Iterable[str]
) -> None:
    """Compare ids with all of a small roster, whatever their case, spaces and leading zeros."""
    by_outline: dict[str, list[str]] = {}
    for existing in roster:
        alike = by_outline.setdefault(outline(existing), [])
        if len(alike) <= _MOST_MEANT:
            alike.append(existing)
    if not by_outline:
        return
    for sis_id in ids:
        earlier = guesses.get(sis_id, Guess(()))
        if earlier.causes == (Cause.IN_ROSTER,):
            continue
        others = [i for i in by_outline.get(outline(sis_id), ()) if i not in earlier.meant]
        if others:
            causes = earlier.causes or min((differences(sis_id, i) for i in others), key=len)
            guesses[sis_id] = Guess(causes, (*earlier.meant, *others))


def likely_causes(
    guesses: Mapping[str, Guess], counts: Mapping[str, int]
) -> tuple[LikelyCause, ...]:
    """Group guesses by their causes, the group with the most refusals first.

    `counts` says how often each id was refused.
    """
    groups: dict[tuple[Causes, int], list[str]] = {}
    for sis_id, found in guesses.items():
        groups.setdefault((found.causes, min(len(found.meant), 2)), []).append(sis_id)
    made = []
    for (causes, _), ids in groups.items():
        examples = tuple(
            UnknownId(id=sis_id, meant=guesses[sis_id].meant[:_MOST_MEANT])
            for sis_id in ids[:_MOST_EXAMPLES]
        )
        made.append(
            LikelyCause(
                causes=causes,
                message=_sentence(causes, len(ids), examples[0]),
                ids=len(ids),
                count=sum(counts[sis_id] for sis_id in ids),
                examples=examples,
            )
        )
    return tuple(sorted(made, key=lambda cause: -cause.count)[:_MOST_GROUPS])


_PHRASES: Final[Mapping[Cause, str]] = {
    Cause.LEADING_ZEROS_LOST: "lost leading zeros",
    Cause.LEADING_ZEROS_ADDED: "got leading zeros",
    Cause.LETTER_CASE: "changed between upper and lower case",
    Cause.SPACES: "gained or lost spaces or invisible characters",
    Cause.LOOK_ALIKE: "got characters that only look the same",
    Cause.DECIMALS: "got .0 at the end",
    Cause.SCIENTIFIC: "turned into scientific notation, which loses digits",
    Cause.QUOTED: "got quotation marks or an equals sign",
    Cause.THOUSANDS: "got thousands separators",
}


def _sentence(causes: Causes, ids: int, example: UnknownId) -> str:
    """Return a sentence about what is probably wrong with a number of ids, and what to do."""
    number = "1 id" if ids == 1 else f"{ids:,} ids"
    if causes == (Cause.IN_ROSTER,):
        return (
            f"{number} reached the roster later, for example {example.id!r}; submit the refused"
            " lines again under a new batch id"
        )
    if causes == (Cause.MISSING_VALUE,):
        return f"a text such as {example.id!r} stands in place of missing ids; fill in the ids"
    changed = " and ".join(_PHRASES[cause] for cause in causes)
    if not example.meant:
        return (
            f"{number} probably {changed}: {example.id!r}; format the column as text, and export"
            " the file again"
        )
    if len(example.meant) == 1:
        return f"{number} probably {changed}: {example.id!r} → {example.meant[0]!r} in the roster"
    several = " or ".join(map(repr, example.meant))
    remedy = "export the file again" if Cause.SCIENTIFIC in causes else "find out which is right"
    return (
        f"{number} probably {changed}, but the roster has several that may be meant: {example.id!r}"
        f" → {several}; {remedy}"
    )
