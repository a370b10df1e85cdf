"""Name the classes of ours that Celery and kombu load by a string: the one table of them.

The client's only one stands in `producer.publishing.transport`.
"""

from typing import Final

TRANSPORT: Final = "worker.messaging.transport:Transport"
"""`broker_transport`: takes messages from Redis without a gap."""

CONSUMER: Final = "worker.messaging.consumer:ValidatingConsumer"
"""`worker_consumer`: checks every message before anything trusts it."""

REQUEST: Final = "worker.messaging.consumer:CountedRequest"
"""`Task.Request`: counts what happens to a message."""

STRATEGY: Final = "worker.messaging.grouping:strategy"
"""`Task.Strategy`: groups single requests that wait together."""

RESULT_BACKEND: Final = "worker.messaging.result_backend:ResultBackend"
"""The backend for `redis://` and `rediss://` URLs: stores a result in one round trip."""
