"""Migrations run one after the other, give up in time, and leave nothing behind when they do."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, event, inspect, text

from support.paths import ROOT
from support.postgres import server_of
from support.prepared import Prepared
from support.stopwatch import Stopwatch
from support.waiting import wait_for
from support.workers import worker_environment
from worker import migrate
from worker.database.engine import Database, make_engine
from worker.database.migration_lock import ADVISORY_LOCK, Limits, MigrationBlocked

MIGRATE = ("-m", "worker.migrate")
HASTY = Limits(turn=0.5, lock=0.3)


class Process:
    """A Python process on a database, such as `python -m worker.migrate`, and what it printed."""

    def __init__(self, url: str, log: Path, *arguments: str) -> None:
        self._log = log
        with log.open("wb") as output:
            self.popen = Prepared(
                arguments,
                env=worker_environment("", url),
                cwd=ROOT,
                stdout=output,
                stderr=output,
            )

    @property
    def output(self) -> str:
        return self._log.read_text()

    def waits(self, path: str | None) -> bool:
        """Return whether it waits for another migration; SQLite's file is open by then."""
        assert self.popen.poll() is None, self.output
        if path is None:
            return "Another migration is running: pid" in self.output
        return path in {file.path for file in psutil.Process(self.popen.pid).open_files()}

    def last_line(self, code: int = 0) -> str:
        """Check the exit code; return the last line that the process printed, or ""."""
        assert self.popen.wait(60) == code, self.output
        return (["", *self.output.splitlines()])[-1]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts processes on a database, and ends those that still run after the test."""
    with ExitStack() as running:

        def start(url: str, *arguments: str) -> Process:
            process = Process(url, tmp_path / f"{time.monotonic_ns()}.log", *arguments)
            running.enter_context(process.popen)
            running.callback(process.popen.kill)
            return process

        yield start


@pytest.fixture
def engine(empty_postgres_url: str) -> Iterator[Engine]:
    """A migrated PostgreSQL."""
    made = make_engine(empty_postgres_url)
    migrate.upgrade(made)
    yield made
    made.dispose()


@pytest.fixture
def project(tmp_path: Path) -> Config:
    """A copy of the migrations, to which a test adds its own."""
    config = Config(tmp_path / "alembic.ini")
    folder = tmp_path / "migrations"
    shutil.copytree(ROOT / "migrations", folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "alembic.ini").write_text(
        (ROOT / "alembic.ini").read_text().replace("prepend_sys_path = .", "")
    )
    return config


def _add_migration(project: Config, revision: str, body: str) -> None:
    """Write a migration from the template, with this body of `upgrade`."""
    script = command.revision(project, f"test {revision}", rev_id=revision)
    assert script is not None
    assert not isinstance(script, list)
    path = Path(script.path)
    path.write_text(path.read_text().replace("    pass", body, 1))


@contextmanager
def _held(engine: Engine, statement: str = "") -> Iterator[Connection]:
    """Hold a lock in an open transaction: that of migrations, or those of a statement."""
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            lock = statement or f"SELECT pg_advisory_xact_lock({ADVISORY_LOCK})"
            connection.execute(text(lock))
        yield connection


def _tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names())


def _process_id(connection: Connection) -> int:
    return int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())


def _builds_an_index(engine: Engine) -> bool:
    """Return whether an index is being built and waits for the writers of its table."""
    building = text("SELECT count(*) FROM pg_stat_progress_create_index WHERE lockers_total > 0")
    with engine.connect() as connection:
        return bool(connection.execute(building).scalar_one())


def test_two_migrations_at_once_run_one_after_the_other(
    empty_database_url: str, start: Callable[..., Process]
) -> None:
    engine = make_engine(empty_database_url)
    path = engine.url.database if engine.dialect.name == "sqlite" else None
    with _held(engine):
        both = [start(empty_database_url, *MIGRATE) for _ in range(2)]
        for process in both:
            wait_for(lambda process=process: process.waits(path))  # type: ignore[misc]
    printed = sorted(process.last_line() for process in both)
    assert printed == ["Migrated: none -> 0015", "Nothing to do: 0015"]
    assert migrate.is_current(engine)
    command_line = migrate.alembic_config()
    with engine.begin() as connection:
        command_line.attributes["connection"] = connection
        command.check(command_line)
    engine.dispose()


def test_several_migrations_may_start_in_the_same_moment(
    empty_database_url: str, start: Callable[..., Process]
) -> None:
    several = [start(empty_database_url, *MIGRATE) for _ in range(4)]
    printed = sorted(process.last_line() for process in several)
    assert printed == ["Migrated: none -> 0015", *["Nothing to do: 0015"] * 3]


def test_a_migration_gives_up_if_another_one_does_not_end(
    empty_postgres_url: str, start: Callable[..., Process]
) -> None:
    engine = make_engine(empty_postgres_url)
    with _held(engine) as holder:
        process = start(empty_postgres_url, *MIGRATE, "--wait", "0.5")
        printed = process.last_line(code=1)
        assert "did not end within 0.5 s: pid" in printed
        assert f"pid {_process_id(holder)}, user" in printed
        assert "Nothing was changed. Wait until it ends, then migrate again" in printed
        with pytest.raises(MigrationBlocked, match=r"did not end within 0\.5 s"):
            migrate.upgrade(engine, HASTY)
        assert _tables(engine) == set()
    migrate.upgrade(engine, HASTY)
    assert migrate.is_current(engine)
    engine.dispose()


def test_a_table_in_use_makes_a_migration_give_up_and_change_nothing(engine: Engine) -> None:
    before = _tables(engine)
    with _held(engine, "SELECT * FROM student_courses") as holder:
        watch = Stopwatch(os.getpid(), server_of(holder), families=True)
        # A migration of the same run has already been undone when the next one is blocked.
        with pytest.raises(MigrationBlocked) as blocked:
            migrate.change(engine, "0001", HASTY)
        assert watch.seconds() < 5
        assert _tables(engine) == before
        assert migrate.is_current(engine)
        printed = str(blocked.value)
        statement = "DROP TRIGGER count_losses_by_delete ON student_courses"
        assert f"lock_timeout) at: {statement}. It was rolled back" in printed
        assert f"Sessions that use its tables: pid {_process_id(holder)}, user" in printed
        assert "idle in transaction for" in printed
        assert "on student_courses. Wait until" in printed
    assert migrate.change(engine, "0001", HASTY) == ("0015", "0001")
    assert _tables(engine) == {"alembic_version", "students", "courses"}


@pytest.mark.parametrize(
    "arguments",
    [(*MIGRATE, "--to", "0003"), ("-m", "alembic", "downgrade", "0003")],
    ids=["worker.migrate", "alembic"],
)
def test_both_commands_give_up_with_a_message_and_exit_code_1(
    engine: Engine, start: Callable[..., Process], arguments: tuple[str, ...]
) -> None:
    url = engine.url.render_as_string(hide_password=False)
    with _held(engine, "SELECT * FROM dead_letters"):
        process = start(url, *arguments)
        printed = process.last_line(code=1)
        assert printed.startswith("The migration gave up waiting for a lock")
        assert "Traceback" not in process.output
        assert migrate.is_current(engine)
    start(url, *arguments).last_line()
    assert migrate.revisions(engine)[0] == ["0003"]


def test_a_writer_makes_a_migration_of_sqlite_give_up(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'enrollment.db'}")
    migrate.upgrade(database.engine)
    hasty = make_engine(database.url)
    event.listen(hasty, "connect", lambda raw, _: raw.execute("PRAGMA busy_timeout = 200"))
    with database.writing():
        with pytest.raises(MigrationBlocked, match=r"write lock.* Nothing was changed\. Stop"):
            migrate.change(hasty, "0001")
        with database.reading() as reader:
            assert (
                reader.execute(text("SELECT version_num FROM alembic_version")).scalar() == "0015"
            )
    assert migrate.change(hasty, "0001") == ("0015", "0001")
    hasty.dispose()
    database.close()


def test_limits_and_lock_end_with_the_migration(engine: Engine) -> None:
    with _held(engine, "SELECT * FROM dead_letters"), pytest.raises(MigrationBlocked):
        migrate.change(engine, "0003", HASTY)
    migrate.change(engine, "0003", HASTY)
    with engine.connect() as first, engine.connect() as second:  # These connections were just used.
        for connection in (first, second):
            for setting, value in (("lock_timeout", "2s"), ("statement_timeout", "2min")):
                assert connection.execute(text(f"SHOW {setting}")).scalar_one() == value
        held = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        assert first.execute(held).scalar_one() == 0


def test_a_slow_statement_is_interrupted_unless_its_migration_raises_the_limit(
    engine: Engine, project: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = engine.url.render_as_string(hide_password=False)
    monkeypatch.setenv("ENROLL_DATABASE_URL", url)
    project.attributes["limits"] = Limits(statement=0.5)
    raised = "    op.execute(\"SET LOCAL statement_timeout = '1min'\")\n"
    slow = '    op.execute("CREATE TABLE slow AS SELECT pg_sleep(0.6)::text")'
    _add_migration(project, "9999", raised + slow)
    _add_migration(project, "0016", slow.replace("slow", "slower").replace("0.6", "60"))
    with pytest.raises(
        SystemExit, match=r"timeout\) at: CREATE TABLE slower .* It was rolled back"
    ):
        command.upgrade(project, "head")
    assert "slow" not in _tables(engine)
    command.upgrade(project, "9999")
    assert "slow" in _tables(engine)


def test_an_index_is_built_concurrently_while_a_second_migration_waits(
    engine: Engine, project: Config, start: Callable[..., Process]
) -> None:
    """The waiting migration must hold no snapshot, or the build of the index would wait for it."""
    url = engine.url.render_as_string(hide_password=False)
    _add_migration(
        project,
        "9999",
        "    with op.get_context().autocommit_block():\n"
        '        op.create_index("ix_test", "student_courses", ["course_id"],'
        " postgresql_concurrently=True)",
    )
    settings = "SELECT name, setting FROM pg_settings WHERE name LIKE '%_timeout'"
    _add_migration(project, "0016", f'    op.execute("CREATE TABLE limits AS {settings}")')
    arguments = ("-m", "alembic", "-c", str(project.config_file_name), "upgrade", "head")
    with _held(engine, "LOCK TABLE student_courses IN ROW EXCLUSIVE MODE"):
        first = start(url, *arguments)
        wait_for(lambda: _builds_an_index(engine))
        second = start(url, *arguments)
        wait_for(lambda: second.waits(None))
        assert first.popen.poll() is None
    for process in (first, second):
        process.last_line()
    assert "ix_test" in {index["name"] for index in inspect(engine).get_indexes("student_courses")}
    with engine.connect() as connection:
        limits = {row.name: row.setting for row in connection.execute(text("TABLE limits"))}
    assert (limits["lock_timeout"], limits["statement_timeout"]) == ("5000", "60000")
