"""Describe what the first line of a file seems to be, unless it is a header that is understood."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from producer.files.columns import wanted_columns
from producer.files.shorten import shorten

DELIMITERS = ",;\t|"
_MAX_ABOVE = 20
"""How many lines above the header are looked at."""
_MAX_LENGTH = 2_000
"""How many characters of a line are looked at; some questions take as long as its square."""


def looks_like(
    text: str, delimiter: str, templates: Mapping[str, str], lines_above: int = 0
) -> str:
    """Return a sentence about what the first line of this text seems to be, or nothing.

    `lines_above` lines of the file come before this text.
    """
    first, *others = text.split("\n", _MAX_ABOVE)[:_MAX_ABOVE]
    first = first.strip()
    if wanted_columns(_cells(first, delimiter), templates) > 0 and not _is_badly_quoted(first):
        return ""
    for matches, sentence in _SHAPES:
        if matches(first):
            return sentence
    first, *others = (line[:_MAX_LENGTH] for line in (first, *others))
    header = _header_below(others, templates)
    if header is not None:
        line = shorten(others[header])
        return (
            f"It looks like a title above the header, which seems to be line"
            f" {lines_above + header + 2}: {line}; remove the lines above it."
        )
    other = _other_delimiter(first, templates)
    if other is not None:
        return f"Its cells seem to be separated by {other!r}; use commas, semicolons, tabs or |."
    return _looks_like_row(first, others, delimiter)


def undecoded(line: str) -> str:
    """Return a sentence if bytes of the first line could not be decoded, or nothing."""
    if not re.search("[\ud800-\udfff]", line):
        return ""
    return (
        "It has letters that are not in UTF-8, or not in the encoding that was chosen; choose the"
        " encoding that the file has, or save it as UTF-8."
    )


def _looks_like_row(first: str, others: Sequence[str], delimiter: str) -> str:
    """Return a sentence about a line that has no shape of its own."""
    second = others[0] if others else ""
    if _is_key_value(first) and (first.count(delimiter) == 0 or _is_key_value(second)):
        return "It looks like text of the form `key: value`; export the data as a table in CSV."
    cells = [cell.strip() for cell in first.split(delimiter)]
    is_title = len(cells) == 1 and max(map(second.count, DELIMITERS)) > 0
    if is_title or _is_padded_title(first, others, delimiter):
        return "It looks like a title above the header; remove the lines above the header."
    if len(cells) == 1 and re.search(r"\S {2,}\S", first):
        return "Its cells seem to be separated by spaces; save the table with commas instead."
    below = [[cell.strip() for cell in line.split(delimiter)] for line in others]
    recurs = any(
        cell and cell in (row[index] for row in below if index < len(row))
        for index, cell in enumerate(cells)
    )
    if recurs or re.search(r"[0-9@]", first):
        return "It looks like data; add a line with the names of the columns above it."
    return ""


def _is_padded_title(first: str, others: Iterable[str], delimiter: str) -> bool:
    """Return whether a line has a single text in several cells, and a line below has more.

    Spreadsheets give every line as many cells as the longest one has.
    """
    filled = [[cell for cell in _cells(line, delimiter) if cell] for line in (first, *others)]
    return delimiter in first and len(filled[0]) == 1 and any(len(row) > 1 for row in filled[1:])


def _header_below(others: Iterable[str], templates: Mapping[str, str]) -> int | None:
    """Return the first of these lines that holds names of columns that are wanted."""
    for index, line in enumerate(others):
        if any(wanted_columns(_cells(line, d), templates) > 0 for d in DELIMITERS):
            return index
    return None


def _other_delimiter(first: str, templates: Mapping[str, str]) -> str | None:
    """Return what seems to stand between the cells if it is not one of our delimiters."""
    candidates = {match[0] for match in re.finditer(r"[^\w\s,;|\"'.-]+|\s+", first)}
    return next(
        (c for c in sorted(candidates) if wanted_columns(_cells(first, c), templates) > 1), None
    )


def _cells(line: str, delimiter: str) -> list[str]:
    return [cell.strip().strip('"') for cell in line.split(delimiter)]


def _matching(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern, re.IGNORECASE)
    return lambda line: compiled.match(line) is not None


def _has_open_quote(line: str) -> bool:
    return line.count('"') % 2 == 1


_is_one_cell = _matching(r'"[^"]*[,;\t|][^"]*"$')


def _is_badly_quoted(line: str) -> bool:
    return _has_open_quote(line) or _is_one_cell(line)


_is_key_value = _matching(r"(- )?[\w .-]+(:\s|:$|\s*=\s*\S)|\[[\w .-]+\]$|---$|BEGIN:")

_SHAPES: Sequence[tuple[Callable[[str], bool], str]] = (
    (_has_open_quote, "It has a quote that is not closed; close it, or remove it."),
    (_is_one_cell, "The whole line is one cell in quotes; remove the quotes around each line."),
    (
        _matching(r"\[\s*($|[\[{\"\d-])"),
        "It looks like a JSON array; write one JSON object on each line instead.",
    ),
    (
        _matching(r"\{"),
        "It looks like a JSON document; write one JSON object on each line instead.",
    ),
    (_matching(r"(#|//|/\*|--|%|')"), "It looks like a comment; remove it."),
    (_matching(r"<[\w!?/]"), "It looks like HTML or XML; export the data as CSV."),
    (_matching(r"\+[-=+]+\+?$"), "It looks like a drawn table; export the data as CSV."),
    (
        _matching(r"(insert\s+into|create\s+table|select|copy)\s"),
        "It looks like SQL; export the data as CSV.",
    ),
    (
        _matching(r"(error|fatal|exception|traceback|ora-\d+|access denied|permission denied)\b"),
        "It looks like an error message of the program that made the file; export the data again.",
    ),
)
"""What a line may look like, each with its sentence; the first one that matches counts."""
