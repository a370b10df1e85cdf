"""Name what programs write where an id is missing."""

import re
from typing import Final

MISSING_VALUES: Final = frozenset(
    {
        "null", "(null)", "none", "nil", "nan", "-nan", "nat", "<na>", "n/a", "undefined",
        # What spreadsheets show in other forms than `_FORMULA_ERROR`, in several languages.
        "#getting_data", "#nv", "#yok", "#hiányzik", "#není_k_dispozici",
    }
)  # fmt: skip
"""Texts that stand for a missing value, in lower case."""

_FORMULA_ERROR = re.compile(r"#[¡¿]?[^\W\d]\w*(/\w+)?[!?]|#\w/\w")
"""What a spreadsheet shows instead of the result of a formula, in the language of its user, for
example `#REF!`, `#NAME?`, `#DIV/0!`, `#¡VALOR!` or `#N/A`."""


def is_missing_value(text: str) -> bool:
    """Return whether a whole text stands for a missing value, such as `NaN`, `#REF!` or `####`."""
    folded = text.strip().casefold()
    # A column that is too narrow for a number is shown as a row of hashes.
    if not folded.startswith("#"):
        return folded in MISSING_VALUES
    return (
        folded in MISSING_VALUES
        or _FORMULA_ERROR.fullmatch(folded) is not None
        or (len(folded) > 1 and not folded.strip("#"))
    )
