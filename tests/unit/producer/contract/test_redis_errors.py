"""Which errors of Redis mean that another server must be asked."""

from typing import Any

import pytest
from redis._parsers.base import BaseParser
from redis.exceptions import InvalidResponse

from producer.contract.redis_errors import is_broken_protocol, is_wrong_server

PARSER: Any = BaseParser

WRONG_SERVER = [
    "READONLY You can't write against a read only replica.",
    "READONLY You can't write against a read only replica. script: on @user_script:1.",
    "LOADING Redis is loading the dataset in memory",
    "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
    "CLUSTERDOWN Hash slot not served",
    "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
    "ERR Error running script (call to f_12): @user_script:1: -READONLY You can't write",
    "EXECABORT Transaction discarded because of: READONLY You can't write",
]
ENVIRONMENT = [
    "OOM command not allowed when used memory > 'maxmemory'.",
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist",
    "NOREPLICAS Not enough good replicas to write.",
    "NOAUTH Authentication required.",
    "NOPERM this user has no permissions to run the 'lpush' command",
    "WRONGPASS invalid username-password pair or user is disabled.",
    "BUSY Redis is busy running a script.",
    "WRONGTYPE Operation against a key holding the wrong kind of value",
    "EXECABORT Transaction discarded because of previous errors.",
    "ERR unknown command 'XREADONLY', with args beginning with: 'LOADING'",
    "ERR max number of clients reached",
]


@pytest.mark.parametrize("reply", WRONG_SERVER)
def test_another_server_must_be_asked(reply: str) -> None:
    assert is_wrong_server(PARSER.parse_error(reply))


@pytest.mark.parametrize("reply", ENVIRONMENT)
def test_everything_else_that_redis_reports_is_the_environment(reply: str) -> None:
    error = PARSER.parse_error(reply)
    assert not is_wrong_server(error)
    assert not is_broken_protocol(error)


@pytest.mark.parametrize("error", [InvalidResponse("Protocol Error: b'HTTP'"), ValueError("int")])
def test_a_reply_that_is_not_redis_is_a_broken_protocol(error: Exception) -> None:
    assert is_broken_protocol(error)
    assert not is_wrong_server(error)
