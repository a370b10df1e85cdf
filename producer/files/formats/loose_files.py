"""Find the files of one export among those that are named one by one."""

import io
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from producer.errors import UnreadableFile
from producer.files.containers import ZIP, Content, unpack
from producer.files.delimited import find_header
from producer.files.describing import Choices, first_bytes, read_first_lines
from producer.files.formats.base import Format, folded
from producer.files.formats.layouts import is_ours
from producer.files.formats.registry import recognize


def files_together(paths: Sequence[Path], choices: Choices) -> list[Path]:
    """Return those of the files that are of one system, if there are several of them.

    They are read as a package, because some of them say what the others lack, such as which users
    are students. With an option for single files, such as a mapping, each file is read by itself,
    and so are files of the same name, which are not of one export.
    """
    is_single = choices.kind or choices.templates or choices.drop or choices.sheet
    if len(paths) < 2 or is_single or choices.format.is_plain:  # noqa: PLR2004
        return []
    by_format: defaultdict[str, list[Path]] = defaultdict(list)
    for path in paths:
        names = _names_in(path, choices.encoding)
        known = choices.format.format or _format_of(names)
        if known is not None and known.table_in_package(path.name.casefold(), names) is not None:
            by_format[known.name].append(path)
    largest = max(by_format.values(), key=len, default=[])
    return largest if len({path.name.casefold() for path in largest}) == len(largest) > 1 else []


def _format_of(names: Sequence[str]) -> Format | None:
    known = None if is_ours(names, names) else recognize(names)
    return None if known is None else known[0]


def _names_in(path: Path, encoding: str | None) -> list[str]:
    """Return the names in the header of a file, folded; none if it is not a plain table."""
    with suppress(OSError, UnreadableFile):  # It is reported when the file is opened by itself.
        if path.is_file():
            with path.open("rb") as file:
                beginning = file.read(len(ZIP))
                file.seek(0, io.SEEK_SET)
                content: Content = unpack(str(path), file, beginning)
                if not content.packed:
                    first = read_first_lines(content, first_bytes(file), encoding, whole=False)
                    return list(map(folded, find_header(str(path), first.text, {}).names))
    return []
