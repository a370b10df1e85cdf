"""Read the bearer tokens of the HTTP front; only their hashes are stored."""

import hashlib
import hmac
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from producer.errors import EnrollmentError

_LINE = re.compile(r"(?P<name>[\w.-]+)\s+(?P<scopes>[a-z,]+)\s+(?P<digest>[0-9a-f]{64})")


class TokensError(EnrollmentError):
    """The file of tokens cannot be read; the message names the line and the remedy."""


class Scope(StrEnum):
    """What a token allows its caller to do."""

    SUBMIT = "submit"
    """Enroll students, and submit rosters."""
    DROP = "drop"
    """Drop students; in a batch or together with enrollments, `submit` is needed as well."""
    READ = "read"
    """Look up requests, batches and students."""


class Token(NamedTuple):
    """A caller, recognized by the SHA-256 hash of the token that it sends."""

    name: str
    scopes: frozenset[Scope]
    digest: str


def read_tokens(lines: Iterable[str]) -> tuple[Token, ...]:
    """Read tokens from lines `NAME SCOPES SHA256`; skip empty lines and `#` comments.

    A name may have several tokens, so that a new one can replace an old one without a gap. Raises
    TokensError.
    """
    tokens = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        match = _LINE.fullmatch(text)
        names = match["scopes"].split(",") if match else []
        if text and (match is None or not set(names) <= {*Scope}):
            raise TokensError(
                f"Tokens, line {number}: write NAME SCOPES SHA256, for example"
                " `sis submit,read 9f86d081…`; `printf %s TOKEN | sha256sum` prints the hash."
            )
        if match is not None:
            tokens.append(Token(match["name"], frozenset(map(Scope, names)), match["digest"]))
    return tuple(tokens)


def find_token(tokens: Iterable[Token], secret: str) -> Token | None:
    """Return the token with this secret, or None, in a time that does not reveal which it is."""
    digest = hashlib.sha256(secret.encode()).hexdigest()
    matching_token = None
    for token in tokens:
        if hmac.compare_digest(token.digest, digest):
            matching_token = token
    return matching_token
