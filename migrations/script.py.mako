"""${message}

Revision: ${up_revision}
Revises: ${down_revision | comma,n}
"""
# Workers of the previous version keep running while this migration is applied. Therefore:
#
# 1. Add first, remove a release later. A new column is nullable or has a server default; a column
#    or table is renamed or dropped only when no running worker uses it.
# 2. Lock no table for long. Everything here is one transaction, and what it locks stays locked
#    until its end. On PostgreSQL, slow steps leave it, in a migration of their own:
#
#        if op.get_bind().dialect.name == "postgresql":
#            with op.get_context().autocommit_block():
#                op.drop_index("ix_…", if_exists=True, postgresql_concurrently=True)
#                op.create_index("ix_…", "…", ["…"], postgresql_concurrently=True)
#
#    The first line of the block removes what an interrupted build left behind. A constraint is
#    added with `postgresql_not_valid=True`, then checked in such a block:
#    `op.execute("ALTER TABLE … VALIDATE CONSTRAINT …")`. SQLite needs neither: its `else` branch
#    creates the index or the constraint directly.
# 3. `downgrade` works: a test takes every migration down and up again, on both databases.
# 4. A statement may wait 5 s for a lock and run for 60 s. A migration that needs longer raises its
#    own limit, on PostgreSQL alone; the next migration starts with the usual ones again:
#    `op.execute("SET LOCAL statement_timeout = '10min'")`. In an `autocommit_block` nothing is
#    limited.
#
# Delete this comment when all of it holds.

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
