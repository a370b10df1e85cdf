"""A sheet of an Excel workbook is read like the CSV file that Excel would save."""

import io
import sys
import zipfile
from array import array
from pathlib import Path
from typing import Any
from xml.parsers import expat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.contract.chunks import RefusedLine
from producer.errors import UnreadableFile
from producer.files import workbook_parts, workbooks
from producer.files.describing import Choices
from producer.files.preview import preview_file
from producer.files.reader import open_source, open_stream
from producer.files.sheet_cells import Cells, UsualCells
from producer.files.workbook_parts import Parts
from producer.publishing.chunking import SourceRecord
from producer.schemas import Kind
from support.source_files import Open, Pipe, read, zipped
from support.workbooks import DATE, DURATION, MOMENT, Cell, Rows, workbook

HEADER = ["student_id", "course_id"]


def pairs_of(entries: list[Any]) -> list[tuple[str, str]]:
    return [(record["student_id"], record["course_ids"][0]) for record, _ in entries]


def names(source: Any) -> list[str]:
    return [record["name"] for record, _ in read(source)]


def test_a_row_of_the_sheet_is_a_line(opened: Open) -> None:
    sheet = {3: HEADER, 4: ["S1", "C1"], 6: ["S2", "C2"], 7: ["S2"], 9: ["S3", "C3"]}
    source = opened(workbook({"Pairs": sheet}))
    assert read(source)[0] == (7, "course_id: the cell is empty; fill it in")
    assert [lines for _, lines in read(source)[1:]] == [(4,), (6,), (9,)]


VALUES: dict[str, tuple[Any, str]] = {
    "text with zeros": ("007", "007"),
    "text with spaces": (" a  b ", "a  b"),
    "a whole number": (7, "7"),
    "a whole number with a point": (Cell("7.0"), "7"),
    "a large number": (Cell("900000000000001"), "900000000000001"),
    "a fraction": (7.25, "7.25"),
    "a negative number": (-3, "-3"),
    "a boolean": (True, "true"),
    "another boolean": (False, "false"),
    "a date": (Cell("45000", style=DATE), "2023-03-15"),
    "a date with a time": (Cell("45000.5", style=MOMENT), "2023-03-15T12:00:00"),
    "midnight": (Cell("45000", style=MOMENT), "2023-03-15"),
    "a date in ISO 8601": (Cell("2024-01-02T03:04:05", "d"), "2024-01-02T03:04:05"),
    "hours": (Cell("1.5", style=DURATION), "1 day, 12:00:00"),
    "a formula of text": (Cell("Ada", "str", formula='CONCAT("A","da")'), "Ada"),
    "a formula of a number": (Cell("3", formula="1+2"), "3"),
    "a line break": ("two\nlines", "two lines"),
    "quotes and commas": ('a "b", c', 'a "b", c'),
    "emoji": ("Zoë 😀", "Zoë 😀"),
}


@pytest.mark.parametrize(("value", "text"), VALUES.values(), ids=VALUES)
def test_a_cell_is_read_faithfully(opened: Open, value: Any, text: str) -> None:
    source = opened(workbook({"S": [["sis_id", "name"], ["S1", value]]}))
    assert names(source) == [text]


def test_texts_that_cells_share_are_read(opened: Open) -> None:
    """Excel stores every text once."""
    raw = workbook({"S": [["sis_id", "name"], [Cell("0", "s"), Cell("1", "s")]]})
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        files = [(name, archive.read(name).decode()) for name in archive.namelist()]
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    shared = f'<sst xmlns="{main}"><si><t>S1</t></si><si><r><t>Ad</t></r><r><t>a</t></r></si></sst>'
    link = (
        '<Relationship Id="t" Type="http://schemas.openxmlformats.org/officeDocument/2006/'
        'relationships/sharedStrings" Target="sharedStrings.xml"/></Relationships>'
    )
    files = [
        (
            name,
            text.replace("</Relationships>", link) if name.endswith("workbook.xml.rels") else text,
        )
        for name, text in files
    ]
    source = opened(zipped(*files, ("xl/sharedStrings.xml", shared)))
    assert read(source) == [({"sis_id": "S1", "name": "Ada"}, (2,))]


