"""Find out how a file stores its text, and read it as UTF-8 lines that end with a line feed."""

import codecs
import io
import re
import sys
from typing import Any, BinaryIO, NamedTuple

from producer.errors import UnreadableFile
from producer.files.raw_bytes import MARK, as_pairs

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
"""The byte order marks, the longer before its beginning."""

_PLAIN = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
"""What each mark stands before."""

_AS_CSV = "save it as CSV (in Excel: CSV UTF-8), and submit that file"
_OTHER_FILES = (
    (b"PK\x03\x04", f"is an Excel workbook or another zip archive; {_AS_CSV}, or unpack it"),
    (b"\xd0\xcf\x11\xe0", f"is a file of an old Office program, such as Excel; {_AS_CSV}"),
    (b"\x1f\x8b", "is compressed with gzip; unpack it, or submit the output of zcat"),
    (b"%PDF", "is a PDF document; export the data as CSV and submit that file"),
)
_HTML = re.compile(rb"\s*<(?:!doctype html|html|\?xml)\b", re.IGNORECASE)
_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x19\x1b-\x1f\x7f]")
_FEW_CONTROLS = 0.01
"""Up to this fraction of control characters, a file is text in which some lines are refused."""


class TextForm(NamedTuple):
    """The encoding of a file, and whether its lines end with a carriage return alone."""

    encoding: str
    old_line_ends: bool

    def as_utf8(self, file: BinaryIO) -> BinaryIO:
        """Return a file that is at its beginning as UTF-8 with the line ends of Unix or Windows.

        What cannot be decoded becomes bytes that are not UTF-8.
        """
        if self == (_UTF8, False):
            return file
        return io.BufferedReader(_Transcoded(file, self), 1 << 16)


_UTF8 = "utf-8-sig"


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
    return "surrogateescape" if encoding in (_UTF8, "utf-8") else "_mark"


def _encoded(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # Half of a character of UTF-16.
        return text.encode("utf-8", "surrogatepass")


def _marked(error: UnicodeError) -> tuple[str, int]:
    """Return what stands for undecodable bytes, and where decoding goes on (codecs' interface)."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return MARK + as_pairs(error.object[error.start : error.end]), error.end


codecs.register_error("_mark", _marked)


def find_form(name: str, raw: bytes, encoding: str | None) -> tuple[TextForm, str]:
    """Return how a file stores its text, and its first lines, of which these are the bytes.

    `encoding` is the name that the submitter gave. Raises UnreadableFile for what is no text.
    """
    for beginning, what in _OTHER_FILES:
        if raw.startswith(beginning):
            raise UnreadableFile(f"{name} {what}.")
    if _HTML.match(raw):
        raise UnreadableFile(
            f"{name} is a web page or XML, and not a table; a download may have stored a sign-in"
            " page in its place. Export the data as CSV and submit that file."
        )
    encoding = _encoding(raw) if encoding is None else encoding
    decode = codecs.getincrementaldecoder(encoding)(_errors(encoding)).decode
    head = decode(raw)  # The last character may be cut.
    if len(_CONTROLS.findall(_encoded(head))) > _FEW_CONTROLS * len(head):
        raise UnreadableFile(f"{name} is a binary file; export it as CSV or JSON Lines in UTF-8.")
    form = TextForm(encoding, old_line_ends="\r" in head and "\n" not in head)
    return form, head.replace("\r", "\n") if form.old_line_ends else head


def _encoding(raw: bytes) -> str:
    for mark, encoding in _MARKS:
        if raw.startswith(mark):
            return encoding
    first_line = raw[:400]
    # ASCII in UTF-16 has a zero in every other byte.
    for encoding, text, zeros in (
        ("utf-16-le", first_line[::2], first_line[1::2]),
        ("utf-16-be", first_line[1::2], first_line[::2]),
    ):
        if zeros.count(0) > max(3, len(zeros) // 2, 10 * text.count(0)):
            return encoding
    return _UTF8


def plain_encoding(encoding: str, raw: bytes) -> tuple[str, bool]:
    """Return the encoding of the text after a byte order mark, and whether a file has this mark.

    `raw` is the beginning of the file.
    """
    for mark, name in _PLAIN:
        if raw.startswith(mark) and encoding.startswith(name[:6]):
            return name, True
    if encoding in ("utf-16", "utf-32"):
        return f"{encoding}-{sys.byteorder[0]}e", False
    return encoding.removesuffix("-sig"), False


def known_encoding(name: str) -> str:
    """Return Python's name of an encoding of text. Raises UnreadableFile."""
    try:
        found = codecs.lookup(name)
        "".encode(found.name)
    except (LookupError, ValueError):
        raise UnreadableFile(
            f"There is no encoding {name!r}; use for example utf-8, utf-16 or cp1252."
        ) from None
    return _UTF8 if found.name in ("utf-8", "utf-8-sig") else found.name
