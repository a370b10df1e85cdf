"""A compressed file is read as what it holds, or refused with what is wrong with it."""

import gzip
import io
import random
import tempfile
import zipfile
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.errors import UnreadableFile
from producer.files import containers
from producer.files.reader import open_stream
from support.source_files import PAIRS, Open, Pipe, courses, link, read_pipe, zipped

TEXT = PAIRS + "".join(f"S{n},C{n % 7}\n" for n in range(200))
ROWS = [(f"S{n}", [f"C{n % 7}"], (n + 2,)) for n in range(200)]


def nameless() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("x")
    info.filename = ""
    return info


def encrypted(archive: bytes) -> bytes:
    """Return the archive with the flag that says that its file has a password."""
    changed = bytearray(archive)
    for signature, flag in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        changed[archive.index(signature) + flag] |= 1
    return bytes(changed)


GOOD: dict[str, bytes] = {
    "gzip": gzip.compress(TEXT.encode()),
    "gzip in many members": b"".join(
        gzip.compress(line.encode()) for line in TEXT.splitlines(keepends=True)
    ),
    "gzip with padding": gzip.compress(TEXT.encode()) + b"\0" * 600,
    "zip": zipped(("pairs.csv", TEXT)),
    "zip without compression": zipped(("pairs", TEXT), method=0),
    "zip with folders": zipped(("a/", ""), ("a/b/", ""), ("a/b/pairs.csv", TEXT)),
    "zip of a file without a name": zipped((nameless(), TEXT)),
    "zip from a Mac": zipped(
        ("pairs.csv", TEXT), ("__MACOSX/._pairs.csv", b"\0\5\x16\7"), (".DS_Store", b"\0\0")
    ),
}


@pytest.mark.parametrize("content", GOOD.values(), ids=GOOD)
def test_a_compressed_file_holds_its_rows_and_lines(opened: Open, content: bytes) -> None:
    source = opened(content)
    assert courses(source) == courses(source) == ROWS
    assert source.bytes_read == source.size == len(content)
    assert read_pipe(content) == (ROWS, ())


BAD: dict[str, tuple[bytes, list[str]]] = {
    "truncated gzip": (gzip.compress(TEXT.encode())[:-12], ["incomplete", "ends too early"]),
    "gzip and garbage": (gzip.compress(TEXT.encode()) + b"more", ["something was added", "again"]),
    "gzip with a wrong sum": (
        gzip.compress(TEXT.encode())[:-8] + b"1234" + gzip.compress(TEXT.encode())[-4:],
        ["damaged", "CRC"],
    ),
    "gzip of gzip": (gzip.compress(gzip.compress(b"a,b\n")), ["compressed more than once"]),
    "gzip of nothing": (gzip.compress(b""), ["is empty"]),
    "truncated zip": (GOOD["zip"][:-30], ["damaged or incomplete"]),
    "zip of nothing": (zipped(), ["without a file"]),
    "zip of folders": (zipped(("a/", ""), ("__MACOSX/x", "")), ["without a file"]),
    "zip of an empty file": (zipped(("a.csv", "")), ["(a.csv) is empty"]),
    "zip with two files": (
        zipped(("a.csv", TEXT), ("b.csv", TEXT)),
        ["2 files: a.csv, b.csv", "submit the files that you mean"],
    ),
    "zip with many files": (
        zipped(*((f"{n}.csv", TEXT) for n in range(9))),
        ["9 files: 0.csv, 1.csv, 2.csv, 3.csv, 4.csv and 4 more"],
    ),
    "zip with many folders": (
        zipped(("a.csv", TEXT), *((f"{n}/", "") for n in range(100))),
        ["more than 100 entries"],
    ),
    "zip in a zip": (zipped(("a.zip", GOOD["zip"])), ["(a.zip)", "a zip archive inside another"]),
    "gzip in a zip": (zipped(("a.gz", GOOD["gzip"])), ["compressed more than once"]),
    "zip with a password": (encrypted(GOOD["zip"]), ["with a password; unpack it"]),
    "zip with bzip2": (
        zipped(("a.csv", TEXT), method=zipfile.ZIP_BZIP2),
        ["compression method is not supported", "unpack it"],
    ),
    "zip of a link": (zipped((link("a.csv"), "/etc/passwd")), ["holds only a link, a.csv"]),
    "zip with ..": (zipped(("../a.csv", TEXT)), ["leads out of it, ../a.csv"]),
    "zip with an absolute name": (zipped(("/a.csv", TEXT)), ["leads out of it, /a.csv"]),
    "zip with a drive": (zipped(("C:\\a.csv", TEXT)), ["leads out of it"]),
    "zip with an escape sequence": (
        zipped(("\x1b[31m.csv", TEXT), ("b", TEXT)),
        [r"2 files: \x1b[31m.csv, b"],
    ),
    "Excel": (
        zipped(("[Content_Types].xml", "<x/>"), ("xl/workbook.xml", "<x/>")),
        ["is an Excel workbook that is damaged", "save the sheet as CSV (in Excel: CSV UTF-8)"],
    ),
    "Word": (
        zipped(("[Content_Types].xml", "<x/>"), ("word/document.xml", "<x/>")),
        ["is a Word document; save it as CSV"],
    ),
    "LibreOffice": (
        zipped(("mimetype", "x"), ("META-INF/manifest.xml", "<x/>")),
        ["is an OpenDocument file", "save it as CSV"],
    ),
    "Numbers": (zipped(("Index/Document.iwa", "x")), ["is an Apple Numbers"]),
    "tar": (gzip.compress(b"a.csv".ljust(257, b"\0") + b"ustar\x0000"), ["is a tar archive"]),
    "xz": (b"\xfd7zXZ\x00", ["is compressed with xz; unpack it"]),
    "7-Zip": (b"7z\xbc\xaf\x27\x1c", ["is a 7-Zip archive; unpack it"]),
    "a web page": (gzip.compress(b"<html>\n<p>Sign in</p>"), ["a web page", "'<html>'"]),
}


