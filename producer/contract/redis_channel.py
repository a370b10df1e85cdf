"""Define the channel of kombu that publishers and workers share: how it reaches Redis."""

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
        if self.secret_url is None:
            params: dict[str, Any] = super()._connparams(asynchronous)
            return params
        options = connection_options(self.secret_url)
        # kombu extends this class with what its event loop needs.
        self.connection_class = options.pop("connection_class")
        return {**super()._connparams(asynchronous), **options}
