"""Faults of PostgreSQL: restarts, switchovers, lost rights and tables, and locks."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import psycopg

from producer.errors import EnrollmentError, NoWorkerAnswered
from support.faults.kinds import Needs, Scene, blow, state
from support.stopwatch import Stopwatch
from worker.messaging.transport import LEASE_SECONDS

UNAVAILABLE = ("The database is unavailable", "enrollment_database_wait_seconds_total")
REFUSED = ("The database refuses to work", "enrollment_database_refusals_total")
TABLES = ("students", "courses", "student_courses", "enrollment_results", "batches", "batch_chunks")
LOOKUP_SECONDS = 5
"""How long a lookup may take while another session holds a lock."""

on_postgres = partial(state, needs=Needs.POSTGRESQL)


# --- the server --------------------------------------------------------------------------------


@blow(*UNAVAILABLE, needs=Needs.POSTGRESQL)
def terminate_backends(scene: Scene) -> None:
    scene.database.end_sessions()


@blow(*UNAVAILABLE, needs=Needs.POSTGRESQL)
def restart_postgres(scene: Scene) -> None:
    scene.database.pair.primary.stop("immediate")
    scene.database.pair.primary.start()


@on_postgres(*UNAVAILABLE, seconds=(1, 4))
def silence_postgres(scene: Scene) -> Iterator[None]:
    """Let the network before PostgreSQL go silent; what hangs is cut, or continues."""
    name = scene.database.pair.name
    with name.silent():
        yield
    if scene.chance.random() < 0.5:
        name.cut()


@on_postgres(*REFUSED)
def lead_to_standby(scene: Scene) -> Iterator[None]:
    """Let the name lead to the standby for a while; its connections stay open afterwards."""
    pair = scene.database.pair
    pair.name.lead_to(pair.standby.port)
    scene.database.end_sessions()
    try:
        yield
    finally:
        pair.name.lead_to(pair.primary.port)


@on_postgres(*UNAVAILABLE)
def switch_postgres(scene: Scene) -> Iterator[None]:
    """Let primary and standby change places; the name follows later."""
    pair = scene.database.pair
    pair.change_places()
    try:
        yield
    finally:
        pair.name.lead_to(pair.primary.port)


@on_postgres(*UNAVAILABLE)
def forbid_login(scene: Scene) -> Iterator[None]:
    with _altered_role(scene, "NOLOGIN", "LOGIN"):
        yield


@on_postgres(*UNAVAILABLE)
def limit_connections(scene: Scene) -> Iterator[None]:
    with _altered_role(scene, "CONNECTION LIMIT 1", "CONNECTION LIMIT -1"):
        yield


@state(*UNAVAILABLE, needs=Needs.PGBOUNCER)
def restart_pgbouncer(scene: Scene) -> Iterator[None]:
    assert scene.pgbouncer is not None
    scene.pgbouncer.kill()
    try:
        yield
    finally:
        scene.pgbouncer.start()


@contextmanager
def _altered_role(scene: Scene, begin: str, end: str) -> Iterator[None]:
    """Alter the role, and end its sessions, so that the next ones meet it."""
    database = scene.database
    database.ask(f"ALTER ROLE {database.role} {begin}")
    try:
        database.end_sessions()
        yield
    finally:
        database.ask(f"ALTER ROLE {database.role} {end}")


# --- rights and tables -------------------------------------------------------------------------


@on_postgres(*REFUSED)
def revoke_insert(scene: Scene) -> Iterator[None]:
    with _without_right(scene, "INSERT"):
        yield


@on_postgres(*REFUSED)
def revoke_select(scene: Scene) -> Iterator[None]:
    with _without_right(scene, "SELECT"):
        yield


@on_postgres(*REFUSED)
def revoke_all(scene: Scene) -> Iterator[None]:
    with _without_right(scene, "ALL"):
        yield


@contextmanager
def _without_right(scene: Scene, right: str) -> Iterator[None]:
    database, table = scene.database, scene.chance.choice(TABLES)
    database.ask(f"REVOKE {right} ON {table} FROM {database.role}")
    try:
        yield
    finally:
        database.ask(f"GRANT {right} ON {table} TO {database.role}")


@on_postgres(*REFUSED)
def revoke_schema(scene: Scene) -> Iterator[None]:
    """Without the right to use the schema, the tables do not exist for the role."""
    scene.database.ask("REVOKE USAGE ON SCHEMA public FROM PUBLIC, pg_database_owner")
    try:
        yield
    finally:
        scene.database.ask("GRANT USAGE ON SCHEMA public TO PUBLIC, pg_database_owner")


@on_postgres(*REFUSED)
def rename_table(scene: Scene) -> Iterator[None]:
    database, table = scene.database, scene.chance.choice(TABLES)
    database.ask(f"ALTER TABLE {table} RENAME TO {table}_away")
    try:
        yield
    finally:
        database.ask(f"ALTER TABLE {table}_away RENAME TO {table}")


@on_postgres(*REFUSED)
def rename_column(scene: Scene) -> Iterator[None]:
    database = scene.database
    table, column = scene.chance.choice(
        [
            *[("students", "sis_id"), ("courses", "title"), ("student_courses", "enrolled_at")],
            *[("enrollment_results", "status"), ("batch_chunks", "fingerprint")],
        ]
    )
    database.ask(f"ALTER TABLE {table} RENAME {column} TO {column}_away")
    try:
        yield
    finally:
        database.ask(f"ALTER TABLE {table} RENAME {column}_away TO {column}")


@on_postgres(*REFUSED)
def fail_in_trigger(scene: Scene) -> Iterator[None]:
    """Let another application's trigger refuse every new row of a table."""
    database, table = scene.database, scene.chance.choice(TABLES[2:])
    database.ask(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE EXCEPTION 'no rows today'; END $$"
    )
    database.ask(
        f"CREATE TRIGGER failing BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION fail()"
    )
    try:
        yield
    finally:
        database.ask("DROP FUNCTION fail CASCADE")


