"""Define the exit codes of all commands, and the lines about them in every help text.

Scripts depend on them. The rule stands here, because the operator's commands, which are the
worker's, follow the same one.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended; if several codes apply, the highest one."""

    DONE = 0
    """The command did what it was asked to do, and all that it reports is in order."""
    REFUSED = 1
    """Something that the command reports was refused, is unknown, failed or is wrong."""
    USAGE = 2
    """The command line, a setting or a file is wrong; nothing was done."""
    UNREACHABLE = 3
    """The broker, a worker or the database cannot be used, or did not answer in time."""
    CANNOT_FINISH = 4
    """A batch cannot finish unless somebody acts."""
    HELD = 5
    """A submission waits for a decision: nothing is wrong, and nothing is applied yet."""
    INTERRUPTED = 130
    """The command was interrupted with Ctrl-C."""


def exit_codes(
    *,
    done: str = "done",
    refused: str | None = None,
    usage: str = "wrong usage or settings",
    unreachable: str | None = None,
    cannot_finish: str | None = None,
    held: str | None = None,
    interrupted: str | None = "interrupted",
) -> str:
    """Return the part of a command's help that says what each of its exit codes means there."""
    meanings = {
        ExitCode.DONE: done,
        ExitCode.REFUSED: refused,
        ExitCode.USAGE: usage,
        ExitCode.UNREACHABLE: unreachable,
        ExitCode.CANNOT_FINISH: cannot_finish,
        ExitCode.HELD: held,
        ExitCode.INTERRUPTED: interrupted,
    }
    lines = [f"  {code:d} {meaning}" for code, meaning in meanings.items() if meaning]
    return "\n".join(["\n\n\b", "Exit codes:", *lines, ""])
