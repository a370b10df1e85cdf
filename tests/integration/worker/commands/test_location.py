"""The operator's commands find the database of `enroll up`, and say which one they use."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from producer.contract.stack_folder import StackState
from producer.embedded.folder import locked_folder, write_state
from support.commands import GOOD, UNREACHABLE, USAGE, invoke_enroll
from support.operator import keep_requests
from support.valkey import free_port
from worker.database.engine import Database

COMMANDS = (
    ["batches"],
    ["prune", "--older-than", "1d", "--yes"],
    ["dead-letters", "list"],
    ["dead-letters", "show", "1"],
    ["dead-letters", "retry", "--all"],
    ["dead-letters", "discard", "1", "--yes"],
)


@contextmanager
def stack(folder: Path, template: Path, url: str) -> Iterator[Path]:
    """A folder as that of a running `enroll up`, with a database in which a dead letter lies."""
    with locked_folder(folder, print):
        write_state(folder, StackState(url))
        shutil.copy(template, folder / "enrollment.db")
        database = Database(f"sqlite:///{folder / 'enrollment.db'}")
        keep_requests(database, f"letter of {folder.name}")
        database.close()
        yield folder


def run(*arguments: str, expect: int = GOOD, **variables: str) -> tuple[str, str]:
    """Return the output and the messages of a command."""
    none = dict.fromkeys(("ENROLL_DATABASE_URL", "ENROLL_BROKER_URL", "ENROLL_FOLDER"))
    done = invoke_enroll(*arguments, **none | variables)
    assert done.exit_code == expect, done.output
    return done.stdout, " ".join(done.stderr.split())


@pytest.fixture
def url() -> str:
    return f"redis://:secret@127.0.0.1:{free_port()}/0"


@pytest.fixture
def found(
    tmp_path: Path, sqlite_template: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """The folder of a stack that runs above the working folder."""
    below = tmp_path / "below"
    below.mkdir()
    monkeypatch.chdir(below)
    with stack(tmp_path / ".enroll", sqlite_template, url) as folder:
        yield folder


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_finds_the_database(
    found: Path, command: list[str], shared_valkey: str
) -> None:
    write_state(found, StackState(shared_valkey))  # Some of them remove copies of results.
    # The retry is refused, because the roster is empty, and that is its result.
    assert f"Using the database of `enroll up` in {found}." in run(*command)[1]
    assert run(*command, "--folder", str(found.parent / "none"), expect=USAGE)


def listed(*arguments: str, **variables: str) -> str:
    return run(*arguments, expect=GOOD, **variables)[0]


def test_the_option_comes_first_then_the_variables_then_a_found_folder(
    found: Path, tmp_path: Path, sqlite_template: Path, url: str
) -> None:
    letters = ("dead-letters", "list")
    with (
        stack(tmp_path / "named", sqlite_template, url) as named,
        stack(tmp_path / "variable", sqlite_template, url) as variable,
        stack(tmp_path / "database", sqlite_template, url) as database,
    ):
        by_folder = {"ENROLL_FOLDER": str(variable)}
        by_url = {"ENROLL_DATABASE_URL": f"sqlite:///{database / 'enrollment.db'}"}
        assert "letter of .enroll" in listed(*letters)
        assert "letter of variable" in listed(*letters, **by_folder)
        assert "letter of database" in listed(*letters, **by_folder, **by_url)
        option = ("--folder", str(named))
        assert "letter of named" in listed(*letters, *option, **by_folder, **by_url)
        assert "letter of named" in listed(*option, *letters, **by_folder, **by_url)
        assert "Using" not in run(*letters, *option)[1]


def test_the_data_of_a_stopped_stack_are_found(
    tmp_path: Path, sqlite_template: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with stack(tmp_path / ".enroll", sqlite_template, url):
        pass
    assert "letter of .enroll" in listed("dead-letters", "list")


def test_a_folder_that_was_only_found_does_not_join_another_broker(found: Path, url: str) -> None:
    same, other = {"ENROLL_BROKER_URL": url}, {"ENROLL_BROKER_URL": "redis://:secret@h:1/0"}
    assert "letter of .enroll" in listed("dead-letters", "list", **same)
    for variables in (other, other | {"ENROLL_FOLDER": str(found)}):
        _, printed = run("prune", "--older-than", "1d", expect=USAGE, **variables)
        assert "ENROLL_DATABASE_URL: is not set, but ENROLL_BROKER_URL is" in printed
        assert f"does not name the broker of the `enroll up` in {found}" in printed
        assert "secret" not in printed
    assert "letter of .enroll" in listed("dead-letters", "list", "--folder", str(found), **other)


def test_what_another_user_may_have_written_is_not_used(found: Path) -> None:
    found.chmod(0o777)
    for options in ([], ["--folder", str(found)]):
        _, printed = run("batches", *options, expect=USAGE)
        assert f"Other users can write to {found}." in printed


def test_where_nothing_is_found_the_error_names_the_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _, printed = run("batches", expect=USAGE)
    assert (
        "ENROLL_DATABASE_URL: is not set. Set it, or name the folder of an `enroll up`" in printed
    )
    assert (
        "The order is: --folder, ENROLL_DATABASE_URL, ENROLL_FOLDER, an `enroll up` in" in printed
    )
    folder = tmp_path / "new"
    folder.mkdir(0o700)
    _, printed = run("batches", "--folder", str(folder), expect=USAGE)
    assert f"There is no database in {folder}. Make one: enroll up --folder {folder}" in printed
    assert list(folder.iterdir()) == []


def test_the_redis_of_the_folder_belongs_to_its_database(found: Path, url: str) -> None:
    _, printed = run("database", "show", expect=UNREACHABLE)
    assert "cannot be used" in printed
    assert url.partition("@")[2].partition("/")[0] in printed
    (found / "lock").unlink()
    assert "No `enroll up` is running in" in run("database", "show", expect=USAGE)[1]
