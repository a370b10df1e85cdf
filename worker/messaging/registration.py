"""Register the database of the workers in Redis, so that all workers of a Redis use the same one.

Redis may lose the register: the next worker that starts or looks registers its database again.
"""

from importlib.resources import files
from typing import Any

from pydantic import ValidationError
from redis.exceptions import RedisError, ResponseError

from producer.contract.identity import REGISTER_FIELD, DatabaseIdentity
from producer.contract.keys import Keys
from producer.contract.redis_connection import connect_redis
from worker.database.refusal import Refusal

_REGISTER = files("worker.messaging").joinpath("register.lua").read_text(encoding="ascii")


class DatabaseRegister:
    """The register. It connects at first use; its connection pool notices a fork."""

    def __init__(self, redis_url: str, keys: Keys) -> None:
        self._key = keys.database
        self._redis = connect_redis(redis_url, socket_timeout=5, socket_connect_timeout=3)
        self._accepted: DatabaseIdentity | None = None

    def refusal(self, own: DatabaseIdentity) -> Refusal | None:
        """Return why a worker must not use its database, or None.

        If no database is registered yet, this one is registered. Raises RedisError.
        """
        text: Any = self._redis.eval(_REGISTER, 1, self._key, REGISTER_FIELD, own.model_dump_json())
        reason = why_refused(own, _parse(text))
        self._accepted = own if reason is None else None
        return reason

    def admit(self, own: DatabaseIdentity) -> Refusal | None:
        """Return why this process must not use its database now, or None.

        Redis is asked only about a database that it has not yet accepted for this process.
        """
        if self._accepted is not None and own.is_same(self._accepted):
            return None
        try:
            return self.refusal(own)
        except RedisError as error:
            return Refusal(
                f"it is unknown whether {own} is the registered database, because Redis cannot be"
                f" asked ({error})",
                "Start Redis, or correct ENROLL_BROKER_URL.",
                "it is unknown whether this is the registered database, because Redis cannot be"
                " asked",
            )

    def find(self) -> DatabaseIdentity | None:
        """Return the registered database. Raises RedisError."""
        text: Any = self._redis.hget(self._key, REGISTER_FIELD)
        return _parse(text)

    def replace(self, new: DatabaseIdentity) -> None:
        """Register another database in place of the present one. Raises RedisError."""
        self._redis.hset(self._key, REGISTER_FIELD, new.model_dump_json())


def _parse(text: str | bytes | None) -> DatabaseIdentity | None:
    if text is None:
        return None
    try:
        # A newer version may register more about the database.
        return DatabaseIdentity.model_validate_json(text, extra="ignore")
    except ValidationError:
        raise ResponseError(
            "the registered database cannot be read; to write it again, run: enroll database accept"
        ) from None


def why_refused(own: DatabaseIdentity, registered: DatabaseIdentity | None) -> Refusal | None:
    """Return why a worker must not use its own database, given the registered one, or None."""
    if registered is None or own.is_same(registered):
        return None
    relation = "a copy of" if own.id == registered.id else "not"
    return Refusal(
        f"the database {own} is {relation} the one that the workers of this Redis use, which is"
        f" {registered}; with both in use, some rows would be stored in each",
        "Correct ENROLL_DATABASE_URL or ENROLL_BROKER_URL; or, if this database has replaced the"
        " other one, run: enroll database accept",
        "the database is not the one that the workers of this Redis use",
    )
