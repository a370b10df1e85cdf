"""keep moments: when a request, a batch or a field of the roster counts

Revision: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_MOMENTS = (
    ("students", "name_moment"),
    ("students", "email_moment"),
    ("courses", "title_moment"),
    ("enrollment_results", "moment"),
    ("batches", "moment"),
    ("dead_letters", "moment"),
)
_ROOM_PERCENT = 80
"""How full a page of the roster gets: records that only renew moments are updated within it."""


def upgrade() -> None:
    for table, name in _MOMENTS:
        op.add_column(table, sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    counts = sa.Column("superseded", sa.Integer(), nullable=False, server_default="0")
    op.add_column("batch_chunks", counts)
    if op.get_bind().dialect.name == "postgresql":
        for table in ("students", "courses"):
            op.execute(f"ALTER TABLE {table} SET (fillfactor = {_ROOM_PERCENT})")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        for table in ("students", "courses"):
            op.execute(f"ALTER TABLE {table} RESET (fillfactor)")
    op.drop_column("batch_chunks", "superseded")
    for table, name in reversed(_MOMENTS):
        op.drop_column(table, name)
