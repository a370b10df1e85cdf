"""Refuse calls of a closed client and wrong flags, and log every call in one line at DEBUG.

The log has ids and times; neither records nor the broker's password are written.
"""

import functools
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from producer.errors import ClientClosed
from producer.publishing.flags import check_flags, flags_of

log = logging.getLogger("producer.client")


class Closable(Protocol):
    """An object whose verbs must not be called once it is closed."""

    @property
    def closed(self) -> bool:
        """Return whether it was closed."""


PUBLISHING = ("submit", "submit_all", "submit_batch", "submit_file", "enroll")
"""The verbs whose arguments hold records; their ids are in the result."""

MAX_SHOWN = 140
"""The most characters of an id in the log."""

C = TypeVar("C", bound=Closable)
P = ParamSpec("P")
R = TypeVar("R")


def verb(method: Callable[Concatenate[C, P], R]) -> Callable[Concatenate[C, P], R]:
    """Make a method raise ClientClosed after `close`, and log each of its calls.

    It raises InvalidRequest for a flag that is neither true nor false.
    """
    name, flags = method.__name__, flags_of(method)

    @functools.wraps(method)
    def call(client: C, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if client.closed:
            raise ClientClosed
        check_flags(flags, kwargs)
        if not log.isEnabledFor(logging.DEBUG):
            return method(client, *args, **kwargs)
        with logged(name, args, kwargs) as results:
            result = method(client, *args, **kwargs)
            results.append(result)
            return result

    return call


@contextmanager
def logged(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Log a call in one line at DEBUG; its result is to be put into the list that is yielded."""
    started = time.perf_counter()
    given = None if name in PUBLISHING else next(iter((*args, *kwargs.values())), None)
    results: list[Any] = []
    try:
        yield results
    except BaseException as error:
        # The message of an error may quote a record.
        _log_call(name, _shown_ids(given), started, type(error).__name__)
        raise
    _log_call(name, _shown_ids(given) or _shown_ids(results[0]), started, "ok")


def _log_call(name: str, ids: str, started: float, outcome: str) -> None:
    milliseconds = (time.perf_counter() - started) * 1000
    log.debug("%s(%s): %s in %.1f ms", name, ids, outcome, milliseconds)


def _shown_ids(value: Any) -> str:
    """Return the ids in an argument or a result; empty if it holds something else."""
    if isinstance(value, str | int):
        return ascii(value)[:MAX_SHOWN]
    if isinstance(value, list | tuple) and value and isinstance(value[0], str | int):
        more = f" and {len(value) - 1} more" if len(value) > 1 else ""
        return ascii(value[0])[:MAX_SHOWN] + more
    for name in ("batch_id", "request_id"):
        if isinstance(found := getattr(value, name, None), str):
            return ascii(found)[:MAX_SHOWN]
    return ""
