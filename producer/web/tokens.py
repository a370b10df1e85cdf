"""Read the bearer tokens of the HTTP front; only their hashes are stored."""

import hashlib
import hmac
import re
import stat
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from producer.errors import EnrollmentError

_LINE = re.compile(r"(?P<name>[\w.-]+)\s+(?P<scopes>[a-z,]+)\s+(?P<digest>[0-9a-f]{64})")

_FORM: Final = "NAME SCOPES SHA256, for example `sis submit,lookup 9f86d081…`"
_HASH: Final = "`printf %s TOKEN | sha256sum` prints the hash."

_OF_OTHERS = stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP


class TokensError(EnrollmentError):
    """The file of tokens cannot be used; the message says why, names the line, and the remedy."""


class Scope(StrEnum):
    """What a token allows its caller to do."""

    SUBMIT = "submit"
    """Enroll students, and submit rosters."""
    DROP = "drop"
    """Drop students; in a batch or together with enrollments, `submit` is needed as well."""
    DECIDE = "decide"
    """Approve or discard plans that are held, also those that others have submitted."""
    LOOKUP = "lookup"
    """Look up students and courses, and whatever any caller has submitted."""


_OLD_SCOPES: Final[Mapping[str, Scope]] = {"read": Scope.LOOKUP}
"""Names of scopes in files that were written for an earlier version."""


class Token(NamedTuple):
    """A caller, recognized by the SHA-256 hash of the token that it sends."""

    name: str
    scopes: frozenset[Scope]
    digest: str


def load_tokens(path: Path) -> tuple[Token, ...]:
    """Read the tokens in a file, which holds at least one. Raises TokensError."""
    try:
        # Editors on Windows begin a file with a byte order mark.
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise TokensError(
            f"it cannot be read: {error.strerror}; check the path and the permissions."
        ) from None
    except UnicodeDecodeError:
        raise TokensError(
            "it is not a text file in UTF-8; write a line NAME SCOPES SHA256 for each caller."
        ) from None
    tokens = read_tokens(text.splitlines())
    if not tokens:  # Without tokens, the service would be open to every caller.
        raise TokensError(
            f"the file holds no token. Write a line {_FORM}, for each caller; {_HASH} To serve only"
            " this machine, without tokens, do not name a file."
        )
    return tokens


def read_tokens(lines: Iterable[str]) -> tuple[Token, ...]:
    """Read tokens from lines `NAME SCOPES SHA256`; skip empty lines and `#` comments.

    A name may have several tokens, so that a new one can replace an old one without a gap. Raises
    TokensError.
    """
    tokens: dict[str, tuple[Token, int]] = {}
    for number, line in enumerate(lines, 1):
        token = _token_in(line, number)
        if token is None:
            continue
        earlier, first = tokens.setdefault(token.digest, (token, number))
        if earlier != token:
            raise TokensError(
                f"Tokens, lines {first} and {number}: the same token has two names or different"
                " scopes. Remove one of the lines, or make a token of its own for each caller."
            )
    return tuple(token for token, _ in tokens.values())


def _token_in(line: str, number: int) -> Token | None:
    """Return the token in a line; None for an empty line or a comment. Raises TokensError."""
    text = line.partition("#")[0].strip()
    if not text:
        return None
    match = _LINE.fullmatch(text)
    names = match["scopes"].split(",") if match else []
    scopes = {_OLD_SCOPES.get(name, name) for name in names}
    if match is None or not scopes <= {*Scope}:
        raise TokensError(f"Tokens, line {number}: write {_FORM}; {_HASH}")
    return Token(match["name"], frozenset(map(Scope, scopes)), match["digest"])


def exposure(path: Path) -> str | None:
    """Return a warning if other users of this machine may read or change a file of tokens."""
    mode = path.stat().st_mode
    if not mode & _OF_OTHERS:
        return None
    what = "change" if mode & (stat.S_IWOTH | stat.S_IWGRP) else "read"
    return f"Other users of this machine can {what} the tokens file {path}; run: chmod 600 {path}"


def find_token(tokens: Iterable[Token], secret: str) -> Token | None:
    """Return the token with this secret, or None, in a time that does not reveal which it is."""
    digest = hashlib.sha256(secret.encode()).hexdigest()
    matching_token = None
    for token in tokens:
        if hmac.compare_digest(token.digest, digest):
            matching_token = token
    return matching_token
