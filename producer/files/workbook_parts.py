"""Read the parts of an Excel workbook (ECMA-376), and check each one before a library loads it.

A library loads a sheet whole, with room for every cell up to the last one, and reads an error as an
empty cell. So the size, the extent and the errors of a sheet are found here, in flat memory. The
library gets a copy of what was examined, because it may find other parts in the same archive.
"""

import io
import posixpath
import re
import zipfile
from array import array
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, BinaryIO, NamedTuple, cast
from xml.parsers import expat

from producer.errors import UnreadableFile
from producer.files.containers import Packed, problem_of, unpacked, zip_errors_named
from producer.files.sheet_cells import MAX_ERRORS, Cells, UsualCells, local_name
from producer.files.shorten import shorten

MAX_PART = 128 * 1024**2
"""The most bytes of XML of a sheet, and of the texts that the cells of a workbook share."""
MAX_CELLS = 5_000_000
"""The most cells of a sheet up to its last row and column, empty ones among them; also the most
texts that the cells of a workbook share."""
MAX_TEXTS = 256 * 1024**2
"""The most bytes of text in the cells of a sheet; cells may share a text."""

AS_CSV_UTF8 = "save the sheet as CSV (in Excel: CSV UTF-8), and submit that file"
WORKBOOK = "xl/workbook.xml"
_RELATIONS = "xl/_rels/workbook.xml.rels"
_STYLES = "xl/styles.xml"
_SHARED_TEXTS = "xl/sharedstrings.xml"
_MACROS = "xl/vbaproject.bin"

Start = Callable[[str, Mapping[str, str]], None]
Errors = Mapping[tuple[int, int], str]
"""The cells of a sheet that hold an error, by row and column, which count from 0."""


class Sheet(NamedTuple):
    """A sheet of a workbook: its name, where it is stored, and whether a program shows it."""

    name: str
    part: str
    visible: bool


