"""Configure Celery; every setting has its reason beside it."""

import os
from typing import Any

from kombu.entity import Exchange, Queue

from producer.contract import routing
from producer.contract.broker_url import REDIS
from producer.contract.redis_channel import kombu_url, secret_options
from producer.contract.routing import QUORUM, TASK_QUEUES
from worker.messaging import plugins
from worker.messaging.plans_due import ENOUGH_PROCESSES
from worker.messaging.transport import HEARTBEAT_SECONDS
from worker.settings import Settings

TASK_TIME_LIMIT = 120
"""Seconds after which a task is killed."""


def celery_settings(settings: Settings) -> dict[str, Any]:
    """Return all of Celery's settings for a worker."""
    broker = settings.broker_url.get_secret_value()
    results = results_url(settings)
    over_redis = broker.startswith(REDIS)
    return {
        "broker_url": kombu_url(broker),
        "result_backend": kombu_url(results),
        # The database has the result; Redis holds a copy for the client that waits for it.
        "result_expires": settings.result_ttl,
        "result_backend_transport_options": {
            "global_keyprefix": settings.key_prefix,
            **secret_options(results),
        },
        **_queues(over_redis=over_redis),
        **_tasks(),
        **_broker(),
        **(_over_redis(broker, settings.key_prefix) if over_redis else {}),
        # Every message is checked before anything trusts it.
        "worker_consumer": plugins.CONSUMER,
        # With remote control, any client could stop workers. Events cost 40 % of the speed.
        "worker_enable_remote_control": False,
        "worker_send_task_events": settings.task_events,
        "task_send_sent_event": False,
        # In KiB: a process that leaks memory is replaced. A limit on the number of tasks would
        # replace a busy process every second.
        "worker_max_memory_per_child": 500_000,
        # One process makes plans; without --concurrency there is another one for single requests.
        "worker_concurrency": max(ENOUGH_PROCESSES, os.cpu_count() or 1),
    }


def results_url(settings: Settings) -> str:
    """Return the URL of the Redis for results and marks; by default it is the broker's."""
    # Without a URL of its own, the result backend is the broker; the settings have checked it.
    return (settings.result_backend_url or settings.broker_url).get_secret_value()


def queues_url(settings: Settings) -> str | None:
    """Return the URL of the Redis that holds the queues; None if the broker is not a Redis."""
    broker = settings.broker_url.get_secret_value()
    return broker if broker.startswith(REDIS) else None


def attempts_url(settings: Settings) -> str:
    """Return the URL of the Redis that counts attempts.

    It is the broker if that is a Redis, else the result backend.
    """
    return queues_url(settings) or results_url(settings)


def _queues(*, over_redis: bool) -> dict[str, Any]:
    arguments = None if over_redis else QUORUM
    return {
        # Each kind of work has its own queue, so that a single request never waits behind a
        # million rows. A misspelt queue name is an error and does not create a queue.
        "task_queues": [
            Queue(q.value, Exchange(q.value), q.value, queue_arguments=arguments)
            for q in routing.Queue
        ],
        "task_default_queue": routing.Queue.ENROLLMENTS.value,
        "task_routes": {name.value: {"queue": queue.value} for name, queue in TASK_QUEUES.items()},
        "task_create_missing_queues": False,
    }


def _tasks() -> dict[str, Any]:
    return {
        # JSON only: unpickling would run any code that a client sends.
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        # A message is acknowledged after the commit, and requeued if its process dies. Running it
        # twice has one effect, because the database knows it by its id.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # A stuck task is killed; its message is requeued and the attempt is counted.
        "task_acks_on_timeout": False,
        "task_soft_time_limit": TASK_TIME_LIMIT - 20,
        "task_time_limit": TASK_TIME_LIMIT,
        # Prefetched messages would wait here while other workers are free; speed stays the same.
        "worker_prefetch_multiplier": 1,
        # When the connection is lost, the running chunk is finished: killing a commit is worse.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
    }


def _broker() -> dict[str, Any]:
    return {
        # By default Celery gives up on the broker after 100 attempts, and at start-up at once.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # By default a full or read-only Redis makes the worker exit.
        "broker_channel_error_retry": True,
        # Without time limits, publishing and storing results wait forever for a frozen broker.
        "broker_connection_timeout": 3,
        "broker_pool_acquire_timeout": 10,
        "redis_socket_timeout": 5,
        "redis_socket_connect_timeout": 3,
    }


def _over_redis(broker: str, key_prefix: str) -> dict[str, Any]:
    return {
        "broker_transport": plugins.TRANSPORT,
        "broker_transport_options": {
            "global_keyprefix": key_prefix,
            **secret_options(broker),
            # How often kombu calls the transport's `restore_visible`, which sends the heartbeat.
            "unacked_restore_interval": HEARTBEAT_SECONDS,
            "socket_timeout": 5,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            # A half-open connection is noticed within twice this many seconds, so that a worker
            # leaves a server that has vanished while another one takes its place.
            "health_check_interval": 4,
            # A worker takes messages with a priority, but publishes none.
            "priority_steps": [0],
        },
    }
