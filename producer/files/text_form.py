"""Find out how a file stores its text, and read it as UTF-8 lines that end with a line feed."""

import codecs
import io
import re
import sys
from typing import Any, BinaryIO, NamedTuple

from producer.errors import UnreadableFile
from producer.files.containers import AS_CSV, GZIP, ZIP
from producer.files.layout import NOT_UTF8
from producer.files.raw_bytes import MARK, as_pairs
from producer.files.shorten import shorten

AUTO = "auto"
"""The name of an encoding that lets a file that is not UTF-8 be read as cp1252."""
FALLBACK = "cp1252"
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32", "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16", "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16", "utf-16-be"),
)
"""Each byte order mark, the encoding of a file that begins with it, and that of the text after it.
A longer mark comes before a shorter one that it begins with."""

_UNPACK = "unpack it, and submit the table in it"
_OTHER_FILES = (
    (ZIP, f"is an Excel workbook or a zip archive inside another one; {AS_CSV}, or unpack it"),
    (b"\xd0\xcf\x11\xe0", f"is a file of an old Office program, or has a password; {AS_CSV}"),
    (GZIP, f"is compressed more than once; {_UNPACK}"),
    (b"BZh", f"is compressed with bzip2; {_UNPACK}"),
    (b"\xfd7zXZ\x00", f"is compressed with xz; {_UNPACK}"),
    (b"\x28\xb5\x2f\xfd", f"is compressed with zstd; {_UNPACK}"),
    (b"7z\xbc\xaf\x27\x1c", f"is a 7-Zip archive; {_UNPACK}"),
    (b"Rar!", f"is a RAR archive; {_UNPACK}"),
    (b"%PDF", "is a PDF document; export the data as CSV and submit that file"),
    (b"{\\rtf", "is a text document (RTF); export the data as CSV and submit that file"),
    (b"SQLite format 3\x00", "is an SQLite database; export the data as CSV"),
    (b"PAR1", "is a Parquet file; export the data as CSV"),
)
_TAR = (257, b"ustar")
_MARKUP = re.compile(
    r"\s*<(?:(!doctype html|html|head|body|table|meta)|\?xml|!--)\b", re.IGNORECASE
)
_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x19\x1b-\x1f\x7f]")
_FEW_CONTROLS = 0.01
_FEW_IN_ALL = 20
"""Up to this fraction of control characters, or this many below a first line without any, a file is
text in which some lines are refused."""
_QUOTED = re.compile('"[^"]*"')


class TextForm(NamedTuple):
    """The encoding of a file, and whether its lines end with a carriage return alone.

    `marked` is set if it begins with a byte order mark, and `guessed` for the encoding `auto` of a
    file that can be read only once. `problem` is what is wrong with a cell that is marked as bad by
    what made the text.
    """

    encoding: str
    old_line_ends: bool
    marked: bool = False
    guessed: bool = False
    problem: str | None = None

    def as_utf8(self, file: BinaryIO) -> BinaryIO:
        """Return a file, which is at its beginning, as UTF-8 with line ends of Unix or Windows.

        What cannot be decoded becomes bytes that are not UTF-8.
        """
        if (self.encoding, self.old_line_ends) == (UTF8, False):
            return file
        return io.BufferedReader(_Transcoded(file, self), 1 << 16)

    @property
    def undecodable(self) -> str:
        """Return what is wrong with a cell that cannot be decoded, and what to do."""
        if self.problem is not None:
            return self.problem
        if self.encoding != UTF8:
            return f"is not valid {self.encoding}; save the file as UTF-8"
        if self.marked:
            return "is not UTF-8, although the file begins with the mark of UTF-8; save it as UTF-8"
        if self.guessed:
            return (
                "is not UTF-8, and the encoding of what comes through a pipe cannot be found;"
                " submit a file in place of a pipe, or choose the encoding by its name"
            )
        return NOT_UTF8


UTF8 = "utf-8-sig"


class _Transcoded(io.RawIOBase):
    def __init__(self, file: BinaryIO, form: TextForm) -> None:
        self._file = file
        self._old_line_ends = form.old_line_ends
        self._decode = codecs.getincrementaldecoder(form.encoding)(_errors(form.encoding)).decode
        self._ready = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            raw = self._file.read(1 << 16)
            text = self._decode(raw, final=not raw)
            if self._old_line_ends:
                text = text.replace("\r", "\n")
            self._ready = _encoded(text)
            if not raw:
                break
        piece = self._ready[: len(buffer)]
        self._ready = self._ready[len(piece) :]
        buffer[: len(piece)] = piece
        return len(piece)


