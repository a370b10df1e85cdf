"""The migrations make exactly the tables of the models, on both databases, and go both ways."""

from datetime import UTC, datetime, timedelta

from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import insert, inspect, select

from support.migrations import run_alembic
from worker import migrate
from worker.database.engine import make_engine
from worker.models import Batch, BatchChunk, Course, Student, StudentCourse


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
