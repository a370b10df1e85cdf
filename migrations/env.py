"""Run Alembic's migrations on the given connection, or on the database at ENROLL_DATABASE_URL.

The caller that hands over a connection makes sure that no other migration runs
(`worker.database.migration_lock.migrating`). The time limits are set here in either case.
"""

import sys

from alembic import context
from sqlalchemy import Connection

from worker.database.engine import make_engine
from worker.database.migration_lock import (
    DEFAULT_LIMITS,
    MigrationBlocked,
    limit_statements,
    migrating,
)
from worker.models import Base
from worker.settings import load_database_url

limits = context.config.attributes.get("limits", DEFAULT_LIMITS)


def migrate(connection: Connection) -> None:
    def set_limits(**_: object) -> None:
        for statement in limit_statements(connection.dialect.name, limits):
            context.execute(statement)

    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        # To alter a table on SQLite, Alembic copies it; elsewhere this option has no effect.
        render_as_batch=True,
        compare_type=True,
        compare_server_default=True,
        # A migration may have raised the limits, or lost them with `autocommit_block`: the next
        # one starts with them again.
        on_version_apply=set_limits,
    )
    with context.begin_transaction():
        set_limits()
        context.run_migrations()


shared = context.config.attributes.get("connection")
if shared is not None:
    migrate(shared)
else:
    engine = make_engine(load_database_url())
    try:
        with migrating(engine, limits) as own:
            migrate(own)
    except MigrationBlocked as error:
        # Like `python -m worker.migrate`, this prints one sentence and exits with 1.
        sys.exit(str(error))
    finally:
        engine.dispose()