@pytest.mark.parametrize(
    "value",
    [
        Cell("#N/A", "e"),
        Cell("#REF!", "e", formula="X1"),
        Cell("", formula="A1"),
        Cell("12345678901234567890"),
        Cell("1E+20"),
    ],
    ids=["an error", "a formula with an error", "no result", "too long a number", "an exponent"],
)
def test_a_cell_without_a_value_refuses_its_line(opened: Open, value: Cell) -> None:
    sheet: Rows = [["sis_id", "name"], ["S1", "Ada"], ["S2", value], ["S3", "Carol"]]
    first, refused, last = read(opened(workbook({"S": sheet})))
    assert (first[1], last[1]) == ((2,), (4,))
    assert refused[0] == 3
    assert refused[1].startswith("cell 2 holds an error, for example #N/A, a formula")
    assert "correct it in the workbook" in refused[1]


def test_columns_and_rows_that_stand_apart_keep_their_place(opened: Open) -> None:
    sheet: Rows = {2: [None, None, *HEADER], 3: [None, None, "S1", Cell("#N/A", "e")]}
    source = opened(workbook({"S": sheet}))
    assert source.columns == ("", "", *HEADER)
    assert read(source)[0][0] == 3
    assert read(source)[0][1].startswith("cell 4 ")


# --- The sheet that is read -------------------------------------------------------------------

SHEETS: dict[str, Rows] = {
    "Read me": [["Enrollments of the fall"], ["made by Ada"]],
    "Empty": [],
    "Pairs": [HEADER, ["S1", "C1"]],
    "Students": [["sis_id", "name"], ["S1", "Ada"]],
}


def test_the_first_sheet_with_a_header_is_read(opened: Open) -> None:
    source = opened(workbook(SHEETS))
    assert pairs_of(read(source)) == [("S1", "C1")]
    (notice,) = source.notices
    assert "only the sheet 'Pairs' is read, and not 'Read me', 'Empty', 'Students'" in notice


def test_a_mapping_may_make_the_header(opened: Open) -> None:
    sheets = {"A": [["x", "y"]], "B": [["pupil", "class"], ["S1", "C1"]]}
    source = opened(workbook(sheets), student_id="{pupil}", course_id="{class}")
    assert pairs_of(read(source)) == [("S1", "C1")]


def test_a_hidden_sheet_is_read_only_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "book.xlsx"
    path.write_bytes(workbook({"Old": [HEADER, ["OLD", "C"]], **SHEETS}, hidden=["Old"]))
    assert pairs_of(read(open_source(path, None, {}))) == [("S1", "C1")]
    named = open_source(path, None, {}, sheet="old ")
    assert pairs_of(read(named)) == [("OLD", "C")]
    assert not named.notices
    students = open_source(path, None, {}, sheet="Students")
    assert students.kind is Kind.STUDENTS
    with pytest.raises(UnreadableFile, match=r"no sheet 'Fall'; its sheets are 'Old', 'Read me',"):
        open_source(path, None, {}, sheet="Fall")


def test_a_workbook_without_a_header_of_ours_is_explained(opened: Open) -> None:
    with pytest.raises(UnreadableFile, match=r"upload\.csv, sheet 'List'.* does not show whether"):
        opened(workbook({"List": [["Ada", "Logic"]]}))
    with pytest.raises(UnreadableFile, match="whose visible sheets are empty"):
        opened(workbook({"A": [], "B": [[None]]}))


def test_refused_lines_come_back_as_csv(opened: Open) -> None:
    source = opened(workbook({"S": [HEADER, ["S1", None]]}))
    assert source.form is not None
    assert (source.form.delimiter, source.form.encoding, source.form.bom) == (",", "utf-8", True)
    (line,) = source.records()
    assert isinstance(line, RefusedLine)
    assert line.cells == ("S1", "")


def test_zeros_that_only_a_format_shows_are_noticed(opened: Open) -> None:
    raw = workbook({"S": [HEADER, [7, "C1"]]})
    styles = '<numFmts><numFmt numFmtId="170" formatCode="00000"/></numFmts><cellXfs>'
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        files = [
            (name, archive.read(name).decode().replace("<cellXfs>", styles))
            for name in archive.namelist()
        ]
    (notice,) = opened(zipped(*files)).notices
    assert "zeros in front that it does not store" in notice
    assert not opened(raw).notices


def test_a_workbook_on_a_pipe_is_read() -> None:
    pipe = io.BufferedReader(Pipe(workbook({"S": [HEADER, ["S1", "C1"]]})))
    _, lines = open_stream("standard input", pipe)
    (record,) = lines
    assert isinstance(record, SourceRecord)
    assert record.lines == [2]


