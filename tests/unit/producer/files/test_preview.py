"""A preview shows what the reader makes of a file, also if it sees only the beginning of it."""

import gzip
import io
import random
import time
import zlib
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from producer.contract.chunks import RefusedLine
from producer.errors import UnreadableFile
from producer.files import preview, rows
from producer.files.check import RowText, SourceChecker
from producer.files.describing import Choices
from producer.files.file_preview import FilePreview
from producer.files.preview import MAX_LINES, MAX_PREVIEW, preview_file
from producer.files.reader import StreamSource
from producer.schemas import Kind
from support.any_files import NO_CHOICE, Upload, tables, uploads
from support.source_files import Pipe, zipped

NAME = "The file"
PAIRS = b"student_id,course_id\n"


def shown(content: bytes, choices: Choices = NO_CHOICE, *, goes_on: bool = False) -> FilePreview:
    return preview_file(NAME, content, choices, goes_on=goes_on)


# --- Any file with any faults, cut off anywhere -----------------------------------------------


class Whole(NamedTuple):
    """What a submission makes of a whole file."""

    rows: list[RowText]
    refused: list[RefusedLine]
    source: StreamSource
    lines: int


def read_whole(content: bytes, choices: Choices) -> Whole:
    """Read a file as `POST /batches` does, through the chunks of a submission."""
    kind, templates, encoding, drop = choices[:4]
    pipe = io.BufferedReader(Pipe(content))
    source = StreamSource(NAME, pipe, Choices(kind, templates, encoding, drop))
    checker = SourceChecker(source, 10_000)
    refused = [RefusedLine(line=r.line, message=r.message) for r in checker.refusals()]
    return Whole(checker.rows(), refused, source, checker.result().lines.total)


def compare(found: FilePreview, whole: Whole, last: int, limit: int) -> None:
    """Assert that a preview shows what the whole file shows, up to its last line."""
    expected = [row for row in whole.rows if row.line <= last][:limit]
    assert [(row.line, row.fields) for row in found.rows] == [
        (row.line, row.fields) for row in expected
    ]
    refused = [(line.line, line.message) for line in whole.refused if line.line <= last]
    assert [(line.line, line.message) for line in found.refused] == refused[:20]
    assert found.lines is not None
    assert found.lines.refused == len(refused)
    layout = whole.source.layout
    assert (found.kind, found.content, found.columns, found.ordered) == (
        layout.kind,
        layout.content,
        layout.columns,
        layout.ordered,
    )


def packed(content: bytes, how: str) -> bytes:
    if how == "gzip":
        return gzip.compress(content, mtime=0)
    return zipped(("in.csv", content)) if how == "zip" else content


@settings(max_examples=300, deadline=None)
@given(uploads, st.sampled_from(["plain", "gzip", "zip"]), st.integers(0, 30))
def test_a_preview_of_a_whole_file_shows_what_a_submission_reads(
    upload: Upload, how: str, limit: int
) -> None:
    content = packed(upload.content, how)
    found = preview_file(NAME, content, upload.choices, goes_on=False, rows=limit)
    FilePreview.model_validate_json(found.model_dump_json())
    if not found.readable:
        with pytest.raises(UnreadableFile) as error:
            read_whole(content, upload.choices)
        assert (found.problem, found.options) == (str(error.value), error.value.options)
        return
    whole = read_whole(content, upload.choices)
    assert not found.truncated
    assert found.lines is not None
    assert found.lines.total == whole.lines
    compare(found, whole, whole.lines, limit)
    assert found.notices == tuple(whole.source.layout.notices)
    for kind in Kind:
        if upload.text.lstrip()[:1] != "{" and kind is not found.kind:
            assert (kind in found.other_kinds) is can_be_read(content, upload.choices, kind)


def can_be_read(content: bytes, choices: Choices, kind: Kind) -> bool:
    try:
        read_whole(content, choices._replace(kind=kind))
    except UnreadableFile:
        return False
    return True


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    uploads,
    st.sampled_from(["plain", "gzip", "zip"]),
    st.integers(1, 15),
    st.sampled_from([7, 30, rows.BLOCK_BYTES]),
)
def test_a_preview_of_the_first_lines_shows_what_a_submission_makes_of_them(
    monkeypatch: pytest.MonkeyPatch, upload: Upload, how: str, most: int, block: int
) -> None:
    monkeypatch.setattr(rows, "BLOCK_BYTES", block)
    content = packed(upload.content, how)
    try:
        whole = read_whole(content, upload.choices)
    except UnreadableFile:
        return
    monkeypatch.setattr(preview, "MAX_LINES", most)
    found = shown(content, upload.choices)
    assert found.readable, found.problem
    assert found.lines is not None
    if not found.truncated:
        assert found.lines.total == whole.lines
    elif '"' not in upload.text:
        assert found.lines.total == max(most, found.header_line or 0)
    compare(found, whole, found.lines.total, 20)
    assert set(found.notices) <= set(whole.source.layout.notices)


