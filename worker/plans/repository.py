"""Read and change plans in SQL: the state of each is the list of what workers have to do."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    LargeBinary,
    Select,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    update,
)

from producer.contract.plan_requests import PlanRequest
from producer.contract.plans import FINAL_STATES, PlanState
from producer.schemas import Kind
from worker.database.clock import database_time
from worker.database.sets import insert_into
from worker.models import Batch
from worker.moments import Clock
from worker.plan_models import DataSet, PlanMember, PlanRow, StagedChunk

_COLUMNS = tuple(PlanRow.__table__.columns)
_ONGOING = (PlanState.APPLYING, PlanState.SWEEPING)
DECIDED: Final = (PlanState.APPROVED, *_ONGOING)
"""The states of a plan that is to be applied."""


class Lease(NamedTuple):
    """A plan that this process works on: until `due_at`, no other worker looks at it."""

    plan: Any
    """The row of the plan, as it was when the work began."""
    due_at: datetime


class LeaseLost(Exception):
    """Another worker took the plan, or it was decided about: this process must stop."""


def time_now(connection: Connection, clock: Clock) -> datetime:
    """Return the present time by the clock that all workers of the database share."""
    return database_time(connection) or clock()


def find_plan(connection: Connection, plan_id: str) -> Any | None:
    """Return the row of a plan, or None."""
    return connection.execute(_PLAN, {"plan": plan_id}).one_or_none()


def lock_plan(connection: Connection, plan_id: str) -> Any | None:
    """Return the row of a plan, locked until the end of the transaction, or None."""
    return connection.execute(_LOCKED_PLAN, {"plan": plan_id}).one_or_none()


_PLAN = select(*_COLUMNS).where(PlanRow.id == bindparam("plan"))
_LOCKED_PLAN = _PLAN.with_for_update()


def begins_to_apply(connection: Connection, plan_id: str) -> bool:
    """Return whether a plan is being applied or was: its chunks belong in the ledger."""
    state = connection.scalar(select(PlanRow.state).where(PlanRow.id == plan_id))
    return state in (*_ONGOING, PlanState.DONE)


def add_plan(connection: Connection, values: Mapping[str, Any], request: PlanRequest) -> None:
    """Store a plan and its members, unless they are stored.

    A batch that is a member of another plan remains one of that.
    """
    dialect = connection.dialect.name
    new = insert_into(dialect, PlanRow).values(
        state=PlanState.STAGED, request=request.model_dump(mode="json"), **values
    )
    connection.execute(new.on_conflict_do_nothing())
    members = [
        {"batch_id": m.batch_id, "plan_id": request.id, "position": i, "kind": m.kind}
        for i, m in enumerate(request.members)
    ]
    for member in sorted(members, key=lambda each: str(each["batch_id"])):
        connection.execute(
            insert_into(dialect, PlanMember).values(**member).on_conflict_do_nothing()
        )


def find_members(connection: Connection, plan_id: str) -> list[Any]:
    """Return the members of a plan, in the order in which they are applied.

    The header and the form of their files are left out: members are read for each chunk, and a
    header may have megabytes.
    """
    return list(connection.execute(_MEMBERS, {"plan": plan_id}))


_OF_FILE: Final = ("columns", "form")
_MEMBERS = (
    select(*(column for column in PlanMember.__table__.columns if column.name not in _OF_FILE))
    .where(PlanMember.plan_id == bindparam("plan"))
    .order_by(PlanMember.position)
)


def find_plans_of(connection: Connection, identity: str) -> list[str]:
    """Return the plans of a batch with this id, or of the batches of a package with it."""
    ids = [identity, *(f"{identity}:{kind}" for kind in Kind)]
    statement = select(PlanMember.plan_id).where(PlanMember.batch_id.in_(ids)).distinct()
    return list(connection.scalars(statement))


def update_member(connection: Connection, batch_id: str, values: Mapping[str, Any]) -> None:
    """Change the row of a member."""
    connection.execute(update(PlanMember).where(PlanMember.batch_id == batch_id).values(**values))


def update_plan(connection: Connection, plan_id: str, values: Mapping[str, Any]) -> None:
    """Change the row of a plan that the transaction has locked."""
    connection.execute(update(PlanRow).where(PlanRow.id == plan_id).values(**values))


def find_due(connection: Connection, now: datetime) -> bool:
    """Return whether there is a plan for a worker to look at. It locks and changes nothing."""
    due = select(PlanRow.id).where(PlanRow.due_at <= now).limit(1)
    return connection.execute(due).first() is not None


def claim_due(
    connection: Connection,
    now: datetime,
    lease_of: Callable[[Any], timedelta],
    *,
    after: str | None = None,
    decided_first: bool = False,
) -> Lease | None:
    """Take a plan that is due; None if none is due.

    The submitters take turns, in the order of their names: it is the turn of the one who comes
    after the name `after`, with the plan that has been due for the longest time. `decided_first`
    takes a plan that is to be applied if one is due. `lease_of` says for how long a plan is taken,
    by its row. A plan that another transaction has locked is passed over.
    """
    for statement in due_in_turn(now, after, decided_first=decided_first):
        locked = statement.with_for_update(skip_locked=True)
        if (plan := connection.execute(locked).one_or_none()) is not None:
            until = now + lease_of(plan)
            update_plan(connection, plan.id, {"due_at": until, "attempts": plan.attempts + 1})
            return Lease(plan, until)
    return None


def due_in_turn(
    now: datetime, after: str | None, *, decided_first: bool = False
) -> Iterator[Select[Any]]:
    """Yield the statements of which the first one that returns a row returns the next plan.

    Each reads by an index. Plans without the name of a submitter have a turn, too.
    """
    due = select(*_COLUMNS).where(PlanRow.due_at <= now).limit(1)
    if decided_first:
        yield due.where(PlanRow.state.in_(DECIDED)).order_by(PlanRow.due_at)
    name = PlanRow.submitter
    turns: list[ColumnElement[bool]] = [name.is_not(None), name.is_(None)]
    if after is not None:
        turns = [name > after, name.is_(None), name <= after]
    for turn in turns:
        yield due.where(turn).order_by(name, PlanRow.due_at)


def find_behind(connection: Connection, later_than: datetime) -> list[str]:
    """Return the plans with something to do that wait until after a time."""
    member = PlanMember
    is_mixed = member.rows_through != member.rows
    is_incomplete = or_(member.chunks.is_(None), member.staged < member.chunks, is_mixed)
    waits_for_chunks = exists().where(member.plan_id == PlanRow.id, is_incomplete)
    has_work = or_(
        PlanRow.state.in_(DECIDED), and_(PlanRow.state == PlanState.STAGED, ~waits_for_chunks)
    )
    return list(connection.scalars(select(PlanRow.id).where(PlanRow.due_at > later_than, has_work)))


def make_due(connection: Connection, plan_ids: Collection[str], now: datetime) -> None:
    """Let workers go on with plans at once, also with those that another process holds."""
    unfinished = (PlanRow.id.in_(plan_ids), PlanRow.due_at > now)
    connection.execute(update(PlanRow).where(*unfinished).values(due_at=now))


def find_applying(connection: Connection, now: datetime) -> str | None:
    """Return a plan whose chunks a worker is applying right now, or None."""
    held = select(PlanRow.id).where(PlanRow.state == PlanState.APPLYING, PlanRow.due_at > now)
    plan_id: str | None = connection.scalar(held.order_by(PlanRow.due_at, PlanRow.id).limit(1))
    return plan_id


def change(connection: Connection, lease: Lease, **values: Any) -> None:
    """Change a plan, if this process still holds it and its state is still the one it knows.

    Raises LeaseLost.
    """
    mine = (PlanRow.id == lease.plan.id, PlanRow.state == lease.plan.state)
    statement = update(PlanRow).where(*mine, PlanRow.due_at == lease.due_at).values(**values)
    if not connection.execute(statement).rowcount:
        raise LeaseLost(lease.plan.id)


def lock_data_set(connection: Connection, key: int) -> datetime | None:
    """Lock a data set until the end of the transaction; return the moment of its last snapshot."""
    row = select(DataSet.swept_at).where(DataSet.id == key).with_for_update()
    moment: datetime | None = connection.execute(row).scalar_one()
    return moment


def find_ongoing_snapshot(connection: Connection, data_set: int, except_for: str) -> str | None:
    """Return another plan of a data set that is being applied, or None."""
    plan = PlanRow
    others = select(plan.id, plan.request).where(
        plan.data_set == data_set, plan.state.in_(_ONGOING), plan.id != except_for
    )
    rows = connection.execute(others)
    return next((row.id for row in rows if row.request["snapshot"]), None)


def find_snapshots_applied_since(
    connection: Connection, data_set: int, since: datetime, except_for: str
) -> list[str]:
    """Return the other plans of a data set of which snapshots were applied since a time."""
    plan = PlanRow
    others = select(plan.id, plan.request).where(
        plan.data_set == data_set,
        plan.state == PlanState.DONE,
        plan.finished_at > since,
        plan.id != except_for,
    )
    rows = connection.execute(others.order_by(plan.finished_at, plan.id))
    return [row.id for row in rows if row.request["snapshot"]]


def find_waiting_snapshots(connection: Connection, data_set: int, before: datetime) -> list[Any]:
    """Return, locked, the older snapshots of a data set that wait for a decision."""
    plan = PlanRow
    older = select(plan.id, plan.request).where(
        plan.data_set == data_set, plan.state == PlanState.HELD, plan.moment < before
    )
    rows = connection.execute(older.order_by(plan.id).with_for_update())
    return [row for row in rows if row.request["snapshot"]]


def staged_fingerprint(connection: Connection, batch_id: str, number: int) -> int | None:
    """Return the fingerprint of the stored chunk with a number; None if it is not stored."""
    values = {"batch": batch_id, "number": number}
    fingerprint: int | None = connection.scalar(_FINGERPRINT, values)
    return fingerprint


def highest_staged(connection: Connection, batch_id: str) -> int | None:
    """Return the highest number of a stored chunk of a batch, or None."""
    number: int | None = connection.scalar(_HIGHEST, {"batch": batch_id})
    return number


def staged_fingerprints(connection: Connection, batch_id: str) -> dict[int, int]:
    """Return the fingerprints of the stored chunks of a batch, by number."""
    staged = StagedChunk
    statement = select(staged.number, staged.fingerprint).where(staged.batch_id == batch_id)
    return {row.number: row.fingerprint for row in connection.execute(statement)}


def add_staged(connection: Connection, values: Mapping[str, Any]) -> None:
    """Store a chunk."""
    connection.execute(insert_into(connection.dialect.name, StagedChunk).values(**values))


def read_staged(connection: Connection, batch_id: str, number: int) -> Any | None:
    """Return the row of a stored chunk; None if it is not stored any more.

    Its compressed text is null if unchanged requests were noted, because it is seldom needed then.
    """
    return connection.execute(_READ_STAGED, {"batch": batch_id, "number": number}).one_or_none()


def find_changing(connection: Connection, batch_id: str, form: bytes) -> list[int]:
    """Return the numbers of the stored chunks of which nothing is noted in a form."""
    staged = StagedChunk
    is_noted = func.substr(staged.unchanged, 1, 1) == literal(form, LargeBinary())
    is_changing = or_(staged.unchanged.is_(None), ~is_noted)
    numbers = select(staged.number).where(staged.batch_id == batch_id, is_changing)
    return list(connection.scalars(numbers.order_by(staged.number)))


def read_payload(connection: Connection, batch_id: str, number: int) -> bytes | None:
    """Return the compressed text of a stored chunk; None if it is not stored any more."""
    values = {"batch": batch_id, "number": number}
    payload: bytes | None = connection.scalar(_READ_PAYLOAD, values)
    return payload


_STAGED = StagedChunk
_IS_STAGED = (_STAGED.batch_id == bindparam("batch"), _STAGED.number == bindparam("number"))
_FINGERPRINT = select(_STAGED.fingerprint).where(*_IS_STAGED)
_HIGHEST = select(func.max(_STAGED.number)).where(_STAGED.batch_id == bindparam("batch"))
_READ_PAYLOAD = select(_STAGED.payload).where(*_IS_STAGED)
_READ_STAGED = select(
    case((_STAGED.unchanged.is_(None), _STAGED.payload)).label("payload"),
    _STAGED.fingerprint,
    _STAGED.unchanged,
    _STAGED.losses,
).where(*_IS_STAGED)


def delete_staged(connection: Connection, plan_id: str) -> None:
    """Remove the stored chunks of a plan."""
    connection.execute(delete(StagedChunk).where(StagedChunk.plan_id == plan_id))


def finish(
    connection: Connection, plan: Any, state: PlanState, now: datetime, **values: Any
) -> dict[str, Any]:
    """Remove what only an unfinished plan needs, and return its columns in a final state.

    The fingerprints of its chunks stay, so that a different chunk under the same number is still
    a conflict; of a plan that was applied, the ledger has them.
    """
    assert state in FINAL_STATES, state  # noqa: S101 - the callers name the state
    fingerprints = {
        member.batch_id: staged_fingerprints(connection, member.batch_id)
        for member in find_members(connection, plan.id)
    }
    delete_staged(connection, plan.id)
    progress = None if state is PlanState.DONE else {"fingerprints": fingerprints}
    return {
        "state": state,
        "due_at": None,
        "finished_at": now,
        "progress": progress,
        **values,
    }


def find_batches(connection: Connection, batch_ids: Collection[str]) -> Sequence[str]:
    """Return those of these batches of which at least one chunk was applied."""
    return list(connection.scalars(select(Batch.id).where(Batch.id.in_(batch_ids))))
