"""give the database an identity

Revision: 0005
Revises: 0004
"""

from datetime import UTC, datetime
from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    identity = op.create_table(
        "database_identity",
        sa.Column("singleton", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("singleton", name="pk_database_identity"),
        sa.CheckConstraint("singleton = 1", name="one_row"),
    )
    op.bulk_insert(identity, [{"singleton": 1, "id": uuid4().hex, "created_at": datetime.now(UTC)}])
    if op.get_bind().dialect.name == "postgresql":
        # Workers may run as a role that got its rights on the tables that existed at that time.
        op.execute("GRANT SELECT ON database_identity TO PUBLIC")


def downgrade() -> None:
    op.drop_table("database_identity")
