"""Migrate the database: `python -m worker.migrate`, from a checkout or an installed wheel."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from worker.database.engine import make_engine
from worker.database.errors import is_answer, is_outage
from worker.database.migration_lock import DEFAULT_LIMITS, Limits, MigrationBlocked, migrating
from worker.database.rights import require_visible_tables
from worker.settings import SettingsError, load_database_url

_HERE = Path(__file__).parent
_FOLDERS = (_HERE / "migrations", _HERE.parent / "migrations")
"""A wheel has the migrations inside the package, a checkout has them beside it."""


class UnknownMigration(Exception):
    """This version does not know a migration. The message says which one and what to do."""


def alembic_config() -> Config:
    """Return Alembic's configuration with the folder of the migrations."""
    config = Config()
    folder = next(path for path in _FOLDERS if path.is_dir())
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return config


def upgrade(engine: Engine, limits: Limits = DEFAULT_LIMITS) -> None:
    """Apply every missing migration. Raises what `change` raises."""
    change(engine, "head", limits)


def is_current(engine: Engine) -> bool:
    """Return whether every migration has been applied. Raises DBAPIError."""
    applied, newest = revisions(engine)
    return applied == newest


def revisions(engine: Engine) -> tuple[list[str], list[str]]:
    """Return the newest applied migrations and the newest known ones. Raises DBAPIError."""
    newest = ScriptDirectory.from_config(alembic_config()).get_heads()
    with engine.connect() as connection:
        applied = MigrationContext.configure(connection).get_current_heads()
        if not applied:
            require_visible_tables(connection)
    return sorted(applied), sorted(newest)


def change(engine: Engine, target: str, limits: Limits = DEFAULT_LIMITS) -> tuple[str, str]:
    """Migrate the database up or down to a migration; return the ones before and after.

    Migrations of one database run one after the other. On PostgreSQL the engine lends two
    connections: one migrates, the other one holds the advisory lock.

    Raises UnknownMigration, MigrationBlocked, DBAPIError.
    """
    config = alembic_config()
    script = ScriptDirectory.from_config(config)
    order = [migration.revision for migration in script.walk_revisions()][::-1]
    if target == "head":
        target = order[-1]
    if target not in order:
        raise UnknownMigration(
            f"This version has no migration {target}; choose one of {', '.join(order)}."
        )
    with migrating(engine, limits) as connection:
        (had,) = MigrationContext.configure(connection).get_current_heads() or ("none",)
        if had not in ("none", *order):
            raise UnknownMigration(
                f"The database has migration {had}, which this version does not know. Install the"
                " newer version that it belongs to, or migrate back with that version:"
                f" python -m worker.migrate --to {order[-1]}"
            )
        if engine.dialect.name == "postgresql":
            connection.rollback()  # Ends the read: the transaction that migrates is Alembic's.
        config.attributes.update(connection=connection, limits=limits)
        is_downgrade = had != "none" and order.index(target) < order.index(had)
        (command.downgrade if is_downgrade else command.upgrade)(config, target)
    return had, target


def main() -> None:
    """Migrate the database at ENROLL_DATABASE_URL; exit with 1 and a message if that fails."""
    parser = argparse.ArgumentParser(
        prog="python -m worker.migrate",
        description="Migrate the database at ENROLL_DATABASE_URL to the newest migration.",
        epilog="To go back before you install an older version: python -m worker.migrate --to 0003",
    )
    parser.add_argument(
        "--to",
        metavar="REVISION",
        default="head",
        help="the migration to go to, up or down; by default the newest",
    )
    parser.add_argument(
        "--wait",
        metavar="SECONDS",
        type=float,
        default=DEFAULT_LIMITS.turn,
        help="how long to wait until another migration of the same PostgreSQL database ends"
        " (default: %(default)s)",
    )
    arguments = parser.parse_args()
    limits = replace(DEFAULT_LIMITS, turn=arguments.wait)
    had, has = change_or_exit(arguments.to, limits)
    print(f"Nothing to do: {has}" if had == has else f"Migrated: {had} -> {has}")  # noqa: T201


def change_or_exit(target: str = "head", limits: Limits = DEFAULT_LIMITS) -> tuple[str, str]:
    """Do as `change` does with the database at ENROLL_DATABASE_URL; if that fails, exit with 1."""
    try:
        engine = make_engine(load_database_url())
    except SettingsError as error:
        sys.exit(str(error))
    try:
        return change(engine, target, limits)
    except (UnknownMigration, MigrationBlocked) as error:
        sys.exit(str(error))
    except DBAPIError as error:
        problem = (
            "is not available; check that it is running and that the URL is right"
            if is_outage(error) and not is_answer(error)
            else "was not migrated; the migration was rolled back. Fix the following error, then"
            " migrate again"
        )
        sys.exit(f"The database at ENROLL_DATABASE_URL {problem}: {error.orig}")
    finally:
        engine.dispose()


if __name__ == "__main__":
    main()
