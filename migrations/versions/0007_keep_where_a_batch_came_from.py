"""keep where a batch came from

Revision: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batches", sa.Column("file_name", sa.String(255), nullable=True))
    op.add_column("batches", sa.Column("submitter", sa.String(255), nullable=True))


def downgrade() -> None:
    op.drop_column("batches", "submitter")
    op.drop_column("batches", "file_name")
