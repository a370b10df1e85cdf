"""Notice values of a roster that are valid, but hardly meant."""

import re
import unicodedata
from typing import Any

from producer.contract.ids import MISSING_VALUES, is_missing_value
from producer.files.layout import Lines
from producer.files.notices import Notices
from producer.publishing.chunking import SourceRecord

_CHANGED_ID = re.compile(r"""\d+([.,]\d+)?E\+\d+$|\d+[.,]0$|=?"|'""", re.IGNORECASE)
"""A rounded number, a number that got decimals, and an id with marks that it is a text."""

_FIRST = frozenset("# ").union(*({text[0], text[0].upper()} for text in MISSING_VALUES))
"""How a text begins that may stand for a missing value."""


def noticing_values(path: str, lines: Lines, notices: Notices) -> Lines:
    """Yield the lines of a roster; add a notice at the first odd value of each field."""
    fields = ["sis_id", "name", "email", "title"]
    for entry in lines:
        yield entry
        if not isinstance(entry, SourceRecord) or not isinstance(entry.record, dict):
            continue
        for field in fields:
            problem = _problem_of(field, entry.record.get(field))
            if problem:
                notices.add(f"{path}: line {entry.lines[0]:,} has the {field} {problem}")
                fields = [other for other in fields if other != field]


def _problem_of(field: str, value: Any) -> str | None:
    """Return the value and why it is hardly meant, or None if it may be."""
    if not isinstance(value, str):
        return None
    if field == "sis_id":
        problem = _changed_by(value)
        return None if problem is None else f"{value[:60]!a}, which {problem}"
    if value[:1] not in _FIRST or not is_missing_value(value):
        return None
    return (
        f"{value[:60]!a}, which may stand for a missing value. It is stored as it stands; if that"
        " is not meant, empty such cells, so that the stored value is left as it is."
    )


def _changed_by(sis_id: str) -> str | None:
    """Return what a program or a keyboard seems to have done to an id, and what to do."""
    if not unicodedata.is_normalized("NFC", sis_id):  # Quick for ASCII.
        return (
            "has accents as characters of their own (NFD), as programs on a Mac write them. It is"
            " another id than the one that looks the same in the usual form (NFC). It is entered as"
            " it stands; if the roster has the usual form, save the file in it."
        )
    if sis_id.isalnum() or not _CHANGED_ID.match(sis_id):
        return None
    return (
        "looks as if a spreadsheet had changed it. It is entered as it stands; if that is not"
        " meant, export the file again, and open it with this column as text."
    )
