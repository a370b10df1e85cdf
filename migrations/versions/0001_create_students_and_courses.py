"""create students and courses

Revision: 0001
Revises: nothing
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "students",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sis_id", sa.String(255), nullable=False),
        sa.Column("name", sa.String(255)),
        sa.Column("email", sa.String(255)),
        sa.PrimaryKeyConstraint("id", name="pk_students"),
        sa.UniqueConstraint("sis_id", name="uq_students_sis_id"),
    )
    op.create_table(
        "courses",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("sis_id", sa.String(255), nullable=False),
        sa.Column("title", sa.String(255)),
        sa.PrimaryKeyConstraint("id", name="pk_courses"),
        sa.UniqueConstraint("sis_id", name="uq_courses_sis_id"),
    )


def downgrade() -> None:
    op.drop_table("courses")
    op.drop_table("students")