class Parts:
    """The parts of a workbook, by their paths in lower case. Every method raises UnreadableFile."""

    def __init__(self, name: str, file: BinaryIO) -> None:
        self._name = name
        self._file = file
        with zip_errors_named(name):
            entries = zipfile.ZipFile(cast("BinaryIO", Packed(file))).infolist()
        self._entries = {entry.filename.casefold(): entry for entry in entries}
        self._has_namesakes = len(self._entries) < len(entries)

    @property
    def is_workbook(self) -> bool:
        """Return whether the archive is a workbook that stores its sheets as XML."""
        return WORKBOOK in self._entries

    def check(self) -> None:
        """Raise UnreadableFile for a workbook that is not read as it is."""
        if _MACROS in self._entries:
            raise UnreadableFile(
                f"{self._name} is an Excel workbook with macros; save it as a workbook without"
                f" macros (.xlsx), or {AS_CSV_UTF8}."
            )
        if self._has_namesakes:
            raise self._damaged("two of its parts have the same name")
        problem = next(filter(None, map(problem_of, self._entries.values())), None)
        if problem is not None:
            raise UnreadableFile(f"{self._name} is a workbook in a zip archive {problem}.")

    def sheets(self) -> list[Sheet]:
        """Return the sheets in their order."""
        targets: dict[str, str] = {}
        sheets: list[Sheet] = []

        def relation(tag: str, attributes: Mapping[str, str]) -> None:
            if local_name(tag) == "Relationship":
                target = attributes.get("Target", "")
                targets[attributes.get("Id", "")] = posixpath.normpath(
                    target.lstrip("/") if target.startswith("/") else f"xl/{target}"
                )

        def sheet(tag: str, attributes: Mapping[str, str]) -> None:
            link = next((attributes[key] for key in attributes if key.endswith(":id")), "")
            if local_name(tag) == "sheet" and "/worksheets/" in targets.get(link, ""):
                visible = attributes.get("state", "visible") == "visible"
                sheets.append(Sheet(attributes.get("name", ""), targets[link], visible))

        self._parse(_RELATIONS, relation)
        self._parse(WORKBOOK, sheet)
        return sheets

    def pads_numbers(self) -> bool:
        """Return whether the workbook has a format that shows numbers with zeros in front."""
        formats: set[str] = set()

        def number_format(tag: str, attributes: Mapping[str, str]) -> None:
            if local_name(tag) == "numFmt":
                formats.add(attributes.get("formatCode", ""))

        if _STYLES in self._entries:
            self._parse(_STYLES, number_format)
        return any(re.fullmatch("0{2,}", code) for code in formats)

    def size_of(self, sheet: Sheet) -> int:
        """Return the size of the XML of a sheet; 0 if the workbook lacks it."""
        entry = self._entries.get(sheet.part.casefold())
        return 0 if entry is None else entry.file_size

    def examine(self, sheet: Sheet) -> Errors:
        """Return the errors in a sheet. Raises UnreadableFile if it is too large to be loaded."""
        cells = UsualCells()
        self._read(sheet.part, cells.feed)
        cells.finish()
        self._check_size(sheet, cells.rows * cells.columns, MAX_CELLS, _EXTENT)
        if cells.is_usual and cells.count * max(self._text_sizes, default=0) <= MAX_TEXTS:
            return {}
        all_cells = Cells(self._text_sizes)
        self._parse(sheet.part, all_cells.start, all_cells.end, all_cells.text)
        if all_cells.misplaced is not None:
            position = shorten(all_cells.misplaced, 20)
            raise self._damaged(f"{position} in {sheet.part} is not a valid position")
        self._check_size(sheet, all_cells.rows * all_cells.columns, MAX_CELLS, _EXTENT)
        self._check_size(sheet, all_cells.text_bytes, MAX_TEXTS, "bytes of text")
        what = "cells with an error, for example #N/A"
        self._check_size(sheet, len(all_cells.errors), MAX_ERRORS, what)
        return all_cells.errors

    def copy(self, sheet: Sheet) -> BinaryIO:
        """Return a workbook with the parts that a sheet needs, after `examine`, and no others."""
        copied = io.BytesIO()
        with zipfile.ZipFile(copied, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            archive.writestr("_rels/.rels", _ROOT.format(self._entries[WORKBOOK].filename))
            for part in (WORKBOOK, _RELATIONS, _STYLES, _SHARED_TEXTS, sheet.part):
                entry = self._entries.get(part.casefold())
                if entry is not None:
                    with archive.open(entry.filename, "w") as target:
                        target.writelines(self._blocks(part))
        copied.seek(0)
        return copied

    def _check_size(self, sheet: Sheet, size: int, most: int, what: str) -> None:
        if size > most:
            raise UnreadableFile(
                f"{self._name}: the sheet {sheet.name!r} has more than {most:,} {what}, which is"
                f" too many for a workbook; delete what is not needed, or {AS_CSV_UTF8}."
            )

    @cached_property
    def _text_sizes(self) -> "array[int]":
        """Return the size of each text that cells share, or more."""
        sizes = array("q")
        if _SHARED_TEXTS not in self._entries:
            return sizes
        parser = expat.ParserCreate()
        last_start = 0

        def text_begins(tag: str, attributes: Mapping[str, str]) -> None:
            nonlocal last_start
            tag = local_name(tag)
            if tag == "sst":
                self._check_promise(attributes.get("uniqueCount", "0"))
            elif tag == "si":
                if last_start:
                    sizes.append(parser.CurrentByteIndex - last_start)
                self._check_count(len(sizes) + 1)
                last_start = parser.CurrentByteIndex

        parser.StartElementHandler = text_begins
        size = self._feed(parser, _SHARED_TEXTS)
        if last_start:
            sizes.append(size - last_start)
        return sizes

    def _check_promise(self, number: str) -> None:
        """Check how many texts are promised: a library makes room for as many."""
        if not (number.isascii() and number.isdecimal() and len(number) <= _LONGEST_COUNT):
            raise self._damaged(f"{shorten(number, 20)} in {_SHARED_TEXTS} is not a count")
        self._check_count(int(number))

    def _check_count(self, texts: int) -> None:
        if texts > MAX_CELLS:
            raise UnreadableFile(
                f"{self._name} has more than {MAX_CELLS:,} texts, which is too many for a workbook;"
                f" {AS_CSV_UTF8}."
            )

    def _parse(
        self,
        part: str,
        start: Start,
        end: Callable[[str], None] | None = None,
        text: Callable[[str], None] | None = None,
    ) -> None:
        """Call these functions for each element and each text of a part."""
        parser = expat.ParserCreate()
        parser.StartElementHandler = start
        parser.EndElementHandler = end
        parser.CharacterDataHandler = text
        self._feed(parser, part)

    def _read(self, part: str, take: Callable[[bytes], None]) -> None:
        """Call a function for each piece of a part, which is well-formed XML in ASCII or UTF-8."""
        self._feed(expat.ParserCreate(), part, take)

    def _feed(self, parser: Any, part: str, take: Callable[[bytes], None] | None = None) -> int:
        """Parse a part of the workbook; return its size."""
        parser.StartDoctypeDeclHandler = self._refuse_document_type
        size = 0
        try:
            for block in self._blocks(part):
                size += len(block)
                parser.Parse(block, False)
                if b"\0" in block:  # UTF-16, in which nothing else could be found.
                    raise self._damaged(f"{part} is not in UTF-8")
                if take is not None:
                    take(block)
            parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise self._damaged(f"{part} is not XML: {error}") from None
        return size

    def _blocks(self, part: str) -> Iterator[bytes]:
        entry = self._entries.get(part.casefold())
        if entry is None:
            raise self._damaged(f"{part} is missing")
        if entry.file_size > MAX_PART:
            raise UnreadableFile(
                f"{self._name} is too large to be read as a workbook: {part} has"
                f" {entry.file_size:,} bytes, and at most {MAX_PART:,} can be read;"
                f" {AS_CSV_UTF8}."
            )
        packed = Packed(self._file)
        with zip_errors_named(self._name):
            archive = zipfile.ZipFile(cast("BinaryIO", packed))
            content: Any = archive.open(entry)
        file = unpacked(self._name, content, packed)
        while block := file.read(1 << 18):
            yield block

    def _refuse_document_type(self, *_: object) -> None:
        raise self._damaged("it declares a document type, which no workbook does")

    def _damaged(self, what: str) -> UnreadableFile:
        return UnreadableFile(
            f"{self._name} is an Excel workbook that is damaged: {what}. Open it in Excel, and"
            f" save it again, or {AS_CSV_UTF8}."
        )


_ROOT = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
    '<Relationship Id="r" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships'
    '/officeDocument" Target="{}"/></Relationships>'
)
"""What leads a library to the workbook."""
_LONGEST_COUNT = 10
_EXTENT = "cells up to its last row and column"
