"""Define the channel of kombu that publishers and workers share: how it reaches Redis."""

import os
from typing import Any

from kombu.transport import redis

from producer.contract.broker_url import SENTINEL, parse_sentinel_url
from producer.contract.redis_connection import (
    MasterConnection,
    MasterTlsConnection,
    connection_options,
)


def kombu_url(url: str) -> str:
    """Return the URL that kombu and Celery get.

    They get only the address of the first sentinel if the URL is a sentinel URL.
    """
    return parse_sentinel_url(url).first if url.startswith(SENTINEL) else url


def secret_options(url: str) -> dict[str, str]:
    """Return what `kombu_url` leaves out, as an option of a transport or result backend.

    Celery never prints an option with the word "secret" in its name.
    """
    return {"secret_url": url} if url.startswith(SENTINEL) else {}


class Channel(redis.Channel):  # type: ignore[misc,unused-ignore]
    """kombu's channel over connections that leave a server which is no longer the master."""

    connection_class = MasterConnection
    connection_class_ssl = MasterTlsConnection
    from_transport_options = (*redis.Channel.from_transport_options, "secret_url")
    secret_url: str | None = None

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002 - kombu's
        options: dict[str, Any] = {}
        if self.secret_url is not None:
            options = connection_options(self.secret_url)
            # kombu extends this class with what its event loop needs.
            self.connection_class = options.pop("connection_class")
        params: dict[str, Any] = {**super()._connparams(asynchronous), **options}
        if asynchronous:
            params["connection_class"] = self._leaving_epoll(params["connection_class"])
        return params

    def _leaving_epoll(self, connection_class: type[Any]) -> type[Any]:
        """Extend a connection so that the event loop forgets its socket before it is closed.

        epoll reports a closed socket for as long as another process, such as one of the pool, has
        a copy of it. The worker would take the report for one about its next connection, whose
        socket gets the same number, and would wait for a reply that does not come.
        """
        channel = self

        class LeavingConnection(connection_class):  # type: ignore[misc]
            def disconnect(self, *args: Any, **options: Any) -> None:
                poller = getattr(getattr(channel.connection, "cycle", None), "poller", None)
                # A process of the pool shares the epoll of the worker, and must not touch it.
                if poller is not None and self._sock is not None and self.pid == os.getpid():
                    poller.unregister(self._sock)
                super().disconnect(*args, **options)

        return LeavingConnection
