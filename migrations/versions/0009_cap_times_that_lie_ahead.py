"""cap times that lie ahead, and give the batches so far a moment

A worker with a wrong clock stored times that are still to come, and requests of today would lose
against them. A batch counts when the first of its chunks was applied.

Revision: 0009
Revises: 0008
"""

from datetime import UTC, datetime

import sqlalchemy as sa
from alembic import op

from worker.models import Instant

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_TIMES = (
    ("student_courses", "enrolled_at"),
    ("enrollment_results", "completed_at"),
    ("batch_chunks", "applied_at"),
    ("dead_letters", "first_at"),
    ("dead_letters", "last_at"),
)


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        # Whole tables are read, and must not stay locked until the end of the migration.
        with op.get_context().autocommit_block():
            _correct(sa.func.now())
    else:
        _correct(sa.literal(datetime.now(UTC), Instant()))


def _correct(present: sa.ColumnElement[datetime]) -> None:
    for table, name in _TIMES:
        column = sa.column(name, Instant())
        capped = sa.update(sa.table(table, column)).values({name: present})
        op.execute(capped.where(column > present))
    batches = sa.table("batches", sa.column("id"), sa.column("moment"))
    chunks = sa.table("batch_chunks", sa.column("batch_id"), sa.column("applied_at"))
    first = sa.select(sa.func.min(chunks.c.applied_at)).where(chunks.c.batch_id == batches.c.id)
    missing = batches.update().where(batches.c.moment.is_(None))
    op.execute(missing.values(moment=first.scalar_subquery()))


def downgrade() -> None:
    """Leave the times as they are: nothing needs the wrong ones."""
