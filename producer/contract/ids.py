"""Name what programs write where an id is missing."""

from typing import Final

MISSING_VALUES: Final = frozenset(
    {
        "null", "(null)", "none", "nil", "nan", "-nan", "nat", "<na>", "n/a", "undefined",
        # What a spreadsheet shows instead of the result of a formula.
        "#n/a", "#ref!", "#name?", "#value!", "#null!", "#num!", "#div/0!", "#calc!", "#spill!",
        "#field!", "#error!", "#getting_data", "#blocked!", "#connect!", "#unknown!", "#busy!",
    }
)  # fmt: skip
"""Texts that stand for a missing value, in lower case."""


def is_missing_value(text: str) -> bool:
    """Return whether a whole text stands for a missing value, such as `NaN`, `#REF!` or `####`."""
    folded = text.strip().casefold()
    # A column that is too narrow for a number is shown as a row of hashes.
    return folded in MISSING_VALUES or (len(folded) > 1 and not folded.strip("#"))
