"""Set Celery up: every setting with its reason."""

from typing import Any

from kombu.entity import Exchange, Queue

from producer.contract import routing
from producer.contract.broker_url import REDIS
from producer.contract.routing import QUORUM, TASK_QUEUES
from worker.messaging import plugins
from worker.messaging.transport import HEARTBEAT_SECONDS
from worker.settings import Settings

TASK_TIME_LIMIT = 120
"""Seconds after which a task is killed."""


def celery_settings(settings: Settings) -> dict[str, Any]:
    """Return all of Celery's settings for a worker."""
    broker = settings.broker_url.get_secret_value()
    over_redis = broker.startswith(REDIS)
    return {
        "broker_url": broker,
        "result_backend": results_url(settings),
        # The database has the result; Redis holds a copy for the client that waits for it.
        "result_expires": settings.result_ttl,
        **_queues(over_redis=over_redis),
        **_tasks(),
        **_broker(),
        **(_over_redis() if over_redis else {}),
        # Messages are taken without a gap, and checked before anything trusts them.
        "worker_consumer": plugins.CONSUMER,
        # Anyone who can publish could otherwise shut workers down; events cost 40 % of the speed.
        "worker_enable_remote_control": False,
        "worker_send_task_events": settings.task_events,
        "task_send_sent_event": False,
        # A leak ends with its process (KiB); counting tasks would restart a busy one every second.
        "worker_max_memory_per_child": 500_000,
    }


def results_url(settings: Settings) -> str:
    """Return the URL of the Redis for results and marks; by default it is the broker's."""
    # With a default worked out by its validator, it is never None.
    return (settings.result_backend_url or settings.broker_url).get_secret_value()


def attempts_url(settings: Settings) -> str:
    """Return the URL of the Redis that counts attempts.

    It is the one from which messages are taken, if that is a Redis.
    """
    broker = settings.broker_url.get_secret_value()
    return broker if broker.startswith(REDIS) else results_url(settings)


def _queues(*, over_redis: bool) -> dict[str, Any]:
    arguments = None if over_redis else QUORUM
    return {
        # Each kind of work waits in a queue of its own, so that one student never waits behind
        # a million rows; a misspelt queue is an error and not a new queue.
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
        # A result is a value of the contract; pickle would run whatever a client sends.
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        # Acknowledged after the commit, and requeued when the process that ran it is lost: what
        # runs twice has one effect, because the database knows it by its id.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # A task that is stuck ends; its message is requeued, and counted.
        "task_acks_on_timeout": False,
        "task_soft_time_limit": TASK_TIME_LIMIT - 20,
        "task_time_limit": TASK_TIME_LIMIT,
        # Hoarded messages would wait behind the hoarder's work; fetching ahead gains no speed.
        "worker_prefetch_multiplier": 1,
        # On a lost connection the running chunk is finished: killing a commit is worse.
        "worker_cancel_long_running_tasks_on_connection_loss": False,
    }


def _broker() -> dict[str, Any]:
    return {
        # The default gives up on the broker after 100 attempts, and at once at start-up.
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # A full or read-only Redis makes the default worker exit.
        "broker_channel_error_retry": True,
        # Without bounds a publish or a result waits for ever for a frozen broker.
        "broker_connection_timeout": 3,
        "broker_pool_acquire_timeout": 10,
        "redis_socket_timeout": 10,
        "redis_socket_connect_timeout": 3,
    }


def _over_redis() -> dict[str, Any]:
    return {
        "broker_transport": plugins.TRANSPORT,
        "broker_transport_options": {
            # The transport's hook for what it does now and then.
            "unacked_restore_interval": HEARTBEAT_SECONDS,
            "socket_timeout": 10,
            "socket_connect_timeout": 3,
            "socket_keepalive": True,
            # A half-open connection is noticed within this many seconds, twice.
            "health_check_interval": 10,
            # One list a queue: priorities are not used, and each step is a key more to wait on.
            "priority_steps": [0],
        },
    }