def test_a_preview_shows_a_workbook_and_needs_all_of_it() -> None:
    raw = workbook(SHEETS)
    shown = preview_file("The file", raw, Choices(), goes_on=False)
    assert (shown.readable, shown.container, shown.inner) == (True, "workbook", "Pairs")
    assert shown.rows[0].fields == {"student_id": "S1", "course_id": "C1"}
    assert "only the sheet 'Pairs' is read" in shown.notices[0]
    cut = preview_file("The file", raw[:-200], Choices(), goes_on=True)
    assert not cut.readable
    assert "is an Excel workbook, and only its beginning was read; send the whole" in str(
        cut.problem
    )


# --- What cannot be read ----------------------------------------------------------------------

BOOK = workbook({"S": [HEADER, ["S1", "C1"]]})


def changed(part: str, old: str, new: str) -> bytes:
    """Return a workbook in which a part holds something else."""
    with zipfile.ZipFile(io.BytesIO(BOOK)) as archive:
        files = [(name, archive.read(name).decode()) for name in archive.namelist()]
    assert any(name == part and old in text for name, text in files)
    return zipped(
        *((name, text.replace(old, new) if name == part else text) for name, text in files)
    )


SHEET = "xl/worksheets/sheet1.xml"
BAD: dict[str, tuple[bytes, str]] = {
    "macros": (
        workbook({"S": [HEADER]}, more=[("xl/vbaProject.bin", "x")]),
        "with macros; save it as a workbook without macros .*or save the sheet as CSV",
    ),
    "a binary workbook": (
        zipped(("[Content_Types].xml", ""), ("xl/workbook.bin", "")),
        r"a binary Excel workbook; save it as CSV \(in Excel: CSV UTF-8\)",
    ),
    "OpenDocument": (
        zipped(("mimetype", "x"), ("META-INF/manifest.xml", "")),
        "is an OpenDocument file.*save it as CSV",
    ),
    "an old workbook, or one with a password": (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600),
        "a file of an old Office program, or has a password; save it as CSV",
    ),
    "truncated": (BOOK[:-40], "damaged or incomplete"),
    "no XML": (changed(SHEET, "</row>", ""), r"damaged: xl/worksheets/sheet1\.xml is not XML"),
    "a document type": (
        changed(SHEET, "<worksheet", "<!DOCTYPE a><worksheet"),
        "it declares a document type",
    ),
    "a sheet that is missing": (
        changed("xl/_rels/workbook.xml.rels", "sheet1.xml", "sheet9.xml"),
        r"xl/worksheets/sheet9\.xml is missing.*Open it in Excel, and save it again",
    ),
    "two parts of a name": (
        workbook({"S": [HEADER]}, more=[(SHEET.upper(), "")]),
        "two of its parts have the same name",
    ),
    "one cell far away": (
        changed(SHEET, 'r="B2"', 'r="XFD1048576"'),
        "the sheet 'S' has more than 5,000,000 cells up to its last row and column",
    ),
    "a place in another form": (
        changed(SHEET, '<c r="B2"', "<c  r = 'xfd1048576'"),
        "more than 5,000,000 cells",
    ),
    "a place as a reference": (
        changed(SHEET, '<c r="B2"', '<c r="&#88;FD1048576"'),
        "more than 5,000,000 cells",
    ),
}


@pytest.mark.parametrize(("raw", "words"), BAD.values(), ids=BAD)
def test_a_workbook_that_cannot_be_read_is_refused_with_a_remedy(
    opened: Open, raw: bytes, words: str
) -> None:
    with pytest.raises(UnreadableFile, match=words):
        opened(raw)


