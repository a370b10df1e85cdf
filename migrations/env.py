"""Alembic's entry: migrates the connection it is handed, or the database of ENROLL_DATABASE_URL."""

from alembic import context
from sqlalchemy import Connection

from worker.database.engine import make_engine
from worker.models import Base
from worker.settings import load_database_url


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,  # SQLite alters a table by making it anew; elsewhere it does nothing.
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
