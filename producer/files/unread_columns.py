"""Watch the columns of a file that are not read, because what they say may be meant to count."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from producer.contract.chunks import RefusedLine
from producer.files.cells import Row
from producer.files.drop_notices import noticing_drops
from producer.files.notices import Notices
from producer.files.role_notices import find_roles, noticing_roles
from producer.schemas import Kind

Rows = Iterator[Row | RefusedLine]


class Watch(Protocol):
    """Yields rows, and adds notices about them."""

    def __call__(self, rows: Rows, *, is_whole: bool) -> Rows:
        """Yield the rows; `is_whole` says whether they are all rows of the file."""


def watching(
    path: str,
    kind: Kind,
    unread: Sequence[tuple[int, str]],
    notices: Notices,
    *,
    seeks_drops: bool,
) -> Watch | None:
    """Return a watch on the columns that are not read; None if there is nothing to watch.

    `unread` are the columns, each as its position and its name.
    """
    seeks_drops = seeks_drops and bool(unread)
    roles = None if kind is Kind.COURSES else find_roles(unread)
    if not seeks_drops and roles is None:
        return None

    def watch(rows: Rows, *, is_whole: bool) -> Rows:
        if seeks_drops:
            rows = noticing_drops(path, kind, rows, unread, notices)
        if roles is not None:
            rows = noticing_roles(path, kind, rows, roles, notices, is_whole=is_whole)
        return rows

    return watch
