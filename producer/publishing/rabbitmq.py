"""Change kombu's RabbitMQ transport so that every step ends in time, whatever the broker does.

By default py-amqp waits without limit: for the confirmation of a message while an alarm blocks
publishers, for any reply of a frozen broker, and for the reply to its own close.
"""

from typing import Any

from kombu.exceptions import OperationalError
from kombu.transport import pyamqp


class Channel(pyamqp.Channel):  # type: ignore[misc]
    """A channel that waits for a confirmation no longer than for any other reply."""

    def basic_publish_confirm(self, *args: Any, **options: Any) -> Any:
        """Publish a message and wait until the broker has it. Raises OperationalError."""
        connection = self.connection
        try:
            return super().basic_publish_confirm(*args, **options)
        except TimeoutError as error:
            # A late confirmation must not be taken for that of the next message.
            connection.collect()
            raise OperationalError(
                "it did not confirm a message in time; an alarm for memory or disk space may block"
                " publishers (rabbitmqctl status shows it)"
            ) from error

    def close(self, *_: Any, **__: Any) -> None:
        """Forget the channel; kombu closes it only together with its connection."""
        self.collect()


class Connection(pyamqp.Connection):  # type: ignore[misc]
    """A connection with our channels."""

    Channel = Channel


class Transport(pyamqp.Transport):  # type: ignore[misc]
    """The transport that the client publishes to RabbitMQ through (`broker_transport`)."""

    Connection = Connection

    def establish_connection(self) -> Any:
        """Connect, and limit the time of every later read and write."""
        connection = super().establish_connection()
        # Not py-amqp's own `read_timeout`: it goes on reading when that is over.
        connection.transport.sock.settimeout(self.client.transport_options["socket_timeout"])
        return connection

    def close_connection(self, connection: Any) -> None:
        """Close the connection without waiting for the broker's reply."""
        connection.client = None
        connection.collect()


class TLSTransport(Transport, pyamqp.SSLTransport):  # type: ignore[misc]
    """The same for `amqps://` URLs; kombu encrypts only if the transport asks for it."""
