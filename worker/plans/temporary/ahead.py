"""Read the chunks of a plan ahead, in threads that look their requests up in its snapshot.

While the plan is made on one connection, the next chunks are looked up on others. This is for speed
alone: whatever was not read ahead, for whatever reason, is read when its turn comes.
"""

import logging
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager, suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, Generic, NamedTuple, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from worker.database.engine import Database
from worker.database.shared_snapshot import SharedSnapshot, shared_connection

log = logging.getLogger(__name__)

S = TypeVar("S")
T = TypeVar("T")

THREADS: Final = 2
"""With more of them, the chunks would only wait for each other: one interpreter runs all."""

DEPTH: Final = 2 * THREADS
"""The most chunks in memory that were read and whose turn has not come."""

FIRST: Final = 4
"""So many chunks are read when their turn comes: a smaller plan is not worth more connections."""

SWITCH_SECONDS: Final = 0.0005
"""How long one thread may keep the interpreter while another one wants it. The plan's own thread
makes many short statements, and would wait after each of them for the usual 5 ms."""

WAIT_SECONDS: Final = 20.0
"""How long the plan waits for a chunk. The server would end the plan's own connection after a
minute without a statement."""


class _Task(NamedTuple, Generic[S, T]):
    item: S
    read: Callable[[Connection, S], T]
    result: "Future[T]"


class ReadAhead:
    """Reads chunks ahead in threads, until reading one fails; then no more are."""

    def __init__(self, database: Database, share: Callable[[], SharedSnapshot | None]) -> None:
        """`share` is called before the threads start; without a snapshot, nothing is read ahead."""
        self._database = database
        self._share = share
        self._tasks: SimpleQueue[_Task[Any, Any] | None] = SimpleQueue()
        self._given = 0
        self._works = True

    def close(self) -> None:
        """Let the threads end, each after what it does now."""
        self._works = False
        for _ in range(THREADS):
            self._tasks.put(None)

    def each(
        self, items: Iterable[S], read: Callable[[Connection, S], T]
    ) -> Iterator[tuple[S, T | None]]:
        """Yield each chunk with what `read` returned for it; None if it was not read ahead."""
        waiting: deque[tuple[S, Future[T] | None]] = deque()
        for item in items:
            waiting.append((item, self._submit(item, read)))
            if not self._works or waiting[0][1] is None or len(waiting) > DEPTH:
                yield self._take(*waiting.popleft())
        while waiting:
            yield self._take(*waiting.popleft())

    def _submit(self, item: S, read: Callable[[Connection, S], T]) -> "Future[T] | None":
        self._given += 1
        if self._given == FIRST + 1:
            self._start()
        if not self._works or self._given <= FIRST:
            return None
        task = _Task(item, read, Future())
        self._tasks.put(task)
        return task.result

    def _start(self) -> None:
        snapshot = self._share()
        self._works = snapshot is not None
        for _ in range(THREADS if snapshot else 0):
            Thread(target=self._run, args=(snapshot,), name="plan-look-up", daemon=True).start()

    def _take(self, item: S, result: "Future[Any] | None") -> tuple[S, Any]:
        if result is None or not (self._works or result.done()):
            return item, None
        try:
            return item, result.result(WAIT_SECONDS)
        except Exception as error:  # noqa: BLE001 - reading it again says what is wrong
            if self._works:
                log.info("Chunks of a plan are not read ahead any more: %r", error)
            self._works = False
            return item, None

    def _run(self, snapshot: SharedSnapshot) -> None:
        """Read chunks until the plan is made; an error belongs to the chunk that was read."""
        with suppress(SQLAlchemyError), ExitStack() as stack:
            connection: Connection | None = None
            while (task := self._tasks.get()) is not None:
                if not self._works:
                    task.result.cancel()
                    continue
                try:
                    if connection is None:
                        opened = shared_connection(self._database, snapshot)
                        connection = stack.enter_context(opened)
                    task.result.set_result(task.read(connection, task.item))
                except Exception as error:  # noqa: BLE001 - the plan reads this chunk itself
                    task.result.set_exception(error)


@contextmanager
def read_ahead(
    database: Database, share: Callable[[], SharedSnapshot | None]
) -> Iterator[ReadAhead]:
    """Read chunks ahead for a while. Raises what `share` raises."""
    ahead = ReadAhead(database, share)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    try:
        yield ahead
    finally:
        sys.setswitchinterval(interval)
        ahead.close()
