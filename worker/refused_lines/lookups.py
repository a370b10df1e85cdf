"""Answer lookups of the refused lines of a batch."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from producer.contract.batches import RefusedRecord
from producer.schemas import Code
from worker.answer_size import MAX_ANSWER
from worker.database.engine import Database
from worker.plain_text import whole_text
from worker.refused_lines.repository import find_first_refusals, find_refusals, table_of


def refused_records(
    database: Database,
    batch_id: str,
    after: tuple[int, int],
    limit: int,
    code: Code | None = None,
    *,
    whole: bool = False,
) -> list[RefusedRecord]:
    """Return a batch's refusals with their records, by line, starting after a (line, id).

    Those of a batch whose plan is reported and not applied are what the plan would refuse.

    With `code`, only those for this cause. With `whole`, each has the record and the cells that the
    first refusal of its line holds for all of them. There may be fewer than `limit` although more
    follow: a page with long records ends early.
    """
    with database.reading() as connection:
        table = table_of(connection, batch_id)
        rows, characters = find_refusals(
            connection, table, batch_id, after, limit, MAX_ANSWER, code
        )
        refusals = [_refusal(row, row) for row in rows]
        if whole and characters < MAX_ANSWER:
            find = partial(find_first_refusals, connection, table, batch_id)
            return _completed(find, refusals, MAX_ANSWER - characters)
    return refusals


def _refusal(row: Any, content: Any) -> RefusedRecord:
    """Return a refusal; `content` is the row that holds the record and the cells of its line."""
    return RefusedRecord(
        id=row.id,
        line=row.line,
        code=Code(row.code),
        message=row.message,
        record=whole_text(content.record),
        cells=None if content.cells is None else tuple(content.cells),
    )


def _completed(
    find_first: Callable[[Iterable[int], int], list[Any]],
    refusals: Sequence[RefusedRecord],
    room: int,
) -> list[RefusedRecord]:
    """Return the refusals with records and cells, as many as there is room for in an answer.

    The first one is returned in any case, so that a reader always gets on.
    """
    lines = {refusal.line for refusal in refusals if _is_bare(refusal)}
    rows = find_first(lines, room) if lines else []
    firsts = {row.line: _refusal(row, row) for row in rows}
    completed: list[RefusedRecord] = []
    for refusal in refusals:
        if _is_bare(refusal) and refusal.line in firsts:
            first = firsts[refusal.line]
            room -= len(first.model_dump_json(ensure_ascii=True))
            held = {"record": first.record, "cells": first.cells}
            completed.append(refusal.model_copy(update=held))
        else:
            completed.append(refusal)
        if room < 0:
            break
    return completed


def _is_bare(refusal: RefusedRecord) -> bool:
    return refusal.record is None and refusal.cells is None
