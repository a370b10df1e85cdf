"""find unfinished plans by their submitter, so that submitters take turns

Revision: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_INDEX = "ix_plans_submitter_due_at"


def upgrade() -> None:
    columns, unfinished = ["submitter", "due_at"], sa.text("due_at IS NOT NULL")
    if op.get_bind().dialect.name != "postgresql":
        op.create_index(_INDEX, "plans", columns, sqlite_where=unfinished)
        return
    with op.get_context().autocommit_block():
        options = {"postgresql_concurrently": True}
        op.drop_index(_INDEX, if_exists=True, **options)
        op.create_index(_INDEX, "plans", columns, postgresql_where=unfinished, **options)


def downgrade() -> None:
    op.drop_index(_INDEX, "plans")
