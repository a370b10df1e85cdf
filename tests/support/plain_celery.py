"""A plain Celery client without any of our code."""

from collections.abc import Iterator
from contextlib import contextmanager

from celery import Celery


@contextmanager
def plain_celery(url: str) -> Iterator[Celery]:
    """Publish by the fixed names of tasks, as another system does."""
    with Celery(broker=url, backend=url, set_as_current=False) as app:
        yield app
        app.backend.result_consumer.stop()
        app.backend.client.connection_pool.disconnect()
