"""Collect what a reader tells the submitter about a file that it can read nevertheless."""

from collections.abc import Iterator

MAX_NOTICES = 20
"""The most notices that are kept for a file."""


class Notices:
    """Sentences about a file, in order, each once; the list is complete when the file is read."""

    def __init__(self) -> None:
        self._sentences: dict[str, None] = {}

    def add(self, sentence: str) -> None:
        """Add a sentence that says what was noticed, and what to do if it is not meant."""
        if len(self._sentences) < MAX_NOTICES:
            self._sentences.setdefault(sentence)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sentences)

    def __len__(self) -> int:
        return len(self._sentences)
