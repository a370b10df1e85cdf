"""Read and write data sets, and who else names their enrollments, in SQL.

Every function takes an open connection. Nothing here knows the rules or commits.
"""

import json
import sys
from array import array
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Connection,
    Integer,
    LargeBinary,
    and_,
    bindparam,
    cast,
    delete,
    func,
    literal,
    select,
    tuple_,
    update,
)

from producer.contract.printable import shell_argument
from worker.data_sets.values import Owner
from worker.database.planning import planning_on
from worker.database.sets import (
    add_rows,
    columns_of,
    insert_into,
    is_among,
    list_parameter,
    row_parameters,
    rows_as_table,
)
from worker.models import PAIR_BITS, Batch, Instant, Pair, StudentCourse
from worker.plan_models import ADOPTED, AlsoEnrolledBy, DataSet, PlannedDropRow
from worker.repository import find_pairs_of, shared_students

MAX_DATA_SETS: Final = 2**15 - 1
"""The most data sets that a database can have: their keys are small integers."""

MAX_NAMED: Final = 30_000
"""How many of these may be made because batches name them. The rest is left for the operator, who
could else create none any more once submitters have used up all keys."""

_ATTEMPTS: Final = 20
"""How often a key is tried that other transactions may take at the same time."""

_PAIR: Final = columns_of(AlsoEnrolledBy, "student_id", "course_id")
_NOTE: Final = columns_of(AlsoEnrolledBy, "student_id", "course_id", "moment")
_KEYS: Final = ("student_id", "course_id")


class TooManyDataSets(Exception):
    """No other data set can be created. The message says what to do."""


# --- data sets --------------------------------------------------------------------------------


def find_data_set(connection: Connection, name: str) -> Any | None:
    """Return the data set of this name, as a row, or None."""
    return connection.execute(_BY_NAME, {"name": name}).one_or_none()


_DATA_SET = DataSet.__table__.columns
_BY_NAME = select(*_DATA_SET).where(DataSet.name == bindparam("name"))


def data_set_key(
    connection: Connection, name: str, now: datetime, *, most: int | None = None
) -> int:
    """Return the key of a data set; create it if it does not exist.

    `most` is the most data sets that there may be then, if that is not MAX_DATA_SETS. Raises
    TooManyDataSets.
    """
    most = MAX_DATA_SETS if most is None else most
    for _ in range(_ATTEMPTS):
        key = connection.scalar(_FIND_KEY, {"name": name})
        if key is not None:
            return int(key)
        least = connection.scalar(_NEXT_KEY) or 1
        if least > most:
            break
        new = insert_into(connection.dialect.name, DataSet).values(
            id=least, name=name, snapshots=False, created_at=now
        )
        # Another transaction may take the key or the name first; this one then looks again.
        connection.execute(new.on_conflict_do_nothing())
    way_out = "use the name of an existing one (`enroll data-sets list`)"
    if most < MAX_DATA_SETS:
        command = f"`enroll data-sets create {shell_argument(name)}`"
        way_out += f", or ask the operator to run {command}, then submit the batch again"
    raise TooManyDataSets(
        f"the data set {name!r} cannot be created: there are {most:,} already, or many are being"
        f" created at once; {way_out}"
    )


_FIND_KEY = select(DataSet.id).where(DataSet.name == bindparam("name"))
_NEXT_KEY = select(func.max(DataSet.id) + literal(1, Integer()))


def find_data_set_of_batch(connection: Connection, batch_id: str) -> int | None:
    """Return the key of a batch's data set; None if it has none, or no chunk of it was applied."""
    key: int | None = connection.scalar(_OF_BATCH, {"batch": batch_id})
    return key


_OF_BATCH = select(Batch.data_set).where(Batch.id == bindparam("batch"))


def list_data_sets(connection: Connection) -> Sequence[Any]:
    """Return all data sets as rows, by name."""
    return connection.execute(select(*_DATA_SET).order_by(DataSet.name)).all()


def allow_snapshots(connection: Connection, key: int) -> bool:
    """Let snapshots use a data set; return whether they could not before."""
    allowed = connection.execute(_ALLOW, {"key": key})
    return bool(allowed.rowcount)


_ALLOW = (
    update(DataSet)
    .where(DataSet.id == bindparam("key"), DataSet.snapshots.is_(False))
    .values(snapshots=True)
)


def set_rules(connection: Connection, key: int, rules: Mapping[str, Any] | None) -> None:
    """Store an operator's rules for holding the plans of a data set; None for the default ones."""
    connection.execute(update(DataSet).where(DataSet.id == key).values(rules=rules))


