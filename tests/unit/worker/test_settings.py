"""The environment is read, with errors that name the variable and never its value."""

import re
from pathlib import Path

import pytest
from celery.app import base as app_base
from celery.app import utils as app_utils
from celery.loaders import base as loaders_base

from producer.contract.environment import IGNORED
from support.environment import GOOD
from worker.settings import (
    DatabaseSettings,
    Settings,
    SettingsError,
    find_database_url,
    find_ignored_variables,
    load_database_url,
    load_settings,
)


def secrets(settings: Settings) -> tuple[str, str]:
    return settings.broker_url.get_secret_value(), settings.database_url.get_secret_value()


def test_two_variables_are_enough(environment: pytest.MonkeyPatch) -> None:
    loaded = load_settings()
    assert secrets(loaded) == tuple(GOOD.values())
    assert loaded.result_backend_url == loaded.broker_url
    assert (loaded.result_ttl, loaded.database_wait) == (86_400, 60)


def test_every_variable_is_read(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ENROLL_RESULT_BACKEND_URL", "rediss://other/1")
    environment.setenv("ENROLL_RESULT_TTL", "60")
    environment.setenv("ENROLL_DATABASE_WAIT", "0.5")
    loaded = load_settings()
    assert loaded.result_backend_url is not None
    assert loaded.result_backend_url.get_secret_value() == "rediss://other/1?ssl_cert_reqs=required"
    assert (loaded.result_ttl, loaded.database_wait) == (60, 0.5)


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_or_empty_variable_is_named(
    environment: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    if value is None:
        environment.delenv(name)
    else:
        environment.setenv(name, value)
    with pytest.raises(SettingsError, match=rf"^{name}: is not set\. \(.+\)$"):
        load_settings()


def test_the_short_name_of_postgresql_is_accepted_everywhere(
    environment: pytest.MonkeyPatch,
) -> None:
    environment.setenv("ENROLL_DATABASE_URL", "postgres://u:p%40@h/name?sslmode=require")
    url = "postgresql://u:p%40@h/name?sslmode=require"
    assert secrets(load_settings())[1] == load_database_url() == find_database_url() == url


BAD = {
    "another queue": ("BROKER_URL", "kafka://u:hunter2@h", "must begin with one of redis://, "),
    "a password alone": ("BROKER_URL", "hunter2", "must begin with one of redis://, "),
    "an unquoted @": ("DATABASE_URL", "postgresql://u:hunter2@x@h/d", "%40 for @"),
    "an unquoted @ and /": ("DATABASE_URL", "postgresql://u:x@hunter2/x@h/d", "%40 for @"),
    "an unquoted @ and ?": ("DATABASE_URL", "postgresql://u:x@hunter2?x@h/d", "%40 for @"),
    "an unquoted @ after postgres": ("DATABASE_URL", "postgres://u:hunter2@x@h/d", "%40 for @"),
    "another database": ("DATABASE_URL", "mysql://u:hunter2@h/d", "must look like postgresql://"),
    "no URL": ("DATABASE_URL", "hunter2", "or sqlite:////absolute/path.db"),
    "a password apart": ("BROKER_URL", "redis://h/0?password=hunter2", "before the host"),
    "an unquoted password": ("BROKER_URL", "redis://:a?hunter2=b@h/0", "host, percent-encoded"),
    "an unquoted /": ("BROKER_URL", "redis://u:12/hunter2@h:6379/0", "redis://USER:PASSWORD@HOST"),
    "a database in place of a broker": ("BROKER_URL", "postgres://h/hunter2", "of a database"),
    "a database that is a word": ("BROKER_URL", "redis://h/hunter2", "must be a number"),
    "TLS by half": ("BROKER_URL", "redis://:hunter2@h?ssl_ca_certs=x", "with ssl_ options must"),
    "TLS, perhaps": ("BROKER_URL", "rediss://:hunter2@h?ssl_cert_reqs=hunter2", "one of required"),
    "RabbitMQ for answers": ("RESULT_BACKEND_URL", "amqp://u:hunter2@h", "must begin with one of"),
    "a word": ("RESULT_TTL", "hunter2", "should be a valid integer"),
    "a fraction": ("RESULT_TTL", "60.5", "should be a valid integer"),
    "too short": ("RESULT_TTL", "59", "greater than or equal to 60"),
    "a prefix without an end": ("KEY_PREFIX", "hunter2", "ends with one of : . _ -"),
    "a prefix with a glob": ("KEY_PREFIX", "hunter2*:", "letters, digits and : . _ - /"),
    "a negative wait": ("DATABASE_WAIT", "-1", "greater than or equal to 0"),
    "a wait beyond the time limit": ("DATABASE_WAIT", "81", "less than or equal to 80"),
}


@pytest.mark.parametrize(("name", "value", "rule"), BAD.values(), ids=BAD)
def test_a_bad_variable_is_named_with_its_rule_and_never_with_its_value(
    environment: pytest.MonkeyPatch, name: str, value: str, rule: str
) -> None:
    environment.setenv(f"ENROLL_{name}", value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"ENROLL_{name}: ")
    assert rule in line
    assert "hunter2" not in line


def test_each_bad_variable_has_a_line(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("ENROLL_DATABASE_URL")
    environment.setenv("ENROLL_BROKER_URL", "http://h")
    environment.setenv("ENROLL_RESULT_TTL", "x")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    named = {line.partition(":")[0] for line in str(caught.value).splitlines()}
    assert named == {"ENROLL_DATABASE_URL", "ENROLL_BROKER_URL", "ENROLL_RESULT_TTL"}


def test_with_rabbitmq_the_redis_for_results_is_required(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ENROLL_BROKER_URL", "amqp://h//")
    with pytest.raises(SettingsError, match=r"^ENROLL_RESULT_BACKEND_URL: must begin with one of"):
        load_settings()


def test_a_migration_needs_only_the_database(environment: pytest.MonkeyPatch) -> None:
    environment.delenv("ENROLL_BROKER_URL")
    assert load_database_url() == GOOD["ENROLL_DATABASE_URL"]


def test_settings_do_not_show_their_passwords(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("ENROLL_BROKER_URL", "redis://:hunter2@h/0")
    environment.setenv("ENROLL_DATABASE_URL", "postgresql://u:hunter2@h/d")
    assert "hunter2" not in repr(load_settings()) + repr(DatabaseSettings())
    assert all("hunter2" in url for url in secrets(load_settings()))


@pytest.mark.parametrize("name", IGNORED)
def test_a_variable_of_celery_is_ignored_and_named(
    environment: pytest.MonkeyPatch, name: str
) -> None:
    settings = load_settings()
    environment.setenv(name, "redis://:a-password@elsewhere/0")
    assert load_settings() == settings
    assert find_ignored_variables() == [name]
    environment.setenv(name, "")
    assert find_ignored_variables() == []


def test_the_variables_of_celery_are_those_that_celery_reads() -> None:
    """The settings of Celery that come from the environment, by its source."""
    sources = [Path(str(app_utils.__file__)).read_text(), Path(str(app_base.__file__)).read_text()]
    sources.append(Path(str(loaders_base.__file__)).read_text())
    read = set(re.findall(r"(?:environ\.get\(|env=)'(CELERY_\w+)'", "".join(sources)))
    assert read == set(IGNORED)
