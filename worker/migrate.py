"""Bring the database to the newest schema: `python -m worker.migrate`, also from a wheel."""

import sys
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from worker.database import make_engine
from worker.settings import SettingsError, load_database_url

_HERE = Path(__file__).parent
_PLACES = (_HERE / "migrations", _HERE.parent / "migrations")
"""In a wheel the migrations lie inside the package, in a checkout beside it."""


def alembic_config() -> Config:
    """Alembic's configuration with the migrations' folder worked out."""
    config = Config()
    place = next(path for path in _PLACES if path.is_dir())
    config.set_main_option("script_location", str(place).replace("%", "%%"))
    return config


def upgrade(engine: Engine) -> None:
    """Apply every migration that is missing."""
    config = alembic_config()
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


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


def main() -> None:
    """Upgrade the database of ENROLL_DATABASE_URL; exits with 1 and a sentence if it cannot."""
    try:
        engine = make_engine(load_database_url())
        upgrade(engine)
    except SettingsError as error:
        sys.exit(str(error))
    except DBAPIError as error:
        sys.exit(f"The database of ENROLL_DATABASE_URL did not answer: {error.orig}")
    engine.dispose()


if __name__ == "__main__":
    main()