def _errors(encoding: str) -> str:
    """Return how to decode what is wrong: lone surrogates mark it, and refuse its line later."""
    if encoding in (UTF8, "utf-8"):
        return "surrogateescape"
    return "_mark" if encoding.startswith(("utf-16", "utf-32")) else "_mark_byte"


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # Half of a character of UTF-16.
        return text.encode("utf-8", "surrogatepass")


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for undecodable bytes, and where decoding goes on (codecs' interface)."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return MARK + as_pairs(error.object[error.start : error.end]), error.end


def _replaced_byte(error: UnicodeError) -> tuple[str, int]:
    """Mark only the first byte: a line end after half of a character is still one."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return MARK + as_pairs(error.object[error.start : error.start + 1]), error.start + 1


codecs.register_error("_mark", _replaced)
codecs.register_error("_mark_byte", _replaced_byte)


def find_form(name: str, raw: bytes, encoding: str | None) -> tuple[TextForm, str]:
    """Return how a file stores its text, and its first lines, of which these are the bytes.

    `encoding` is Python's name of the one that the submitter gave; a byte order mark comes before
    it. Raises UnreadableFile if a file is not text.
    """
    for beginning, what in _OTHER_FILES:
        if raw.startswith(beginning):
            raise UnreadableFile(f"{name} {what}.")
    if raw.startswith(_TAR[1], _TAR[0]):
        raise UnreadableFile(f"{name} is a tar archive; {_UNPACK}.")
    marked = _marked(raw)
    found = marked or encoding or _without_mark(raw)
    if found in ("utf-16", "utf-32") and not marked:  # Which bytes come first must be known.
        unmarked = _without_mark(raw)
        found = unmarked if unmarked.startswith(found) else f"{found}-le"
    decode = codecs.getincrementaldecoder(found)(_errors(found)).decode
    head = decode(raw)  # The last character may be cut.
    if _is_binary(head):
        as_read = f" if it is read as {encoding}" if encoding and not marked else ""
        raise UnreadableFile(
            f"{name} is a binary file{as_read}; export it as CSV or JSON Lines in UTF-8.",
            *(["encoding"] if as_read else ()),
        )
    _check_markup(name, head)
    line_ends = _QUOTED.sub("", head)
    old_line_ends = "\r" in line_ends and "\n" not in line_ends
    form = TextForm(found, old_line_ends, marked=marked is not None)
    return form, head.replace("\r", "\n") if form.old_line_ends else head


def _is_binary(head: str) -> bool:
    """Return whether the first lines of a file hold more control characters than text does."""
    controls = len(_CONTROLS.findall(_encoded(head)))
    if controls <= _FEW_CONTROLS * len(head):
        return False
    first = head.lstrip("\ufeff\r\n").replace("\r", "\n").partition("\n")[0]
    return controls > _FEW_IN_ALL or _CONTROLS.search(_encoded(first)) is not None


def _check_markup(name: str, head: str) -> None:
    """Raise UnreadableFile for a web page or XML."""
    markup = _MARKUP.match(head.removeprefix("\ufeff"))
    if markup is None:
        return
    first = shorten(head.removeprefix("\ufeff").strip().partition("\n")[0])
    if markup[1]:
        what = "a web page; a sign-in page may have been downloaded in place of the table"
    else:
        what = "XML, or a web page, and not a table"
    raise UnreadableFile(
        f"{name} is {what}. Its first line is {first}. Export the data as CSV and submit that file."
    )


def _marked(raw: bytes) -> str | None:
    return next((encoding for mark, encoding, _ in _MARKS if raw.startswith(mark)), None)


def _without_mark(raw: bytes) -> str:
    first_line = raw[:400]
    # ASCII in UTF-16 has a zero in every other byte.
    for encoding, text, zeros in (
        ("utf-16-le", first_line[::2], first_line[1::2]),
        ("utf-16-be", first_line[1::2], first_line[::2]),
    ):
        if zeros.count(0) > max(3, len(zeros) // 2, 10 * text.count(0)):
            return encoding
    return UTF8


def find_not_utf8(raw: bytes, file: BinaryIO) -> tuple[int, str] | None:
    """Read a file to its end; return the first line that is not UTF-8, and its text near that.

    `raw` is what was already read of the file. The text is read as cp1252.
    """
    decode = codecs.getincrementaldecoder("utf-8")().decode
    number, block = 1, raw
    while True:
        try:
            decode(block, final=not block)
        except UnicodeDecodeError as error:
            seen, at = error.object, error.start
            begin = max(seen.rfind(b"\n", 0, at) + 1, at - 40)
            near = seen[begin : at + 40].splitlines()[0]
            return number + seen.count(b"\n", 0, at), near.decode(FALLBACK, "backslashreplace")
        if not block:
            return None
        number += block.count(b"\n")
        block = file.read(1 << 20)


_NOT_BY_LINE = (
    "utf_7",
    "idna",
    "punycode",
    "unicode_escape",
    "raw_unicode_escape",
    "hz",
    "iso2022",
)
"""Encodings in which a line cannot be read by itself, because others change its meaning, or in
which other characters can stand for a line end."""


def plain_encoding(encoding: str, raw: bytes) -> tuple[str, bool]:
    """Return the encoding of the text after a byte order mark, and whether a file has this mark.

    `raw` is the beginning of the file.
    """
    for mark, _, plain in _MARKS:
        if raw.startswith(mark) and encoding.startswith(plain[:6]):
            return plain, True
    if encoding in ("utf-16", "utf-32"):
        return f"{encoding}-{sys.byteorder[0]}e", False
    return encoding.removesuffix("-sig"), False


def known_encoding(name: str) -> str:
    """Return Python's name of an encoding of text. Raises UnreadableFile."""
    shown = ascii(name[:40])
    try:
        found = codecs.lookup(name).name
        "".encode(found)
    except (LookupError, ValueError):
        raise UnreadableFile(
            f"There is no encoding {shown}; use for example utf-8, utf-16 or cp1252, or {AUTO}.",
            "encoding",
        ) from None
    if found.replace("-", "_").startswith(_NOT_BY_LINE):
        raise UnreadableFile(
            f"A file in the encoding {shown} cannot be read line by line; save it as UTF-8.",
            "encoding",
        )
    return UTF8 if found in ("utf-8", "utf-8-sig") else found