def find_swept(connection: Connection, data_sets: Collection[int]) -> dict[int, datetime]:
    """Return when the last snapshot of each data set began to be applied, by data set.

    Call this after the lock on enrollments was taken (`worker.database.enrollment_lock`).
    """
    dialect = connection.dialect.name
    rows = connection.execute(_select_swept(dialect), list_parameter(dialect, data_sets))
    return {row.id: row.swept_at for row in rows}


@cache
def _select_swept(dialect: str) -> Any:
    wanted = (is_among(dialect, DataSet.id), DataSet.swept_at.is_not(None))
    return select(DataSet.id, DataSet.swept_at).where(*wanted)


def begin_sweep(connection: Connection, data_set: int, moment: datetime) -> bool:
    """Let a snapshot that counts at this moment begin; return False if a later one has begun.

    Call this while the lock on enrollments is held alone.
    """
    begun = connection.execute(_BEGIN_SWEEP, {"key": data_set, "moment": moment})
    return bool(begun.rowcount)


_MOMENT: Any = bindparam("moment", type_=Instant())
_BEGIN_SWEEP = (
    update(DataSet)
    .where(
        DataSet.id == bindparam("key"),
        DataSet.swept_at.is_(None) | (DataSet.swept_at <= _MOMENT),
    )
    .values(swept_at=_MOMENT)
)


# --- owners and notes -------------------------------------------------------------------------


def confirm_owner(
    connection: Connection,
    owner: Owner,
    confirmed: Mapping[Pair, datetime],
    swept_at: datetime | None,
) -> None:
    """Let a data set adopt enrollments that it names, or note that it names those of others.

    `confirmed` has the moments at which its requests named pairs that were enrolled already. Those
    before `swept_at`, when its last snapshot began to be applied, do not count.
    """
    pairs = [p for p, at in confirmed.items() if swept_at is None or at >= swept_at]
    note_foreign(connection, owner, find_foreign(connection, pairs, owner.data_set), confirmed)


def note_foreign(
    connection: Connection,
    owner: Owner,
    foreign: Mapping[Pair, int | None],
    confirmed: Mapping[Pair, datetime],
) -> None:
    """Do what `confirm_owner` does for pairs of which the present owners are known."""
    unowned = [pair for pair, data_set in foreign.items() if data_set is None]
    if owner.adopting_plan is None:
        noted = [pair for pair, data_set in foreign.items() if data_set is not None]
    else:
        # Another data set may adopt some of them at the same time: the statement looks again.
        noted = list(foreign)
        if unowned:
            _adopt(connection, unowned, owner.data_set, owner.adopting_plan)
    add_notes(connection, owner.data_set, {pair: confirmed[pair] for pair in noted})


def find_foreign(
    connection: Connection, pairs: Collection[Pair], data_set: int
) -> dict[Pair, int | None]:
    """Return those of these pairs whose enrollments a data set does not own, with their owners."""
    if not pairs:
        return {}
    dialect = connection.dialect.name
    parameters = row_parameters(dialect, _PAIR, sorted(pairs))
    rows = connection.execute(_select_foreign(dialect), {**parameters, "owner": data_set})
    return {(student, course): owner for student, course, owner in rows}


@cache
def _select_foreign(dialect: str) -> Any:
    source, row = rows_as_table(dialect, _PAIR), StudentCourse
    is_foreign = row.data_set.is_distinct_from(bindparam("owner", type_=Integer()))
    return select(*source.c, row.data_set).join(row, _is_pair(row, source)).where(is_foreign)


def find_packed_pairs(
    connection: Connection, students: Collection[int], data_set: int
) -> Sequence[int]:
    """Return the pairs of the enrollments that a data set owns of some students, packed.

    A packed pair is one integer (`worker.models.PAIR_BITS`): thousands of them are read and
    compared in half the time that pairs take.
    """
    dialect = connection.dialect.name
    parameters: dict[str, Any] = {**list_parameter(dialect, set(students)), "owner": data_set}
    packed = connection.scalar(_select_packed_pairs(dialect), parameters)
    if packed is None or dialect != "postgresql":
        listed: list[int] = json.loads(packed or "[]")
        return listed
    numbers = array("q", packed)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers


@cache
def _select_packed_pairs(dialect: str) -> Any:
    row = StudentCourse
    packed = cast(row.student_id, BigInteger) * 2**PAIR_BITS + row.course_id
    if dialect == "postgresql":
        # The bytes of big-endian integers take a third of the time that a JSON document takes.
        listed = func.string_agg(func.int8send(packed), literal(b"", LargeBinary()))
    else:
        listed = func.json_group_array(packed)
    return (
        select(listed)
        .where(row.data_set == bindparam("owner", type_=Integer()))
        .where(is_among(dialect, row.student_id))
    )


