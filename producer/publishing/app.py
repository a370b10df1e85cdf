"""Make the Celery app that publishes, with connections that it shares with no other app.

kombu has one set of connection pools for the whole process: another app would share our
connections, and the size of its pools would change with ours.
"""

from typing import Any, Final

from kombu import entity
from kombu.connection import ConnectionPool
from kombu.pools import ProducerPool

from producer.contract.keys import Keys
from producer.contract.own_celery import OwnCelery
from producer.contract.redis_channel import kombu_url, secret_options
from producer.contract.routing import QUORUM, Queue

SOCKET_TIMEOUT = 3.0
CONNECT_TIMEOUT = 2.0
"""Seconds, chosen so that all steps of one call to the broker together fail within ten."""


_SENT: Final = frozenset(("queue", "headers", "declare", "timestamp"))
_USUAL: Final = _SENT | {"task_id", "ignore_result", "argsrepr", "producer", "add_to_parent"}
"""The options of `send_task` with which we publish over Redis."""


class _Connections(ConnectionPool):
    """A pool of connections; after a fork, the child must not close those of its parent."""

    close_after_fork = False


class _Producers(ProducerPool):
    """A pool of producers over a pool of connections."""

    close_after_fork = False


class PublishingApp(OwnCelery):
    """A Celery app that publishes and never runs a task. Call `open_pools` before it is used."""

    def open_pools(self) -> None:
        """Put pools, which connect when they are used, into the places where Celery looks."""
        limit = self.conf.broker_pool_limit
        self._pool = _Connections(self.connection_for_write(), limit=limit)
        self.amqp._producer_pool = _Producers(self._pool, limit=limit)  # noqa: SLF001

    def send_task(self, name: str, args: Any = None, kwargs: Any = None, **options: Any) -> None:
        """Publish the message that Celery would; with the usual options, in half of the time.

        For each task, Celery looks up its options, its route and its result. Within a task of
        another app, it also records that one as the parent.
        """
        is_usual = not kwargs and options.get("declare") == [] and options.keys() <= _USUAL
        if not is_usual or self.current_worker_task:
            super().send_task(name, args, kwargs, **options)
            return
        message = self.amqp.as_task_v2(
            options["task_id"],
            name,
            args,
            reply_to=self.thread_oid,
            ignore_result=options.get("ignore_result"),
            argsrepr=options.get("argsrepr"),
        )
        sent = {key: value for key, value in options.items() if key in _SENT}
        with (
            self.producer_or_acquire(options.get("producer")) as producer,
            producer.connection._reraise_as_library_errors(),  # noqa: SLF001 - as Celery does
        ):
            self.amqp.send_task_message(producer, name, message, **sent)

    def close(self) -> None:
        """Close every connection."""
        self._pool.force_close_all()
        super().close()


def make_app(broker_url: str, keys: Keys, *, over_redis: bool) -> PublishingApp:
    """Make the app for a checked URL; nothing connects yet."""
    app = PublishingApp("enrollment-client", broker=kombu_url(broker_url))
    options = _options(over_redis=over_redis)
    if over_redis:
        options["broker_transport_options"] |= secret_options(broker_url)
        options["broker_transport_options"]["global_keyprefix"] = keys.prefix
        options["broker_transport"] = "producer.publishing.transport:Transport"
    elif broker_url.startswith("amqps"):
        options["broker_transport"] = "producer.publishing.rabbitmq:TLSTransport"
    else:
        options["broker_transport"] = "producer.publishing.rabbitmq:Transport"
    app.conf.update(options)
    app.open_pools()
    return app


_ONE_RETRY = {"max_retries": 1, "interval_start": 0, "interval_step": 0.2, "interval_max": 0.5}


def _options(*, over_redis: bool) -> dict[str, Any]:
    """Return Celery's options, with a time limit on every wait; by default it may wait forever."""
    timeouts = {
        "socket_timeout": SOCKET_TIMEOUT,
        "socket_connect_timeout": CONNECT_TIMEOUT,
        "socket_keepalive": True,
        "priority_steps": [0],
    }
    over_rabbitmq = {
        "confirm_publish": True,
        "socket_timeout": SOCKET_TIMEOUT,
        # By default kombu tries for ever to connect.
        **_ONE_RETRY,
    }
    return {
        "task_serializer": "json",
        "broker_connection_timeout": CONNECT_TIMEOUT,
        "broker_pool_acquire_timeout": SOCKET_TIMEOUT,
        "broker_transport_options": timeouts if over_redis else over_rabbitmq,
        # Every client and worker must declare a RabbitMQ queue in the same way.
        "task_queues": None
        if over_redis
        else [
            entity.Queue(q.value, entity.Exchange(q.value), q.value, queue_arguments=QUORUM)
            for q in Queue
        ],
        # One retry renews a RabbitMQ connection that broke while idle. Over Redis there is no
        # retry, so that a server that does not respond costs only one timeout.
        "task_publish_retry": not over_redis,
        "task_publish_retry_policy": _ONE_RETRY,
    }
