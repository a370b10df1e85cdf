"""Run the sessions that README and docs show, with the embedded stack that their reader has."""

import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis import Redis
from rich.text import Text

from producer.embedded import stack
from support.commands import clean_environment, run_program
from support.paths import BIN, ROOT
from support.waiting import wait_for

README = "README.md"
DOCUMENTS = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
}
"""The text of every page, by its path."""

PAGES = (
    README,
    "docs/submitting.md",
    "docs/registrars.md",
    "docs/command-line.md",
    "docs/operations/watching.md",
    "docs/operations/dead-letters.md",
    "docs/operations/retention.md",
    "docs/operations/data-sets.md",
    "docs/operations/undo.md",
)
"""The pages with sessions, in the order in which a reader meets them."""

OPERATOR_PAGES = (
    "docs/operations/dead-letters.md",
    "docs/operations/retention.md",
    "docs/operations/data-sets.md",
    "docs/operations/undo.md",
)
"""Pages whose reader has set ENROLL_DATABASE_URL."""

_VARYING = (
    (r"[0-9a-f]{32}", "ID"),
    (r"/\S+/enrollment\.db", "FILE"),
    (r"identity [0-9a-f]{8}, number \d+", "IDENTITY"),
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?( UTC|Z)?", "TIME"),
    (r"127\.0\.0\.1:\d+", "ADDRESS"),
    (r"\d+(\.\d+)? (ms|MiB|GiB)\b", r"N \2"),
    (r"valkey [\d.]+", "valkey N"),
)


@dataclass(frozen=True)
class Step:
    """A command of a session, with what the page says that it prints."""

    page: str
    command: str
    expected: str


def blocks(page: str, language: str) -> list[str]:
    """Return the code blocks of a page that are in this language."""
    form = rf"^( *)```{language}\n(.*?)^ *```"
    found = re.findall(form, DOCUMENTS[page], flags=re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def all_blocks(page: str) -> list[tuple[str, str]]:
    """Return all code blocks of a page in reading order, each with its language."""
    form = r"^```(\w+)\n(.*?)^```"
    return re.findall(form, DOCUMENTS[page], flags=re.MULTILINE | re.DOTALL)


def steps(page: str) -> Iterator[Step]:
    """Return the steps of the sessions that a page shows."""
    for block in blocks(page, "console"):
        yield from steps_of(page, block)


def steps_of(page: str, block: str) -> Iterator[Step]:
    """Return the steps of one session."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)[1:]
    for command, expected in zip(parts[::2], parts[1::2], strict=True):
        yield Step(page, command, expected)


def normal(text: str) -> str:
    """Return the output of a session without the parts that differ each time."""
    for pattern, name in _VARYING:
        text = re.sub(pattern, name, text)
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


class Reader:
    """A reader who types the commands of the pages, in a folder with the example files."""

    def __init__(self, folder: Path, broker_url: str, database_url: str) -> None:
        self.folder = folder
        self.broker_url = broker_url
        self.environment = clean_environment() | {
            "ENROLL_BROKER_URL": broker_url,
            "XDG_STATE_HOME": str(folder / "state"),
            "PATH": f"{BIN}:{os.environ['PATH']}",
        }
        self._operator = {"ENROLL_DATABASE_URL": database_url}

    def submit_rosters(self) -> None:
        """Do what the README says to do before its session."""
        (script,) = (block for block in blocks(README, "sh") if "cd docs/examples" in block)
        for line in script.splitlines():
            if line.startswith("enroll "):
                self.run(README, line)

    def run(self, page: str, command: str, **more: str) -> str:
        """Run a command and return its standard output."""
        words = shlex.split(command)
        if words[0] == "redis-cli":
            return self._redis(words[1:])
        operator = self._operator if page in OPERATOR_PAGES else {}
        done = run_program(*words, env=self.environment | operator | more, cwd=self.folder)
        assert done.returncode in (0, 1), command + done.stderr
        return done.stdout

    def _redis(self, words: list[str]) -> str:
        """Act as `redis-cli`, which no wheel contains; then wait until a dead letter is stored."""
        with Redis.from_url(self.broker_url) as redis:
            reply = redis.execute_command(*words)
            list_letters = "enroll dead-letters list --json"
            wait_for(lambda: bool(self.run(OPERATOR_PAGES[0], list_letters)))
        return f"(integer) {reply}\n"


@contextmanager
def reader(folder: Path) -> Iterator[Reader]:
    """Start the embedded stack, and yield a reader who has just submitted the rosters."""
    shutil.copytree(ROOT / "docs" / "examples", folder / "examples")
    with stack.running(folder / "stack") as running:
        database_url = f"sqlite:///{folder / 'stack' / 'enrollment.db'}"
        made = Reader(folder / "examples", running.broker_url, database_url)
        made.submit_rosters()
        yield made


def play(made: Reader, see: Callable[[Step, str], None]) -> None:
    """Type all steps of all pages; `see` gets each with what it printed, in colors."""
    for page in PAGES:
        for step in steps(page):
            see(step, made.run(page, step.command, FORCE_COLOR="1", COLUMNS="200"))


def without_colors(printed: str) -> str:
    """Return the text in the form in which a page shows it."""
    lines = Text.from_ansi(printed).plain.splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines)
