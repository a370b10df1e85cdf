"""Guard the cells of a file for spreadsheets, so that none of them runs as a formula.

The rule is that of OWASP (CSV Injection, https://owasp.org/www-community/attacks/CSV_Injection,
and ASVS 5.0, 1.2.10): a single quote stands before a cell that begins with `=`, `+`, `-`, `@`, a
tab, a carriage return, a line feed or NUL, also in their full-width forms. A spreadsheet may ignore
spaces and quotes before them. It may also divide a line at other separators than the file has, and
begin a new cell within ours, so the rule holds after every separator and line end in a cell, too.
"""

import re

_SIGNS = "=+\\-@\uff1d\uff0b\uff0d\uff20\ufe66\ufe62\ufe63\ufe6b"
"""What begins a formula, also as the full-width and the small forms of these signs."""
_IGNORED = (
    "[\"'\x00-\x08\x0b\x0c\x0e-\x20\x7f-\xa0\xad\u1680\u180e\u2000-\u200f\u2018-\u201f"
    "\u2028-\u202f\u205f-\u2064\u3000\ufdd0-\ufdef\ufeff\uff02\uff07]"
)
"""Quotes, spaces, the invisible and bytes that are not text may be ignored before a sign."""
_AT_THE_START = rf"(?={_IGNORED}*[{_SIGNS}\t\r\n]|'*(?:\x00|\ufdd0\ufde0))"
_INSIDE = rf"(?={_IGNORED}*[{_SIGNS}])"
_AFTER = r"(?<=[,;|\t\r\n])"
_UNGUARDED = re.compile(rf"\A{_AT_THE_START}|{_AFTER}{_INSIDE}")
_GUARD = re.compile(rf"\A'{_AT_THE_START}|{_AFTER}'{_INSIDE}")


def guard(cell: str) -> str:
    """Return a cell with an apostrophe before all that a spreadsheet may run as a formula."""
    return _UNGUARDED.sub("'", cell)


def unguard(cell: str) -> str:
    """Return a cell as it was before `guard`."""
    return _GUARD.sub("", cell)
