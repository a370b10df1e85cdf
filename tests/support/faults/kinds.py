"""Define a fault: it strikes at once or lasts a while, needs servers, and shows signs."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from enum import Enum, auto

from producer.client import EnrollmentClient
from support.broker import Broker
from support.fleet import Fleet
from support.pgbouncer import PgBouncer
from support.sentinels import SentinelBroker, Sentinels
from support.standby import PairDatabase


@dataclass
class Scene:
    """What a fault can strike, and what it leaves behind for the comparison at the end."""

    fleet: Fleet
    chance: random.Random
    postgres: PairDatabase | None = None
    pgbouncer: PgBouncer | None = None
    """What some of the workers use to reach PostgreSQL."""
    malformed: set[bytes] = field(default_factory=set)
    """The malformed messages that must have become dead letters."""
    loses_messages: bool = False
    """Whether the broker was made to lose messages, so that they have to be submitted again."""
    silent_lookups: int = 0
    """Lookups that were not answered in time, although they should have been."""

    @property
    def database(self) -> PairDatabase:
        assert self.postgres is not None
        return self.postgres

    @property
    def broker(self) -> Broker:
        assert isinstance(self.fleet.broker, Broker)
        return self.fleet.broker

    @property
    def sentinels(self) -> Sentinels:
        assert isinstance(self.fleet.broker, SentinelBroker)
        return self.fleet.broker.sentinels

    def any_setting(self, **settings: str) -> AbstractContextManager[None]:
        """Set settings for the whole server at once, or for the role and its next sessions."""
        database = self.database
        ways = (database.setting_of_server, database.setting_of_role)
        return self.chance.choice(ways)(**settings)

    def client(self, timeout: float) -> EnrollmentClient:
        return EnrollmentClient(self.fleet.broker.url, timeout=timeout)


class Needs(Enum):
    """What a fault needs besides workers."""

    POSTGRESQL = auto()
    SQLITE = auto()
    PGBOUNCER = auto()
    NAMED_BROKER = auto()
    """A broker that no sentinel watches, with a replica."""
    SENTINELS = auto()


@dataclass(frozen=True)
class Fault:
    """One kind of fault. Inside `strike` it lasts; it is over when that context ends."""

    name: str
    strike: Callable[[Scene], AbstractContextManager[None]]
    signs: frozenset[str]
    """The metrics that rise, and the beginnings of log lines."""
    seconds: tuple[float, float]
    """How long it lasts at least and at most; the time of a strike itself is not counted."""
    needs: Needs | None
    loses_numbers: bool
    """Whether metrics are lost with a worker, or requests come twice."""

    def possible(self, scene: Scene) -> bool:
        match self.needs:
            case None:
                return True
            case Needs.POSTGRESQL:
                return scene.postgres is not None
            case Needs.SQLITE:
                return scene.fleet.database_url.startswith("sqlite")
            case Needs.PGBOUNCER:
                return scene.pgbouncer is not None
            case Needs.NAMED_BROKER:
                return isinstance(scene.fleet.broker, Broker)
            case Needs.SENTINELS:
                return isinstance(scene.fleet.broker, SentinelBroker)


def blow(
    *signs: str, needs: Needs | None = None, loses_numbers: bool = False
) -> Callable[[Callable[[Scene], None]], Fault]:
    """Make a fault of a function that strikes and is done."""

    def make(function: Callable[[Scene], None]) -> Fault:
        @contextmanager
        def strike(scene: Scene) -> Iterator[None]:
            function(scene)
            yield

        return Fault(function.__name__, strike, frozenset(signs), (0, 0), needs, loses_numbers)

    return make


def state(
    *signs: str,
    seconds: tuple[float, float] = (1, 5),
    needs: Needs | None = None,
    loses_numbers: bool = False,
) -> Callable[[Callable[[Scene], Iterator[None]]], Fault]:
    """Make a fault of a generator that begins it, yields while it lasts, and ends it."""

    def make(function: Callable[[Scene], Iterator[None]]) -> Fault:
        strike = contextmanager(function)
        return Fault(function.__name__, strike, frozenset(signs), seconds, needs, loses_numbers)

    return make
