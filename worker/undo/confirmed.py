"""Leave pairs enrolled that another request, which counts at the same moment, asks for as well.

The undo of a pair counts 1 µs later than the batch, so that every later request wins against it.
Two batches may have one moment, such as the files of one package; the other one must win, too.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from worker.models import Pair
from worker.moments import STEP
from worker.undo.repository import find_confirmations_of_others
from worker.undo.values import Reversal, UndoneBatch

_MARGIN: Final = timedelta(hours=1)
"""How much earlier than its moment a result may have been stored, and what clocks may differ."""


def leave_confirmed(
    connection: Connection, batch: UndoneBatch, reversals: Sequence[Reversal]
) -> list[Reversal]:
    """Let drops count at the moment of the batch where another request confirmed the pair then.

    At equal moments, the enrollment wins: the pair is left, and listed as such. Raises DBAPIError.
    """
    drops = [each for each in reversals if each.dropped]
    if not drops:
        return list(reversals)
    since = min(each.counts_at for each in drops) - _MARGIN
    students = {each.student for each in drops}
    confirmed = {
        ((row.student_id, course), row.counts_at + STEP)
        for row in find_confirmations_of_others(connection, batch.id, students, since)
        for course in row.enrolled
    }
    if not confirmed:
        return list(reversals)
    return [part for each in reversals for part in _divided(each, confirmed)]


def _divided(reversal: Reversal, confirmed: set[tuple[Pair, datetime]]) -> list[Reversal]:
    """Return a request without the drops of confirmed pairs, and an earlier one with these."""
    student, enrolled, dropped, counts_at = reversal
    is_left = [((student, course), counts_at) in confirmed for course in dropped]
    if not any(is_left):
        return [reversal]
    left = [course for course, is_it in zip(dropped, is_left, strict=True) if is_it]
    rest = [course for course in dropped if course not in left]
    parts = [Reversal(student, (), left, counts_at - STEP)]
    if rest or enrolled:
        parts.insert(0, Reversal(student, enrolled, rest, counts_at))
    return parts
