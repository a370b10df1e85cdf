"""Every line of a CSV file is accounted for: a fault refuses its own line and no other."""

import csv
import io
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.contract.chunks import Chunk, RefusedLine
from producer.errors import UnreadableFile
from producer.fields import MAX_CHUNK_BYTES
from producer.files import rows
from producer.files.account import Account
from producer.files.rows import RowReader
from support.source_files import Open, refused
from support.source_files import read as entries_of

WIDTH = 3
HEADER = b"student,course,note\n"


def read(
    text: str | bytes, width: int = WIDTH, delimiter: str = ","
) -> tuple[list[int], list[int]]:
    """Return the lines at which rows begin, and those that are refused."""
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    reader = RowReader("a.csv", delimiter, width)
    entries = list(reader.read(io.BytesIO(HEADER + raw)))
    assert reader.account.total == 1 + raw.count(b"\n") + (raw[-1:] not in (b"", b"\n"))
    refused = [entry for entry in entries if isinstance(entry, RefusedLine)]
    for entry in refused:  # A worker accepts whatever is refused here.
        Chunk(batch_id="b", number=0, last=True, records=(), refused=(entry,))
    return [e[0] for e in entries if isinstance(e, tuple)], [entry.line for entry in refused]


@pytest.fixture(params=[rows.BLOCK_BYTES, 7], ids=["large blocks", "small blocks"], autouse=True)
def block_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads in blocks of different sizes, which must make no difference."""
    monkeypatch.setattr(rows, "BLOCK_BYTES", request.param)


@pytest.mark.parametrize(
    ("lines", "begins", "refused"),
    [
        (["A,1,x", 'B,2,"', "C,3,x", 'D,4,"', "E,5,x"], [2, 4, 6], [3, 5]),  # ditto marks
        (['A,1,"', 'B,2,"', 'C,3,"'], [], [2, 3, 4]),
        (['A,",x', 'B,",x'], [], [2, 3]),
        (['",1,x', '",2,x'], [], [2, 3]),
        (['A,1,"Bud', "B,2,", 'C,3,"Bud', "D,4,"], [3, 5], [2, 4]),
        (['A,1,"open', *["B,2,"] * 300], list(range(3, 303)), [2]),
        (["A,1,first\rsecond", "B,2,"], [3], [2]),
        (["A,1,", "B,2,first\rs"], [2], [3]),
        (["A,1,", 'B,2,"first\r"'], [2], [3]),
        (["A,1,\0", "B,2,\x1a", "C,3,\udcff", "D,4,"], [5], [2, 3, 4]),
        (["\x1a"], [], [2]),
        (['A,1,"two', 'lines"', "B,2,"], [2, 4], []),
        (['A,"two, and', 'more, words",x', "B,2,"], [2, 4], []),
        (['A,"two', '","three', 'lines"', "B,2,"], [2, 5], []),
        (['A,1,"says ""no""', "B,2,"], [3], [2]),
        (['A,1,"says ""no"""', 'B,2,5" pipe'], [2, 3], []),
        (['"A" ,"1" ,"x" ', 'B,"1" and,x'], [2], [3]),
        (["A,1", "B,1,2,3", ",,", " , , ", "", "C,1,"], [7], [2, 3]),
        (['A,1,"' + "x\n" * 99 + 'x"', "B,2,"], [2, 102], []),
        ([*['A,1,"'], *["x"] * 99, 'y"', "B,2,"], [103], [*range(2, 103)]),
        ([*['A,1,"'], *["x"] * 120, 'y"', "B,2,"], [124], [*range(2, 124)]),
        (["A,1," + "x" * MAX_CHUNK_BYTES, "B,2,"], [3], [2]),
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_line_that_cannot_be_read_is_refused_and_no_other(
    lines: list[str], begins: list[int], refused: list[int], end: str
) -> None:
    text = (
        end.join(lines).replace("\n", end).replace("\r\r", "\r")
        if end != "\n"
        else "\n".join(lines)
    )
    for last in ("", end):
        assert read(text + last) == (begins, refused)


def test_a_line_that_is_not_accounted_for_is_reported() -> None:
    account = Account(header=1, rows=2, continued=1)
    account.check("a.csv", 4)
    with pytest.raises(UnreadableFile, match=r"a\.csv: 5 lines were read, but 4 are accounted for"):
        account.check("a.csv", 5)


@pytest.mark.parametrize("bad", ["A,1,x\udcff", "A,1,\0", 'A,1,"'])
def test_a_refused_line_says_which_cell_and_keeps_its_cells_in_their_columns(bad: str) -> None:
    raw = HEADER + bad.encode("utf-8", "surrogateescape") + b"\nB,2,\n"
    refusal, row = RowReader("a.csv", ",", WIDTH).read(io.BytesIO(raw))
    assert isinstance(refusal, RefusedLine)
    assert row == (3, ["B", "2", ""])
    assert refusal.cells is not None
    assert refusal.cells[:2] == ("A", "1")
    assert len(refusal.cells) == WIDTH
    assert "cell 3" in refusal.message or 'a quote (") in this line' in refusal.message


# --- Any table with any faults ----------------------------------------------------------------