def find_new_and_foreign(
    connection: Connection, pairs: Collection[Pair], data_set: int
) -> tuple[set[Pair], dict[Pair, int | None]]:
    """Return the pairs without an enrollment, and what `find_foreign` returns."""
    if (students := shared_students(pairs)) is not None:
        pairs = set(pairs).difference(find_pairs_of(connection, students, data_set))
        if not pairs:
            return set(), {}
    dialect = connection.dialect.name
    parameters = row_parameters(dialect, _PAIR, sorted(pairs))
    rows = connection.execute(_select_new_and_foreign(dialect), {**parameters, "owner": data_set})
    new: set[Pair] = set()
    foreign: dict[Pair, int | None] = {}
    for student, course, enrolled, owner in rows:
        if enrolled is None:
            new.add((student, course))
        else:
            foreign[student, course] = owner
    return new, foreign


@cache
def _select_new_and_foreign(dialect: str) -> Any:
    source, row = rows_as_table(dialect, _PAIR), StudentCourse
    is_foreign = row.data_set.is_distinct_from(bindparam("owner", type_=Integer()))
    return (
        select(*source.c, row.student_id, row.data_set)
        .outerjoin(row, _is_pair(row, source))
        .where(is_foreign)
    )


def _is_pair(row: Any, source: Any) -> Any:
    return and_(row.student_id == source.c.student_id, row.course_id == source.c.course_id)


def _adopt(connection: Connection, pairs: Collection[Pair], data_set: int, plan_id: str) -> None:
    """Let a data set own enrollments that have no owner, and store with its plan which ones."""
    dialect = connection.dialect.name
    parameters = row_parameters(dialect, _PAIR, sorted(pairs))
    rows = connection.execute(_adopt_pairs(dialect), {**parameters, "owner": data_set})
    adopted = [(plan_id, *row, ADOPTED, ADOPTED) for row in rows]
    if planning_on(connection) is None:
        names = ("plan_id", "student_id", "course_id", "expected", "outcome")
        add_rows(connection, PlannedDropRow, names, sorted(adopted))


@cache
def _adopt_pairs(dialect: str) -> Any:
    source, row = rows_as_table(dialect, _PAIR), StudentCourse
    owner = bindparam("owner", type_=Integer())
    return (
        update(row)
        .where(tuple_(row.student_id, row.course_id).in_(select(*source.c)))
        .where(row.data_set.is_(None))
        .values(data_set=owner)
        .returning(row.student_id, row.course_id)
    )


def add_notes(connection: Connection, data_set: int, named: Mapping[Pair, datetime]) -> None:
    """Note that a data set names pairs which another one owns; of two notes, the later stays."""
    if not named:
        return
    dialect = connection.dialect.name
    rows = sorted((*pair, moment) for pair, moment in named.items())
    parameters = row_parameters(dialect, _NOTE, rows)
    connection.execute(_insert_notes(dialect), {**parameters, "data_set": data_set})


@cache
def _insert_notes(dialect: str) -> Any:
    source, row, note = rows_as_table(dialect, _NOTE), StudentCourse, AlsoEnrolledBy
    own = bindparam("data_set", type_=Integer())
    rows = (
        select(source.c.student_id, source.c.course_id, own, source.c.moment)
        .join(row, _is_pair(row, source))
        .where(row.data_set != own)
        .order_by(source.c.student_id, source.c.course_id)
    )
    new = insert_into(dialect, note).from_select([*_KEYS, "data_set", "moment"], rows)
    return new.on_conflict_do_update(
        index_elements=[*_KEYS, "data_set"],
        set_={"moment": new.excluded.moment},
        where=note.moment < new.excluded.moment,
    )


def remove_older_notes(connection: Connection, dropped: Mapping[Pair, datetime]) -> None:
    """Remove the notes about pairs that are older than the moments at which these are dropped."""
    if not dropped:
        return
    dialect = connection.dialect.name
    rows = sorted((*pair, moment) for pair, moment in dropped.items())
    connection.execute(_delete_older(dialect), row_parameters(dialect, _NOTE, rows))


@cache
def _delete_older(dialect: str) -> Any:
    source, note = rows_as_table(dialect, _NOTE), AlsoEnrolledBy
    older = select(note.student_id, note.course_id, note.data_set).join(
        source, and_(_is_pair(note, source), note.moment < source.c.moment)
    )
    key = tuple_(note.student_id, note.course_id, note.data_set)
    return delete(note).where(key.in_(older))


def remove_notes_before(connection: Connection, data_set: int, moment: datetime) -> None:
    """Remove the notes of a data set about pairs that its snapshot of this moment does not name."""
    connection.execute(_DELETE_BEFORE, {"data_set": data_set, "moment": moment})


_DELETE_BEFORE = delete(AlsoEnrolledBy).where(
    AlsoEnrolledBy.data_set == bindparam("data_set"), AlsoEnrolledBy.moment < _MOMENT
)
