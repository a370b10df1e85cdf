"""Read replies of PostgreSQL through libpq, so that other threads run while one waits."""

import select
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from psycopg.pq import ExecStatus

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult


@contextmanager
def closed_on_error(server: "PGconn") -> Iterator[None]:
    """Close the connection if the block fails: replies may be missing, or be left to read."""
    try:
        yield
    except BaseException:
        server.finish()
        raise


def next_reply(server: "PGconn") -> "PGresult | None":
    """Send what is left to send, and wait for a reply; None ends the replies to a statement.

    Raises OperationalError of psycopg if the connection breaks. Whatever interrupts the wait closes
    the connection: its replies would be taken for those to later statements.
    """
    try:
        # libpq would wait as well, but all threads of the process would wait with it.
        while server.flush():
            _wait(server, select.POLLIN | select.POLLOUT)
            server.consume_input()
        while server.is_busy():
            _wait(server, select.POLLIN)
            server.consume_input()
    except BaseException:
        server.finish()
        raise
    return server.get_result()


def replies_in_pipeline(server: "PGconn") -> "list[PGresult]":
    """Wait for the replies to all statements that were sent in a pipeline, in their order.

    Raises what `next_reply` raises.
    """
    replies: list[PGresult] = []
    while True:
        # After the reply to each statement comes None.
        reply = next_reply(server) or next_reply(server)
        if reply is None or reply.status == ExecStatus.PIPELINE_SYNC:
            return replies
        replies.append(reply)


def _wait(server: "PGconn", events: int) -> None:
    poll = select.poll()
    poll.register(server.socket, events)
    poll.poll()