words = st.text(st.sampled_from("aB9 ;\té☃"), max_size=6)
"""The text of a cell without anything that has a meaning for a reader."""
special = st.one_of(
    words,
    words.map(lambda text: f"{text}, {text}"),
    words.map(lambda text: f'say "{text}"'),
    st.lists(words, min_size=2, max_size=5).map("\n".join),
)
"""The text of a cell that has to be quoted. The lines in it are no rows: they have no delimiter."""
cells = st.tuples(words.map(lambda text: f"k{text}"), words, special)
FAULTS: dict[str, Callable[[tuple[str, ...], int], str]] = {
    "an opening quote": lambda row, at: ",".join([*row[:at], f'"x{row[at]}', *row[at + 1 :]]),
    "a ditto mark": lambda row, at: ",".join([*row[:at], '"', *row[at + 1 :]]),
    "a quote in the middle": lambda row, at: ",".join(
        [*row[:at], f'"x" {row[at]}y', *row[at + 1 :]]
    ),
    "NUL": lambda row, at: ",".join([*row[:at], f"{row[at]}\0", *row[at + 1 :]]),
    "Ctrl-Z": lambda row, at: ",".join([*row[:at], f"{row[at]}\x1a", *row[at + 1 :]]),
    "a lone CR": lambda row, at: ",".join([*row[:at], f"{row[at]}\rx", *row[at + 1 :]]),
    "a byte that is not UTF-8": lambda row, at: ",".join([*row[:at], "\udce9", *row[at + 1 :]]),
    "a missing cell": lambda row, at: ",".join(["k", *row[at + 1 :]]) if at else "k",
    "one cell more": lambda row, at: ",".join([*row[: at + 1], "more", *row[at + 1 :]]),
}
plain = st.tuples(words.map(lambda text: f"k{text}"), words, words)
"""A row to which a fault is added: it has no quotes of its own, which could close the fault's."""


@st.composite
def tables(draw: st.DrawFn) -> tuple[str, list[int], list[int]]:
    """Return the text of a table, the lines at which its rows begin, and the faulty lines."""
    text, begins, faulty = "", [], []
    for fault in draw(st.lists(st.sampled_from([None, None, *FAULTS]), max_size=30)):
        line = text.count("\n") + 2
        if fault is None:
            written = io.StringIO(newline="")
            csv.writer(written, lineterminator="\n").writerow(draw(cells))
            text += written.getvalue()
            begins.append(line)
        else:
            text += FAULTS[fault](draw(plain), draw(st.integers(0, WIDTH - 1))) + "\n"
            faulty.append(line)
    return text, begins, faulty


@settings(deadline=None, max_examples=400)
@given(tables())
def test_in_any_table_exactly_the_faulty_lines_are_refused(
    table: tuple[str, list[int], list[int]],
) -> None:
    text, begins, faulty = table
    assert read(text) == (begins, faulty)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from([*'ab,"\n\r\0', "\x1a", '"\n', ',"', "\udcff"]), max_size=80))
def test_whatever_a_file_holds_every_line_is_accounted_for(pieces: list[str]) -> None:
    begins, refused = read("".join(pieces))
    assert not set(begins) & set(refused)
    assert sorted(begins) == begins


@pytest.mark.parametrize("cut", ["S2", 'S2,"C', "S2,C1,"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_refused_line_in_which_the_file_ends_may_be_cut_off(
    opened: Open, cut: str, end: str
) -> None:
    whole = end.join(["student_id,course_id", "S1,C1", cut])
    hint = "the file ends in this line without a line end"
    assert hint in refused(opened(whole)).message
    assert hint not in refused(opened(whole + end)).message
    earlier = list(opened(f"{whole}{end}S3,C1").records())
    assert [e.line for e in earlier if isinstance(e, RefusedLine) and hint in e.message] == []


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_many_blank_lines_are_counted(opened: Open, end: str) -> None:
    blank = 200_000
    source = opened(f"student_id,course_id{end}S1,C1{end}" + end * blank + f"S2,{end}S3,C1{end}")
    found = entries_of(source)
    assert [lines for entry, lines in found if isinstance(entry, dict)] == [(2,), (blank + 4,)]
    assert [line for line, message in found if isinstance(message, str)] == [blank + 3]
    assert source.layout.account.blank == blank


@given(
    st.lists(st.text(st.characters(exclude_characters='\r\n\0\x1a"', codec="utf-8"), max_size=9)),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(",;\t|"),
)
def test_lines_without_quotes_have_the_cells_that_csv_reads(
    lines: list[str], line_end: str, delimiter: str
) -> None:
    text = "".join(line + line_end for line in lines)
    reader = RowReader("a.csv", delimiter, WIDTH)
    entries = list(reader.read(io.BytesIO(HEADER + text.encode())))
    parsed = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    expected = [(n, row) for n, row in enumerate(parsed, 2) if any(map(str.strip, row))]
    assert [e for e in entries if isinstance(e, tuple)] == [
        (number, row) for number, row in expected if len(row) == WIDTH
    ]
    assert [entry.line for entry in entries if isinstance(entry, RefusedLine)] == [
        number for number, row in expected if len(row) != WIDTH
    ]


def _message(raw: bytes) -> str:
    reader = RowReader("a.csv", ",", WIDTH)
    (entry,) = (e for e in reader.read(io.BytesIO(HEADER + raw)) if isinstance(e, RefusedLine))
    return entry.message


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_file_that_ends_within_a_letter_seems_to_be_cut_off(size: int) -> None:
    cut = "A,1,😀".encode()[: len("A,1,") + size]
    assert rows.CUT_OFF in _message(cut)
    assert rows.CUT_OFF not in _message(cut + b"\n")
    assert rows.CUT_OFF not in _message(b"A,\xe9t\xe9,x")


def test_empty_cells_after_the_last_column_are_called_so() -> None:
    assert _message(b"A,1,x,, \n").endswith(
        "has 5 cells, but the header has 3; those after the last column are empty: remove them, or"
        " name their columns"
    )
    assert _message(b"A,1,x,,y\n").endswith("; check the separators and quotes")