def test_sizes_are_bounded(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [["sis_id", "name"], *([f"S{n}", "x" * 50] for n in range(50))]
    raw = workbook({"S": rows})
    opened(raw)
    with monkeypatch.context() as patch:
        patch.setattr(workbook_parts, "MAX_PART", 2000)
        with pytest.raises(UnreadableFile, match=r"at most 2,000 can be read; save the sheet as C"):
            opened(raw)
    monkeypatch.setattr(workbook_parts, "MAX_CELLS", 101)
    with pytest.raises(UnreadableFile, match="more than 101 cells up to"):
        opened(raw)


def test_a_short_text_that_many_cells_share_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    cells = [[Cell("0", "s")] * 20 for _ in range(20)]
    shared = f"<sst><si><t>{'x' * 1000}</t></si></sst>"
    raw = workbook({"S": cells}, more=[("xl/sharedStrings.xml", shared)])
    parts = Parts("book.xlsx", io.BytesIO(raw))
    (sheet,) = parts.sheets()
    assert not parts.examine(sheet)
    monkeypatch.setattr(workbook_parts, "MAX_TEXTS", 399_000)
    with pytest.raises(UnreadableFile, match="more than 399,000 bytes of text"):
        parts.examine(sheet)


def with_sheet(rows: str, *more: tuple[str, str], root: str = "xl/workbook.xml") -> bytes:
    """Return a workbook with these rows in its XML; `root` is what its list of files leads to."""
    files = {}
    with zipfile.ZipFile(io.BytesIO(workbook({"S": []}))) as archive:
        for name in archive.namelist():
            files[name] = archive.read(name).decode()
    files[SHEET] = f"<worksheet><sheetData>{rows}</sheetData></worksheet>"
    files["_rels/.rels"] = files["_rels/.rels"].replace("xl/workbook.xml", root)
    return zipped(*files.items(), *more)


HEADER_ROW = (
    '<row r="1"><c r="A1" t="str"><v>student_id</v></c><c t="str"><v>course_id</v></c></row>'
)


def texts(attributes: str) -> tuple[str, str]:
    return "xl/sharedStrings.xml", f"<sst {attributes}><si><t>S1</t></si></sst>"


LIES = {
    "a place with a zero": (
        with_sheet('<row><c r="XFD01048576"><v>1</v></c></row>'),
        "not a valid position",
    ),
    "a place in lower row": (
        with_sheet('<row><c r="A0"><v>1</v></c></row>'),
        "not a valid position",
    ),
    "a place without a row": (
        with_sheet('<row><c r="A"><v>1</v></c></row>'),
        "not a valid position",
    ),
    "a long column": (with_sheet('<row><c r="AXFD2"><v>1</v></c></row>'), "not a valid position"),
    "an empty place": (with_sheet('<row><c r=""><v>1</v></c></row>'), "not a valid position"),
    "a row with zeros": (
        with_sheet('<row r="0000001048576"><c><v>1</v></c></row>'),
        "not a valid position",
    ),
    "a long row": (with_sheet('<row r="4294967295"><c><v>1</v></c></row>'), "not a valid position"),
    "a row after the last one": (
        with_sheet('<row r="1048576"><c r="A1"/></row><row><c r="F1"/><c><v>1</v></c></row>'),
        "cells up to",
    ),
    "many promised texts": (
        with_sheet(HEADER_ROW, texts('uniqueCount="4000000000"')),
        "more than 5,000,000 texts",
    ),
    "endless promised texts": (
        with_sheet(HEADER_ROW, texts(f'uniqueCount="{"9" * 5000}"')),
        "is not a count",
    ),
    "a moment that no calendar has": (
        with_sheet(HEADER_ROW + '<row r="2"><c r="A2" s="3"><v>-1e300</v></c></row>'),
        "cannot be read: TimeDelta",
    ),
    "a duration that no clock has": (
        with_sheet(HEADER_ROW + '<row r="2"><c r="A2" s="3"><v>1e300</v></c></row>'),
        "cannot be read: days",
    ),
}


@pytest.mark.parametrize(("raw", "words"), LIES.values(), ids=LIES)
def test_a_workbook_that_misleads_a_library_is_refused(
    opened: Open, raw: bytes, words: str
) -> None:
    with pytest.raises(UnreadableFile, match=words):
        list(opened(raw).records())


def test_a_library_sees_only_the_parts_that_were_examined(opened: Open) -> None:
    hidden = "<sst uniqueCount='4000000000'/>"
    raw = with_sheet(
        HEADER_ROW + '<row r="2"><c r="A2" t="str"><v>S1</v></c><c t="str"><v>C1</v></c></row>',
        ("other/workbook.xml", hidden),
        ("other/sharedStrings.xml", hidden),
        root="other/workbook.xml",
    )
    assert pairs_of(read(opened(raw))) == [("S1", "C1")]


def test_too_many_texts_are_refused(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = f"<sst>{'<si/>' * 12}</sst>"
    raw = with_sheet(HEADER_ROW, ("xl/sharedStrings.xml", shared))
    opened(raw)
    monkeypatch.setattr(workbook_parts, "MAX_CELLS", 10)
    with pytest.raises(UnreadableFile, match="more than 10 texts"):
        opened(raw)


@pytest.mark.parametrize("number", ["-7", "7", "01", "+1", "1.0", "0<!-- -->1", "<v/>"])
def test_a_number_that_is_unclear_counts_as_the_longest_text(
    monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    shared = f"<sst><si><t>{'x' * 1000}</t></si><si><t>short</t></si></sst>"
    cell = f'<c r="A1" t="s"><f/><v>{number}</v></c>'
    raw = with_sheet(f'<row r="1">{cell}</row>', ("xl/sharedStrings.xml", shared))
    parts = Parts("book.xlsx", io.BytesIO(raw))
    monkeypatch.setattr(workbook_parts, "MAX_TEXTS", 900)
    if number == "01":  # This is the short one for a library, too.
        assert not parts.examine(parts.sheets()[0])
        return
    with pytest.raises(UnreadableFile, match="more than 900 bytes of text"):
        parts.examine(parts.sheets()[0])


def test_not_every_sheet_is_searched_for_a_table(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    sheets: dict[str, Rows] = {f"Note {number}": [["read me"]] for number in range(4)}
    raw = workbook({**sheets, "Pairs": [HEADER, ["S1", "C1"]]})
    assert pairs_of(read(opened(raw))) == [("S1", "C1")]
    monkeypatch.setattr(workbooks, "MAX_SEARCHED", 4)
    with pytest.raises(UnreadableFile, match="name the sheet that you mean") as caught:
        opened(raw)
    assert caught.value.options == ("sheet",)
    monkeypatch.setattr(workbooks, "MAX_SEARCHED", 5)
    monkeypatch.setattr(workbooks, "MAX_PART", 1000)
    with pytest.raises(UnreadableFile, match="too many or too large sheets"):
        opened(raw)


def test_a_long_text_without_tags_is_read_once(opened: Open) -> None:
    long = "x" * (3 * 1024**2)
    cells = '<row r="2"><c r="A2" t="str"><v>S1</v></c><c r="B2" t="str"><v>'
    raw = with_sheet(f"{HEADER_ROW}{cells}{long}</v></c></row>")
    (refused,) = opened(raw).records()
    assert isinstance(refused, RefusedLine)


def test_too_many_errors_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = workbook({"S": [[Cell("#N/A", "e")] * 5] * 5})
    parts = Parts("book.xlsx", io.BytesIO(raw))
    (sheet,) = parts.sheets()
    assert len(parts.examine(sheet)) == 25
    monkeypatch.setattr(workbook_parts, "MAX_ERRORS", 24)
    with pytest.raises(UnreadableFile, match="more than 24 cells with an error"):
        parts.examine(sheet)


def test_without_the_library_a_workbook_is_to_be_saved_as_csv(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    assert not workbooks.is_installed()
    with pytest.raises(
        UnreadableFile, match=r"an Excel workbook; save it as CSV \(in Excel: CSV U"
    ):
        opened(BOOK)


@given(
    st.lists(
        st.lists(st.sampled_from(["", "x", 1, Cell("2", "n")]), max_size=5), min_size=1, max_size=6
    ),
    st.integers(1, 200),
)
def test_the_quick_look_at_a_sheet_sees_what_the_exact_one_sees(
    rows: list[list[Any]], size: int
) -> None:
    with zipfile.ZipFile(io.BytesIO(workbook({"S": rows}))) as archive:
        xml = archive.read(SHEET)
    quick = UsualCells()
    for start in range(0, len(xml), size):
        quick.feed(xml[start : start + size])
    quick.finish()
    exact = Cells(array("q"))
    parser = expat.ParserCreate()
    parser.StartElementHandler = exact.start
    parser.EndElementHandler = exact.end
    parser.Parse(xml, True)
    assert quick.is_usual
    assert (quick.rows, quick.columns) == (exact.rows, exact.columns)
    assert quick.count == sum(map(len, rows))


def test_a_cell_far_below_the_table_is_read_with_its_line(tmp_path: Path) -> None:
    far = 1_000_000
    rows = {1: ["student_id", "course_id"], 2: ["S1", "C1"], far: ["S2", ""], far + 1: ["S3", "C1"]}
    path = tmp_path / "far.xlsx"
    path.write_bytes(workbook({"Sheet": rows}))
    source = open_source(path, None, {})
    entries = list(source.records())
    assert sorted(entry.lines[0] for entry in entries if isinstance(entry, SourceRecord)) == [
        2,
        far + 1,
    ]
    assert [entry.line for entry in entries if isinstance(entry, RefusedLine)] == [far]
    account = source.layout.account
    assert (account.blank, account.total) == (far - 3, far + 1)