UTF_16 = Upload("student_id,course_id", "utf-16-le", "\n", NO_CHOICE)


@settings(max_examples=300, deadline=None)
@given(uploads, st.integers(0, 1_000))
@example(UTF_16, 3)  # Half of the first character.
@example(UTF_16._replace(text=UTF_16.text + "\nS1,S1"), 46)  # The line end has two bytes.
def test_a_file_that_is_cut_off_anywhere_shows_no_fault_that_it_does_not_have(
    upload: Upload, cut: int
) -> None:
    content = upload.content
    try:
        whole = read_whole(content, upload.choices)
    except UnreadableFile:
        return
    found = shown(content[:cut], upload.choices, goes_on=True)
    assert found.truncated
    if not found.readable:
        assert "cut off before the end of its first line" in (found.problem or "")
        above = whole.source.layout.header_line or 1 + len(upload.text) - len(upload.text.lstrip())
        end = sum(len(line) + 1 for line in upload.text.split("\n")[:above])
        header = upload._replace(text=upload.text[:end]).content
        assert min(cut, len(content)) <= len(header) + 1
        return
    assert found.lines is not None
    compare(found, whole, found.lines.total, 20)


@settings(max_examples=100, deadline=None)
@given(tables(), st.data())
def test_a_packed_file_that_is_cut_off_anywhere_shows_its_first_lines(
    table: str, data: st.DataObject
) -> None:
    content = table.encode()
    for how in ("gzip", "zip"):
        file = packed(content, how)
        cut = data.draw(st.integers(0, len(file) - 1))
        found = shown(file[:cut], goes_on=True)
        if found.readable:
            assert found.lines is not None
            compare(found, read_whole(file, Choices()), found.lines.total, 20)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("how", ["plain", "gzip", "zip"])
