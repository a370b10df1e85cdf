"""A table is read the same in every form; what cannot be decoded refuses its own line."""

import codecs
import encodings
import gzip
import io
import pkgutil
from itertools import product
from pathlib import Path

import pytest

from producer.contract.chunks import RefusedLine
from producer.errors import UnreadableFile
from producer.files.describing import Choices
from producer.files.reader import open_stream
from producer.files.text_form import TextForm, find_not_utf8, known_encoding
from producer.schemas import Kind
from support.source_files import Open, read, read_pipe, zipped

# --- The same table in every form -------------------------------------------------------------

TABLES = {
    "students": "sis_id,name,note\nS1,Zoë Müller,\nS2,Renée O\u2019Neil,x\n\nS3,\u20ac,\n",
    "courses": 'title,sis_id\n"Logic, part 1",C1\n"two\nlines",C2\nSet theory,C3',
    "pairs": "student_sis_id,course_sis_id\nS1,C1\nS1,C2\n,C1\nS2,C1\n",
    "a row too short": "sis_id,name\nS1,Ada\nS2\nS3,Ben\n",
}
ENCODINGS = {
    "utf-8": ("utf-8", b""),
    "utf-8 with a mark": ("utf-8", codecs.BOM_UTF8),
    "utf-16-le": ("utf-16-le", b""),
    "utf-16-le with a mark": ("utf-16-le", codecs.BOM_UTF16_LE),
    "utf-16-be": ("utf-16-be", b""),
    "utf-16-be with a mark": ("utf-16-be", codecs.BOM_UTF16_BE),
    "cp1252": ("cp1252", b""),
}
PACKED = {"plain": lambda raw: raw, "gzip": gzip.compress, "zip": lambda raw: zipped(("t", raw))}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_table_has_the_same_records_and_lines_in_every_form(
    opened: Open, table: str, encoding: str
) -> None:
    expected = read(opened(table))
    name, mark = ENCODINGS[encoding]
    chosen = "auto" if name == "cp1252" else None
    for end, delimiter, pack in product(["\n", "\r\n", "\r"], ",;\t|", PACKED.values()):
        # A line end within a cell is that of the file, which a record keeps as it is; a comma in
        # quotes stays one.
        quoted = table.replace("Logic, part", "Logic\0 part").replace(",", delimiter)
        text = quoted.replace("\0", ",").replace("\n", end)
        source = opened(pack(mark + text.encode(name)), encoding=chosen)
        found = [
            (
                {name: cell.replace("\r", "") for name, cell in first.items()}
                if isinstance(first, dict) and "title" in first
                else first,
                second,
            )
            for first, second in read(source)
        ]
        assert found == expected, (end, delimiter)
        is_ascii = table.isascii()
        assert len(source.notices) == (name == "cp1252" and not is_ascii)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_line_of_excel_moves_every_line_by_one(opened: Open, encoding: str) -> None:
    table = TABLES["pairs"] + "S3,Zoë\n"
    name, mark = ENCODINGS[encoding]
    chosen = "auto" if name == "cp1252" else None
    expected = read(opened(table))
    for end, delimiter in product(["\n", "\r\n", "\r"], ",;\t|"):
        lines = [f"sep={delimiter}", *table.replace(",", delimiter).splitlines(), ""]
        found = read(opened(mark + end.join(lines).encode(name), encoding=chosen))
        moved = [
            (first - 1, second)
            if isinstance(first, int)
            else (first, tuple(line - 1 for line in second))
            for first, second in found
        ]
        assert moved == expected, (end, delimiter)


# --- cp1252, if asked for ---------------------------------------------------------------------

WESTERN = "sis_id,name\nS1,Ada\nS2,José €\n".encode("cp1252")


def test_no_encoding_is_guessed_unless_the_submitter_asks(opened: Open) -> None:
    source = opened(WESTERN)
    assert not source.notices
    assert read(source)[1] == (
        3,
        "cell 2 is not UTF-8; save the file as UTF-8, or choose the encoding that it has",
    )


