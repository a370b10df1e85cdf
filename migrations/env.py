"""Run Alembic's migrations on the given connection, or on the database at ENROLL_DATABASE_URL."""

from alembic import context
from sqlalchemy import Connection

from worker.database.engine import make_engine
from worker.models import Base
from worker.settings import load_database_url


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        # To alter a table on SQLite, Alembic copies it; elsewhere this option has no effect.
        render_as_batch=True,
        compare_type=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


shared = context.config.attributes.get("connection")
if shared is not None:
    migrate(shared)
else:
    engine = make_engine(load_database_url())
    with engine.begin() as own:
        migrate(own)
    engine.dispose()
