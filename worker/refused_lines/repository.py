"""Read and write the refused lines of batches in SQL."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, exists, func, select, tuple_

from producer.contract.batches import FIRST_LINES
from producer.contract.plans import PlanState
from producer.schemas import Code
from worker.database.sets import (
    RowsUpTo,
    add_rows,
    is_among,
    list_parameter,
    rows_up_to,
    select_up_to,
)
from worker.models import Batch, BatchRefusal, Course
from worker.plan_models import PlanMember, PlannedRefusal, PlanRow
from worker.repository import find_keys

_REFUSAL = ("line", "code", "message", "record", "cells")


def add_refusals(
    connection: Connection, batch_id: str, refusals: Iterable[Mapping[str, Any]]
) -> None:
    """Store refused lines with their records."""
    rows = [(batch_id, *map(refusal.__getitem__, _REFUSAL)) for refusal in refusals]
    add_rows(connection, BatchRefusal, ("batch_id", *_REFUSAL), rows)


RefusalTable = type[BatchRefusal] | type[PlannedRefusal]


def table_of(connection: Connection, batch_id: str) -> RefusalTable:
    """Return the table with the refusals of a batch.

    Until a part of the batch is applied, they are those of the report of its plan, if that is made.
    """
    is_applied = exists().where(Batch.id == batch_id)
    reported = (
        select(PlanMember.batch_id)
        .join(PlanRow, PlanRow.id == PlanMember.plan_id)
        .where(PlanMember.batch_id == batch_id, PlanRow.state != PlanState.STAGED, ~is_applied)
    )
    return BatchRefusal if connection.execute(reported).first() is None else PlannedRefusal


def find_refusals(
    connection: Connection,
    table: RefusalTable,
    batch_id: str,
    after: tuple[int, int],
    limit: int,
    most: int,
    code: Code | None = None,
) -> RowsUpTo:
    """Return refusals in the order of their lines, starting after a (line, id).

    With `code`, only those for this cause. The page ends at `limit` refusals, or once their texts
    have `most` characters.
    """
    refusal = table
    statement = select(*refusal.__table__.columns).where(
        refusal.batch_id == batch_id, tuple_(refusal.line, refusal.id) > tuple_(*after)
    )
    if code is not None:
        # The second condition lets a database begin within the index of the codes, too.
        statement = statement.where(refusal.code == code.value, refusal.line >= after[0])
    page = statement.order_by(refusal.line, refusal.id).limit(limit).subquery()
    order = (page.c.line, page.c.id)
    return rows_up_to(connection, select_up_to(page, _REFUSAL_TEXTS, *order), {}, most)


_REFUSAL_TEXTS = ("message", "record", "cells")


def find_first_refusals(
    connection: Connection, table: RefusalTable, batch_id: str, lines: Iterable[int], most: int
) -> list[Any]:
    """Return the first refusal of each of these lines, which holds what was submitted, by line.

    They end once their texts have `most` characters; the last column of each is the sum so far.
    """
    refusal = table
    dialect = connection.dialect.name
    first = select(func.min(refusal.id)).where(
        refusal.batch_id == batch_id, is_among(dialect, refusal.line)
    )
    first = first.group_by(refusal.line)
    page = select(*refusal.__table__.columns).where(refusal.id.in_(first)).subquery()
    statement = select_up_to(page, _REFUSAL_TEXTS, page.c.line)
    parameters = list_parameter(dialect, set(lines))
    return rows_up_to(connection, statement, parameters, most).rows


def group_refusals(connection: Connection, batch_id: str) -> list[Any]:
    """Return a batch's refusals by code: how many, and the first few lines with their messages."""
    refusal = BatchRefusal
    counted = select(refusal.code, func.count()).where(refusal.batch_id == batch_id)
    groups = []
    for code, count in connection.execute(counted.group_by(refusal.code).order_by(refusal.code)):
        first = (
            select(refusal.line, func.min(refusal.message).label("message"))
            .where(refusal.batch_id == batch_id, refusal.code == code)
            .group_by(refusal.line)
            .order_by(refusal.line)
            .limit(FIRST_LINES)
        )
        groups.append((code, count, connection.execute(first).all()))
    return groups


def find_refused_ids(
    connection: Connection, batch_id: str, code: Code, limit: int
) -> tuple[int, list[str]]:
    """Return the SIS ids in the first refusals of an unknown student or course, by line.

    Return also how many refusals these are, at most `limit`. A record with several courses has
    all of them in one of its refusals; those that exist are left out.
    """
    name = "student_id" if code is Code.UNKNOWN_STUDENT else "course_ids"
    refusal = BatchRefusal
    first = (
        select(refusal.record[name])
        # A range, because PostgreSQL might use the index without the code if the code were equal.
        .where(refusal.batch_id == batch_id, refusal.code.between(code.value, code.value))
        .order_by(refusal.code, refusal.line)
        .limit(limit)
    )
    records = connection.scalars(first).all()
    examined = 0
    refused: list[int | str] = []
    among_others: list[int | str] = []
    for ids in records:
        if len(refused) + len(among_others) >= limit:
            break
        examined += 1
        several = isinstance(ids, list) and len(ids) > 1
        (among_others if several else refused).extend(ids if isinstance(ids, list) else [ids])
    existing = find_keys(connection, Course, among_others)
    refused += [i for i in among_others if i not in existing]
    return examined, [i for i in refused if isinstance(i, str)]
