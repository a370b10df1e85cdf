"""Every command explains itself: a line in the list, and examples that can be typed."""

import re
import shlex
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from producer.cli import COMMANDS, OPERATOR_LINES, enroll
from support.commands import invoke_enroll


def commands(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for part in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), part)
            assert found is not None
            yield from commands(f"{name} {part}", found)


ALL = dict(commands("enroll", enroll))


def help_of(name: str) -> str:
    done = CliRunner().invoke(enroll, [*name.split()[1:], "--help"], prog_name="enroll")
    assert done.exit_code == 0, done.output
    return done.output


def examples(name: str) -> list[str]:
    """Return the lines of the section of examples, which is the last one."""
    _, _, section = help_of(name).partition("\n  Examples:\n")
    return [line.strip() for line in section.splitlines() if line.strip()]


@pytest.mark.parametrize("name", ALL)
def test_the_help_of_a_command_ends_with_examples_of_it(name: str) -> None:
    lines = examples(name)
    assert lines
    assert all(re.search(r"\benroll ", line) for line in lines)
    assert any(name in line for line in lines)


@pytest.mark.parametrize("name", ALL)
def test_an_example_can_be_typed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tokens.txt").touch()
    for line in examples(name):
        text = re.search(r"enroll [^|>)]*", line)
        assert text is not None
        words = shlex.split(text.group())[1:]
        command: click.Command = enroll
        while isinstance(command, click.Group):
            found = command.get_command(click.Context(command), words.pop(0))
            assert found is not None, line
            command = found
        command.make_context(command.name, words)


def test_an_example_with_a_mistake_is_detected() -> None:
    with pytest.raises(click.UsageError):
        ALL["enroll submit"].make_context("submit", ["--nonsense", "students.csv"])


def test_the_list_of_commands_agrees_with_the_help_of_each_command() -> None:
    listed = help_of("enroll")
    for name in (*COMMANDS, *OPERATOR_LINES):
        first = (ALL[f"enroll {name}"].help or "").split(".")[0]
        line = re.search(rf"^  {name} +(.*)\.$", listed, flags=re.MULTILINE)
        assert line is not None
        assert line.group(1) == first


def test_only_commands_about_dead_letters_speak_of_them_in_their_exit_codes() -> None:
    for name in ALL:
        codes = help_of(name).partition("Exit codes:")[2].partition("Examples:")[0]
        assert ("dead letter" in codes) is (
            name in {f"enroll dead-letters {part}" for part in ("show", "retry", "discard")}
        )


def test_an_unknown_command_is_reported() -> None:
    done = invoke_enroll("sumbit")
    assert done.exit_code == 2
    assert "No such command 'sumbit'" in done.output


def test_every_command_of_the_operator_has_a_line_in_the_list() -> None:
    assert set(OPERATOR_LINES) == set(entry_points(group="enroll.commands").names)
