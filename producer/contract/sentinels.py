"""Ask Redis Sentinel which server is the master."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, ConnectionError, RedisError  # noqa: A004
from redis.retry import Retry

from producer.contract.broker_url import SentinelAddress

SENTINEL_TIMEOUT = 1.0
"""Seconds to wait for the connection to a sentinel, and for each of its replies.

After that, the next sentinel is asked.
"""


class SentinelReply(NamedTuple):
    """The reply of one sentinel: the master's address, or None and the reason why there is none."""

    sentinel: str
    master: tuple[str, int] | None
    problem: str = ""
    unknown: bool = False
    """Whether the sentinel answered, but does not know the name of the master."""


def describe_problems(replies: Iterable[SentinelReply]) -> str:
    """Return the problems in one line, each with the sentinels that have it."""
    sentinels: dict[str, list[str]] = {}
    for reply in replies:
        if reply.problem:
            sentinels.setdefault(reply.problem, []).append(reply.sentinel)
    return "; ".join(f"{', '.join(names)}: {problem}" for problem, names in sentinels.items())


class MasterLookup:
    """Finds the master through sentinels, beginning with the one that answered last.

    It keeps no connections open, so threads and processes may share a lookup.
    """

    def __init__(self, address: SentinelAddress) -> None:
        self._name = address.master_name
        self._sentinels = address.sentinels
        self._first = 0

    def __call__(self) -> tuple[str, int]:
        """Return the host and port of the master. Raises ConnectionError."""
        replies = []
        start = self._first
        for number in range(start, start + len(self._sentinels)):
            reply = self._ask(self._sentinels[number % len(self._sentinels)])
            if reply.master is not None:
                self._first = number % len(self._sentinels)
                return reply.master
            replies.append(reply)
        problems = describe_problems(replies)
        if any(reply.unknown for reply in replies):
            raise ConnectionError(
                f"No sentinel knows the master {self._name} ({problems}). Correct master_name in"
                " the URL: it is the NAME in the line `sentinel monitor NAME …` of the sentinels"
            )
        raise ConnectionError(f"No sentinel names the master ({problems})")

    def ask_another(self) -> None:
        """Begin with another sentinel next time, because this one may have named a lost master."""
        self._first = (self._first + 1) % len(self._sentinels)

    def ask_all(self) -> Iterator[SentinelReply]:
        """Yield what each sentinel says."""
        return map(self._ask, self._sentinels)

    def _ask(self, url: str) -> SentinelReply:
        name = urlsplit(url).netloc.rpartition("@")[2]
        sentinel = Redis.from_url(
            url,
            socket_timeout=SENTINEL_TIMEOUT,
            socket_connect_timeout=SENTINEL_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            decode_responses=True,
        )
        try:
            with sentinel:
                master: Any = sentinel.sentinel_get_master_addr_by_name(self._name)
                known = "" if master else self._known(sentinel)
        except AuthenticationError:
            remedy = "write the sentinels' own password into the URL as sentinel_password"
            return SentinelReply(name, None, f"the password is wrong or missing; {remedy}")
        except (RedisError, OSError) as error:
            if "unknown command" in str(error):
                return SentinelReply(name, None, "this is not a sentinel")
            return SentinelReply(name, None, str(error).rstrip("."))
        if master is None:
            return SentinelReply(name, None, f"it knows {known}", unknown=True)
        return SentinelReply(name, (str(master[0]), int(master[1])))

    def _known(self, sentinel: "Redis") -> str:
        with suppress(RedisError, OSError):
            masters: Any = sentinel.sentinel_masters()
            return ", ".join(sorted(masters)) or "none"
        return "others"
