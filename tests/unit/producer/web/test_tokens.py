"""The file of tokens: what is refused, what is warned of, and what older files mean."""

import asyncio
import hashlib
import logging
from pathlib import Path

import pytest
from pydantic import SecretStr

from producer.main import make_app
from producer.web.settings import HttpSettings
from producer.web.tokens import Scope, TokensError, exposure, load_tokens, read_tokens

ONE, TWO = (hashlib.sha256(text).hexdigest() for text in (b"1", b"2"))
EMPTY = [b"", b"\n\n \t\n", b"# revoked\n#sis submit 00\n", b"\xef\xbb\xbf", b"\xef\xbb\xbf# x\r\n"]


def start(tokens: Path) -> None:
    """Start the application as a server does, and stop it again."""

    async def run() -> None:
        settings = HttpSettings(
            broker_url=SecretStr("redis://localhost:1/0"),
            http_tokens=tokens,
            http_audit=tokens.parent / "audit",
        )
        app = make_app(settings)
        async with app.router.lifespan_context(app):
            assert app.state.tokens

    asyncio.run(run())


@pytest.mark.parametrize("content", EMPTY)
def test_a_file_without_a_token_is_an_error_at_the_start(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"sis submit {ONE}\n")
    start(path)
    path.write_bytes(content)  # Its last caller is revoked, or another process truncates it.
    with pytest.raises(TokensError, match=r"ENROLL_HTTP_TOKENS=.*tokens: the file holds no token"):
        start(path)


def test_a_file_that_cannot_be_read_is_an_error_at_the_start(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(TokensError, match="it cannot be read"):
            start(path)


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_bytes(f"\ufeffsis submit {ONE}\r\n".encode())
    (token,) = load_tokens(path)
    assert token.name == "sis"


def test_the_scope_read_of_an_older_file_is_lookup() -> None:
    (old,) = read_tokens([f"sis submit,read {ONE}"])
    assert old.scopes == {Scope.SUBMIT, Scope.LOOKUP}
    assert (old,) == read_tokens([f"sis submit,lookup {ONE}"])


@pytest.mark.parametrize("other", ["admissions submit", "sis submit,drop", "sis lookup"])
def test_one_token_with_two_meanings_is_an_error_that_names_both_lines(other: str) -> None:
    lines = ["# callers", f"sis submit {ONE}", f"sis submit {TWO}", f"{other} {ONE}"]
    with pytest.raises(TokensError, match="lines 2 and 4"):
        read_tokens(lines)


def test_a_repeated_line_is_one_token() -> None:
    assert len(read_tokens([f"sis submit,read {ONE}", f"sis lookup,submit {ONE}"])) == 1


@pytest.mark.parametrize("scopes", ["", "admin", "submit,", "submit,submits", "SUBMIT"])
def test_a_line_with_other_scopes_is_named(scopes: str) -> None:
    with pytest.raises(TokensError, match="line 1: write NAME SCOPES SHA256"):
        read_tokens([f"sis {scopes} {ONE}"])


@pytest.mark.parametrize(
    ("mode", "what"),
    [(0o600, None), (0o640, None), (0o644, "read"), (0o666, "change"), (0o620, "change")],
)
def test_a_file_that_others_may_use_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int, what: str | None
) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"sis submit {ONE}\n")
    path.chmod(mode)
    with caplog.at_level(logging.WARNING):
        start(path)
    assert (f"can {what} the tokens file" in caplog.text) == (what is not None)
    assert (exposure(path) is None) == (what is None)
