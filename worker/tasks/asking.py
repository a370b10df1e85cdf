"""Answer lookups: check arguments, wait for the database, explain what cannot be answered."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import signature
from typing import Any, ClassVar, TypeVar

from celery import Celery, Task, current_task
from pydantic import TypeAdapter
from sqlalchemy.exc import DBAPIError

from producer.contract import lookup_arguments as arguments
from producer.contract.lookup_arguments import InvalidArgument
from worker.answer_size import AnswerTooLarge
from worker.database.errors import is_answer, is_lock, is_outage, sentence_of
from worker.messaging import plugins
from worker.messaging.result_backend import OUT_OF_MEMORY
from worker.plain_text import first_line
from worker.roster import lookups as search
from worker.tasks.answer import to_json
from worker.tasks.services import Services

log = logging.getLogger(__name__)
T = TypeVar("T")

LOOKUP_WAIT = 3.0
"""Seconds that a lookup waits for an unavailable database: a client is waiting, too."""

MAX_LOOKUP_AGE = 600.0
"""Seconds after which a lookup without `expires` is not answered: no client waits any more."""


class Unanswerable(Exception):
    """A lookup cannot be answered. The message is for the client."""


class LookupTask(Task):
    """A task that answers a lookup, unless it waited or failed too often or needs too much memory.

    Raises Unanswerable.
    """

    Request = plugins.REQUEST
    Strategy = plugins.LOOKUP_STRATEGY
    services: ClassVar[Services]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        _check_age(self.request.properties, self.request.expires)
        _check_arguments(self.run, args, kwargs)
        task_id = self.request.id
        attempts = self.services.attempts
        try:
            if attempts.begin([task_id]):
                raise Unanswerable("workers died while answering it; ask for fewer ids at a time")
            return self.run(*args, **kwargs)
        except MemoryError:
            # A connection may have been interrupted in the middle of a reply.
            self.services.database.close()
            raise Unanswerable(OUT_OF_MEMORY) from None
        finally:
            attempts.end([task_id])


def _check_arguments(
    answer: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> None:
    """Check that a lookup has the arguments that its task takes. Raises Unanswerable."""
    try:
        signature(answer).bind(*args, **kwargs)
    except TypeError as error:
        # The error may name an argument of the client, which may be as long as a message.
        raise Unanswerable(f"the arguments do not fit this lookup: {first_line(error)}") from None


def _check_age(properties: Any, expires: Any) -> None:
    """Check that a client may still wait. Raises Unanswerable."""
    # Celery itself drops what has expired.
    age = 0.0 if expires is not None else _age(properties)
    if age > MAX_LOOKUP_AGE:
        raise Unanswerable(
            f"the lookup is {age:.0f} s old by the worker's clock, and after {MAX_LOOKUP_AGE:.0f} s"
            " no lookup is answered; send it again, and compare the clocks if that does not help"
        )


def _age(properties: Any) -> float:
    """Return the seconds since a message was sent; 0 if that is not known."""
    sent_at: Any = (properties or {}).get("timestamp")
    now = time.time()
    is_time = type(sent_at) in (int, float) and 0 < sent_at <= now
    return now - sent_at if is_time else 0.0


def is_too_old(properties: Any) -> bool:
    """Return whether a client does not wait any more for the answer to a message."""
    return _age(properties) > MAX_LOOKUP_AGE


def registering(app: Celery, services: Services) -> Callable[..., Any]:
    """Return the decorator that registers a task that answers a lookup."""
    return partial(
        app.task,
        shared=False,
        base=LookupTask,
        services=services,
        reject_on_worker_lost=False,  # A lookup that kills its process is not tried again.
        throws=(Unanswerable,),
    )


def answered(services: Services, work: Callable[[], Any]) -> Any:
    """Run a lookup and return its answer as JSON. Raises Unanswerable."""
    started = time.perf_counter()
    try:
        answer = to_json(services.retry_policy.through_outage(work, LOOKUP_WAIT))
    except (AnswerTooLarge, search.SearchTooLong) as error:
        raise Unanswerable(str(error)) from None
    except DBAPIError as error:
        if not is_outage(error):
            log.exception("The lookup %s failed", current_task.request.task)
        raise Unanswerable(_why_unread(error)) from None
    task = current_task.request
    services.events.looked_up(task.task, task.id, time.perf_counter() - started)
    return answer


def _why_unread(error: DBAPIError) -> str:
    """Return why the database could not be read, for the client.

    Any client may read the server's own sentence, but the driver's names hosts and users.
    """
    why = f" ({sentence_of(error)})" if is_answer(error) else ""
    if is_lock(error):
        why = f", because it is busy: another session holds a lock{why}"
    return f"the database could not be read{why}; try again later"


def checked(adapter: TypeAdapter[T], value: Any, name: str) -> T:
    """Return an argument of a lookup. Raises Unanswerable."""
    try:
        return arguments.checked(adapter, value, name)
    except InvalidArgument as error:
        raise Unanswerable(str(error)) from None
