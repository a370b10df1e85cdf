"""`enroll serve` says what is wrong with its tokens file before it listens."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from producer.cli import enroll
from support.commands import USAGE


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\xff\xfe", "is not a text file in UTF-8; write a line NAME SCOPES SHA256"),
        (b"sis submit", "Tokens, line 1: write NAME SCOPES SHA256"),
    ],
)
def test_a_tokens_file_that_cannot_be_read_is_refused_with_a_remedy(
    tmp_path: Path, content: bytes, words: str
) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_bytes(content)
    arguments = ["serve", "--broker", "redis://localhost:1/0", "--tokens", str(tokens)]
    result = CliRunner().invoke(enroll, arguments)
    assert result.exit_code == USAGE
    assert words in " ".join(result.output.split())
