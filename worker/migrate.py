"""Bring the database to a schema: `python -m worker.migrate`, also from a wheel."""

import argparse
import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from worker.database.engine import make_engine
from worker.database.errors import is_outage
from worker.settings import SettingsError, load_database_url

_HERE = Path(__file__).parent
_PLACES = (_HERE / "migrations", _HERE.parent / "migrations")
"""In a wheel the migrations lie inside the package, in a checkout beside it."""


class UnknownMigration(Exception):
    """This version cannot bring the database there; the text says why."""


def alembic_config() -> Config:
    """Alembic's configuration with the migrations' folder worked out."""
    config = Config()
    place = next(path for path in _PLACES if path.is_dir())
    config.set_main_option("script_location", str(place).replace("%", "%%"))
    return config


def upgrade(engine: Engine) -> None:
    """Apply every migration that is missing."""
    change(engine, "head")


def is_current(engine: Engine) -> bool:
    """Whether every migration has been applied. Raises DBAPIError if the database is away."""
    applied, newest = revisions(engine)
    return applied == newest


def revisions(engine: Engine) -> tuple[list[str], list[str]]:
    """The last migrations that were applied, and those that there are. Raises DBAPIError."""
    newest = ScriptDirectory.from_config(alembic_config()).get_heads()
    with engine.connect() as connection:
        applied = MigrationContext.configure(connection).get_current_heads()
    return sorted(applied), sorted(newest)


def change(engine: Engine, target: str) -> tuple[str, str]:
    """Bring the database to a migration, forth or back; returns what it had, and what it has.

    Raises UnknownMigration, DBAPIError.
    """
    config = alembic_config()
    script = ScriptDirectory.from_config(config)
    order = [one.revision for one in script.walk_revisions()][::-1]
    if target == "head":
        target = order[-1]
    if target not in order:
        raise UnknownMigration(f"There is no migration {target}; there are {', '.join(order)}.")
    with engine.begin() as connection:
        (had,) = MigrationContext.configure(connection).get_current_heads() or ("none",)
        if had not in ("none", *order):
            raise UnknownMigration(
                f"The database has migration {had}, which this version does not know: it was"
                " migrated by a newer one, and only that can take it back."
            )
        config.attributes["connection"] = connection
        back = had != "none" and order.index(target) < order.index(had)
        (command.downgrade if back else command.upgrade)(config, target)
    return had, target


def main() -> None:
    """Migrate the database of ENROLL_DATABASE_URL; exits with 1 and a sentence if it cannot."""
    parser = argparse.ArgumentParser(
        prog="python -m worker.migrate",
        description="Bring the database of ENROLL_DATABASE_URL to the newest migration.",
        epilog="Back, before an older version is installed: python -m worker.migrate --to 0003",
    )
    parser.add_argument("--to", metavar="REVISION", default="head", help="another one than that")
    target = parser.parse_args().to
    try:
        engine = make_engine(load_database_url())
    except SettingsError as error:
        sys.exit(str(error))
    try:
        had, has = change(engine, target)
    except UnknownMigration as error:
        sys.exit(str(error))
    except DBAPIError as error:
        what = "did not answer" if is_outage(error) else "was not migrated, nothing was changed"
        sys.exit(f"The database of ENROLL_DATABASE_URL {what}: {error.orig}")
    finally:
        engine.dispose()
    print(f"Nothing to do: {has}" if had == has else f"Migrated: {had} -> {has}")  # noqa: T201


if __name__ == "__main__":
    main()
