"""keep data sets and plans: what a batch would do, before it does it

Revision: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_ID = sa.String(128)
_KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_OWNED = ("student_courses", "past_enrollments", "batches")
_OWN_IDS = "ix_enrollment_results_own_ids_of_batch"
_WIDER = {
    "batches": {"id": 0},
    "batch_chunks": {"batch_id": 0},
    "batch_refusals": {"batch_id": 0},
    "enrollment_results": {"batch_id": 0, "request_id": 24},
    "past_enrollments": {"request_id": 24},
    "dead_letters": {"batch_id": 0, "request_id": 24},
}
"""Ids with room for a prefix, by table and column, each with what it has besides that of a batch.

PostgreSQL rewrites nothing for a longer text, and SQLite does not limit its length.
"""


def _column(name: str, type_: sa.types.TypeEngine[object], **options: object) -> sa.Column[object]:
    return sa.Column(name, type_, **{"nullable": False, **options})  # type: ignore[arg-type]


def upgrade() -> None:
    _index_own_ids()  # First: what comes before it is committed, and would not be repeated.
    for table in _OWNED:
        op.add_column(table, sa.Column("data_set", sa.SmallInteger(), nullable=True))
    op.add_column("batches", sa.Column("stopped_at", _TIME, nullable=True))
    op.create_table(
        "data_sets",
        _column("id", sa.SmallInteger(), autoincrement=False),
        _column("name", _ID),
        _column("snapshots", sa.Boolean()),
        _column("rules", sa.JSON(), nullable=True),
        _column("swept_at", _TIME, nullable=True),
        _column("created_at", _TIME),
        sa.PrimaryKeyConstraint("id", name="pk_data_sets"),
        sa.UniqueConstraint("name", name="uq_data_sets_name"),
    )
    op.create_table(
        "also_enrolled_by",
        _column("student_id", sa.Integer(), autoincrement=False),
        _column("course_id", sa.Integer(), autoincrement=False),
        _column("data_set", sa.SmallInteger(), autoincrement=False),
        _column("moment", _TIME),
        sa.PrimaryKeyConstraint("student_id", "course_id", "data_set", name="pk_also_enrolled_by"),
    )
    _create_plans()
    _create_members()
    _create_parts_of_plans()
    _set_lengths(160)


def _set_lengths(length: int) -> None:
    if op.get_bind().dialect.name != "postgresql":
        return
    for table, columns in _WIDER.items():
        for name, more in columns.items():
            of_results = (table, name) == ("enrollment_results", "request_id")
            type_ = sa.String(length + more, collation="C" if of_results else None)
            op.alter_column(table, name, type_=type_)


def _index_own_ids() -> None:
    """Index the few results of batches whose requests have ids of their own."""
    has_own_id = sa.text("batch_id IS NOT NULL AND fingerprint IS NOT NULL")
    columns = ["batch_id", "request_id"]
    if op.get_bind().dialect.name != "postgresql":
        op.create_index(_OWN_IDS, "enrollment_results", columns, sqlite_where=has_own_id)
        return
    with op.get_context().autocommit_block():
        options = {"postgresql_concurrently": True}
        op.drop_index(_OWN_IDS, "enrollment_results", if_exists=True, **options)
        options |= {"postgresql_where": has_own_id}
        op.create_index(_OWN_IDS, "enrollment_results", columns, **options)


def _create_plans() -> None:
    op.create_table(
        "plans",
        _column("id", _ID),
        _column("state", sa.String(16)),
        _column("request", sa.JSON()),
        _column("data_set", sa.SmallInteger(), nullable=True),
        _column("data_set_name", _ID, nullable=True),
        _column("file_name", sa.String(255), nullable=True),
        _column("submitter", sa.String(255), nullable=True),
        _column("moment", _TIME),
        _column("report", sa.JSON(), nullable=True),
        _column("digest", sa.String(64), nullable=True),
        _column("applied", sa.JSON(), nullable=True),
        _column("detail", sa.String(), nullable=True),
        _column("progress", sa.JSON(), nullable=True),
        _column("attempts", sa.Integer(), server_default="0"),
        _column("due_at", _TIME, nullable=True),
        _column("staged_at", _TIME),
        _column("planned_at", _TIME, nullable=True),
        _column("decided_at", _TIME, nullable=True),
        _column("finished_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_plans"),
    )
    op.create_index("ix_plans_state", "plans", ["state"])
    op.create_index("ix_plans_moment", "plans", ["moment"])
    op.create_index("ix_plans_due_at", "plans", ["due_at"])


def _create_members() -> None:
    op.create_table(
        "plan_members",
        _column("batch_id", _ID),
        _column("plan_id", _ID),
        _column("position", sa.SmallInteger()),
        _column("kind", sa.String(16)),
        _column("file_name", sa.String(255), nullable=True),
        _column("submitter", sa.String(255), nullable=True),
        _column("moment", _TIME, nullable=True),
        _column("columns", sa.JSON(), nullable=True),
        _column("form", sa.JSON(), nullable=True),
        _column("staged", sa.Integer(), server_default="0"),
        _column("chunks", sa.Integer(), nullable=True),
        _column("requests", sa.BigInteger(), server_default="0"),
        _column("rows", sa.BigInteger(), server_default="0"),
        _column("rows_through", sa.BigInteger(), nullable=True),
        _column("staged_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("batch_id", name="pk_plan_members"),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name="fk_plan_members_plan_id_plans"),
    )
    op.create_index("ix_plan_members_plan_id", "plan_members", ["plan_id"])


def _create_parts_of_plans() -> None:
    op.create_table(
        "staged_chunks",
        _column("batch_id", _ID),
        _column("number", sa.Integer(), autoincrement=False),
        _column("plan_id", _ID),
        _column("fingerprint", sa.BigInteger()),
        _column("last", sa.Boolean()),
        _column("requests", sa.Integer()),
        _column("rows", sa.Integer()),
        _column("payload", sa.LargeBinary()),
        _column("staged_at", _TIME),
        sa.PrimaryKeyConstraint("batch_id", "number", name="pk_staged_chunks"),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name="fk_staged_chunks_plan_id_plans"),
    )
    op.create_index("ix_staged_chunks_plan_id", "staged_chunks", ["plan_id"])
    op.create_table(
        "planned_drops",
        _column("plan_id", _ID),
        _column("student_id", sa.Integer(), autoincrement=False),
        _column("course_id", sa.Integer(), autoincrement=False),
        _column("expected", sa.String(16), server_default="dropped"),
        _column("outcome", sa.String(16), nullable=True),
        sa.PrimaryKeyConstraint("plan_id", "student_id", "course_id", name="pk_planned_drops"),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name="fk_planned_drops_plan_id_plans"),
    )
    op.create_table(
        "planned_refusals",
        _column("id", _KEY),
        _column("plan_id", _ID),
        _column("batch_id", _ID),
        _column("line", sa.BigInteger()),
        _column("code", sa.String(32)),
        _column("message", sa.String()),
        _column("record", sa.JSON()),
        _column("cells", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_planned_refusals"),
        sa.ForeignKeyConstraint(
            ["plan_id"], ["plans.id"], name="fk_planned_refusals_plan_id_plans"
        ),
    )
    for columns in (["batch_id", "code", "line"], ["batch_id", "line", "id"], ["plan_id"]):
        name = f"ix_planned_refusals_{'_'.join(columns)}"
        op.create_index(name, "planned_refusals", columns)


def downgrade() -> None:
    op.drop_index(_OWN_IDS, "enrollment_results")
    _set_lengths(128)
    for table in ("planned_refusals", "planned_drops", "staged_chunks", "plan_members", "plans"):
        op.drop_table(table)
    op.drop_table("also_enrolled_by")
    op.drop_table("data_sets")
    op.drop_column("batches", "stopped_at")
    for table in reversed(_OWNED):
        op.drop_column(table, "data_set")
