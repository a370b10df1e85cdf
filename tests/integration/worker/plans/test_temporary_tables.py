"""While a plan is made, the database itself refuses to change anything real."""

import uuid

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import DBAPIError

from support.copies import Administer, as_role, name_of
from support.databases import count_rows, opened_database, store_roster
from support.pgbouncer import running_pgbouncer
from worker.database.engine import Database
from worker.database.errors import is_outage, sentence_of
from worker.database.planning import real_table
from worker.database.temporary_tables import (
    NOT_HIDDEN,
    TablesRewritten,
    check_not_rewritten,
    hidden_models,
    planning_connection,
    seal,
)
from worker.models import Base, Course, IdentityRow, Student, StudentCourse


def test_every_table_is_hidden_or_is_not_written_by_ordinary_code() -> None:
    hidden = {model.__tablename__ for model in hidden_models()}
    assert hidden | NOT_HIDDEN | {IdentityRow.__tablename__} == set(Base.metadata.tables)
    assert hidden & NOT_HIDDEN == set()


def test_what_is_written_stays_in_temporary_tables(database: Database) -> None:
    store_roster(database, ["A"], ["M1"])
    with planning_connection(database, stores_results=True) as connection:
        seal(connection)
        assert connection.scalars(select(Student.sis_id)).all() == []
        connection.execute(insert(Student).values(sis_id="planned"))
        (key,) = connection.scalars(select(Student.id)).all()
        assert not 1 <= key < 2**31  # No real student can have it.
        real = real_table(connection, Student)
        assert connection.scalars(select(real.c.sis_id)).all() == ["A"]
    assert count_rows(database, Student) == 1
    store_roster(database, ["B"], [])
    with database.reading() as connection:
        assert connection.scalars(select(Student.id).order_by(Student.id)).all() == [1, 2]


def test_real_tables_refuse_every_change(database: Database) -> None:
    store_roster(database, ["A"], ["M1"])
    changes = ["INSERT INTO {} (sis_id) VALUES ('B')", "UPDATE {} SET name = 'x'", "DELETE FROM {}"]
    for change in changes:
        with planning_connection(database, stores_results=True) as connection:
            seal(connection)
            table = real_table(connection, Student)
            with pytest.raises(DBAPIError):
                connection.execute(text(change.format(f"{table.schema}.{table.name}")))
    assert count_rows(database, Student) == 1


def test_a_table_that_is_not_hidden_is_found_before_anything_is_written(
    database: Database, postgres_database: Database
) -> None:
    with planning_connection(database, stores_results=True) as connection:
        if connection.dialect.name == "sqlite":
            connection.execute(text("DROP TABLE temp.student_courses"))
        else:
            connection.execute(text("DROP TABLE pg_temp.student_courses"))
        with pytest.raises(DBAPIError, match="real tables student_courses"):
            seal(connection)
    with planning_connection(postgres_database, stores_results=True) as connection:
        connection.execute(text("SET LOCAL search_path = public, pg_temp"))
        with pytest.raises(DBAPIError, match=r"real tables .*student_courses"):
            seal(connection)


def test_a_plan_does_not_take_tables_that_are_rewritten_meanwhile_for_empty(
    postgres_database: Database,
) -> None:
    rewrite = "ALTER TABLE courses ALTER title TYPE varchar({}) USING title || ''"
    store_roster(postgres_database, ["A"], ["M1"])
    with planning_connection(postgres_database, stores_results=True) as connection:
        check_not_rewritten(connection)
        with postgres_database.writing() as other:
            other.execute(text(rewrite.format(300)))
            other.execute(text(rewrite.format(255)))
        real = real_table(connection, Course)
        assert connection.scalars(select(real.c.sis_id)).all() == []  # Although it has a row.
        with pytest.raises(TablesRewritten, match="courses"):
            check_not_rewritten(connection)


def test_a_role_without_temporary_tables_gets_one_clear_error(
    administer: Administer, postgres_url: str
) -> None:
    name, role = name_of(postgres_url), f"r{uuid.uuid4().hex}"
    administer(f"CREATE ROLE {role} LOGIN")
    administer(f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC")
    with opened_database(postgres_url) as owner, owner.writing() as connection:
        connection.execute(text(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"))

    def plan() -> None:
        with (
            opened_database(as_role(postgres_url, role)) as database,
            planning_connection(database, stores_results=True) as connection,
        ):
            seal(connection)
            assert connection.scalars(select(StudentCourse.student_id)).all() == []

    with pytest.raises(DBAPIError, match=f"role {role} may not create temporary") as refused:
        plan()
    assert is_outage(refused.value)  # No plan is discarded for it.
    administer(sentence_of(refused.value).partition("database: ")[2])
    plan()


def test_it_works_through_a_pooler_that_lends_connections_for_a_transaction(
    postgres_url: str,
) -> None:
    """Sessions of the server are shared: nothing of a plan may remain in them."""
    with (
        running_pgbouncer(postgres_url, default_pool_size=1) as url,
        opened_database(f"{url}?pool_mode=transaction") as database,
    ):
        store_roster(database, ["A"], ["M1"])
        for _ in range(3):
            with planning_connection(database, stores_results=True) as connection:
                seal(connection)
                connection.execute(insert(Student).values(sis_id="planned"))
            assert count_rows(database, Student) == 1
        store_roster(database, ["B"], [])
        assert count_rows(database, Student) == 2
