"""`enroll serve` says what is wrong with its tokens and its audit folder before it listens."""

import hashlib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from producer.cli import enroll
from support.commands import USAGE


def serve(*arguments: str, **environment: str) -> Result:
    command = ["serve", "--broker", "redis://localhost:1/0", *arguments]
    return CliRunner().invoke(enroll, command, env=environment)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe", "is not a text file in UTF-8; write a line NAME SCOPES SHA256"),
        (b"sis submit", "Tokens, line 1: write NAME SCOPES SHA256"),
        (b"", "the file holds no token. Write a line NAME SCOPES SHA256"),
        (b"# nobody any more\n\n", "the file holds no token. Write a line NAME SCOPES SHA256"),
        (b"\xef\xbb\xbf", "the file holds no token. Write a line NAME SCOPES SHA256"),
    ],
)
def test_a_tokens_file_that_cannot_be_used_is_refused_with_a_remedy(
    tmp_path: Path, content: bytes, words: str
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_bytes(content)
    result = serve("--tokens", str(tokens))
    assert result.exit_code == USAGE
    assert words in " ".join(result.output.split())


@pytest.mark.parametrize("how", ["option", "variable", "default"])
def test_an_audit_folder_that_cannot_be_written_is_refused_with_a_remedy(
    tmp_path: Path, how: str
) -> None:
    tokens, occupied = tmp_path / "tokens", tmp_path / "file"
    tokens.write_text(f"sis submit {hashlib.sha256(b'secret').hexdigest()}\n")
    occupied.touch()
    folder = str(occupied / "audit")
    arguments = ["--audit", folder] if how == "option" else []
    environment = {"option": {}, "variable": {"ENROLL_HTTP_AUDIT": folder}}.get(how)
    environment = {"XDG_STATE_HOME": str(occupied)} if environment is None else environment
    result = serve("--tokens", str(tokens), *arguments, **environment)
    assert result.exit_code == USAGE
    output = " ".join(result.output.split())
    assert f"Disclosures cannot be recorded in {occupied}/" in output
    assert "name another one with --audit" in output
