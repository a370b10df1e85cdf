"""Copy databases as operators do, and connect to them as another role."""

import subprocess
import uuid
from collections.abc import Callable

from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.engine import make_url

from support.postgres import postgres_program

Administer = Callable[[str], None]


def name_of(database_url: str) -> str:
    """Return the name of a database of PostgreSQL."""
    name = make_url(database_url).database
    assert name is not None
    return name


def url_of_database(database_url: str, name: str) -> str:
    """Return the URL of another database of the same server."""
    url = make_url(database_url).set(database=name)
    return url.render_as_string(hide_password=False)


def as_role(database_url: str, role: str) -> str:
    """Return the URL with another role."""
    return make_url(database_url).set(username=role).render_as_string(hide_password=False)


def template_copy(administer: Administer, database_url: str) -> str:
    """Copy a database within its server; return the URL of the copy."""
    name = f"t{uuid.uuid4().hex}"
    administer(f"CREATE DATABASE {name} TEMPLATE {name_of(database_url)}")
    return url_of_database(database_url, name)


def dump_and_restore(source_url: str, target_url: str, *options: str) -> None:
    """Copy a database with pg_dump and psql; the target must be empty."""
    dump = subprocess.run(
        [postgres_program("pg_dump"), *options, connection_string(source_url)],
        check=True,
        capture_output=True,
    )
    subprocess.run(
        [postgres_program("psql"), "-qX", "-v", "ON_ERROR_STOP=1", connection_string(target_url)],
        input=dump.stdout,
        check=True,
        capture_output=True,
    )


def connection_string(database_url: str) -> str:
    """Return the URL in a form that libpq reads: without SQLAlchemy's name of the driver."""
    values = conninfo_to_dict(database_url.replace("postgresql+psycopg:", "postgresql:"))
    return " ".join(f"{key}={value}" for key, value in values.items() if value)
