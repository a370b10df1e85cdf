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
        "Stop the workers and copy the database: `createdb --encoding=UTF8 --locale=C"
        f" --template=template0 NEW && pg_dump --encoding=UTF8 {name} | psql -v ON_ERROR_STOP=1"
        f" NEW`. Then put NEW in place of {name} in ENROLL_DATABASE_URL, run `python -m"
        " worker.migrate` and `enroll database accept`, and start the workers.",
    )
