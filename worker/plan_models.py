"""Define the tables of data sets and plans, beside those of `worker.models`."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from worker.model_base import Base


class DataSet(Base):
    """A feed that batches name: the enrollments that they open belong to it.

    Any batch may name a new one. Snapshots may only use those of which `snapshots` is true: an
    operator has created them. `rules` are the operator's own for holding plans; null for the
    default ones. `swept_at` is the moment of the last snapshot that began to be applied: older
    requests of this data set open nothing. `losses` grows, by triggers, whenever an enrollment of
    the data set ends or changes its owner, and whenever an id in the roster changes: as long as it
    is the same, what a chunk was found to repeat is still enrolled (`StagedChunk`).
    """

    __tablename__ = "data_sets"

    id: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(String(128), unique=True)
    snapshots: Mapped[bool] = mapped_column(Boolean)
    rules: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    swept_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    losses: Mapped[int] = mapped_column(BigInteger, server_default="0")


class AlsoEnrolledBy(Base):
    """A note that another data set than the owner of an enrollment names it, too, and when."""

    __tablename__ = "also_enrolled_by"

    student_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    course_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    data_set: Mapped[int] = mapped_column(SmallInteger, primary_key=True, autoincrement=False)
    moment: Mapped[datetime]


class PlanRow(Base):
    """A plan: one row whose `state` changes by compare-and-set (`producer.contract.plans`).

    `request` is what its chunks say of it. `report` is the report as it is shown, and `digest` that
    of it. `due_at` is when a worker is to look at it next, and null once it is finished: a worker
    that works on it puts this off again and again, so that no other one does the same. For a plan
    that waits for chunks or for a decision, it is when the plan expires. `attempts` counts how
    often a worker began the present state. `detail` says why it was discarded, or what went wrong.
    `progress` says at which chunk a worker is that makes the plan after another one was lost
    (`worker.plans.deaths`), and holds the fingerprints of the chunks of a plan that was never
    applied.
    """

    __tablename__ = "plans"

    id: Mapped[str] = mapped_column(String(128), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    request: Mapped[dict[str, Any]]
    data_set: Mapped[int | None] = mapped_column(SmallInteger)
    data_set_name: Mapped[str | None] = mapped_column(String(128))
    file_name: Mapped[str | None] = mapped_column(String(255))
    submitter: Mapped[str | None] = mapped_column(String(255))
    moment: Mapped[datetime]
    report: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    digest: Mapped[str | None] = mapped_column(String(64))
    applied: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    detail: Mapped[str | None] = mapped_column(String)
    progress: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    due_at: Mapped[datetime | None]
    staged_at: Mapped[datetime]
    planned_at: Mapped[datetime | None]
    decided_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        Index(None, "state"),
        Index(None, "moment"),
        Index(None, "due_at"),
        Index(
            None,
            "submitter",
            "due_at",
            postgresql_where=text("due_at IS NOT NULL"),
            sqlite_where=text("due_at IS NOT NULL"),
        ),
    )


class PlanMember(Base):
    """A batch of a plan: where it came from, and how much of it was stored.

    `staged` is how many of its chunks were stored, `chunks` how many it has, and null until its
    last one arrives. `rows_through` is how many rows it has by what its last chunk says.
    """

    __tablename__ = "plan_members"

    batch_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    plan_id: Mapped[str] = mapped_column(ForeignKey("plans.id"))
    position: Mapped[int] = mapped_column(SmallInteger)
    kind: Mapped[str] = mapped_column(String(16))
    file_name: Mapped[str | None] = mapped_column(String(255))
    submitter: Mapped[str | None] = mapped_column(String(255))
    moment: Mapped[datetime | None]
    columns: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    form: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    staged: Mapped[int] = mapped_column(Integer, server_default="0")
    chunks: Mapped[int | None] = mapped_column(Integer)
    requests: Mapped[int] = mapped_column(BigInteger, server_default="0")
    rows: Mapped[int] = mapped_column(BigInteger, server_default="0")
    rows_through: Mapped[int | None] = mapped_column(BigInteger)
    staged_at: Mapped[datetime | None]

    __table_args__ = (Index(None, "plan_id"),)


class StagedChunk(Base):
    """A chunk of a planned submission, stored instead of applied: `payload` is its compressed text.

    Its identity and fingerprint are those of the ledger. `unchanged` are the requests of a snapshot
    that changed nothing when the chunk was stored (`worker.snapshots.unchanged`); this holds as
    long as `losses` is that of the data set. Both are null if none were found.
    """

    __tablename__ = "staged_chunks"

    batch_id: Mapped[str] = mapped_column(String(128), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    plan_id: Mapped[str] = mapped_column(ForeignKey("plans.id"))
    fingerprint: Mapped[int] = mapped_column(BigInteger)
    last: Mapped[bool] = mapped_column(Boolean)
    requests: Mapped[int]
    rows: Mapped[int]
    payload: Mapped[bytes] = mapped_column(LargeBinary)
    staged_at: Mapped[datetime]
    unchanged: Mapped[bytes | None] = mapped_column(LargeBinary)
    losses: Mapped[int | None] = mapped_column(BigInteger)

    __table_args__ = (Index(None, "plan_id"),)


ADOPTED: Final = "adopted"
"""What a plan did with an enrollment that had no owner, and that its data set owns since."""


class PlannedDropRow(Base):
    """An enrollment that a plan changes without a request that says so.

    `expected` says what the plan does with one that its snapshot does not name: `dropped` or
    `passed_on` (`worker.snapshots.values.Fate`). `outcome` says what became of it; null until its
    turn has come. Both are `adopted` for one that the snapshot names, and that had no owner before.
    """

    __tablename__ = "planned_drops"

    plan_id: Mapped[str] = mapped_column(ForeignKey("plans.id"), primary_key=True)
    student_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    course_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    expected: Mapped[str] = mapped_column(String(16), server_default="dropped")
    outcome: Mapped[str | None] = mapped_column(String(16))


class PlannedRefusal(Base):
    """One problem of a line that a plan would refuse, as `batch_refusals` has those of batches."""

    __tablename__ = "planned_refusals"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    plan_id: Mapped[str] = mapped_column(ForeignKey("plans.id"))
    batch_id: Mapped[str] = mapped_column(String(128))
    line: Mapped[int] = mapped_column(BigInteger)
    code: Mapped[str] = mapped_column(String(32))
    message: Mapped[str] = mapped_column(String)
    record: Mapped[Any] = mapped_column(JSON)
    cells: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))

    __table_args__ = (
        Index(None, "batch_id", "code", "line"),
        Index(None, "batch_id", "line", "id"),
        Index(None, "plan_id"),
    )
