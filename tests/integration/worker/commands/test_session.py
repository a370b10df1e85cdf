"""Wrong usage and unusable databases are reported by name, without a password."""

from collections.abc import Callable
from pathlib import Path

import pytest

from support.commands import UNREACHABLE, USAGE
from support.operator import run


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["prune"], "--older-than"),
        (["prune", "--older-than", "1y"], "'1y' is not a valid age"),
        (["dead-letters", "retry"], "--all"),
        (["dead-letters", "retry", "1", "--all"], "--all"),
        (["dead-letters", "discard"], "ID..."),
        (["dead-letters", "show", "0"], "0"),
        (["dead-letters", "list", "--limit", "0"], "--limit"),
    ],
)
def test_wrong_usage_is_reported(
    new_database: Callable[[str], str], arguments: list[str], words: str
) -> None:
    assert words in run(new_database("sqlite"), *arguments, expect=USAGE)[1]


@pytest.mark.parametrize(
    ("url", "words", "code"),
    [
        ("", "ENROLL_DATABASE_URL: is not set", USAGE),
        ("mysql://u:hunter2@h/d", "ENROLL_DATABASE_URL: must look like", USAGE),
        ("sqlite:///{folder}/new.db", "python -m worker.migrate", USAGE),
        ("postgresql://u:hunter2@127.0.0.1:1/d", "cannot be used: ", UNREACHABLE),
        ("sqlite:////nowhere/at/all.db", "cannot be used: unable to open", UNREACHABLE),
    ],
)
def test_an_unusable_database_is_reported_without_its_password(
    tmp_path: Path, url: str, words: str, code: int
) -> None:
    out, err = run(url.format(folder=tmp_path), "dead-letters", "list", expect=code)
    assert out == ""
    assert words in err
    assert "hunter2" not in err
