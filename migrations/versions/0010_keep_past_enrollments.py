"""keep past enrollments: drops, the intervals they end, and the limit of what was pruned

Revision: 0010
Revises: 0009
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_REQUEST_ID = sa.String(128 + 24)
_RESULT_COLUMNS = (
    ("dropped", sa.JSON()),
    ("not_enrolled", sa.JSON()),
    ("superseded", sa.JSON()),
    ("reason", sa.String(255)),
    ("line", sa.BigInteger()),
)
_COUNTS = ("dropped", "not_enrolled")


def upgrade() -> None:
    op.create_table(
        "past_enrollments",
        sa.Column("student_id", sa.Integer(), nullable=False),
        sa.Column("course_id", sa.Integer(), nullable=False),
        sa.Column("ended_at", _TIME, nullable=False),
        sa.Column("enrolled_at", _TIME, nullable=True),
        sa.Column("reason", sa.String(255), nullable=True),
        sa.Column("request_id", _REQUEST_ID, nullable=False),
        sa.PrimaryKeyConstraint("student_id", "course_id", "ended_at", name="pk_past_enrollments"),
    )
    op.create_index("ix_past_enrollments_ended_at", "past_enrollments", ["ended_at"])
    limit = op.create_table(
        "retention_limit",
        sa.Column("singleton", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("moment", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("singleton", name="pk_retention_limit"),
        sa.CheckConstraint("singleton = 1", name="ck_retention_limit_one_row"),
    )
    op.bulk_insert(limit, [{"singleton": 1, "moment": None}])
    for name, type_ in _RESULT_COLUMNS:
        op.add_column("enrollment_results", sa.Column(name, type_, nullable=True))
    for name in _COUNTS:
        counts = sa.Column(name, sa.Integer(), nullable=False, server_default="0")
        op.add_column("batch_chunks", counts)
    op.add_column("batch_chunks", sa.Column("lines", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    for name in ("lines", *reversed(_COUNTS)):
        op.drop_column("batch_chunks", name)
    for name, _ in reversed(_RESULT_COLUMNS):
        op.drop_column("enrollment_results", name)
    op.drop_table("retention_limit")
    op.drop_table("past_enrollments")
