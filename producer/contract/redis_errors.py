"""Decide what an error of Redis means: ask another server, connect again, or wait.

Any other error, such as that of a full server or a missing right, is raised unchanged: connecting
again would not help, so the work waits or is requeued.
"""

import re

from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,  # noqa: A004
    InvalidResponse,
    MasterDownError,
    ReadOnlyError,
    ResponseError,
)


class WrongServer(ConnectionError):
    """The server refuses because it is not the master, or not ready. The command had no effect.

    The connection is closed, and the next one may lead to the right server.
    """


REFUSALS = (ResponseError, WrongServer)
"""The errors after which a command had no effect, and the client can go on as it is."""

_WRONG_SERVER = (ReadOnlyError, BusyLoadingError, MasterDownError, ClusterDownError)

_CODE = re.compile(r"(?:^|-|because of: )(?:READONLY|LOADING|MASTERDOWN|CLUSTERDOWN|UNBLOCKED)\b")
"""The codes at the start of an error, or inside one of a script or a transaction.

UNBLOCKED ends a blocking command on a server that is now a replica.
"""


def is_wrong_server(error: BaseException) -> bool:
    """Return whether a server refused a command because another server must be asked."""
    return isinstance(error, _WRONG_SERVER) or _CODE.search(str(error)) is not None


def is_broken_protocol(error: BaseException) -> bool:
    """Return whether a reply is not Redis's protocol. The command may have had an effect."""
    return isinstance(error, InvalidResponse | ValueError)
