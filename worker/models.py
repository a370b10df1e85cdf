"""Define the tables. The migrations make the schema; a test proves that the two agree.

Those of data sets and plans are in `worker.plan_models`.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from producer.fields import MAX_REQUEST_ID, MAX_STORED_ID
from worker import plan_models as plan_models  # noqa: PLC0414 - so that all tables are defined
from worker.model_base import Base as Base  # noqa: PLC0414 - others import it from here
from worker.model_base import Instant as Instant  # noqa: PLC0414

Pair = tuple[int, int]
"""The keys of a student and a course: they identify a row of `student_courses`."""

PAIR_BITS = 32
"""A pair is packed into one integer: the key of its course in so many bits, that of its student in
those before them."""

PlacedPair = tuple[int, int, int]
"""A pair, and the position in its chunk of the request that names it."""


def _id_column(collation: str | None = None, *, of_request: bool = False) -> Any:
    """Return the type of a batch's id, or of the id of a request made from it.

    SQLite does not limit the length of a text, so its older tables keep the shorter one.
    """
    lengths = [length + (24 if of_request else 0) for length in (MAX_STORED_ID, MAX_REQUEST_ID)]
    return String(lengths[0], collation=collation).with_variant(String(lengths[1]), "sqlite")


class Student(Base):
    """A student of the roster, which upstream owns.

    Each field has the moment of the record that last named it, even if the value did not change;
    null is older than any moment. Courses have them, too.
    """

    __tablename__ = "students"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    sis_id: Mapped[str] = mapped_column(String(255), unique=True)
    name: Mapped[str | None] = mapped_column(String(255))
    email: Mapped[str | None] = mapped_column(String(255))
    name_moment: Mapped[datetime | None]
    email_moment: Mapped[datetime | None]


class Course(Base):
    """A course of the roster, which upstream owns."""

    __tablename__ = "courses"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    sis_id: Mapped[str] = mapped_column(String(255), unique=True)
    title: Mapped[str | None] = mapped_column(String(255))
    title_moment: Mapped[datetime | None]


class StudentCourse(Base):
    """An enrollment of a student in a course: what this system is for.

    `enrolled_at` is the moment of the request that wrote the row. If its result may be derived from
    the ledger (`worker.enrollment.derived`), `chunk` and `position` say where the request is in its
    batch. They are null for all other rows. `data_set` is that of the batch that opened the row, or
    the one it passed to since; null if it has none.
    """

    __tablename__ = "student_courses"

    student_id: Mapped[int] = mapped_column(ForeignKey("students.id"), primary_key=True)
    course_id: Mapped[int] = mapped_column(ForeignKey("courses.id"), primary_key=True)
    enrolled_at: Mapped[datetime]
    chunk: Mapped[int | None] = mapped_column(Integer)
    position: Mapped[int | None] = mapped_column(Integer)
    data_set: Mapped[int | None] = mapped_column(SmallInteger)


class PastEnrollment(Base):
    """An enrollment that has ended, or a drop of a pair that was not enrolled.

    `ended_at` is the moment of the request that dropped the pair, `request_id` names that request.
    `enrolled_at` is null if the pair was not enrolled: the row keeps out an older request to enroll
    that arrives later. The keys are not foreign keys: the row of `student_courses` had them, or
    they were looked up in the same transaction, and upstream never removes from the roster.
    `chunk`, `position` and `data_set` are those of the row that has ended.
    """

    __tablename__ = "past_enrollments"

    student_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    course_id: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    ended_at: Mapped[datetime] = mapped_column(primary_key=True)
    enrolled_at: Mapped[datetime | None]
    reason: Mapped[str | None] = mapped_column(String(255))
    request_id: Mapped[str] = mapped_column(_id_column(of_request=True))
    chunk: Mapped[int | None] = mapped_column(Integer)
    position: Mapped[int | None] = mapped_column(Integer)
    data_set: Mapped[int | None] = mapped_column(SmallInteger)

    __table_args__ = (Index(None, "ended_at"),)


class RetentionLimit(Base):
    """The moment before which history was pruned: a table with exactly one row.

    Older requests are refused. The moment is null until something is pruned.
    """

    __tablename__ = "retention_limit"

    singleton: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    moment: Mapped[datetime | None]

    __table_args__ = (CheckConstraint("singleton = 1", name="one_row"),)


class EnrollmentResult(Base):
    """The result of one request.

    `student_id` is our key, or the key that the request gave. It is not a foreign key, because
    the student of a refused request may not exist. `student_sis_id` is set when the request named
    the student by SIS id. Two indexes serve "newest first by student". `enrolled` holds the keys
    of the courses in the order of the request; `already` holds those whose row existed before.
    `fingerprint` is null if the request id was made from a chunk's number: the chunk has one.
    `moment` is when the request counts; an older version stored none. `dropped` holds the keys of
    the courses to drop, `not_enrolled` those of them that had no row, and `superseded` a key, an
    action and the moment that won, for each course for which a later request had won; all three
    are null if they would be empty. `line` is set for a request with an id of its own that
    is in one line of a file.
    """

    __tablename__ = "enrollment_results"

    request_id: Mapped[str] = mapped_column(
        # Compared byte by byte in every locale, so that the ids of one chunk form a range.
        _id_column("C", of_request=True),
        primary_key=True,
    )
    batch_id: Mapped[str | None] = mapped_column(_id_column())
    fingerprint: Mapped[int | None] = mapped_column(BigInteger)
    student_id: Mapped[int | None] = mapped_column(Integer)
    student_sis_id: Mapped[str | None] = mapped_column(String(255))
    status: Mapped[str] = mapped_column(String(16))
    enrolled: Mapped[list[Any]]
    already: Mapped[list[Any]]
    errors: Mapped[list[Any]]
    completed_at: Mapped[datetime]
    moment: Mapped[datetime | None]
    dropped: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    not_enrolled: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    superseded: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    reason: Mapped[str | None] = mapped_column(String(255))
    line: Mapped[int | None] = mapped_column(BigInteger)

    __table_args__ = (
        Index(None, "student_id", "completed_at"),
        Index(
            "ix_enrollment_results_unresolved_student",
            "student_sis_id",
            "completed_at",
            postgresql_where=text("student_id IS NULL"),
            sqlite_where=text("student_id IS NULL"),
        ),
        # The requests of a batch that have ids of their own: the other ids begin with the batch's.
        Index(
            "ix_enrollment_results_own_ids_of_batch",
            "batch_id",
            "request_id",
            postgresql_where=text("batch_id IS NOT NULL AND fingerprint IS NOT NULL"),
            sqlite_where=text("batch_id IS NOT NULL AND fingerprint IS NOT NULL"),
        ),
    )


class Batch(Base):
    """A batch with at least one applied chunk.

    `file_name`, `submitter` and `moment` are those of the first chunk that was applied; its moment
    is that of every chunk. An older version stored no moment. `data_set` is the key of its data
    set, or null. Once `stopped_at` is set, because the batch is being undone, no other chunk of it
    is applied: their requests are rejected. By `stopped_at`, undos are in the order in which they
    began.
    """

    __tablename__ = "batches"

    id: Mapped[str] = mapped_column(_id_column(), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    columns: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    form: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    file_name: Mapped[str | None] = mapped_column(String(255))
    submitter: Mapped[str | None] = mapped_column(String(255))
    moment: Mapped[datetime | None]
    data_set: Mapped[int | None] = mapped_column(SmallInteger)
    stopped_at: Mapped[datetime | None]

    __table_args__ = (Index(None, "moment"),)


class BatchChunk(Base):
    """An applied chunk, with its identity and counts: a repeated delivery changes nothing.

    `lines` holds the lines of its requests, compressed (`worker.batches.lines`); null if each
    request has one line and these are numbered through. `fresh` holds the requests whose results
    are derived, in entries of `fresh_size` bytes (`worker.enrollment.derived.entries`); both are
    null if there are none, or if those results were pruned.
    """

    __tablename__ = "batch_chunks"

    batch_id: Mapped[str] = mapped_column(_id_column(), ForeignKey("batches.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    fingerprint: Mapped[int] = mapped_column(BigInteger)
    last: Mapped[bool] = mapped_column(Boolean)
    requests_through: Mapped[int] = mapped_column(BigInteger)
    rows_through: Mapped[int] = mapped_column(BigInteger)
    requests: Mapped[int]
    requests_rejected: Mapped[int]
    rows: Mapped[int]
    enrolled: Mapped[int]
    already_enrolled: Mapped[int]
    dropped: Mapped[int] = mapped_column(server_default="0")
    not_enrolled: Mapped[int] = mapped_column(server_default="0")
    upserted: Mapped[int]
    unchanged: Mapped[int]
    superseded: Mapped[int] = mapped_column(server_default="0")
    rejected: Mapped[int]
    applied_at: Mapped[datetime]
    lines: Mapped[bytes | None] = mapped_column(LargeBinary)
    fresh: Mapped[bytes | None] = mapped_column(LargeBinary)
    fresh_size: Mapped[int | None] = mapped_column(SmallInteger)


class BatchRefusal(Base):
    """One problem of a refused line of a batch, with the record as it was submitted."""

    __tablename__ = "batch_refusals"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    batch_id: Mapped[str] = mapped_column(_id_column(), ForeignKey("batches.id"))
    line: Mapped[int] = mapped_column(BigInteger)
    code: Mapped[str] = mapped_column(String(32))
    message: Mapped[str] = mapped_column(String)
    record: Mapped[Any] = mapped_column(JSON)
    cells: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))

    __table_args__ = (
        Index(None, "batch_id", "code", "line"),
        Index(None, "batch_id", "line", "id"),
    )


class LetterForm(StrEnum):
    """What the content of a dead letter is."""

    MESSAGE = "message"
    """A whole message, byte for byte."""
    BEGINNING = "beginning"
    """The first bytes of a message that is too large to be stored; `detail` has its size and
    SHA-256."""
    CALL = "call"
    """A task with its arguments, as JSON."""
    RECORD = "record"
    """A single request, or one record of a batch whose other records were applied, as JSON."""


class LetterReason(StrEnum):
    """Why something became a dead letter."""

    MALFORMED = "malformed"
    """The message could not be understood."""
    INVALID_CHUNK = "invalid_chunk"
    """The message is valid, but the chunk in it breaks the contract."""
    CONFLICT = "conflict"
    """A different chunk was applied under its batch id and number."""
    NOT_PROCESSED = "not_processed"
    """It killed its worker or failed with an unexpected error each time it was tried."""


class DeadLetter(Base):
    """A message or record that could not be understood or processed, whole and with its reason.

    `form` says what `content` is. `fingerprint` is the SHA-256 of the form and the whole content:
    a dead letter that comes again is counted, and not stored twice. `moment` is when it counts, the
    latest one of those that came; if it is null, it counts when it came first.
    """

    __tablename__ = "dead_letters"

    id: Mapped[int] = mapped_column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True)
    fingerprint: Mapped[str] = mapped_column(String(64), unique=True)
    form: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(String(32))
    detail: Mapped[str] = mapped_column(String)
    task: Mapped[str | None] = mapped_column(String(255))
    request_id: Mapped[str | None] = mapped_column(_id_column(of_request=True))
    batch_id: Mapped[str | None] = mapped_column(_id_column())
    content: Mapped[bytes] = mapped_column(LargeBinary)
    deliveries: Mapped[int]
    first_at: Mapped[datetime]
    last_at: Mapped[datetime]
    moment: Mapped[datetime | None]

    __table_args__ = (Index(None, "batch_id"),)


class IdentityRow(Base):
    """The identity of this database, which no other one has: a table with exactly one row.

    `id` is random; `worker.database.identity` adds what distinguishes a copy from its original.
    Until `results_stored_until`, all results are stored, because workers of an older version, which
    cannot derive results, may still run; null if there can be none.
    """

    __tablename__ = "database_identity"

    singleton: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    id: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[datetime]
    results_stored_until: Mapped[datetime | None]

    __table_args__ = (CheckConstraint("singleton = 1", name="one_row"),)
