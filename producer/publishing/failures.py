"""Explain why a call to the broker failed, and what to do, in the words of its user."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from amqp.exceptions import AccessRefused, AMQPError, NotAllowed, PreconditionFailed
from kombu.exceptions import BatchPublishError, LimitExceeded, OperationalError
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterCrossSlotError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
)

from producer.errors import BrokerUnavailable


class Failure(NamedTuple):
    """What is wrong with the broker, as the end of a sentence about it, and what to do."""

    problem: str
    remedy: str
    may_pass: bool = True
    """Whether a later call may succeed although the URL and the user's rights stay as they are."""


_DEFAULT_REMEDY = "Check that it is running and that its URL is correct."
_LOGIN_REMEDY = "Correct the user and password in its URL."
_CLUSTER_REMEDY = "Use a single server; the queues cannot be spread over a cluster."
_REPLICA_REMEDY = "Wait until the failover is over; if this lasts, make its URL lead to the master."

_NO_SUCH_HOST = "Name or service not known|nodename nor servname|No address associated"
"""What getaddrinfo says about a host that does not exist, on Linux and macOS."""

_PASSES, _LASTS = True, False

_BY_TYPE: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str, str, bool], ...] = (
    (
        OutOfMemoryError,
        "it is full ({text})",
        "Let workers drain the queues, or raise maxmemory in Redis; then it accepts more.",
        _PASSES,
    ),
    (AuthenticationError, "the user or the password is wrong or missing", _LOGIN_REMEDY, _LASTS),
    (
        NoPermissionError,
        "its user lacks a right ({text})",
        "Give that user the rules of the user producer in docs/redis-acl.conf.",
        _LASTS,
    ),
    (
        (ReadOnlyError, MasterDownError),
        "it is a replica, and not the master ({text})",
        _REPLICA_REMEDY,
        _PASSES,
    ),
    # After MasterDownError, which redis-py derives from ClusterDownError.
    (
        (MovedError, AskError, ClusterDownError, ClusterCrossSlotError),
        "it is a cluster ({text})",
        _CLUSTER_REMEDY,
        _LASTS,
    ),
    (
        AccessRefused,
        "the user or the password is wrong, or the user lacks a right ({text})",
        _LOGIN_REMEDY,
        _LASTS,
    ),
    (
        NotAllowed,
        "the virtual host cannot be used ({text})",
        "Correct the virtual host at the end of its URL, after the port.",
        _LASTS,
    ),
    (
        PreconditionFailed,
        "a queue was declared differently ({text})",
        "Delete the queue when it is empty; workers and clients then declare it again.",
        _LASTS,
    ),
)

_BY_TEXT: tuple[tuple[str, str, str, bool], ...] = (
    # These two sentences are our own, and end with the remedy.
    (r"is a sentinel; write its URL|Correct master_name in the URL", "{text}", "", _LASTS),
    (r"is a replica, and not the master$", "{text}", _REPLICA_REMEDY, _PASSES),
    (
        r"^unknown command 'SELECT'",
        "it is a sentinel",
        "Write its URL in the form sentinel://HOST:PORT/0?master_name=NAME.",
        _LASTS,
    ),
    (r"^SELECT is not allowed in cluster mode", "it is a cluster", _CLUSTER_REMEDY, _LASTS),
    (
        r"is loading the dataset",
        "it is still loading its data",
        "Wait until it has started.",
        _PASSES,
    ),
    (
        r"^NOREPLICAS ",
        "too few replicas follow it, so it refuses writes ({text})",
        "Start a replica, or wait until one has connected.",
        _PASSES,
    ),
    (
        r"^MISCONF ",
        "it cannot write to its disk ({text})",
        "Free space on the disk of Redis.",
        _PASSES,
    ),
    (
        r"^BUSY ",
        "a script keeps it busy",
        "Wait until the script ends, or end it: redis-cli SCRIPT KILL.",
        _PASSES,
    ),
    (
        r"^(HELLO must be called|Authentication required)",
        "the user or the password is wrong or missing",
        _LOGIN_REMEDY,
        _LASTS,
    ),
    (
        r"^DB index is out of range$",
        "it has no database with the number in its URL",
        "Correct the number at the end of its URL, for example to 0.",
        _LASTS,
    ),
    (
        r"does not speak Redis's protocol",
        "{text}",
        "Correct the host and port of its URL; if the server uses TLS, write rediss://.",
        _LASTS,
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED",
        "{text}",
        "Name the file of its certificate authority as ssl_ca_certs in its URL (docs/access.md).",
        _LASTS,
    ),
    (
        r"an alarm for memory or disk space",
        "{text}",
        "Ask the operator of RabbitMQ to end the alarm.",
        _PASSES,
    ),
    (
        rf"^(\[Errno -?\d+\]|Error -?\d+ connecting to \S+) ({_NO_SUCH_HOST})",
        "{text}",
        _DEFAULT_REMEDY,
        _LASTS,
    ),
)

_PIPELINE = re.compile(r"^Command # \d+ \(.*\) of pipeline caused error: ", re.DOTALL)
"""What redis-py puts before an error; it quotes the command, with a part of what is written."""

_QUOTED_COMMAND = re.compile(r", with args beginning with: .*", re.DOTALL)


def explain_failure(error: BaseException) -> Failure:
    """Return what an error of redis-py, kombu, py-amqp or the system says about the broker."""
    errors = list(_with_causes(error))
    text = _plain(errors[0])
    for kind, problem, remedy, may_pass in _BY_TYPE:
        if any(isinstance(each, kind) for each in errors):
            return Failure(problem.format(text=text), remedy, may_pass)
    for pattern, problem, remedy, may_pass in _BY_TEXT:
        if any(re.search(pattern, _plain(each)) for each in errors):
            return Failure(problem.format(text=text), remedy, may_pass)
    return Failure(text, _DEFAULT_REMEDY)


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _plain(error: BaseException) -> str:
    """Return the text of an error in one line, without what the command contained."""
    text = " ".join(_QUOTED_COMMAND.sub("", _PIPELINE.sub("", str(error))).split())
    if isinstance(error, AMQPError) and error.reply_text:
        text = " ".join(str(error.reply_text).split())
    return text.rstrip(".") or type(error).__name__


_FAILURES = (
    BatchPublishError,
    OperationalError,
    LimitExceeded,
    AMQPError,
    RedisError,
    OSError,
)
"""The errors of kombu, py-amqp and redis-py when the broker cannot be used."""


@contextmanager
def explaining(server: str) -> Iterator[None]:
    """Raise BrokerUnavailable, which names the server, for every error of the connection to it."""
    try:
        yield
    except _FAILURES as error:
        failure = explain_failure(error)
        problem = f"{server} is not available: {failure.problem}"
        raise BrokerUnavailable(problem, failure.remedy, may_pass=failure.may_pass) from error
