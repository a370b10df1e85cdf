"""Stand-ins for the clients, for tests of the programs that use them."""

from contextlib import AbstractContextManager

from producer.aio.client import AsyncEnrollmentClient
from producer.client import EnrollmentClient
from producer.publishing.connection import check_timeout
from producer.request_submitter import FIND
from producer.testing.connection import MemoryBroker, MemoryConnection


class _WithMemory:
    """What the stand-ins add to the clients: their broker and its worker can be taken away."""

    broker: MemoryBroker

    def create_data_set(self, name: str) -> None:
        """Create a data set, as an operator does, so that snapshots may use it."""
        self.broker.create_data_set(name)

    def without_worker(self) -> AbstractContextManager[None]:
        """Take the worker away for a while: requests stay `queued`, and other lookups fail.

        At the end of the `with` block, the worker processes what is queued.
        """
        return self.broker.without_worker()

    def without_broker(self) -> AbstractContextManager[None]:
        """Make the broker unavailable for a while: every method raises BrokerUnavailable."""
        return self.broker.unavailable()


class FakeEnrollmentClient(_WithMemory, EnrollmentClient):
    """An `EnrollmentClient` whose broker, worker and database are in memory.

    It has the verbs, checks and errors of the real one, and decides by the same rules. A request or
    chunk is processed before the verb that publishes it returns, and a plan is made as soon as its
    last chunk is there. Likely causes of unknown ids are not looked for, and no batch is ever
    stalled. `create_data_set` does what the operator's command does; rules cannot be loosened.

    `timeout` is the longest wait for the worker, in seconds: set it to a fraction of a second where
    a test takes the worker away. Clients with the same `broker` see the same data. All other
    arguments are those of the real client, and are ignored.
    """

    def __init__(
        self,
        broker_url: str = FIND,  # noqa: ARG002 - so that it can take the real one's place
        *,
        result_backend_url: str | None = None,  # noqa: ARG002 - the same
        timeout: float = 10.0,
        key_prefix: str | None = None,  # noqa: ARG002 - the same
        broker: MemoryBroker | None = None,
    ) -> None:
        check_timeout(timeout)
        self.broker = broker or MemoryBroker()
        self._use(MemoryConnection(self.broker), timeout)


class FakeAsyncEnrollmentClient(_WithMemory, AsyncEnrollmentClient):
    """An `AsyncEnrollmentClient` whose broker, worker and database are in memory.

    It is to `AsyncEnrollmentClient` what `FakeEnrollmentClient` is to `EnrollmentClient`; both see
    the same data if one is given the `broker` of the other.
    """

    def __init__(
        self,
        broker_url: str = FIND,  # noqa: ARG002 - so that it can take the real one's place
        *,
        result_backend_url: str | None = None,  # noqa: ARG002 - the same
        timeout: float = 10.0,
        key_prefix: str | None = None,  # noqa: ARG002 - the same
        broker: MemoryBroker | None = None,
    ) -> None:
        check_timeout(timeout)
        self.broker = broker or MemoryBroker()
        self._use(MemoryConnection(self.broker), timeout)