@pytest.mark.parametrize("before", [0, 70_000, 3_000_000], ids=str)
@pytest.mark.parametrize("chosen", ["auto", "AUTO", "cp1252", "windows-1252"])
def test_the_encoding_is_the_same_at_any_place_of_the_file(
    opened: Open, before: int, chosen: str
) -> None:
    filler = [f"S{n:06d},{'x' * 60}" for n in range(before // 70)]
    lines = ["sis_id,name", *filler, "A,Renée", "B,O\u2019Neil"]
    source = opened("\n".join(lines).encode("cp1252"), encoding=chosen)
    *_, first, second = read(source)
    assert first == ({"sis_id": "A", "name": "Renée"}, (len(lines) - 1,))
    assert second == ({"sis_id": "B", "name": "O\u2019Neil"}, (len(lines),))
    if chosen.lower() == "auto":
        (notice,) = source.notices
        assert f"is not UTF-8 (first seen in line {len(lines) - 1:,})" in notice
        assert "read as cp1252: 'A,Renée'. If that looks wrong" in notice
    else:
        assert not source.notices


def test_a_byte_that_cp1252_does_not_define_refuses_its_line(opened: Open) -> None:
    source = opened(b"sis_id,name\nA,Jos\xe9\nB,\x81\nC,\x8d\x90\nD,x\n", encoding="auto")
    entries = read(source)
    problem = "cell 2 is not valid cp1252; save the file as UTF-8"
    assert [entries[1], entries[2]] == [(3, problem), (4, problem)]
    assert [entries[0][0]["name"], entries[3][0]["name"]] == ["José", "x"]


def test_text_in_utf_8_stays_utf_8(opened: Open) -> None:
    text = "sis_id,name\nS1,José\n"
    for raw in (text.encode(), text.encode("utf-8-sig"), text.encode("utf-16")):
        source = opened(raw, encoding="auto")
        assert read(source) == [({"sis_id": "S1", "name": "José"}, (2,))]
        assert not source.notices
    # The byte order mark says that the file is UTF-8, so a bad byte is refused.
    source = opened(codecs.BOM_UTF8 + WESTERN, encoding="auto")
    assert read(source)[1][0] == 3
    assert not source.notices


@pytest.mark.parametrize("before", [0, 70_000], ids=["in the head", "later"])
def test_on_a_pipe_a_bad_byte_refuses_its_line(before: int) -> None:
    filler = [f"S{n:06d},C1,{'x' * 60}" for n in range(before // 70)]
    lines = ["student_sis_id,course_sis_id,note", *filler, "A,C1,Jos\udce9", "B,C1,x", ""]
    raw = "\n".join(lines).encode("utf-8", "surrogateescape")
    entries, notices = read_pipe(raw, "auto")
    refused = [entry for entry in entries if len(entry) == 2]
    assert "through a pipe cannot be found; submit a file in place of a pipe" in refused[0][1]
    assert refused == [
        (
            len(lines) - 2,
            f"cell 3 {TextForm('utf-8-sig', old_line_ends=False, guessed=True).undecodable}",
        )
    ]
    assert entries[-1][0] == "B"
    assert notices == ()


def test_a_zip_archive_on_a_pipe_is_read_through_like_a_file() -> None:
    raw = "student_sis_id,course_sis_id,note\nA,C1,Jos\udce9\n".encode("utf-8", "surrogateescape")
    entries, notices = read_pipe(zipped(("a.csv", raw)), "auto")
    assert entries == [("A", ["C1"], (2,))]
    assert "standard input (a.csv) is not UTF-8" in notices[0]


@pytest.mark.parametrize("cut", range(1, 8))
def test_a_character_may_lie_across_two_blocks(cut: int) -> None:
    text = "é☃😀" * 3
    assert find_not_utf8(text.encode()[:cut], io.BytesIO(text.encode()[cut:])) is None
    assert find_not_utf8(b"a\n" + text.encode()[:cut], io.BytesIO()) is None or cut not in (2, 5)


def test_half_of_a_character_at_the_end_is_not_utf_8() -> None:
    assert find_not_utf8("a\nb é".encode()[:-1], io.BytesIO()) == (2, "Ã")


# --- Encodings by name ------------------------------------------------------------------------


def text_encodings() -> list[str]:
    names = {module.name for module in pkgutil.iter_modules(encodings.__path__)}
    return sorted(names | {"latin-1", "UTF8", "utf_8_sig", "u16", "windows-1252", "sjis", "ebcdic"})


@pytest.mark.parametrize("name", text_encodings())
def test_an_encoding_is_read_line_by_line_or_refused(opened: Open, name: str) -> None:
    """Whatever bytes a line holds, the lines around it are read as they are."""
    try:
        python_name = known_encoding(name)
    except UnreadableFile:
        return  # The test below shows which.
    if python_name == "utf-32":
        python_name = "utf-32-le"
    elif python_name in ("utf-16", "utf-8-sig"):
        python_name = {"utf-16": "utf-16-le", "utf-8-sig": "utf-8"}[python_name]
    end = "\n".encode(python_name)
    bad = [
        bytes(piece) * len(end)
        for byte in range(128, 256)
        for piece in ((byte,), (byte, byte), (byte, 0x81), (0x8E, byte), (byte, 0x30, byte))
    ]
    raw = "sis_id,name\n".encode(python_name) + b"".join(
        "B,".encode(python_name) + piece + "\nC,y\n".encode(python_name) for piece in bad
    )
    good = [
        entry
        for entry in read(opened(raw, encoding=name))
        if entry[0] == {"sis_id": "C", "name": "y"}
    ]
    assert [lines for _, lines in good] == [(line,) for line in range(3, 2 * len(bad) + 3, 2)]


@pytest.mark.parametrize(
    ("name", "word"),
    [
        *((name, "no encoding") for name in ("utf-9", "hex", "rot13", "zlib", "", "a\0b", "é")),
        *((name, "line by line") for name in ("utf-7", "idna", "punycode", "iso-2022-jp", "hz")),
        *((name, "line by line") for name in ("unicode_escape", "raw-unicode-escape")),
        ("x\x1b[31m" * 100, r"no encoding 'x\x1b[31m"),
    ],
)
def test_what_is_not_an_encoding_of_lines_is_refused(opened: Open, name: str, word: str) -> None:
    with pytest.raises(UnreadableFile, match="encoding") as caught:
        opened("sis_id,name\nA,x\n", encoding=name)
    assert word in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("chosen", [None, "auto", "utf-8", "cp1252"])
def test_a_bad_byte_after_a_mark_does_not_advise_to_choose_an_encoding(
    opened: Open, chosen: str | None
) -> None:
    (line,) = read(opened(b"\xef\xbb\xbfsis_id,name\nS1,Jos\xe9\n", encoding=chosen))
    problem = "is not UTF-8, although the file begins with the mark of UTF-8; save it as UTF-8"
    assert line == (2, f"cell 2 {problem}")


def test_a_mark_in_the_file_wins_over_the_name_that_was_given(opened: Open) -> None:
    text = "sis_id,name\nS1,José\n"
    for raw, mark in ((text.encode("utf-8-sig"), "utf-8"), (text.encode("utf-16"), "utf-16")):
        source = opened(raw, encoding="cp1252")
        assert read(source) == [({"sis_id": "S1", "name": "José"}, (2,))]
        assert f"begins with the byte order mark of {mark}, and" in next(iter(source.notices))
    for chosen in ("utf-16", "utf-16-le", "UTF16"):
        assert not opened(text.encode("utf-16"), encoding=chosen).notices


def test_a_wrong_name_is_part_of_the_message(opened: Open) -> None:
    with pytest.raises(UnreadableFile, match=r"The text was read as cp037\.$"):
        opened("sis_id,name\nS1,Ada\n", encoding="cp037")
    with pytest.raises(UnreadableFile, match="is a binary file if it is read as cp037"):
        opened("\x01\x02\x03\x04,name\nS1,Ada\n", encoding="cp037")


@pytest.mark.parametrize("control", ["\x00", "\x07", "\x1b[31m", "\x7f"])
def test_a_control_character_in_a_short_file_does_not_make_it_binary(
    opened: Open, control: str
) -> None:
    entries = opened(f"student_id,course_id\n{control}S1,C1\nS2,C1\n").records()
    lines = [entry.line if isinstance(entry, RefusedLine) else entry.lines[0] for entry in entries]
    assert sorted(lines) == [2, 3]


def test_a_table_with_control_characters_everywhere_is_binary(opened: Open) -> None:
    with pytest.raises(UnreadableFile, match="is a binary file"):
        opened("student_id,course_id\n" + "S\x001,C\x071\n" * 20)


# --- Line ends --------------------------------------------------------------------------------


def test_old_line_ends_are_seen_although_cells_hold_other_ones(opened: Open) -> None:
    source = opened('sis_id,title\rC1,"two\nlines"\rC2,x\r')
    assert read(source) == [
        ({"sis_id": "C1", "title": "two\nlines"}, (2,)),
        ({"sis_id": "C2", "title": "x"}, (4,)),
    ]


def test_a_file_on_standard_input_is_read_from_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a line before\nsis_id,name\nS1,Jos\xe9\n")
    with path.open("rb") as file:
        file.readline()
        layout, lines = open_stream("standard input", file, Choices(Kind.STUDENTS, encoding="auto"))
        (record,) = list(lines)
    assert record.record == {"sis_id": "S1", "name": "José"}  # type: ignore[union-attr]
    assert "first seen in line 2" in next(iter(layout.notices))
