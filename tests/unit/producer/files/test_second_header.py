"""Two exports in one file: no line is read by a header that is not its own."""

import io
from collections.abc import Callable
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.contract.chunks import RefusedLine
from producer.files.reader import open_stream
from producer.publishing.chunking import SourceRecord
from support.source_files import Open, read

HEADERS = [
    *permutations(("sis_id", "name", "email")),
    *permutations(("student_id", "course_id")),
    *permutations(("student_sis_id", "course_sis_id", "note")),
    *permutations(("sis_id", "title")),
    ("sis_id", "name"),
]

STYLES: list[Callable[[str], str]] = [
    str,
    lambda name: name.replace("_", " ").title(),
    lambda name: name.replace("_", "-").upper(),
    lambda name: name.title().replace("_", ""),
    lambda name: f" {name}\u200b",
]
"""How people write the names of columns."""


def _lines(header: tuple[str, ...], count: int, first: int, delimiter: str = ",") -> list[str]:
    """Return a header and rows whose cells say of which column and which line they are."""
    rows = [[f"{name}-{line}" for name in header] for line in range(first + 1, first + 1 + count)]
    return [delimiter.join(row) for row in (header, *rows)]


@given(
    first=st.sampled_from(HEADERS),
    second=st.sampled_from(HEADERS),
    counts=st.tuples(*[st.integers(1, 4)] * 3),
    delimiter=st.sampled_from(",;\t|"),
    mark=st.sampled_from(["", "\ufeff", "\ufeff".encode().decode("cp1252")]),
    style=st.sampled_from(STYLES),
)
def test_every_cell_that_is_read_stands_below_its_own_header(
    first: tuple[str, ...],
    second: tuple[str, ...],
    counts: tuple[int, int, int],
    delimiter: str,
    mark: str,
    style: Callable[[str], str],
) -> None:
    lines = _lines(first, counts[0], 1)
    _, *rows = _lines(second, counts[1], len(lines) + 1, delimiter)
    lines += [mark + delimiter.join(map(style, second)), *rows]
    lines += _lines(first, counts[2], len(lines) + 1)
    file = io.BytesIO("\n".join([*lines, ""]).encode())
    _, records = open_stream("a file", file)
    entries = list(records)
    read_lines = [n for entry in entries if isinstance(entry, SourceRecord) for n in entry.lines]
    refused = [entry.line for entry in entries if isinstance(entry, RefusedLine)]
    assert sorted(read_lines + refused) == list(range(2, len(lines) + 1))
    for entry in entries:
        if isinstance(entry, SourceRecord):
            for name, value in entry.record.items():
                values = value if isinstance(value, list) else [value]
                assert name == "atomic" or all(v.startswith(_origin(name)) for v in values)
    below_its_own = range(len(lines) - counts[2] + 1, len(lines) + 1)
    assert set(below_its_own) <= set(read_lines)


def _origin(field: str) -> tuple[str, ...]:
    ours = {"student_id": ("student_id", "student_sis_id"), "course_ids": ("course_",)}
    return ours.get(field, (field,))


def test_the_lines_below_another_header_say_where_it_is(opened: Open) -> None:
    content = "sis_id,name,email\nH1,Ada,a@x\nsis_id,email,name\nH2,b@x,Ben\n"
    good, header, below = read(opened(content))
    assert good[0] == {"sis_id": "H1", "name": "Ada", "email": "a@x"}
    assert header[0] == 3
    assert "is another header" in header[1]
    assert below[0] == 4
    assert "stands below another header, line 3" in below[1]
    assert "a file of their own" in below[1]


def test_the_header_of_a_file_with_mapped_columns_is_found_again(opened: Open) -> None:
    templates = {"student_id": "{Nr}", "course_id": "{Kurs}"}
    content = "Nr;Kurs;Text\n1;A;x\nNr;Kurs;Text\n2;A;x\nKurs;Nr;Text\nA;3;x\n"
    entries = list(opened(content, **templates).records())
    refused = {entry.line: entry.message for entry in entries if isinstance(entry, RefusedLine)}
    assert refused.keys() == {3, 5, 6}
    assert "repeats the header" in refused[3]
    assert "is another header" in refused[5]


@pytest.mark.parametrize(
    "row", ["name,title", "student,course", "S1,course_id", "email,name", "my_id,title"]
)
def test_a_row_that_only_resembles_a_header_does_not_refuse_what_follows(
    opened: Open, row: str
) -> None:
    entries = list(opened(f"student_id,course_id\n{row}\nS2,C1\n").records())
    assert [entry.lines for entry in entries if isinstance(entry, SourceRecord)][-1] == [3]
