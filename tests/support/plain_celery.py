"""A plain Celery client without any of our code."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery


@contextmanager
def plain_celery(url: str, key_prefix: str = "", **options: Any) -> Iterator[Celery]:
    """Publish by the fixed names of tasks, as another system does.

    `options` are more of kombu's transport options.
    """
    prefix = {"global_keyprefix": key_prefix}
    with Celery(broker=url, backend=url, set_as_current=False) as app:
        app.conf.broker_transport_options = {**prefix, **options}
        app.conf.result_backend_transport_options = prefix
        yield app
        app.backend.result_consumer.stop()
        app.backend.client.connection_pool.disconnect()
