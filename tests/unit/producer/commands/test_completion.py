"""Completion: the script for each shell, and what bash offers."""

import shlex

import pytest

from support.commands import invoke_enroll, run_program
from support.paths import BIN


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_completion_is_printed(shell: str) -> None:
    done = invoke_enroll("completion", shell)
    assert done.exit_code == 0
    assert f"_ENROLL_COMPLETE={shell}_complete" in done.stdout


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["su"], "submit"),
        (["pr"], "prune"),
        (["submit", "--ki"], "--kind"),
        (["submit", "--kind", "c"], "courses"),
        (["dead-letters", "re"], "retry"),
        (["completion", ""], "bash zsh fish"),
    ],
)
def test_bash_completes_what_is_typed(typed: list[str], offered: str) -> None:
    words = shlex.join(["enroll", *typed])
    script = f"""
        PATH={shlex.quote(str(BIN))}:$PATH
        eval "$(enroll completion bash)"
        complete -p enroll >&2 || exit
        COMP_WORDS=({words}); COMP_CWORD={len(typed)}
        _enroll_completion enroll
        echo "${{COMPREPLY[*]}}"
    """
    done = run_program("bash", "--norc", "-c", script)
    assert (done.stdout.strip(), "-F _enroll_completion" in done.stderr) == (offered, True)
