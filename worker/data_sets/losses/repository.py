"""Read how much a data set has lost, in SQL (`worker.plan_models.DataSet`)."""

from functools import cache
from typing import Any

from sqlalchemy import Connection, bindparam, select, text

from worker.database.planning import planning_on
from worker.plan_models import DataSet


def count_losses(connection: Connection, data_set: int) -> int | None:
    """Return how much a data set has lost so far; None if that is not counted.

    It is not if a trigger is missing or disabled, as in a database that was restored without them:
    then nothing may depend on the count.
    """
    dialect = connection.dialect.name
    values: dict[str, Any] = {"key": data_set}
    if dialect == "postgresql":
        planning = planning_on(connection)
        values["schema"] = None if planning is None else planning.schema
    losses: int | None = connection.scalar(_select_losses(dialect), values)
    return losses


@cache
def _select_losses(dialect: str) -> Any:
    is_counted = text(_IS_COUNTED[dialect])
    return select(DataSet.losses).where(DataSet.id == bindparam("key"), is_counted)


# On the connection of a plan, a temporary table hides the one with the triggers.
_IS_COUNTED = {
    "postgresql": """
        5 = (SELECT count(*) FROM pg_trigger t
             JOIN pg_class c ON c.oid = t.tgrelid
             JOIN pg_namespace n ON n.oid = c.relnamespace
             WHERE c.relname IN ('student_courses', 'students', 'courses')
               AND t.tgenabled IN ('O', 'A')
               AND t.tgname IN
                   ('count_losses_by_delete', 'count_losses_by_update', 'count_losses_of_all')
               AND CASE WHEN CAST(:schema AS text) IS NULL THEN pg_table_is_visible(c.oid)
                   ELSE n.nspname = :schema END)
    """,
    "sqlite": """
        4 = (SELECT count(*) FROM main.sqlite_master
             WHERE type = 'trigger' AND (tbl_name, name) IN (VALUES
               ('student_courses', 'count_losses_by_delete'),
               ('student_courses', 'count_losses_by_update'),
               ('students', 'count_losses_by_students'),
               ('courses', 'count_losses_by_courses')))
    """,
}
