"""Check that a database of PostgreSQL stores text as UTF-8."""

from worker.database.ask import Ask
from worker.database.refusal import Refusal


def wrong_encoding(ask: Ask, dialect: str) -> Refusal | None:
    """Return what is wrong with the database's encoding and what to do; None if it is UTF-8.

    Raises what `ask` raises.
    """
    if dialect != "postgresql":
        return None  # SQLite stores Unicode only.
    ((name, encoding),) = ask("SELECT current_database(), current_setting('server_encoding')")
    if encoding == "UTF8":
        return None
    return Refusal(
        f"the database {name} has the encoding {encoding}, but must be UTF8 to store every name",
        f"Stop the workers and copy it: createdb --encoding=UTF8 --locale=C --template=template0"
        f" NEW && pg_dump --encoding=UTF8 {name} | psql NEW. Then set ENROLL_DATABASE_URL to NEW.",
    )