def test_a_large_file_is_cut_off_where_no_line_is_harmed(how: str, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - chance with a seed
    odd = ['"two\nlines"', '"open', "x" * 300, "", "\0", '5"', '"a,b"', '"' + "\n" * 120]
    lines = [
        f"S{chance.randrange(50)},C{chance.randrange(9)},"
        + (chance.choice(odd) if chance.random() < 0.02 else "n" * chance.randrange(400))
        for _ in range(8_000)
    ]
    content = packed("\n".join(["student_id,course_id,note", *lines]).encode(), how)
    found = preview_file(NAME, content, NO_CHOICE, goes_on=False, rows=100)
    whole = read_whole(content, NO_CHOICE)
    assert found.truncated
    assert found.lines is not None
    assert 4_000 < found.lines.total < whole.lines
    compare(found, whole, found.lines.total, 100)


# --- What is shown ----------------------------------------------------------------------------


def test_a_preview_says_how_a_file_is_understood() -> None:
    content = b"sep=;\r\nwho;Term;note\r\nS1;1;x\r\n;;\r\nS2;2;\r\nS3\r\n;4;\r\n"
    templates = {"student_sis_id": "{who}", "course_sis_id": "C-{term}"}
    found = shown(content, Choices(templates=templates))
    assert found.model_dump(exclude={"problem", "field", "raw_lines", "raw_rows", "refused"}) == {
        "system": None,
        "passed_over": {},
        "sheets": (),
        "readable": True,
        "options": (),
        "truncated": False,
        "container": None,
        "inner": None,
        "format": "csv",
        "encoding": "utf-8",
        "bom": False,
        "delimiter": ";",
        "columns": ("who", "Term", "note"),
        "header_line": 2,
        "mapping": (
            {"column": "student_sis_id", "header": None, "template": "{who}"},
            {"column": "course_sis_id", "header": None, "template": "C-{term}"},
        ),
        "ignored": ("note",),
        "kind": "enrollments",
        "other_kinds": (),
        "content": "enrollments",
        "ordered": False,
        "rows": (
            {"line": 3, "fields": {"student_id": "S1", "course_id": "C-1"}},
            {"line": 5, "fields": {"student_id": "S2", "course_id": "C-2"}},
        ),
        "lines": {
            "total": 7,
            "header": 2,
            "read": 2,
            "continued": 0,
            "blank": 1,
            "skipped": 0,
            "refused": 2,
        },
        "row_count": 2,
        "notices": (),
    }
    assert [(line.line, line.field) for line in found.refused] == [(6, None), (7, "student_sis_id")]
    assert found.raw_lines[:3] == ("sep=;", "who;Term;note", "S1;1;x")
    assert found.raw_rows[0] == ("S1", "1", "x")


def test_the_field_of_a_record_that_breaks_the_contract_is_named() -> None:
    found = shown(b'{"student_id": "S1", "course_ids": []}\n', Choices(kind=Kind.ENROLLMENTS))
    assert [(line.line, line.field) for line in found.refused] == [(1, "course_ids")]


@pytest.mark.parametrize(
    ("content", "kinds"),
    [
        (b"sis_id\nS1\n", (Kind.STUDENTS, Kind.COURSES)),
        (b'{"sis_id": "S1"}\n', (Kind.STUDENTS, Kind.COURSES)),
        (b'{"sis_id": "S1", "x": 1}\n', ()),
    ],
)
def test_a_file_that_may_be_of_several_kinds_names_them(
    content: bytes, kinds: tuple[Kind, ...]
) -> None:
    found = shown(content)
    assert (found.readable, found.field, found.other_kinds) == (False, "kind", kinds)
    if kinds:
        found = shown(content, Choices(kind=Kind.COURSES))
        assert (found.readable, found.other_kinds) == (True, (Kind.STUDENTS,))


@pytest.mark.parametrize(
    ("content", "choices", "field", "words"),
    [
        (b"", Choices(), None, "is empty"),
        (b"%PDF-1.7", Choices(), None, "PDF"),
        (zipped(("xl/workbook.xml", "")), Choices(), None, "an Excel workbook"),
        (PAIRS, Choices(encoding="martian"), "encoding", "no encoding 'martian'"),
        (PAIRS.replace(b"d", b"d\0"), Choices(encoding="cp1252"), "encoding", "read as cp1252"),
        (PAIRS, Choices(encoding="utf-16-le"), "kind", "The text was read as utf-16-le."),
        (b"who,what\n1,2\n", Choices(), "kind", "does not show"),
        (b"who,course_id\n1,2\n", Choices(), "map", "map another column"),
        (b"who,what\n1,2\n", Choices(templates={"sis_id": "{x}"}), "map", "no column 'x'"),
        (b"sis_id,name\n1,2\n", Choices(drop=True), "drop", "only enrollments can be dropped"),
        (gzip.compress(PAIRS, mtime=0)[:-9], Choices(), None, "is incomplete"),
    ],
)
def test_a_file_that_cannot_be_read_is_explained(
    content: bytes, choices: Choices, field: str | None, words: str
) -> None:
    found = shown(content, choices)
    assert (found.readable, found.field) == (False, field)
    assert words in (found.problem or "")
    assert ("encoding" in found.options) is (choices.encoding is not None)


def test_a_file_without_our_columns_shows_what_a_mapping_needs() -> None:
    found = shown(b"\xef\xbb\xbfwho,what\n1,2\n3,4\n")
    assert not found.readable
    assert (found.encoding, found.bom, found.delimiter, found.header_line) == (
        "utf-8",
        True,
        ",",
        1,
    )
    assert found.columns == ("who", "what")
    assert found.raw_rows == (("1", "2"), ("3", "4"))
    assert found.raw_lines == ("who,what", "1,2", "3,4", "")


def test_bytes_that_are_not_text_are_shown_as_such() -> None:
    found = shown(PAIRS + b"S\xe9,C\x00\n")
    assert found.raw_lines[1] == "S\ufffd,C\0"
    cp1252 = shown(PAIRS + b"S\x81,C1\n", Choices(encoding="cp1252"))
    assert cp1252.raw_lines[1] == "S\ufffd,C1"


def test_a_large_file_is_read_up_to_its_bound() -> None:
    wide = PAIRS + b"".join(b"S%d,%s\n" % (n, b"C" * 200) for n in range(6_000))
    for content in (wide, gzip.compress(wide, mtime=0), zipped(("a.csv", wide))):
        found = shown(content)
        assert (found.readable, found.truncated, found.refused) == (True, True, ())
        assert found.row_count is not None
        assert MAX_PREVIEW // 300 < found.row_count < 6_000
    narrow = PAIRS + b"S,C\n" * 20_000
    lines = shown(narrow).lines
    assert lines is not None
    assert lines.total == MAX_LINES
    assert shown(narrow).truncated


def deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def much() -> bytes:
    return b"sis_id,name\n" + b"a,b\n" * 20_000_000


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(make, id=name)
        for name, make in {
            "columns": lambda: b"a," * 500_000,
            "our columns": lambda: b"student_id," * 90_000,
            "a line without an end": lambda: PAIRS + b"x" * 2_000_000,
            "a header without an end": lambda: b"x" * 2_000_000,
            "signs": lambda: b"!#$%&*/<=>?@^`~"[:7] * 140_000,
            "many signs": lambda: "".join(
                f"{chr(0x2500 + n // 400)}{chr(0x2500 + n % 400)}a" for n in range(140_000)
            ).encode(),
            "quotes": lambda: PAIRS + b'"x,y\n' * 200_000,
            "short lines": lambda: PAIRS + b"x\n" * 500_000,
            "nesting": lambda: b'{"a":' * 200_000,
            "gzip": lambda: gzip.compress(much(), mtime=0),
            "zip": lambda: zipped(("a.csv", much())),
            "zip with much else": lambda: zipped(
                *[(f"__MACOSX/{n}", bytes(10**7)) for n in range(60)]
            ),
        }.items()
    ],
)
def test_no_file_takes_much_time_or_memory(make: Callable[[], bytes]) -> None:
    """The limit is generous; what is meant is that nothing grows with its square."""
    content = make()
    for goes_on in (False, True):
        began = time.process_time()
        found = shown(content, goes_on=goes_on)
        assert time.process_time() - began < 60
        assert len(found.model_dump_json()) < 4 * MAX_PREVIEW
        assert found.truncated or not found.readable


