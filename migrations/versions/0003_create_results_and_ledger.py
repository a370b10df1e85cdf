"""create enrollment results and the batch ledger

Revision: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _request_id() -> sa.String:
    # Compared byte by byte in every locale, so that the ids of one chunk form a range.
    return sa.String(152, collation="C").with_variant(sa.String(152), "sqlite")


def upgrade() -> None:
    op.create_table(
        "enrollment_results",
        sa.Column("request_id", _request_id(), nullable=False),
        sa.Column("batch_id", sa.String(128)),
        sa.Column("fingerprint", sa.BigInteger()),
        sa.Column("student_id", sa.Integer()),
        sa.Column("student_sis_id", sa.String(255)),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("enrolled", sa.JSON(), nullable=False),
        sa.Column("already", sa.JSON(), nullable=False),
        sa.Column("errors", sa.JSON(), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("request_id", name="pk_enrollment_results"),
    )
    op.create_index(
        "ix_enrollment_results_student_id_completed_at",
        "enrollment_results",
        ["student_id", "completed_at"],
    )
    op.create_index(
        "ix_enrollment_results_unresolved_student",
        "enrollment_results",
        ["student_sis_id", "completed_at"],
        postgresql_where=sa.text("student_id IS NULL"),
        sqlite_where=sa.text("student_id IS NULL"),
    )
    op.create_table(
        "batches",
        sa.Column("id", sa.String(128), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("columns", sa.JSON()),
        sa.PrimaryKeyConstraint("id", name="pk_batches"),
    )
    counts = ("requests", "requests_rejected", "rows")
    outcomes = ("enrolled", "already_enrolled", "upserted", "unchanged", "rejected")
    op.create_table(
        "batch_chunks",
        sa.Column("batch_id", sa.String(128), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("fingerprint", sa.BigInteger(), nullable=False),
        sa.Column("last", sa.Boolean(), nullable=False),
        sa.Column("requests_through", sa.BigInteger(), nullable=False),
        sa.Column("rows_through", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Integer(), nullable=False) for name in counts + outcomes),
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "number", name="pk_batch_chunks"),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["batches.id"], name="fk_batch_chunks_batch_id_batches"
        ),
    )
    op.create_table(
        "batch_refusals",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("batch_id", sa.String(128), nullable=False),
        sa.Column("line", sa.BigInteger(), nullable=False),
        sa.Column("code", sa.String(32), nullable=False),
        sa.Column("message", sa.String(), nullable=False),
        sa.Column("record", sa.JSON(), nullable=False),
        sa.Column("cells", sa.JSON()),
        sa.PrimaryKeyConstraint("id", name="pk_batch_refusals"),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["batches.id"], name="fk_batch_refusals_batch_id_batches"
        ),
    )
    op.create_index(
        "ix_batch_refusals_batch_id_code_line", "batch_refusals", ["batch_id", "code", "line"]
    )
    op.create_index(
        "ix_batch_refusals_batch_id_line_id", "batch_refusals", ["batch_id", "line", "id"]
    )


def downgrade() -> None:
    op.drop_table("batch_refusals")
    op.drop_table("batch_chunks")
    op.drop_table("batches")
    op.drop_table("enrollment_results")
