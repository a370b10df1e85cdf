"""Name the keys in Redis: every key that this project reads or writes is named here.

The prefix of a deployment stands before each name, so that several deployments can share one
database of one Redis. It is what kombu calls `global_keyprefix`; by default it is empty.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

MAX_PREFIX: Final = 64
"""The largest number of characters of a key prefix."""

PRIORITIES: Final = range(1, 10)
"""The priorities that have a list of their own in kombu; 0, the default, is the queue itself."""

SEPARATORS: Final = ("\x06\x16", ":")
"""What stands between a queue and a priority: kombu's own text, or the one that Celery's
documentation shows for the option `sep`."""

KNOWS_DROPS: Final = "drops"
"""A word in the value of a worker's key `alive`, after its version and host: it knows drops."""

_INTAKE = "enrollment.intake"
_CACHED = "enrollment.cached."
_REQUEST = "enrollment:request:"
_BATCH = "enrollment:batch:"
_OWNER = "enrollment:owner:"
_RESULT = "celery-task-meta-"
_KOMBU = "_kombu.binding"

# A separator at the end, because Celery's result backend would otherwise add one of its own.
_VALID_PREFIX = re.compile(r"([A-Za-z0-9:._/-]*[:._-])?")


def check_key_prefix(prefix: str) -> str:
    """Return the prefix if it is valid. Raises ValueError.

    Deployments with different valid prefixes never use the same key.
    """
    if len(prefix) > MAX_PREFIX or not _VALID_PREFIX.fullmatch(prefix):
        raise ValueError(
            f"A key prefix has at most {MAX_PREFIX} characters, which are letters, digits and"
            " : . _ - /, and ends with one of : . _ - (for example enroll-test:)"
        )
    for name in (_INTAKE, _CACHED, _REQUEST, _BATCH, _OWNER, _RESULT, _KOMBU):
        if name in prefix:
            raise ValueError(
                f"A key prefix must not contain {name}, because names of our keys begin with it;"
                " choose another prefix"
            )
    return prefix


def count_waiting(replies: Sequence[Any]) -> int:
    """Return how many messages wait in a queue, from the replies to LLEN of each of its lists.

    An error in place of the first reply is raised. The others may be errors: older rules of a
    Redis user do not allow these lists.
    """
    own, *priorities = replies
    if isinstance(own, Exception):
        raise own
    return int(own) + sum(count for count in priorities if isinstance(count, int))


class Owned(StrEnum):
    """What the HTTP front remembers the caller of."""

    REQUEST = "request"
    BATCH = "batch"


OWNER_SECONDS: Final = 30 * 24 * 3600
"""How long it remembers that, in seconds."""


@dataclass(frozen=True)
class Keys:
    """The names of the keys of one deployment. Raises ValueError for an invalid prefix."""

    prefix: str = ""

    def __post_init__(self) -> None:
        check_key_prefix(self.prefix)

    def queue(self, queue: str) -> str:
        """Return the list into which clients publish the messages of a queue."""
        return self.prefix + queue

    def priorities(self, queue: str) -> list[str]:
        """Return the lists into which Celery clients publish with a priority, the highest first.

        Workers move these messages to the queue.
        """
        return [self.queue(f"{queue}{sep}{n}") for n in PRIORITIES for sep in SEPARATORS]

    def waiting(self, queue: str) -> list[str]:
        """Return all lists in which messages of a queue wait, the queue itself first."""
        return [self.queue(queue), *self.priorities(queue)]

    def result(self, task_id: str) -> str:
        """Return the result key of a task, as Celery's Redis backend names it."""
        return f"{self.prefix}{_RESULT}{task_id}"

    def request(self, request_id: str) -> str:
        """Return the key of a request's `SubmissionMark`."""
        return f"{self.prefix}{_REQUEST}{request_id}"

    def batch(self, batch_id: str) -> str:
        """Return the key of a batch's `SubmissionMark`; a request may have the same id."""
        return f"{self.prefix}{_BATCH}{batch_id}"

    def owner(self, what: Owned, identity: str) -> str:
        """Return the key that says who submitted a request or batch over HTTP."""
        return f"{self.prefix}{_OWNER}{what}:{identity}"

    def intake(self, *parts: str) -> str:
        """Return a key that submitters never use.

        The keys of slots, of leases and of the registered database begin with it.
        """
        return ".".join((f"{self.prefix}{_INTAKE}", *parts))

    def cached_request(self, request_id: str) -> str:
        """Return the key of the cached state of a request; only workers write it."""
        return f"{self.prefix}{_CACHED}request.{request_id}"

    def cached_batch(self, batch_id: str) -> str:
        """Return the key of the cached status of a batch; only workers write it."""
        return f"{self.prefix}{_CACHED}batch.{batch_id}"

    @property
    def generation(self) -> str:
        """Return the key of the generation of cached copies; copies of another one do not count."""
        return f"{self.prefix}{_CACHED}generation"

    @property
    def outage(self) -> str:
        """Return the key of the reason why work waits."""
        return f"{self.prefix}enrollment.outage"

    @property
    def attempts(self) -> str:
        """Return the hash that counts failed attempts by task id."""
        return self.intake("attempts")

    @property
    def database(self) -> str:
        """Return the hash in which workers register their database."""
        return self.intake("database")

    @property
    def takers(self) -> str:
        """Return the set of those that take messages, each `WORKER/NUMBER`."""
        return self.intake("takers")

    def alive(self, instance: str) -> str:
        """Return the key that a worker renews: its version and host, or 1 of an older version."""
        return self.intake("alive", instance)

    def running(self, instance: str) -> str:
        """Return the hash with the ids of the tasks that a worker is executing."""
        return self.intake("running", instance)
