"""Collect the notices of a reader: what a submitter should know about a file that can be read."""

from collections.abc import Iterator

MAX_NOTICES = 20
"""The most notices that are stored for a file."""


class Notices:
    """Sentences about a file, in order, each once; the list is complete when the file is read."""

    def __init__(self) -> None:
        self._sentences: dict[str, None] = {}
        self._taken = 0
        self.is_snapshot = False
        """Whether the file is read as a snapshot: lines that are drops elsewhere are left out."""

    def add(self, sentence: str) -> None:
        """Add a sentence that says what was noticed, and what to do if that was not meant."""
        if len(self._sentences) < MAX_NOTICES:
            self._sentences.setdefault(sentence)

    def take_new(self) -> list[str]:
        """Return the sentences that were added since the last call."""
        new = list(self._sentences)[self._taken :]
        self._taken += len(new)
        return new

    def __iter__(self) -> Iterator[str]:
        return iter(self._sentences)

    def __len__(self) -> int:
        return len(self._sentences)