def test_the_file_in_the_beginning_of_a_zip_archive_is_found_behind_others() -> None:
    rows = PAIRS + b"".join(b"S%d,C%d\n" % (n, n * n) for n in range(3_000))
    archive = zipped(("__MACOSX/._x", b"\0" * 5_000), ("folder/", b""), ("folder/in.csv", rows))
    found = shown(archive[: len(archive) // 2], goes_on=True)
    assert (found.readable, found.container, found.inner) == (True, "zip", "folder/in.csv")
    assert found.rows[0].fields == {"student_id": "S0", "course_id": "C0"}
    streamed = io.BytesIO()
    header = b"PK\3\4" + bytes([20, 0, 8, 0, 8, 0]) + bytes(16) + bytes([5, 0, 0, 0])
    follows = b"PK\7\x08" + bytes(12)
    streamed.write(header + b"a/._b" + deflated(b"not a table") + follows)
    streamed.write(header + b"x.csv" + deflated(rows))
    found = shown(streamed.getvalue(), goes_on=True)
    assert (found.readable, found.inner) == (True, "x.csv")


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (zipped(("a.csv", PAIRS), ("b.csv", PAIRS)), "2 files: a.csv, b.csv"),
        (zipped(("[Content_Types].xml", PAIRS), ("b.csv", PAIRS)), "an Office document"),
        (zipped(("../a.csv", PAIRS)), "leads out of it"),
        (zipped(("a/", b"")), "its beginning shows no file"),
    ],
)
def test_the_beginning_of_an_archive_that_cannot_be_read_is_explained(
    archive: bytes, words: str
) -> None:
    found = shown(archive[:-30], goes_on=True)
    assert (found.readable, found.container) == (False, None)
    assert words in (found.problem or "")


def test_a_check_shows_a_record_with_a_line_of_its_own() -> None:
    file = io.BytesIO(b'{"sis_id": "S1", "name": "N", "line": "x"}\n')
    source = StreamSource(NAME, file, Choices())
    checker = SourceChecker(source)
    deque(checker.refusals(), maxlen=0)
    expected: list[dict[str, Any]] = [{"line": 1, "sis_id": "S1", "name": "N"}]
    assert list(checker.result().first_rows) == expected
