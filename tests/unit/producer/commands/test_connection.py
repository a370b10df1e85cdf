"""Which broker a command uses: the order, and options before and after the command's name.

No broker runs here: the error says which one was tried.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from producer.contract.stack_folder import StackState
from producer.embedded.folder import locked_folder, write_state
from support.commands import UNREACHABLE, USAGE, invoke_enroll
from support.valkey import free_port

FAST = ("--timeout", "0.1")


class Brokers:
    """A free port for each name, so that an error tells which URL was used."""

    def __init__(self) -> None:
        self.ports: dict[str, int] = {}

    def url(self, name: str) -> str:
        port = self.ports.setdefault(name, free_port())
        return f"redis://:secret-{name}@127.0.0.1:{port}/0"

    def used_by(self, *arguments: str, **variables: str | None) -> str:
        """Return the name of the broker that a command tries to reach."""
        none: dict[str, str | None] = dict.fromkeys(
            ("ENROLL_BROKER_URL", "ENROLL_FOLDER", "ENROLL_RESULT_BACKEND_URL")
        )
        done = invoke_enroll(*arguments, **none | variables)
        assert done.exit_code == UNREACHABLE, done.output
        assert "secret-" not in done.output
        (port,) = set(re.findall(r"127\.0\.0\.1:(\d+)", done.output))
        return next(name for name, own in self.ports.items() if own == int(port))


@pytest.fixture
def brokers() -> Brokers:
    return Brokers()


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: one below that of a stack that may run."""
    folder = tmp_path / "here" / "below"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder)
    return folder


@contextmanager
def running(folder: Path, url: str, key_prefix: str = "") -> Iterator[Path]:
    with locked_folder(folder, print):
        write_state(folder, StackState(url, key_prefix))
        yield folder


def test_the_option_comes_first_then_the_variables_then_a_found_folder(
    tmp_path: Path, brokers: Brokers
) -> None:
    for name in ("option", "variable"):
        brokers.url(name)
    with (
        running(tmp_path / "here" / ".enroll", brokers.url("found")),
        running(tmp_path / "named", brokers.url("named")) as named,
        running(tmp_path / "in variable", brokers.url("in-variable")) as in_variable,
    ):
        option, folder = ("--broker", brokers.url("option")), ("--folder", str(named))
        variable = {"ENROLL_BROKER_URL": brokers.url("variable")}
        by_folder = {"ENROLL_FOLDER": str(in_variable)}
        status = ("status", "x", *FAST)
        assert brokers.used_by(*status) == "found"
        assert brokers.used_by(*status, **by_folder) == "in-variable"
        assert brokers.used_by(*status, **by_folder, **variable) == "variable"
        assert brokers.used_by(*status, *folder, **by_folder, **variable) == "named"
        assert brokers.used_by(*status, *option, **by_folder, **variable) == "option"
        assert brokers.used_by(*folder, *status, **by_folder, **variable) == "named"
        assert brokers.used_by(*option, *status, **by_folder, **variable) == "option"
        # The other variables belong to another deployment.
        other = {"ENROLL_RESULT_BACKEND_URL": "redis://127.0.0.1:1/0", "ENROLL_KEY_PREFIX": "x:"}
        assert brokers.used_by(*status, *folder, **other) == "named"
        assert brokers.used_by(*status, **other) == "found"


def refusal(*arguments: str, **variables: str | None) -> str:
    done = invoke_enroll(*arguments, **variables)
    assert done.exit_code == USAGE, done.output
    return " ".join(done.stderr.split())