@pytest.mark.parametrize(("content", "words"), BAD.values(), ids=BAD)
def test_what_cannot_be_unpacked_is_named(opened: Open, content: bytes, words: list[str]) -> None:
    for read in (opened, read_pipe):
        with pytest.raises(UnreadableFile) as caught:
            read(content)
        for word in words:
            assert word in str(caught.value)


def test_a_gzip_file_that_is_cut_off_on_a_pipe_yields_its_rows_and_then_an_error() -> None:
    numbers = random.Random(5)  # noqa: S311 - any rows that do not compress well
    text = PAIRS + "".join(f"S{n},C{numbers.getrandbits(99)}\n" for n in range(30_000))
    pipe = io.BufferedReader(Pipe(gzip.compress(text.encode())[:-2000]))
    _, lines = open_stream("standard input", pipe)
    rows: list[object] = []
    with pytest.raises(UnreadableFile, match=r"is incomplete: .* use the same batch id"):
        rows.extend(lines)
    assert len(rows) > 20_000


def bomb(size: int) -> bytes:
    """Return gzip of a header and one long line of this size."""
    pack = zlib.compressobj(9, wbits=31)
    head = pack.compress(PAIRS.encode())
    million = b"x" * 1_000_000
    body = b"".join(pack.compress(million) for _ in range(size // 1_000_000))
    return head + body + pack.flush()


def test_a_file_that_unpacks_to_far_more_than_it_can_hold_is_refused(opened: Open) -> None:
    content = bomb(40_000_000)
    with pytest.raises(UnreadableFile, match="more than 100 times as large"):
        opened(content)
    with pytest.raises(UnreadableFile, match="more than 100 times as large"):
        read_pipe(content)
    with zipfile.ZipFile(path := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", PAIRS + "," * 40_000_000)
    with pytest.raises(UnreadableFile, match="more than 100 times as large"):
        opened(path.getvalue())


def test_the_many_empty_rows_of_a_spreadsheet_are_accepted(opened: Open) -> None:
    text = f"{PAIRS}S1,C1\n" + ",\n" * 1_000_000
    for content in (gzip.compress(text.encode()), zipped(("a.csv", text))):
        assert len(text) > containers.MAX_RATIO * len(content)
        assert courses(opened(content)) == [("S1", ["C1"], (2,))]


def test_a_zip_archive_on_a_pipe_is_stored_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(containers, "MAX_SPOOLED", 100)
    with pytest.raises(UnreadableFile, match="more than 100 bytes, which is too large for a pipe"):
        read_pipe(GOOD["zip"])
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(UnreadableFile, match="could not be stored in a temporary file: No such"):
        read_pipe(GOOD["zip"])


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(["gzip", "zip"]), st.data())
def test_a_damaged_file_yields_correct_rows_or_is_refused(form: str, data: st.DataObject) -> None:
    content = bytearray(GOOD[form])
    at = data.draw(st.integers(0, len(content) - 1))
    damage: dict[str, Callable[[], None]] = {
        "another byte": lambda: content.__setitem__(at, data.draw(st.integers(0, 255))),
        "cut off": lambda: content.__delitem__(slice(at, None)),
        "some are missing": lambda: content.__delitem__(slice(at, at + 3)),
        "some more": lambda: content.extend(data.draw(st.binary(max_size=9))),
    }
    damage[data.draw(st.sampled_from(list(damage)))]()
    try:
        entries, _ = read_pipe(bytes(content))
    except UnreadableFile:
        return
    assert entries == ROWS
