"""Find the places of batches in lists, in SQL."""

from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Integer,
    String,
    and_,
    bindparam,
    case,
    cast,
    exists,
    func,
    or_,
    select,
    union_all,
)

from producer.contract.plans import FINAL_STATES
from worker.models import Batch, BatchChunk, DeadLetter, Instant, LetterForm
from worker.plan_models import PlanMember, PlanRow

_NEXT_NUMBER = cast(BatchChunk.number, BigInteger) + 1
"""The number after a chunk's own. It may be too large for the type of the column."""


def newest_batches(
    connection: Connection, limit: int, offset: int, *, incomplete_only: bool
) -> list[str]:
    """Return the ids of batches, those with the newest applied chunks first, starting at an offset.

    With `incomplete_only`, leave out the batches of which every chunk and every row was applied.
    """
    chunk = BatchChunk
    statement = select(chunk.batch_id).group_by(chunk.batch_id)
    if incomplete_only:
        total = func.max(case((chunk.last, _NEXT_NUMBER)))
        has_gaps = func.count() != func.max(_NEXT_NUMBER)
        other_rows = func.sum(chunk.rows) != func.max(chunk.rows_through)
        statement = statement.having(
            or_(total.is_(None), func.count() != total, has_gaps, other_rows)
        )
    newest = statement.order_by(func.max(chunk.applied_at).desc(), chunk.batch_id)
    return list(connection.scalars(newest.limit(limit).offset(offset)))


def refused_batches(connection: Connection, limit: int) -> list[str]:
    """Return batches, newest first, that have a whole chunk as a dead letter and none applied."""
    letter = DeadLetter
    newest = (
        select(letter.batch_id)
        .where(_is_refused_chunk())
        .group_by(letter.batch_id)
        .order_by(func.max(letter.last_at).desc(), letter.batch_id)
    )
    return [str(batch_id) for batch_id in connection.scalars(newest.limit(limit))]


class BatchPlace(NamedTuple):
    """A place in the list of batches: a batch with a later moment, or a greater id, comes first."""

    moment: datetime
    id: str


def find_places(
    connection: Connection,
    before: tuple[datetime, str] | None,
    limit: int,
    kind: str | None = None,
    submitter: str | None = None,
) -> list[BatchPlace]:
    """Return the first places in the list of batches, or in the part of it that follows `before`.

    The place of a batch is its moment; an older version stored none, and then it is when its first
    chunk was applied. A batch of which nothing is applied has it from its plan. If all of its
    chunks are dead letters, it is the earliest moment of these, and the batch has neither a kind
    nor a submitter. There is no index on the moments: the places
    of all batches are read, but nothing else about them.
    """
    moment, batch_id = before or (None, None)
    values = {"moment": moment, "id": batch_id, "limit": limit}
    selected = {"kind": kind, "submitter": submitter}
    dialect = connection.dialect.name
    names = tuple(name for name, value in selected.items() if value is not None)
    statement = _select_places(dialect, before is not None, names)
    return [BatchPlace(*row) for row in connection.execute(statement, {**values, **selected})]


@cache
def _select_places(dialect: str, follows: bool, names: tuple[str, ...]) -> Any:  # noqa: FBT001 - for the cache
    letter, chunk = DeadLetter, BatchChunk
    first = select(func.min(chunk.applied_at)).where(chunk.batch_id == Batch.id)
    moment = func.coalesce(Batch.moment, first.scalar_subquery()).label("moment")
    places: Any = select(moment, Batch.id.label("id"))
    places = places.where(*(getattr(Batch, name) == bindparam(name) for name in names))
    planned: Any = select(PlanMember.moment, PlanMember.batch_id)
    planned = planned.where(*(getattr(PlanMember, name) == bindparam(name) for name in names))
    places = union_all(places, planned.where(_is_only_planned()))
    if not names:
        counts_at = func.min(func.coalesce(letter.moment, letter.first_at))
        refused = select(counts_at, letter.batch_id).where(_is_refused_chunk())
        refused = refused.group_by(letter.batch_id)
        places = union_all(*places.selects, refused)
    place = places.subquery()
    # Ids are compared byte by byte, as Python does it, whatever the locale.
    own_id = place.c.id.collate("C" if dialect == "postgresql" else "BINARY")
    page = select(place.c.moment, place.c.id).order_by(place.c.moment.desc(), own_id.desc())
    if follows:
        then: Any = bindparam("moment", type_=Instant())
        has_lesser_id = own_id < bindparam("id", type_=String())
        at_once = and_(place.c.moment == then, has_lesser_id)
        page = page.where(or_(place.c.moment < then, at_once))
    return page.limit(bindparam("limit", type_=Integer()))


def _is_refused_chunk() -> Any:
    """Return the condition that a dead letter is a chunk of a batch without any other chunk."""
    letter = DeadLetter
    applied = exists().where(Batch.id == letter.batch_id)
    member = PlanMember
    staged = exists().where(member.batch_id == letter.batch_id, member.moment.is_not(None))
    is_chunk = and_(letter.batch_id.is_not(None), letter.form != LetterForm.RECORD)
    return and_(is_chunk, ~applied, ~staged)


def _is_only_planned() -> Any:
    """Return the condition that chunks of a member of a plan were stored, and none was applied."""
    applied = exists().where(Batch.id == PlanMember.batch_id)
    return and_(PlanMember.moment.is_not(None), ~applied)


def waiting_batches(connection: Connection, limit: int) -> list[str]:
    """Return batches that are planned or wait for a decision, those that came last first."""
    return _only_planned(connection, PlanRow.state.not_in(FINAL_STATES), limit)


def ended_plans(connection: Connection, limit: int) -> list[str]:
    """Return batches whose plans were only reports or were discarded, those that came last first.

    Nothing of them was applied.
    """
    return _only_planned(connection, PlanRow.state.in_(FINAL_STATES), limit)


def _only_planned(connection: Connection, condition: ColumnElement[bool], limit: int) -> list[str]:
    member = PlanMember
    batches = (
        select(member.batch_id)
        .join(PlanRow, PlanRow.id == member.plan_id)
        .where(_is_only_planned(), condition)
        .order_by(member.moment.desc(), member.batch_id)
    )
    return list(connection.scalars(batches.limit(limit)))
