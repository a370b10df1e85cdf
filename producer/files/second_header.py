"""Find another header among the rows of a CSV file: two exports were put into one file.

The lines below it have other columns. With the first header, they would enroll or store something
that was not meant, so they are refused until the first header comes again.
"""

from collections.abc import Callable, Collection, Iterator, Sequence

from producer.contract.chunks import RefusedLine
from producer.files.cells import REPEATS_HEADER, Row
from producer.files.columns import COLUMNS, plain_name
from producer.files.first_line import DELIMITERS
from producer.files.raw_bytes import storable

_ANOTHER = (
    "the line is another header, with other columns or separators than the first, as if two files"
    " had been put into one; put this line and those below it into a file of their own, and submit"
    " that file"
)

_OURS = frozenset(name for columns in COLUMNS.values() for name in columns)
_IDS = frozenset(name for name in _OURS if name.endswith(("_id", "_key")))


def refuse_below_others(
    rows: Iterator[Row | RefusedLine],
    header: Sequence[str],
    used: Collection[str],
    telling: int | None = None,
) -> Iterator[Row | RefusedLine]:
    """Yield the rows; refuse lines that are headers, and those below one with other columns.

    `used` has the plain names of the columns of the header that are read. `telling` is the
    position of a column in which no line that is read has the name of a column, such as that of
    roles; then only its cells are looked at.
    """
    kind_of_line = _classifier(header, used)
    # A quick check is enough for almost every row; files that are joined have marks inside.
    words = frozenset(f"{mark}{word}" for word in _IDS.union(used) for mark in ("", "\ufeff"))
    other = 0
    for entry in rows:
        if isinstance(entry, tuple):
            line, cells = entry
            if telling is not None:
                is_plain = cells[telling].casefold() not in words
            else:
                is_plain = words.isdisjoint(map(str.casefold, cells))
            if is_plain and not other:
                yield entry
                continue
        elif entry.cells is None:
            yield entry
            continue
        else:
            line, cells = entry.line, list(entry.cells)
        is_header, is_ours = kind_of_line(cells)
        if is_header:
            other = 0 if is_ours else line
            message = REPEATS_HEADER if is_ours else _ANOTHER
        elif other:
            message = _below(other)
        else:
            yield entry
            continue
        yield RefusedLine(line=line, message=message, cells=storable(cells))


def _classifier(
    header: Sequence[str], used: Collection[str]
) -> Callable[[Sequence[str]], tuple[bool, bool]]:
    """Return a function that says whether a line is a header, and whether it is the first one."""
    places = [(index, name) for index, name in enumerate(map(plain_name, header)) if name in used]
    wanted = {name for _, name in places}

    def classify(cells: Sequence[str]) -> tuple[bool, bool]:
        names = list(map(plain_name, _divided(cells)))
        if len(cells) == len(header) and all(names[index] == name for index, name in places):
            return True, True
        found = set(names)
        is_permuted = len(wanted) > 1 and wanted <= found
        return is_permuted or (len(found & _OURS) > 1 and bool(found & _IDS)), False

    return classify


def _divided(cells: Sequence[str]) -> Sequence[str]:
    """Return the cells of a line; of one that has other delimiters, its parts."""
    if len(cells) > 1 or not cells:
        return cells
    return max((cells[0].split(delimiter) for delimiter in DELIMITERS), key=len)


def _below(header: int) -> str:
    return (
        f"the line stands below another header, line {header}, with other columns or separators"
        " than the first; put that header and the lines below it into a file of their own, and"
        " submit that file"
    )
