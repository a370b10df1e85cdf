"""A wrong command line is reported with the faulty part and a remedy, and without a password."""

import os
from pathlib import Path

import pytest
from click.testing import Result

from producer.publishing import batches
from support.commands import UNREACHABLE, USAGE, clean_environment, invoke_enroll, run_enroll

ABSENT = "redis://:s3cret@127.0.0.1:1/0"


@pytest.mark.parametrize(
    ("arguments", "code", "expected"),
    [
        (["student", "S1"], USAGE, "pass --broker or set ENROLL_BROKER_URL"),
        (["serve"], USAGE, "pass --broker or set ENROLL_BROKER_URL"),
        (["student", "S1", "--broker", "redis://:s3/cret@h/0"], USAGE, "for example / as %2F"),
        (["student", "S1", "--broker", "redis://:s3cret@h:s3/0"], USAGE, "Correct --broker"),
        (["student", "S1", "--broker", "reddis://:s3cret@h/0"], USAGE, "must begin with one of"),
        (["student", "S1", "--broker", ABSENT], UNREACHABLE, "Check that it is running"),
        (["student", "key:x", "--broker", ABSENT], USAGE, "for example key:4711"),
        (["submit", "none.csv", "--broker", ABSENT], USAGE, "check the path and the permissions"),
        (["submit", "--map", "x", "f.csv", "--broker", ABSENT], USAGE, "write it as COLUMN="),
        (["submit", "a", "b", "--batch-id", "x", "--broker", ABSENT], USAGE, "give one file"),
        (["serve", "--broker", ABSENT, "--host", "192.0.2.1"], USAGE, "pass --tokens FILE"),
        (["serve", "--broker", ABSENT, "--tokens", "tokens"], USAGE, "tokens: Tokens, line 1:"),
        (["serve", "--broker", "reddis://:s3cret@h/0"], USAGE, "must begin with one of"),
        (["up", "--folder", "/proc/none"], UNREACHABLE, "choose another with --folder"),
        (["prune", "--older-than", "4y"], USAGE, "36h, 400d or 12w"),
        (["prune", "--older-than", "4d"], USAGE, "ENROLL_DATABASE_URL: is not set"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_with_its_remedy(
    tmp_path: Path, arguments: list[str], code: int, expected: str
) -> None:
    (tmp_path / "tokens").write_text("s3cret\n")
    done = run_enroll(clean_environment(), *arguments, expect=code, cwd=tmp_path)
    assert expected in done.stderr
    assert "s3" not in done.stderr


def test_an_invalid_setting_of_the_http_front_is_named(tmp_path: Path) -> None:
    environment = os.environ | {"ENROLL_HTTP_RATE": "s3cret"}
    done = run_enroll(environment, "serve", "--broker", ABSENT, expect=USAGE, cwd=tmp_path)
    assert "ENROLL_HTTP_RATE: " in done.stderr
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("redis://127.0.0.1:{port}/4711", "no database with the number in its URL"),
        ("redis://nobody:s3cret@127.0.0.1:{port}/0", "the user or the password is wrong"),
    ],
)
def test_a_submit_does_not_wait_for_a_url_that_never_worked(
    tmp_path: Path, broker_url: str, address: str, expected: str
) -> None:
    port = broker_url.rpartition(":")[2].partition("/")[0]
    done = submit(tmp_path, address.format(port=port))
    assert expected in done.stderr
    assert "Waiting" not in done.stderr


def test_a_submit_waits_only_a_moment_for_a_broker_that_was_never_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "FIRST_PATIENCE", 2)
    done = submit(tmp_path, ABSENT)
    assert "Connection refused. Check that it is running" in done.stderr
    assert " ".join(done.stderr.split()).count("Waiting; the submission continues") == 1


def submit(folder: Path, url: str) -> Result:
    path = folder / "students.csv"
    path.write_text("sis_id,name\nS1,Ada\n")
    done = invoke_enroll("submit", str(path), "--broker", url, XDG_STATE_HOME=str(folder))
    assert done.exit_code == UNREACHABLE, done.output
    assert "s3cret" not in done.output
    return done
