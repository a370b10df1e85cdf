"""Remove passwords, which exports of users hold, before a line leaves this computer."""

from collections.abc import Iterator, Sequence

from producer.contract.chunks import RefusedLine
from producer.files.cells import Row


def has_passwords(header: Sequence[str]) -> bool:
    """Return whether a file has a column of passwords."""
    return any(map(_is_password, header))


def _is_password(name: str) -> bool:
    return "password" in name.casefold()


def without_passwords(
    rows: Iterator[Row | RefusedLine], header: Sequence[str]
) -> Iterator[Row | RefusedLine]:
    """Return the rows with empty cells in columns of passwords.

    All cells of a line may be published with it, so that it can be returned if it is refused. A
    line whose cells cannot be matched with the columns then has no cells.
    """
    return without_unread_passwords(rows, list(enumerate(header)), len(header))


def without_unread_passwords(
    rows: Iterator[Row | RefusedLine], unread: Sequence[tuple[int, str]], width: int
) -> Iterator[Row | RefusedLine]:
    """Return the rows of this width with empty cells in columns of passwords that are not read.

    `unread` are the columns that are not read, each as its position and its name.
    """
    places = [at for at, name in unread if _is_password(name)]
    return _blanked(rows, places, width) if places else rows


def _blanked(
    rows: Iterator[Row | RefusedLine], places: Sequence[int], width: int
) -> Iterator[Row | RefusedLine]:
    for entry in rows:
        if isinstance(entry, tuple):
            line, row = entry
            for at in places:
                row[at] = ""
            yield line, row
        elif entry.cells is not None:
            is_whole = len(entry.cells) == width
            cells = ("" if at in places else cell for at, cell in enumerate(entry.cells))
            yield entry.model_copy(update={"cells": tuple(cells) if is_whole else None})
        else:
            yield entry
