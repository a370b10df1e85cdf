"""Define the message that a worker has taken from a queue of Redis into a slot."""

from typing import Any, NamedTuple

from kombu.transport import virtual

from worker.messaging.envelope import MalformedMessage, open_envelope


class TakenMessage(NamedTuple):
    """A message as it was in the queue, or its `Beginning`, and the slot that it is in now."""

    raw: bytes
    slot: str
    queue: str


class Message(virtual.Message):
    """A message with a checked envelope; `fault` says why it is malformed, or is None."""

    def __init__(
        self, payload: TakenMessage | dict[str, Any], channel: Any = None, **options: Any
    ) -> None:
        self.raw: bytes | None = None
        self.fault: str | None = None
        if not isinstance(payload, TakenMessage):
            # A broadcast, such as Celery's events, which does not come from a queue.
            super().__init__(payload, channel=channel, **options)
            return
        self.raw = payload.raw
        try:
            envelope = open_envelope(payload.raw)
        except MalformedMessage as error:
            self.fault, envelope = str(error), {"headers": {}, "properties": {}}
        # Replace what the client claims about the delivery with the queue that it really came from.
        delivery = {"exchange": "", "routing_key": payload.queue}
        properties = {"delivery_tag": payload.slot, "delivery_info": delivery}
        envelope = {**envelope, "properties": {**envelope["properties"], **properties}}
        super().__init__(envelope, channel=channel, **options)
