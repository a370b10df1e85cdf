"""Errors of the broker are explained: what is wrong and what to do, and nothing is quoted."""

from socket import gaierror
from typing import Any

import pytest
from amqp.exceptions import AccessRefused, NotAllowed, PreconditionFailed
from hypothesis import given
from hypothesis import strategies as st
from kombu.exceptions import OperationalError
from redis import Redis
from redis._parsers.base import BaseParser

from producer.contract.redis_errors import WrongServer
from producer.publishing.failures import explain_failure

PARSER: Any = BaseParser

REPLIES = {
    "OOM command not allowed when used memory > 'maxmemory'.": ("is full", "maxmemory"),
    "READONLY You can't write against a read only replica.": ("a replica", "to the master"),
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.": (
        "a replica",
        "to the master",
    ),
    "LOADING Redis is loading the dataset in memory": ("loading", "started"),
    "NOREPLICAS Not enough good replicas to write.": ("too few replicas", "Start a replica"),
    "MISCONF Redis is configured to save RDB snapshots": ("its disk", "Free space"),
    "BUSY Redis is busy running a script.": ("a script", "SCRIPT KILL"),
    "NOAUTH Authentication required.": ("password", "password in its URL"),
    "NOAUTH HELLO must be called with the client already authenticated": (
        "password",
        "password in its URL",
    ),
    "WRONGPASS invalid username-password pair or user is disabled.": (
        "password",
        "password in its URL",
    ),
    "NOPERM User a has no permissions to run the 'lpush' command": ("'lpush'", "redis-acl.conf"),
    "ERR DB index is out of range": ("no database with the number", "example to 0"),
    "CLUSTERDOWN Hash slot not served": ("a cluster", "a single server"),
    "MOVED 3999 127.0.0.1:6381": ("a cluster", "a single server"),
    "ERR unknown command 'SELECT', with args beginning with: '15' ": ("a sentinel", "sentinel://"),
    "ERR SELECT is not allowed in cluster mode": ("a cluster", "a single server"),
    "ERR max number of clients reached": ("max number of clients", "Check that it is running"),
}


def parsed(reply: str) -> Exception:
    error: Exception = PARSER.parse_error(reply.removeprefix("ERR "))
    return error


def in_a_pipeline(reply: str, command: tuple[str, ...]) -> Exception:
    """The error of a command among others, as redis-py changes it."""
    error = parsed(reply)
    pipeline: Any = Redis().pipeline()
    pipeline.annotate_exception(error, 1, command)
    return error


def wrapped(error: Exception) -> Exception:
    """The error as kombu raises it."""
    wrapping = OperationalError(str(error))
    wrapping.__cause__ = error
    return wrapping


@pytest.mark.parametrize("reply", REPLIES)
@given(record=st.text(max_size=200))
def test_a_reply_of_redis_is_explained_wherever_it_came_from(reply: str, record: str) -> None:
    problem, remedy = REPLIES[reply]
    written = f"secret-record{record}secret-record"
    pipelined = in_a_pipeline(reply, ("SET", "key", written))
    for error in (parsed(reply), pipelined, wrapped(parsed(reply)), wrapped(pipelined)):
        failure = explain_failure(error)
        assert problem in failure.problem
        assert remedy in failure.remedy
        assert "secret-record" not in failure.problem
        assert "\n" not in failure.problem


LASTING = ("NOAUTH", "WRONGPASS", "NOPERM", "ERR DB index", "CLUSTERDOWN", "MOVED", "ERR unknown",
           "ERR SELECT")  # fmt: skip


@pytest.mark.parametrize("reply", REPLIES)
def test_waiting_helps_unless_the_url_or_a_right_is_wrong(reply: str) -> None:
    assert explain_failure(wrapped(parsed(reply))).may_pass is not reply.startswith(LASTING)


@pytest.mark.parametrize(
    ("error", "may_pass"),
    [
        (ConnectionError("Error -2 connecting to h:6379. Name or service not known."), False),
        (ConnectionError("Error -3 connecting to h:1. Temporary failure in name resolution"), True),
        (ConnectionError("Error 111 connecting to h:6379. Connection refused."), True),
        (gaierror(-2, "Name or service not known"), False),
        (ConnectionError("No sentinel names the master (h:1: Name or service not known)"), True),
    ],
)
def test_a_host_that_does_not_exist_does_not_appear_later(error: Exception, may_pass: bool) -> None:
    for each in (error, wrapped(error)):
        assert explain_failure(each).may_pass is may_pass


def test_the_arguments_of_an_unknown_command_are_not_quoted() -> None:
    reply = "ERR unknown command 'SET', with args beginning with: 'key' 'secret-record' "
    assert explain_failure(parsed(reply)).problem == "unknown command 'SET'"


SENTENCES = {
    "h:1 is a replica, and not the master": "to the master",
    "h:1 is a sentinel; write its URL in the form sentinel://h:1/0?master_name=NAME": "",
    "No sentinel knows the master x. Correct master_name in the URL: it is the NAME": "",
    "h:1 does not speak Redis's protocol: InvalidResponse": "rediss://",
    "Error 111 connecting to cluster.replica.example:1. Connection refused.": "its URL is correct",
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_a_sentence_that_explains_itself_is_not_repeated(sentence: str) -> None:
    failure = explain_failure(wrapped(WrongServer(sentence)))
    assert failure.problem == sentence.rstrip(".")
    assert SENTENCES[sentence] in failure.remedy


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (AccessRefused("ACCESS_REFUSED - Login was refused", (0, 0)), "user and password"),
        (NotAllowed("NOT_ALLOWED - vhost x not found", (10, 40)), "end of its URL"),
        (PreconditionFailed("PRECONDITION_FAILED - inequivalent arg", (50, 10)), "Delete"),
        (TimeoutError("timed out"), "Check that it is running"),
        (ConnectionResetError(), "Check that it is running"),
    ],
)
def test_an_error_of_rabbitmq_is_explained(error: Exception, remedy: str) -> None:
    for each in (error, wrapped(error)):
        failure = explain_failure(each)
        assert failure.problem
        assert remedy in failure.remedy
