"""The only reader of the environment on the worker's side. Prefix `ENROLL_`."""

from enum import StrEnum
from typing import Annotated, TypeVar

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

from producer.contract.broker_url import BROKERS, REDIS, require_certificate_check

PREFIX = "ENROLL_"
DATABASES = ("postgresql", "sqlite")


class SettingsError(Exception):
    """The worker cannot start; the message names the variable and the remedy."""


def _one_of(schemes: tuple[str, ...]) -> AfterValidator:
    def check(url: SecretStr) -> SecretStr:
        if not url.get_secret_value().startswith(schemes):
            raise ValueError(f"must begin with one of {', '.join(schemes)}")
        return url

    return AfterValidator(check)


def _certificate_checked(url: SecretStr) -> SecretStr:
    return SecretStr(require_certificate_check(url.get_secret_value()))


def _database(url: SecretStr) -> SecretStr:
    try:
        name = make_url(url.get_secret_value()).get_backend_name()
    except (ArgumentError, ValueError):  # A port that is no number; its text may be a password.
        name = ""
    if name not in DATABASES:
        raise ValueError(
            "must look like postgresql://user@host/name or sqlite:////absolute/path.db"
        )
    if name == "postgresql" and url.get_secret_value().count("@") > 1:
        # Half of a password would be taken for the host, and quoted where that is not found.
        raise ValueError("must have what is special in user and password quoted, as %40 for @")
    return url


DatabaseUrl = Annotated[SecretStr, AfterValidator(_database)]


class LogFormat(StrEnum):
    """How a line of the log looks."""

    TEXT = "text"
    JSON = "json"


class DatabaseSettings(BaseSettings):
    """What a migration needs."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True)

    database_url: DatabaseUrl = Field(description="PostgreSQL, or SQLite for a single machine.")


class Settings(DatabaseSettings):
    """What a worker needs. URLs are secrets: they may hold a password and never reach a log."""

    broker_url: Annotated[SecretStr, _one_of(BROKERS), AfterValidator(_certificate_checked)] = (
        Field(description="The queue: Redis (or Valkey), or RabbitMQ.")
    )
    result_backend_url: Annotated[SecretStr | None, Field(validate_default=True)] = Field(
        None, description="The Redis through which answers travel; by default the broker."
    )
    result_ttl: Annotated[int, Field(ge=60)] = Field(
        86_400, description="Seconds for which an answer stays in the result backend."
    )
    database_wait: Annotated[float, Field(ge=0, le=80)] = Field(
        60, description="Seconds that a task waits for an absent database before it is given back."
    )
    max_attempts: Annotated[int, Field(ge=1, le=100)] = Field(
        3, description="How often what fails or kills its worker is tried before it is isolated."
    )

    log_format: LogFormat = Field(
        LogFormat.TEXT, description="A line of the log: text for people, json for machines."
    )
    metrics_port: Annotated[int | None, Field(ge=1, le=65535)] = Field(
        None, description="Where Prometheus finds /metrics; by default there is none."
    )
    metrics_host: str = Field("127.0.0.1", description="The address that /metrics listens on.")
    task_events: bool = Field(
        False, description="Whether Flower is told of every task; it costs speed."
    )

    @field_validator("result_backend_url")
    @classmethod
    def _answers_over_redis(cls, url: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        broker: SecretStr | None = info.data.get("broker_url")
        answers = url or broker
        if answers is not None and not answers.get_secret_value().startswith(REDIS):
            raise ValueError(f"must begin with one of {', '.join(REDIS)}")
        return answers and _certificate_checked(answers)


def load_settings() -> Settings:
    """Read the worker's settings; raises SettingsError with one line for each bad variable."""
    return _load(Settings)


def load_database_url() -> str:
    """Read the database's URL alone; raises SettingsError."""
    return _load(DatabaseSettings).database_url.get_secret_value()


def find_database_url() -> str | None:
    """The same, but None where it is not set."""
    url = _load(_PerhapsDatabaseSettings).database_url
    return None if url is None else url.get_secret_value()


class _PerhapsDatabaseSettings(BaseSettings):
    model_config = DatabaseSettings.model_config

    database_url: DatabaseUrl | None = Field(None, description="PostgreSQL or SQLite.")


SettingsType = TypeVar("SettingsType", bound=BaseSettings)


def _load(model: type[SettingsType]) -> SettingsType:
    try:
        return model()
    except ValidationError as error:
        lines = []
        for detail in error.errors(include_url=False, include_input=False):
            name = PREFIX + str(detail["loc"][0]).upper()
            about = model.model_fields[str(detail["loc"][0])].description
            problem = "is not set" if detail["type"] == "missing" else detail["msg"]
            problem = problem.removeprefix("Value error, ").removesuffix(".")
            lines.append(f"{name}: {problem}. ({about})")
        raise SettingsError("\n".join(lines)) from None
