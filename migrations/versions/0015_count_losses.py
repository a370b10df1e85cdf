"""count the losses of data sets, so that a snapshot need not look up again what it repeats

Revision: 0015
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_ROSTER = ("students", "courses")


def upgrade() -> None:
    op.add_column(
        "data_sets", sa.Column("losses", sa.BigInteger(), nullable=False, server_default="0")
    )
    op.add_column("staged_chunks", sa.Column("unchanged", sa.LargeBinary(), nullable=True))
    op.add_column("staged_chunks", sa.Column("losses", sa.BigInteger(), nullable=True))
    if op.get_bind().dialect.name == "postgresql":
        for column in ("payload", "unchanged"):  # Compressed, or too short-lived for it.
            op.execute(f"ALTER TABLE staged_chunks ALTER COLUMN {column} SET STORAGE EXTERNAL")
        _create_functions()
        _create_triggers()
    else:
        _create_triggers_on_sqlite()


def _create_functions() -> None:
    # Dynamic statements, because the session that changes a row may have another search path.
    op.execute(
        """
        CREATE FUNCTION count_losses() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF EXISTS (SELECT FROM lost WHERE data_set IS NOT NULL) THEN
                EXECUTE format(
                    'UPDATE %I.data_sets SET losses = losses + 1'
                    ' WHERE id IN (SELECT data_set FROM lost)',
                    TG_TABLE_SCHEMA
                );
            END IF;
            RETURN NULL;
        END
        $$
        """
    )
    # Once for each transaction, however many rows it changes.
    op.execute(
        """
        CREATE FUNCTION count_losses_of_all() RETURNS trigger LANGUAGE plpgsql AS $$
        DECLARE
            this text := pg_current_xact_id()::text;
        BEGIN
            IF current_setting('enrollment.counted_in', true) IS DISTINCT FROM this THEN
                EXECUTE format('UPDATE %I.data_sets SET losses = losses + 1', TG_TABLE_SCHEMA);
                PERFORM set_config('enrollment.counted_in', this, true);
            END IF;
            RETURN NULL;
        END
        $$
        """
    )


_OF_SOME = {f"count_losses_by_{event}": event for event in ("delete", "update")}
_OF_ALL = ("student_courses", *_ROSTER)


def _create_triggers() -> None:
    for name, event in _OF_SOME.items():
        op.execute(
            f"CREATE TRIGGER {name} AFTER {event} ON student_courses"
            " REFERENCING OLD TABLE AS lost FOR EACH STATEMENT EXECUTE FUNCTION count_losses()"
        )
    op.execute(
        "CREATE TRIGGER count_losses_of_all AFTER TRUNCATE ON student_courses"
        " FOR EACH STATEMENT EXECUTE FUNCTION count_losses_of_all()"
    )
    # When the transaction ends, so that one that stays open does not hold up drops.
    for table in _ROSTER:
        op.execute(
            f"CREATE CONSTRAINT TRIGGER count_losses_of_all AFTER UPDATE OF sis_id ON {table}"
            " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW"
            " WHEN (OLD.sis_id IS DISTINCT FROM NEW.sis_id)"
            " EXECUTE FUNCTION count_losses_of_all()"
        )


def _create_triggers_on_sqlite() -> None:
    for name, event in (("delete", "DELETE"), ("update", "UPDATE OF data_set")):
        op.execute(
            f"CREATE TRIGGER count_losses_by_{name} AFTER {event} ON student_courses"  # noqa: S608
            " WHEN OLD.data_set IS NOT NULL BEGIN"
            " UPDATE data_sets SET losses = losses + 1 WHERE id = OLD.data_set; END"
        )
    for table in _ROSTER:
        op.execute(
            f"CREATE TRIGGER count_losses_by_{table} AFTER UPDATE OF sis_id ON {table}"  # noqa: S608
            " WHEN OLD.sis_id IS NOT NEW.sis_id BEGIN"
            " UPDATE data_sets SET losses = losses + 1; END"
        )


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for name in _OF_SOME:
            op.execute(f"DROP TRIGGER {name} ON student_courses")
        for table in _OF_ALL:
            op.execute(f"DROP TRIGGER count_losses_of_all ON {table}")
        op.execute("DROP FUNCTION count_losses()")
        op.execute("DROP FUNCTION count_losses_of_all()")
        op.execute("ALTER TABLE staged_chunks ALTER COLUMN payload SET STORAGE EXTENDED")
    else:
        for name in ("delete", "update", *_ROSTER):
            op.execute(f"DROP TRIGGER count_losses_by_{name}")
    op.drop_column("staged_chunks", "losses")
    op.drop_column("staged_chunks", "unchanged")
    op.drop_column("data_sets", "losses")
