"""Notice values of a roster that are valid, but hardly meant."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from producer.contract.ids import is_missing_value
from producer.files.layout import Lines
from producer.files.notices import Notices
from producer.publishing.chunking import SourceRecord

_CHANGED_ID = re.compile(r"""\d+([.,]\d+)?E\+\d+$|\d+[.,]0$|=?"|'""", re.IGNORECASE)
"""A rounded number, a number that got decimals, and an id with marks that it is a text."""


def noticing_values(path: str, lines: Lines, notices: Notices) -> Lines:
    """Yield the lines of a roster; add a notice at the first odd value of each field."""
    checks = {"sis_id": _odd_id, "name": _missing, "email": _missing, "title": _missing}
    for entry in lines:
        yield entry
        if isinstance(entry, SourceRecord) and isinstance(entry.record, dict):
            for field, what in _odd_fields(entry.record, checks):
                notices.add(f"{path}: line {entry.lines[0]:,} has the {field} {what}")
                del checks[field]


def _odd_fields(
    record: Mapping[str, Any], checks: Mapping[str, Callable[[str], str]]
) -> list[tuple[str, str]]:
    texts = [(field, record.get(field)) for field in checks]
    odd = [(f, checks[f](text)) for f, text in texts if isinstance(text, str)]
    return [(field, what) for field, what in odd if what]


def _odd_id(sis_id: str) -> str:
    if not _CHANGED_ID.match(sis_id):
        return ""
    return (
        f"{sis_id[:60]!a}, which looks as if a spreadsheet had changed it. It is entered as it"
        " stands; if that is not meant, export the file again, and open it with this column as"
        " text."
    )


def _missing(text: str) -> str:
    if not is_missing_value(text):
        return ""
    return (
        f"{text[:60]!a}, which may stand for a missing value. It is stored as it stands; if that is"
        " not meant, empty such cells, so that the stored value is left as it is."
    )
