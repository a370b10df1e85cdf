"""Read the manifest of a package: which files it should have, and whether they are complete."""

import csv
import io
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from producer.files.archives import within
from producer.files.formats.base import folded
from producer.files.notices import Notices

_FILE = "file."
_ABSENT, _BULK, _DELTA = "absent", "bulk", "delta"


@dataclass(frozen=True)
class Manifest:
    """What a manifest says. `modes` has absent, bulk or delta for each file, by its name, folded.

    `is_there` is not set if the package has no manifest.
    """

    is_there: bool
    modes: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_delta(self) -> bool:
        """Return whether the files hold only what has changed."""
        return any(mode == _DELTA for mode in self.modes.values())

    def is_bulk(self, file_name: str) -> bool:
        """Return whether a file, by its name, folded, holds everything."""
        return self.modes.get(file_name) == _BULK

    def compare(self, package: str, names: Collection[str], notices: Notices) -> None:
        """Add a notice for each file that is missing, or that should not be there."""
        for name, mode in self.modes.items():
            if mode != _ABSENT and name not in names:
                notices.add(
                    f"{package} has no {name}, although its manifest says that it has one ({mode});"
                    " if it should have one, export the package again."
                )
            elif mode == _ABSENT and name in names:
                notices.add(
                    f"{name} in {within(package)} is read, although the manifest says that it is"
                    " absent."
                )


def read_manifest(text: str) -> Manifest:
    """Return what the text of a manifest says; lines that are not understood say nothing."""
    modes: dict[str, str] = {}
    for row in _rows(text):
        name, value = map(folded, (*row, "", "")[:2])
        if name.startswith(_FILE) and value in (_ABSENT, _BULK, _DELTA):
            modes[f"{name.removeprefix(_FILE)}.csv"] = value
    return Manifest(is_there=True, modes=modes)


def _rows(text: str) -> Iterator[list[str]]:
    """Yield the rows of a text up to the first that is no CSV."""
    with suppress(csv.Error):
        yield from csv.reader(io.StringIO(text, newline=None))
