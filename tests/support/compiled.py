"""Let the engines of a test process share the statements that SQLAlchemy has compiled.

Each test has a database of its own, and so an engine of its own. A worker compiles a statement once
and runs it for days; without this, each test would compile all of its statements again.
"""

from collections.abc import Iterator, MutableMapping
from typing import Any, Final

from sqlalchemy import Connection, Engine, event
from sqlalchemy.util import LRUCache

SIZE: Final = 5_000
"""How many statements are kept."""

_Key = tuple[Any, ...]


class SharedStatements(MutableMapping[_Key, Any]):
    """Compiled statements by dialect, version of the server, and SQLAlchemy's own key.

    SQLAlchemy begins its keys with the dialect object of the engine, of which each engine has one.
    What it compiles depends on the kind of the dialect, and on the version of the server.
    """

    def __init__(self, size: int = SIZE) -> None:
        self._statements: LRUCache[_Key, Any] = LRUCache(size)

    @staticmethod
    def _shared(key: _Key) -> _Key:
        dialect, *rest = key
        return (type(dialect), dialect.server_version_info, *rest)

    def __getitem__(self, key: _Key) -> Any:
        return self._statements[self._shared(key)]

    def get(self, key: _Key, default: Any = None) -> Any:
        return self._statements.get(self._shared(key), default)

    def __setitem__(self, key: _Key, compiled: Any) -> None:
        self._statements[self._shared(key)] = compiled

    def __delitem__(self, key: _Key) -> None:
        del self._statements[self._shared(key)]

    def __iter__(self) -> Iterator[_Key]:
        return iter(self._statements)

    def __len__(self) -> int:
        return len(self._statements)


_STATEMENTS: Final = SharedStatements()


@event.listens_for(Engine, "engine_connect")
def _share(connection: Connection) -> None:
    connection.execution_options(compiled_cache=_STATEMENTS)
