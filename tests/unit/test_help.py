"""Every command explains itself: a line in the list, examples that can be typed, and completion."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from producer.cli import COMMANDS, enroll


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
    """The lines of the section, which is the last one."""
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


def test_an_example_that_cannot_be_typed_would_be_seen() -> None:
    with pytest.raises(click.UsageError):
        ALL["enroll submit"].make_context("submit", ["--nonsense", "students.csv"])


def test_the_list_of_commands_says_what_each_command_says_of_itself() -> None:
    listed = help_of("enroll")
    for name in COMMANDS:
        first = (ALL[f"enroll {name}"].help or "").split(".")[0]
        line = re.search(rf"^  {name} +(.*)\.$", listed, flags=re.MULTILINE)
        assert line is not None
        assert line.group(1).split()[0] == first.split()[0], name


def test_an_unknown_command_is_said() -> None:
    done = CliRunner().invoke(enroll, ["sumbit"])
    assert done.exit_code == 2
    assert "No such command 'sumbit'" in done.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_completion_is_printed(shell: str) -> None:
    done = CliRunner().invoke(enroll, ["completion", shell])
    assert done.exit_code == 0
    assert f"_ENROLL_COMPLETE={shell}_complete" in done.stdout


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["su"], "submit"),
        (["pr"], "prune"),
        (["submit", "--k"], "--kind"),
        (["submit", "--kind", "c"], "courses"),
        (["dead-letters", "re"], "retry"),
        (["completion", ""], "bash zsh fish"),
    ],
)
def test_bash_completes_what_is_typed(typed: list[str], offered: str) -> None:
    words = shlex.join(["enroll", *typed])
    script = f"""
        PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH
        eval "$(enroll completion bash)"
        complete -p enroll >&2 || exit
        COMP_WORDS=({words}); COMP_CWORD={len(typed)}
        _enroll_completion enroll
        echo "${{COMPREPLY[*]}}"
    """
    done = subprocess.run(
        ["bash", "--norc", "-c", script],  # noqa: S607 - whichever bash there is
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout.strip(), "-F _enroll_completion" in done.stderr) == (offered, True)
