"""The migrations make exactly the tables of the models, on both databases, and go both ways."""

from datetime import UTC, datetime, timedelta

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import insert, inspect, select, text

from producer.schemas import Kind
from support.databases import count_rows, store_roster
from support.migrations import run_alembic
from worker import migrate
from worker.batches.apply import apply_chunk
from worker.database.engine import Database, make_engine
from worker.enrollment.lookups import request_statuses
from worker.models import (
    Batch,
    BatchChunk,
    Course,
    EnrollmentResult,
    IdentityRow,
    Student,
    StudentCourse,
)


def test_models_and_migrations_agree(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    run_alembic(engine, "upgrade", "head")
    run_alembic(engine, "check")
    engine.dispose()


def test_each_migration_goes_down_and_up_again(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    revisions = list(ScriptDirectory.from_config(migrate.alembic_config()).walk_revisions())
    for revision in reversed(revisions):
        before = str(revision.down_revision or "base")
        run_alembic(engine, "upgrade", revision.revision)
        run_alembic(engine, "downgrade", before)
        run_alembic(engine, "upgrade", revision.revision)
    run_alembic(engine, "downgrade", "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    engine.dispose()


def test_times_that_lie_ahead_are_capped_and_batches_get_a_moment(
    empty_database_url: str,
) -> None:
    """A worker with a wrong clock has stored them; a later request would lose against them."""
    engine = make_engine(empty_database_url)
    run_alembic(engine, "upgrade", "0008")
    now = datetime.now(UTC)
    past, ahead = now - timedelta(days=1), now + timedelta(hours=2)
    with engine.begin() as connection:
        connection.execute(insert(Student), {"id": 1, "sis_id": "S"})
        connection.execute(insert(Course), [{"id": n, "sis_id": f"C{n}"} for n in (1, 2)])
        rows = [(1, past), (2, ahead)]
        pairs = [{"student_id": 1, "course_id": c, "enrolled_at": at} for c, at in rows]
        connection.execute(insert(StudentCourse), pairs)
        connection.execute(insert(Batch), {"id": "b", "kind": "enrollments"})
        names = ("fingerprint", "requests_through", "rows_through", "requests", "rows", "enrolled")
        more = ("requests_rejected", "already_enrolled", "upserted", "unchanged", "rejected")
        entry = dict.fromkeys((*names, *more), 0) | {"batch_id": "b", "last": False}
        chunks = [{**entry, "number": n, "applied_at": at} for n, at in rows]
        connection.execute(insert(BatchChunk), chunks)
    run_alembic(engine, "upgrade", "head")
    with engine.connect() as connection:
        enrolled = connection.scalars(select(StudentCourse.enrolled_at).order_by("course_id")).all()
        applied = connection.scalars(select(BatchChunk.applied_at).order_by("number")).all()
        assert connection.scalars(select(Batch.moment)).all() == [past]
    engine.dispose()
    for first, second in (enrolled, applied):
        assert first == past
        assert now <= second <= datetime.now(UTC)


def test_a_database_that_is_in_use_stores_all_results_for_a_week(empty_database_url: str) -> None:
    """Workers of the previous version, which cannot derive results, still run."""
    engine = make_engine(empty_database_url)
    run_alembic(engine, "upgrade", "0010")
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO students (id, sis_id) VALUES (1, 'S')"))
    run_alembic(engine, "upgrade", "head")
    with engine.connect() as connection:
        until = connection.scalar(select(IdentityRow.results_stored_until))
    engine.dispose()
    assert until is not None
    assert timedelta(days=6) < until - datetime.now(UTC) <= timedelta(days=7)


def test_a_new_database_derives_results_at_once(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    migrate.upgrade(engine)
    with engine.connect() as connection:
        assert connection.scalars(select(IdentityRow.results_stored_until)).all() == [None]
    engine.dispose()


def test_derived_results_are_stored_when_the_database_is_downgraded(database: Database) -> None:
    store_roster(database, ["A", "B"], ["M1", "M2"])
    columns = {"student_ids": ["A", 2], "course_ids": [["M2", "M1"], ["M1"]]}
    payload = {"batch_id": "b", "number": 0, "last": True, "requests": columns}
    apply_chunk(database, Kind.ENROLLMENTS, payload)
    ids = ["b:0:0", "b:0:1"]
    derived = request_statuses(database, ids, {})
    run_alembic(database.engine, "downgrade", "0010")
    run_alembic(database.engine, "upgrade", "head")
    assert count_rows(database, EnrollmentResult) == 2
    assert request_statuses(database, ids, {}) == derived


def test_every_constraint_and_index_has_a_name(empty_database_url: str) -> None:
    engine = make_engine(empty_database_url)
    migrate.upgrade(engine)
    tables = inspect(engine)
    for table in set(tables.get_table_names()) - {"alembic_version"}:
        named = [
            tables.get_pk_constraint(table),
            *tables.get_foreign_keys(table),
            *tables.get_unique_constraints(table),
            *tables.get_indexes(table),
        ]
        assert all(str(thing["name"]).startswith(("pk_", "fk_", "uq_", "ix_")) for thing in named)
    engine.dispose()


def test_the_migrations_have_a_single_head() -> None:
    script = ScriptDirectory.from_config(migrate.alembic_config())
    assert len(script.get_heads()) == 1
    names = [revision.path.split("/")[-1] for revision in script.walk_revisions()]
    assert any("create_student_courses_table" in name for name in names)


def test_alembic_ini_finds_the_same_migrations() -> None:
    from_ini = ScriptDirectory.from_config(Config("alembic.ini"))
    assert from_ini.get_heads() == ScriptDirectory.from_config(migrate.alembic_config()).get_heads()
