"""An archive of several files is read file by file, or refused with what is wrong with it."""

import io
import struct
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.errors import UnreadableFile
from producer.files.archives import open_archive
from producer.files.containers import FREE_BYTES, ZIP
from producer.files.formats.packages import is_package
from producer.files.workbooks import open_content
from support.source_files import link, zipped

USERS = "sourcedId,role\n" + "".join(f"U{n},student\n" for n in range(500))
CLASSES = "sourcedId,title\nC1,Logic\n"
PACKAGE = (("users.csv", USERS), ("Classes.CSV", CLASSES))
CONTENT = {"users.csv": USERS.encode(), "classes.csv": CLASSES.encode()}


def contents(raw: bytes) -> dict[str, bytes]:
    archive = open_archive("export.zip", io.BytesIO(raw))
    return {name: archive.open(name).file.read() for name in archive.files}


def flagged(archive: bytes, flag: int) -> bytes:
    """Return an archive whose last file has a flag in the archive's list."""
    changed = bytearray(archive)
    changed[archive.rindex(b"PK\x01\x02") + 8] |= flag
    return bytes(changed)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize(
    "files",
    [
        PACKAGE,
        (("export/", ""), *((f"export/{name}", text) for name, text in PACKAGE)),
        tuple((f"export\\{name}", text) for name, text in PACKAGE),
        (*PACKAGE, ("__MACOSX/._users.csv", "x"), (".DS_Store", "x"), ("a/.DS_Store", "x")),
        (*PACKAGE, ("__MACOSX/a/b/._users.csv", "x"), ("Thumbs.db", "x")),
    ],
    ids=["at the top", "in a folder", "from Windows", "from a Mac", "with clutter in folders"],
)
def test_each_file_is_opened_by_its_name(files: tuple[tuple[str, str], ...], method: int) -> None:
    assert contents(zipped(*files, method=method)) == CONTENT


def test_files_may_be_read_by_turns() -> None:
    archive = open_archive("export.zip", io.BytesIO(zipped(*PACKAGE, method=0)))
    files = [archive.open(name).file for name in ("users.csv", "classes.csv")]
    read = [b"", b""]
    for _ in range(len(USERS)):
        for number, file in enumerate(files):
            read[number] += file.read(7)
    assert read == list(CONTENT.values())


def test_messages_name_the_file_and_the_archive() -> None:
    raw = zipped(("a/users.csv", USERS), ("b.csv", "x"))
    content = open_archive("export.zip", io.BytesIO(raw)).open("users.csv")
    assert (content.name, content.inner) == ("a/users.csv in export.zip", "a/users.csv")
    assert content.packed


BAD: dict[str, tuple[bytes, str]] = {
    "truncated": (zipped(*PACKAGE)[:-30], "export.zip is a zip archive .* damaged or incomplete"),
    "half of it": (zipped(*PACKAGE)[:300], "damaged or incomplete.* Get the file again"),
    "empty": (zipped(), "without a file"),
    "clutter alone": (zipped(("a/", ""), (".DS_Store", "x")), "without a file"),
    "101 entries": (
        zipped(*((f"{n}.csv", "x") for n in range(101))),
        "more than 100 entries; unpack it",
    ),
    "a password": (flagged(zipped(*PACKAGE), 1), "with a password; unpack it"),
    "a link": (zipped(*PACKAGE, (link("c.csv"), "/etc/passwd")), r"only a link, c\.csv"),
    "a parent": (zipped(*PACKAGE, ("a/../../c.csv", "")), r"leads out of it, a/\.\./\.\./c\.csv"),
    "an absolute name": (zipped(*PACKAGE, ("/c.csv", "")), r"leads out of it, /c\.csv"),
    "a drive": (zipped(*PACKAGE, ("C:c.csv", "")), r"leads out of it, C:c\.csv"),
    "a share": (zipped(*PACKAGE, ("\\\\c\\c.csv", "")), "leads out of it"),
    "another method": (
        zipped(*PACKAGE, method=zipfile.ZIP_LZMA),
        "compression method is not supported",
    ),
    "two of a name": (
        zipped(*PACKAGE, ("old/Users.csv", "x")),
        r"two files of the same name, users\.csv and old/Users\.csv; remove",
    ),
    "folders in folders": (
        zipped(("a/b/users.csv", USERS), ("c.csv", "")),
        r"in a folder within a folder, a/b/users\.csv; pack the files themselves",
    ),
    "a bomb of many files": (
        zipped(*((f"{n}.csv", b"0" * (FREE_BYTES // 50)) for n in range(60))),
        r"export\.zip becomes more than 100 times as large",
    ),
}


@pytest.mark.parametrize(("raw", "words"), BAD.values(), ids=BAD)
def test_an_archive_that_is_not_safe_is_refused_with_the_reason(raw: bytes, words: str) -> None:
    with pytest.raises(UnreadableFile, match=words):
        open_archive("export.zip", io.BytesIO(raw))


@pytest.mark.parametrize("at_the_end", [False, True], ids=["entries", "a comment"])
def test_a_list_of_files_that_is_too_long_is_read_by_no_reader(*, at_the_end: bool) -> None:
    """Not even to see what kind of file it is."""
    entry = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, 0, *[0] * 7, 1, *[0] * 6) + b"a"
    entries = (entry[:32] + b"\xff\xff" + entry[34:] + b"c" * 65535) if at_the_end else entry
    entries *= 2 * 1024**2 // len(entries)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 9, 9, len(entries), 4, 0)
    file = Measured(b"PK\3\4" + entries + end)
    assert not is_package(file)
    assert file.most <= 1024**2 + 1
    for reader in (open_archive, lambda name, file: open_content(name, file, ZIP, None, bool)):
        file.seek(0)
        with pytest.raises(UnreadableFile, match="damaged"):
            reader("export.zip", file)
    assert file.most <= 1024**2 + 1


class Measured(io.BytesIO):
    """A file that notes the most bytes that were read at once."""

    most = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.most = max(self.most, len(data))
        return data


def test_the_size_in_the_list_bounds_what_is_read() -> None:
    """A list that makes a bomb look small does not help it."""
    raw = bytearray(zipped(("bomb.csv", b"0" * 2 * FREE_BYTES), ("b.csv", "x")))
    at = raw.index(b"PK\x01\x02") + 24
    raw[at : at + 4] = (5000).to_bytes(4, "little")
    archive = open_archive("export.zip", io.BytesIO(bytes(raw)))
    assert archive.files["bomb.csv"].size == 5000
    with pytest.raises(UnreadableFile, match=r"bomb\.csv in export\.zip is damaged"):
        archive.open("bomb.csv").file.read(5001)


@settings(deadline=None, max_examples=300)
@given(st.data())
def test_a_damaged_archive_is_read_correctly_or_refused(data: st.DataObject) -> None:
    raw = bytearray(zipped(*PACKAGE))
    at = data.draw(st.integers(0, len(raw) - 1))
    if data.draw(st.booleans()):
        raw[at] = data.draw(st.integers(0, 255))
    else:
        del raw[at : at + data.draw(st.integers(1, 50))]
    try:
        found = contents(bytes(raw))
    except UnreadableFile:
        return
    # A damaged name or flag hides a file, and never changes what it holds.
    assert set(found.values()) <= set(CONTENT.values())
