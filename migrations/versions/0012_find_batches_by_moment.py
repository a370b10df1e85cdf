"""find batches by their moment, at which the rows that they opened begin

Revision: 0012
Revises: 0011
"""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_INDEX = "ix_batches_moment"


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        with op.get_context().autocommit_block():
            op.drop_index(_INDEX, if_exists=True, postgresql_concurrently=True)
            op.create_index(_INDEX, "batches", ["moment"], postgresql_concurrently=True)
    else:
        op.create_index(_INDEX, "batches", ["moment"])


def downgrade() -> None:
    op.drop_index(_INDEX, "batches")
