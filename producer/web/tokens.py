"""Who may call the HTTP front: bearer tokens, of which only the hashes are kept."""

import hashlib
import hmac
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

from producer.errors import EnrollmentError

_LINE = re.compile(r"(?P<name>[\w.-]+)\s+(?P<scopes>[a-z,]+)\s+(?P<digest>[0-9a-f]{64})")


class TokensError(EnrollmentError):
    """The tokens cannot be read; the message names the line and the remedy."""


class Scope(StrEnum):
    """What a token is good for."""

    SUBMIT = "submit"
    READ = "read"


class Token(NamedTuple):
    """A caller, by the SHA-256 of the token that it sends."""

    name: str
    scopes: frozenset[Scope]
    digest: str


def read_tokens(lines: Iterable[str]) -> tuple[Token, ...]:
    """Tokens from lines `NAME SCOPES SHA256`; empty lines and `#` comments are skipped.

    Several of one name stand side by side while one replaces the other. Raises TokensError.
    """
    tokens = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        found = _LINE.fullmatch(text)
        names = found["scopes"].split(",") if found else []
        if text and (found is None or not set(names) <= {*Scope}):
            raise TokensError(
                f"Tokens, line {number}: write NAME SCOPES SHA256, as"
                " `sis submit,read 9f86d081…`; the hash is that of `printf %s TOKEN | sha256sum`."
            )
        if found is not None:
            tokens.append(Token(found["name"], frozenset(map(Scope, names)), found["digest"]))
    return tuple(tokens)


def find_token(tokens: Iterable[Token], sent: str) -> Token | None:
    """The caller that sends this token; takes as long whichever it is."""
    digest = hashlib.sha256(sent.encode()).hexdigest()
    found = None
    for token in tokens:
        if hmac.compare_digest(token.digest, digest):
            found = token
    return found
