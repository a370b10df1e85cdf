"""Read the worker's settings, `ENROLL_...`, from the environment. Only this module does."""

import os
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Annotated, Any, Final, TypeVar

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from producer.contract.broker_url import (
    BROKERS,
    REDIS,
    require_certificate_check,
    scheme_problem,
)
from producer.contract.environment import ignored_variables
from producer.contract.keys import check_key_prefix

PREFIX = "ENROLL_"
DATABASES = ("postgresql", "sqlite")


class SettingsError(Exception):
    """The worker cannot start. The message names each bad variable and says what it must be."""


def _one_of(schemes: tuple[str, ...]) -> AfterValidator:
    def check(url: SecretStr) -> SecretStr:
        if (problem := scheme_problem(url.get_secret_value(), schemes)) is not None:
            raise ValueError(problem)
        return url

    return AfterValidator(check)


def _certificate_checked(url: SecretStr) -> SecretStr:
    return SecretStr(require_certificate_check(url.get_secret_value()))


def _database(url: SecretStr) -> SecretStr:
    """Check the URL of a database. `postgres://` means `postgresql://`, as it does to libpq."""
    scheme, colon, rest = url.get_secret_value().partition(":")
    if scheme == "postgres":
        url = SecretStr(f"postgresql{colon}{rest}")
    try:
        name = make_url(url.get_secret_value()).get_backend_name()
    except (ArgumentError, ValueError):
        # SQLAlchemy's message may quote part of a password, for example as a port.
        name = ""
    if name not in DATABASES:
        raise ValueError(
            "must look like postgresql://user@host/name or sqlite:////absolute/path.db"
        )
    if name == "postgresql" and url.get_secret_value().count("@") > 1:
        # The driver would take half of the password for the host and print it when it fails.
        raise ValueError(
            "must have special characters in the user name and password percent-encoded,"
            " for example %40 for @"
        )
    return url


DatabaseUrl = Annotated[SecretStr, AfterValidator(_database)]


class LogFormat(StrEnum):
    """The format of a log line."""

    TEXT = "text"
    JSON = "json"


class DatabaseSettings(BaseSettings):
    """The settings that a migration needs."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True)

    database_url: DatabaseUrl = Field(description="PostgreSQL, or SQLite for a single machine.")


class Settings(DatabaseSettings):
    """The settings of a worker. URLs are secrets: they may hold a password and are never logged."""

    broker_url: Annotated[SecretStr, _one_of(BROKERS), AfterValidator(_certificate_checked)] = (
        Field(description="The broker: Redis (or Valkey), or RabbitMQ.")
    )
    result_backend_url: Annotated[SecretStr | None, Field(validate_default=True)] = Field(
        None, description="The Redis for result keys and marks; by default the broker."
    )
    key_prefix: Annotated[str, AfterValidator(check_key_prefix)] = Field(
        "", description="What every key in Redis begins with; by default nothing."
    )
    result_ttl: Annotated[int, Field(ge=60)] = Field(
        86_400, description="Seconds that a result key stays in Redis."
    )
    database_wait: Annotated[float, Field(ge=0, le=80)] = Field(
        60,
        description="Seconds that a task waits for an unavailable database before it is requeued.",
    )
    max_attempts: Annotated[int, Field(ge=1, le=100)] = Field(
        3,
        description="How many times a message that fails or kills its worker is tried before its"
        " bad records are isolated.",
    )

    held_days: Annotated[int, Field(ge=1, le=3650)] = Field(
        30, description="Days after which a plan is discarded that waits for a decision."
    )
    staged_days: Annotated[int, Field(ge=1, le=3650)] = Field(
        7, description="Days after which a plan is discarded whose chunks have not all arrived."
    )

    log_format: LogFormat = Field(
        LogFormat.TEXT, description="The format of the log: text for people, json for machines."
    )
    metrics_port: Annotated[int | None, Field(ge=1, le=65535)] = Field(
        None, description="The port that serves /metrics to Prometheus; by default metrics are off."
    )
    metrics_host: str = Field("127.0.0.1", description="The address that /metrics listens on.")
    task_events: bool = Field(
        False,
        description="Whether to send an event for every task, as Flower needs; it costs speed.",
    )

    @field_validator("result_backend_url")
    @classmethod
    def _results_over_redis(cls, url: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        broker: SecretStr | None = info.data.get("broker_url")
        results = url or broker
        if results is None:
            return None
        if (problem := scheme_problem(results.get_secret_value(), REDIS)) is not None:
            raise ValueError(problem)
        return _certificate_checked(results)


def load_settings(**given: str) -> Settings:
    """Read the worker's settings. Raises SettingsError with one line for each bad variable.

    What is `given` counts in place of a variable.
    """
    return _load(Settings, given)


def find_ignored_variables() -> list[str]:
    """Return the variables of Celery that are set, although only our settings count."""
    return ignored_variables(os.environ)


def load_database_url() -> str:
    """Read only the URL of the database. Raises SettingsError."""
    return _load(DatabaseSettings).database_url.get_secret_value()


def find_database_url() -> str | None:
    """Read only the URL of the database; return None if it is not set. Raises SettingsError."""
    url = _load(_OptionalDatabaseSettings).database_url
    return None if url is None else url.get_secret_value()


class _OptionalDatabaseSettings(BaseSettings):
    model_config = DatabaseSettings.model_config

    database_url: DatabaseUrl | None = Field(None, description="PostgreSQL or SQLite.")


SettingsType = TypeVar("SettingsType", bound=BaseSettings)
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


def _load(model: type[SettingsType], given: Mapping[str, Any] = _NOTHING) -> SettingsType:
    try:
        return model(**given)
    except ValidationError as error:
        lines = []
        for detail in error.errors(include_url=False, include_input=False):
            name = PREFIX + str(detail["loc"][0]).upper()
            description = model.model_fields[str(detail["loc"][0])].description
            problem = "is not set" if detail["type"] == "missing" else detail["msg"]
            problem = problem.removeprefix("Value error, ").removesuffix(".")
            lines.append(f"{name}: {problem}. ({description})")
        raise SettingsError("\n".join(lines)) from None
