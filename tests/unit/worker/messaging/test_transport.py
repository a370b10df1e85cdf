"""The parts of kombu and Celery that `worker.messaging` relies on have not changed."""

import inspect
from types import SimpleNamespace

import pytest
from celery.backends.redis import RedisBackend
from celery.worker.consumer import Consumer
from celery.worker.request import Request
from kombu.transport import redis, virtual
from redis.exceptions import ConnectionError  # noqa: A004

from producer.contract import redis_channel
from producer.contract.keys import Keys
from worker.messaging import consumer, result_backend, slots, transport


@pytest.mark.parametrize(
    ("ours", "theirs", "names"),
    [
        (
            transport.Channel,
            redis.Channel,
            [
                *("basic_consume", "_basic_cancel", "_queue_bind", "close", "active_queues"),
                *("basic_get", "_get", "_size", "_purge"),
            ],
        ),
        (redis_channel.Channel, redis.Channel, ["_connparams", "connection_class_ssl"]),
        (result_backend.ResultBackend, RedisBackend, ["_params_from_url", "_store_result"]),
        (transport.QueueReceiver, redis.Channel, ["_brpop_start", "_brpop_read", "close", "qos"]),
        (
            slots.QoS,
            virtual.QoS,
            [
                *("append", "ack", "reject"),
                *("restore_unacked", "restore_unacked_once", "restore_visible"),
            ],
        ),
        (
            consumer.ValidatingConsumer,
            Consumer,
            [
                *("create_task_handler", "on_decode_error", "on_unknown_message"),
                *("on_unknown_task", "on_invalid_task", "ensure_connected"),
            ],
        ),
        (consumer.CountedRequest, Request, ["on_failure", "on_timeout"]),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_every_method_we_override_exists_in_its_base_class(
    ours: type, theirs: type, names: list[str]
) -> None:
    for name in names:
        assert name in vars(ours), f"{ours.__name__}.{name} is no longer ours"
        assert hasattr(theirs, name), f"{theirs.__name__}.{name} is gone: nobody calls ours"


@pytest.mark.parametrize(
    ("where", "needles"),
    [
        # The poller waits for whatever a channel in BRPOP mode sends and reads.
        (redis.MultiChannelPoller._register_BRPOP, ["_brpop_start", "channel.client", "_in_poll"]),
        (redis.MultiChannelPoller.on_poll_start, ["active_queues", "qos.can_consume()"]),
        (redis.MultiChannelPoller.on_readable, ["chan.handlers[type]()"]),
        (redis.MultiChannelPoller.maybe_restore_messages, ["channel.qos.restore_visible"]),
        (redis.MultiChannelPoller.maybe_check_brpop_health, ["_brpop_sent_at", "brpop_timeout"]),
        (redis.Channel.__init__, ["'BRPOP': self._brpop_read", "cycle.add(self)"]),
        # The classes of its connections, extended for the event loop, are ours.
        (redis.Channel._connparams, ["self.connection_class", "class Connection(connection_cls)"]),
        (redis.Channel.close, ["_in_poll", "cycle.discard(self)"]),
        (redis.Transport.register_with_event_loop, ["unacked_restore_interval", "on_poll_init"]),
        # A received message reaches our Message class through the consuming channel.
        (virtual.Transport._deliver, ["self._callbacks[queue]"]),
        (virtual.Channel.basic_consume, ["self.Message(raw_message", "self.qos.append"]),
        (virtual.Channel.close, ["restore_unacked_once"]),
        (virtual.Channel.basic_get, ["self.Message(self._get(queue)", "self.qos.append"]),
        (virtual.Channel.basic_recover, ["self.qos.restore_unacked()"]),
        (virtual.Channel.queue_declare, ["self._size(queue)"]),
        (virtual.Channel.queue_purge, ["self._purge(queue)"]),
        (virtual.Channel.basic_ack, ["self.qos.ack"]),
        (virtual.Channel.basic_reject, ["self.qos.reject"]),
        (Consumer.ensure_connected, ["conn.ensure_connection("]),
        (RedisBackend.__init__, ["self._params_from_url(url, self.connparams)"]),
        (Consumer.update_strategies, ["self.strategies"]),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_the_private_code_our_transport_relies_on_is_unchanged(
    where: object, needles: list[str]
) -> None:
    source = inspect.getsource(where)  # type: ignore[arg-type]
    for needle in needles:
        assert needle in source, f"{where} no longer has {needle}"


def test_used_up_slots_are_reported_with_a_remedy() -> None:
    qos = slots.QoS(SimpleNamespace(taker="here", keys=Keys()))
    reserved = {qos.reserve("batches") for _ in range(slots.SLOTS)}
    assert len(reserved) == slots.SLOTS
    with pytest.raises(ConnectionError, match=r"reconnects and gets new slots.*check Redis"):
        qos.reserve("batches")
    assert qos.reserve("lookups")


def test_a_channel_takes_its_options_from_the_settings() -> None:
    assert "instance" in transport.Channel.from_transport_options
    assert set(redis.Channel.from_transport_options) < set(transport.Channel.from_transport_options)
