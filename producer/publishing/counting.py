"""Count the chunks that wait in the queue, in Redis or in RabbitMQ."""

from typing import Any

from producer.contract.keys import Keys, count_waiting
from producer.contract.routing import Queue


def count_in_redis(client: Any, queue: Queue) -> int:
    """Return the number of messages in a queue, also of those with a priority."""
    with client.pipeline(transaction=False) as pipeline:
        # kombu's client itself adds the prefix of the keys.
        for name in Keys().waiting(queue):
            pipeline.llen(name)
        return count_waiting(pipeline.execute(raise_on_error=False))


def count_in_rabbitmq(connection: Any) -> int:
    """Return the number of chunks in the queue; renew a connection that broke while it was idle."""
    for is_last in (False, True):
        try:
            queue = connection.default_channel.queue_declare(Queue.BATCHES, passive=True)
            return int(queue.message_count)
        except connection.channel_errors:
            return 0  # No worker has declared it yet.
        except connection.connection_errors as error:
            # A late reply must not be taken for that to the next question.
            connection.collect()
            if is_last or isinstance(error, TimeoutError):
                raise
    return 0