@on_postgres()
def widen_column(scene: Scene) -> Iterator[None]:
    """Change the type of a column under running workers, and change it back."""
    table, column, narrow, wide = scene.chance.choice(
        [
            ("students", "id", "integer", "bigint"),
            ("students", "sis_id", "varchar(255)", "text"),
            ("courses", "id", "integer", "bigint"),
            ("courses", "title", "varchar(255)", "varchar(500)"),
            ("enrollment_results", "status", "varchar(16)", "text"),
            ("enrollment_results", "student_id", "integer", "bigint"),
            ("batch_chunks", "rows", "integer", "bigint"),
            ("batches", "kind", "varchar(16)", "text"),
        ]
    )
    scene.database.ask(f"ALTER TABLE {table} ALTER COLUMN {column} TYPE {wide}")
    try:
        yield
    finally:
        scene.database.ask(f"ALTER TABLE {table} ALTER COLUMN {column} TYPE {narrow}")


@on_postgres()
def widen_key(scene: Scene) -> Iterator[None]:
    """Change the type of the keys that enrollments consist of, and change it back."""
    column = scene.chance.choice(("student_id", "course_id"))
    scene.database.ask(f"ALTER TABLE student_courses ALTER COLUMN {column} TYPE bigint")
    try:
        yield
    finally:
        scene.database.ask(f"ALTER TABLE student_courses ALTER COLUMN {column} TYPE integer")


@on_postgres(*REFUSED)
def require_column(scene: Scene) -> Iterator[None]:
    """Add a column that must not be null, as another application's migration might."""
    database, table = scene.database, scene.chance.choice(TABLES[2:])
    database.ask(f"ALTER TABLE {table} ADD extra integer NOT NULL DEFAULT 0")
    database.ask(f"ALTER TABLE {table} ALTER extra DROP DEFAULT")
    try:
        yield
    finally:
        database.ask(f"ALTER TABLE {table} DROP extra")


@on_postgres(*REFUSED)
def forbid_rows(scene: Scene) -> Iterator[None]:
    """Add a condition that no new row meets."""
    database, table = scene.database, scene.chance.choice(TABLES[2:])
    database.ask(f"ALTER TABLE {table} ADD CONSTRAINT no_rows CHECK (false) NOT VALID")
    try:
        yield
    finally:
        database.ask(f"ALTER TABLE {table} DROP CONSTRAINT no_rows")


# --- locks -------------------------------------------------------------------------------------


@on_postgres(*REFUSED, seconds=(4, 12))
def lock_table(scene: Scene) -> Iterator[None]:
    """Lock a table in another session; lookups are answered meanwhile."""
    table = scene.chance.choice(TABLES)
    with _locked(scene, f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"):
        yield


@on_postgres(*REFUSED, seconds=(4, 12))
def lock_rows(scene: Scene) -> Iterator[None]:
    """Lock the rows of all students or courses, which new enrollments refer to."""
    table = scene.chance.choice(("students", "courses"))
    with _locked(scene, f"TABLE {table} FOR UPDATE"):
        yield


@on_postgres(*REFUSED, seconds=(4, 8))
def lock_table_with_limit(scene: Scene) -> Iterator[None]:
    """Hold a lock while the role has a `lock_timeout` of its own."""
    table, limit = scene.chance.choice(TABLES), scene.chance.choice(("50ms", "1s"))
    with (
        scene.database.setting_of_role(lock_timeout=limit),
        _locked(scene, f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"),
    ):
        yield


@contextmanager
def _locked(scene: Scene, statement: str) -> Iterator[None]:
    with scene.database.connect() as connection:
        connection.autocommit = False
        _wait_for_answer(scene)
        connection.execute(statement.encode())
        _look_up(scene)
        yield
        with suppress(psycopg.Error):
            connection.rollback()


def _wait_for_answer(scene: Scene) -> None:
    """Wait until a worker answers: a lookup that a killed worker took is answered after its lease.

    What is measured afterwards is the lock, and not this.
    """
    with scene.client(2 * LEASE_SECONDS) as client, suppress(EnrollmentError):
        client.student("S1")


def _look_up(scene: Scene) -> None:
    """Count a lookup that is not answered in time; an error is an answer.

    It is not counted if other processes had the processors for most of that time.
    """
    workers = [worker.process.pid for worker in scene.fleet.workers]
    with scene.client(LOOKUP_SECONDS) as client:
        watch = Stopwatch(os.getpid(), *workers, families=True)
        try:
            client.student("S1")
        except NoWorkerAnswered:
            scene.silent_lookups += watch.seconds() > LOOKUP_SECONDS / 2
        except EnrollmentError:
            pass
        assert watch.seconds() < LOOKUP_SECONDS + 2