def test_where_nothing_is_found_the_error_names_the_order(tmp_path: Path) -> None:
    nothing = dict.fromkeys(("ENROLL_BROKER_URL", "ENROLL_FOLDER"))
    message = refusal("status", "x", **nothing)
    assert "pass --broker or set ENROLL_BROKER_URL, or run `enroll up` in this folder" in message
    assert (
        "The order is: --broker or --folder, ENROLL_BROKER_URL, ENROLL_FOLDER, a running" in message
    )
    message = refusal("status", "x", "--folder", str(tmp_path), **nothing)
    assert (
        f"No `enroll up` is running in {tmp_path}. Start it: enroll up --folder {tmp_path}"
        in message
    )
    assert "cannot be used" in refusal("status", "x", ENROLL_BROKER_URL=None, ENROLL_FOLDER="none")
    with running(tmp_path / "here" / ".enroll", "redis://127.0.0.1:1/0") as folder:
        (folder / "enrollment.db").touch()
        folder.chmod(0o702)
        assert f"Ignored: Other users can write to {folder}." in refusal("status", "x", **nothing)
        folder.chmod(0o700)
    assert f"No `enroll up` is running in {folder}." in refusal("status", "x", **nothing)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--broker", "A", "status", "x", "--broker", "B"],
        ["status", "x", "--broker", "A", "--broker", "B"],
        ["--broker", "A", "--broker", "B", "status", "x"],
        ["--timeout", "1", "status", "x", "--timeout", "2"],
        ["--key-prefix", "a:", "status", "x", "--key-prefix", "b:"],
        ["--folder", "a", "status", "x", "--folder", "b"],
        ["--folder", "a", "dead-letters", "list", "--folder", "b"],
        ["--result-backend", "A", "student", "x", "--result-backend", "B"],
        ["--key-prefix", "a:", "up", "--key-prefix", "b:"],
    ],
)
def test_different_values_in_two_places_are_an_error(
    arguments: list[str], brokers: Brokers
) -> None:
    given = [brokers.url(word) if word in ("A", "B") else word for word in arguments]
    message = refusal(*given)
    assert "is given twice, with different values; give it once." in message
    assert "secret-" not in message


def test_the_same_value_in_two_places_is_none(brokers: Brokers) -> None:
    broker = ("--broker", brokers.url("option"))
    arguments = (*broker, "--timeout", "0.1", "status", "x", *broker, "--timeout", "0.10")
    assert brokers.used_by(*arguments) == "option"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--broker", "A", "schema", "json"], "`enroll schema` has no option --broker."),
        (["--timeout", "1", "prune"], "`enroll prune` has no option --timeout."),
        (["--broker", "A", "dead-letters", "list"], "`enroll dead-letters` has no option --broker"),
        (["--broker", "A", "up"], "`enroll up` has no option --broker."),
        (["--timeout", "1", "wait", "x"], "--timeout means something else in `enroll wait`; write"),
        (["--timeout", "0", "status", "x"], "Invalid value for '--timeout'"),
        (["status", "x", "--folder", "f", "--broker", "A"], "either --broker or --folder"),
        (["--broker", "A", "status", "x", "--folder", "f"], "either --broker or --folder"),
        (["--broker"], "requires an argument"),
    ],
)
def test_an_option_that_cannot_count_is_an_error(arguments: list[str], words: str) -> None:
    assert words in refusal(*arguments)


def test_parts_of_another_connection_do_not_fit_a_folder(tmp_path: Path, brokers: Brokers) -> None:
    with running(tmp_path / "named", brokers.url("named"), "mine:") as named:
        folder = ("status", "x", "--folder", str(named), *FAST)
        assert "which is 'mine:'. Leave the option out" in refusal(*folder, "--key-prefix", "x:")
        assert brokers.used_by(*folder, "--key-prefix", "mine:") == "named"
        assert "leave --result-backend out" in refusal(*folder, "--result-backend", "redis://h/0")


def test_doctor_names_a_folder_that_is_not_trusted(tmp_path: Path, brokers: Brokers) -> None:
    with (
        running(tmp_path / ".enroll", brokers.url("found")),
        running(tmp_path / "here" / ".enroll", brokers.url("untrusted")) as untrusted,
    ):
        (untrusted / "stack.json").chmod(0o666)
        variables = dict.fromkeys(("ENROLL_BROKER_URL", "ENROLL_FOLDER"))
        done = invoke_enroll("doctor", "--json", *FAST, **variables)
        first, second = map(json.loads, done.stdout.splitlines()[:2])
        assert (first["check"], first["state"]) == ("folder", "warning")
        assert f"Other users can write to {untrusted / 'stack.json'}" in first["found"]
        assert "--folder FOLDER" in first["remedy"]
        assert str(brokers.ports["found"]) in second["found"]
