"""derive the results of fresh requests from the ledger and the rows that they opened

Revision: 0011
Revises: 0010
"""

import struct
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

from worker.models import Instant

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_UPGRADE_TAKES = timedelta(days=7)
"""How long workers of an older version may go on running, which cannot derive results."""

_ROWS = ("student_courses", "past_enrollments")
_AT_ONCE = 1_000


def upgrade() -> None:
    for table in _ROWS:
        for name in ("chunk", "position"):
            op.add_column(table, sa.Column(name, sa.Integer(), nullable=True))
    op.add_column("batch_chunks", sa.Column("fresh", sa.LargeBinary(), nullable=True))
    op.add_column("batch_chunks", sa.Column("fresh_size", sa.SmallInteger(), nullable=True))
    if op.get_bind().dialect.name == "postgresql":
        # Uncompressed, so that a single entry can be read.
        op.execute("ALTER TABLE batch_chunks ALTER COLUMN fresh SET STORAGE EXTERNAL")
    until = sa.Column("results_stored_until", sa.DateTime(timezone=True), nullable=True)
    op.add_column("database_identity", until)
    identity = sa.table("database_identity", sa.column("results_stored_until", Instant()))
    used = [sa.exists(sa.select(sa.text("1")).select_from(sa.table(name))) for name in _USED]
    later = datetime.now(UTC) + _UPGRADE_TAKES
    op.execute(sa.update(identity).where(sa.or_(*used)).values(results_stored_until=later))


_USED = ("students", "courses", "batches", "enrollment_results")
"""If one of these has a row, workers of an older version have used the database."""


def downgrade() -> None:
    _store_results()
    op.drop_column("database_identity", "results_stored_until")
    op.drop_column("batch_chunks", "fresh_size")
    op.drop_column("batch_chunks", "fresh")
    for table in reversed(_ROWS):
        for name in ("position", "chunk"):
            op.drop_column(table, name)


def _store_results() -> None:
    """Store the results that were derived: an older version knows no others."""
    connection = op.get_bind()
    chunks = sa.text(
        "SELECT c.batch_id, c.number, c.fresh, c.fresh_size, c.applied_at, b.moment"
        " FROM batch_chunks c JOIN batches b ON b.id = c.batch_id WHERE c.fresh IS NOT NULL"
    ).columns(applied_at=Instant(), moment=Instant())
    for chunk in connection.execute(chunks).all():
        width = chunk.fresh_size // 4
        numbers = struct.unpack(f">{len(chunk.fresh) // 4}i", chunk.fresh)
        entries = [numbers[start : start + width] for start in range(0, len(numbers), width)]
        rows = [
            _result(connection, chunk, n, *entry) for n, entry in enumerate(entries) if entry[0]
        ]
        for start in range(0, len(rows), _AT_ONCE):
            connection.execute(sa.insert(_RESULTS), rows[start : start + _AT_ONCE])


_RESULTS = sa.table(
    "enrollment_results",
    *(sa.column(name) for name in ("request_id", "batch_id", "student_id", "student_sis_id")),
    *(sa.column(name) for name in ("status",)),
    *(sa.column(name, sa.JSON()) for name in ("enrolled", "already", "errors")),
    *(sa.column(name, Instant()) for name in ("completed_at", "moment")),
)


def _result(
    connection: sa.Connection, chunk: sa.Row, position: int, student: int, *courses: int
) -> dict[str, object]:
    sis_id = None
    if student > 0:  # It is negative if the request named the student by key.
        find = sa.text("SELECT sis_id FROM students WHERE id = :student")
        sis_id = connection.scalar(find, {"student": student})
    return {
        "request_id": f"{chunk.batch_id}:{chunk.number}:{position}",
        "batch_id": chunk.batch_id,
        "student_id": abs(student),
        "student_sis_id": sis_id,
        "status": "enrolled",
        "enrolled": [course for course in courses if course],
        "already": [],
        "errors": [],
        "completed_at": chunk.applied_at,
        "moment": chunk.moment,
    }
