"""Account for every line of a file."""

from dataclasses import dataclass

from producer.errors import UnreadableFile


@dataclass
class Account:
    """Where the lines of a file went. A line of nothing but delimiters counts as blank."""

    header: int = 0
    rows: int = 0
    refused: int = 0
    blank: int = 0
    skipped: int = 0
    """Rows that are passed over on purpose, such as those about teachers."""
    continued: int = 0
    """The lines of a row after its first."""

    def begin(self, header: int) -> None:
        """Start to count the lines of a file whose header has this many lines."""
        self.header = header
        self.rows = self.refused = self.blank = self.skipped = self.continued = 0

    def skip(self) -> None:
        """Count a row that was read as one that is passed over."""
        self.rows -= 1
        self.skipped += 1

    @property
    def total(self) -> int:
        """Return the number of lines that are accounted for."""
        read = self.header + self.rows + self.continued
        return read + self.refused + self.blank + self.skipped

    def check(self, name: str, read: int) -> None:
        """Raise UnreadableFile if the lines that were read are not all accounted for."""
        if self.total != read:
            raise UnreadableFile(
                f"{name}: {read} lines were read, but {self.total} are accounted for ({self})."
                " This is a fault of this program; please report it with the file."
            )
