"""List our classes that Celery and kombu load by name.

Those of the client stand in `producer.publishing.app`, and that of both sides in
`producer.contract.own_celery`.
"""

from typing import Final

TRANSPORT: Final = "worker.messaging.transport:Transport"
"""`broker_transport`: moves messages within Redis, so that none is lost with its worker."""

CONSUMER: Final = "worker.messaging.consumer:ValidatingConsumer"
"""`worker_consumer`: checks every message before anything trusts it."""

REQUEST: Final = "worker.messaging.consumer:CountedRequest"
"""`Task.Request`: counts failed attempts and requeues."""

STRATEGY: Final = "worker.messaging.grouping:strategy"
"""`Task.Strategy`: groups single requests that wait at the same time."""

CHUNK_STRATEGY: Final = "worker.messaging.chunk_grouping:strategy"
"""`Task.Strategy`: groups small chunks that wait at the same time."""

LOOKUP_STRATEGY: Final = "worker.messaging.lookups_first:strategy"
"""`Task.Strategy`: lets lookups run before other work that waits for a process."""

RESULT_BACKEND: Final = "worker.messaging.result_backend:ResultBackend"
"""The backend for the URLs of Redis and of sentinels: stores a result in one round trip."""
