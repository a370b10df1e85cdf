"""Run single steps of Alembic on a database."""

from alembic import command
from sqlalchemy import Engine

from worker import migrate


def run_alembic(engine: Engine, step: str, target: str = "") -> None:
    """Upgrade or downgrade to a revision, or check that the models agree."""
    config = migrate.alembic_config()
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        _COMMANDS[step](config, target)


_COMMANDS = {
    "upgrade": command.upgrade,
    "downgrade": command.downgrade,
    "check": lambda config, _: command.check(config),
}
