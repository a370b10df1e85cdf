"""Store a chunk of a planned submission instead of applying it, exactly once."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from producer.contract.chunks import Chunk
from producer.contract.headers import BatchOrigin
from producer.contract.plan_requests import PlanRequest
from producer.contract.plans import PlanState
from producer.fields import MAX_KEY
from producer.schemas import Kind
from worker.batches.members.arrival import all_chunks_arrived
from worker.batches.opening import form_of
from worker.batches.repository import find_chunk
from worker.data_sets.losses.repository import count_losses
from worker.data_sets.repository import find_data_set
from worker.database.engine import Database, transaction
from worker.moments import Clock, Reading, moment_of_message, own_clock, read_clock
from worker.plans.repository import (
    add_plan,
    add_staged,
    find_batches,
    find_members,
    finish,
    highest_staged,
    lock_plan,
    staged_fingerprint,
    time_now,
    update_member,
    update_plan,
)
from worker.plans.snapshot_rules import problem_of_chunk, problem_of_data_set, problem_of_moment
from worker.plans.stored import compressed
from worker.plans.times import Expiry
from worker.snapshots.unchanged import find_unchanged, pack


class StagingConflict(Exception):
    """A chunk does not fit what is stored of its plan; nothing was changed. The message says why.

    It goes into the dead letter, for the operator.
    """


class Delivered(NamedTuple):
    """A chunk of a planned submission, as it was delivered."""

    kind: Kind
    chunk: Chunk
    fingerprint: int
    text: str
    """Its JSON, of which the fingerprint was made."""
    origin: BatchOrigin


class Staging(NamedTuple):
    """What was done with a delivered chunk."""

    is_stored: bool
    """False if it was stored before, or if its plan is discarded: nothing was changed."""
    is_complete: bool = False
    """Whether it was the last one that its plan waited for."""


def stage_chunk(
    database: Database,
    delivered: Delivered,
    expiry: Expiry = Expiry(),  # noqa: B008 - immutable
    *,
    clock: Clock = own_clock,
) -> Staging:
    """Store a chunk that carries a plan, exactly once; the first one also stores the plan.

    A chunk of a snapshot that must not be one makes its plan discarded, with the reason. Raises
    StagingConflict, DBAPIError.
    """
    return transaction(database, lambda connection: _stage(connection, delivered, expiry, clock))


def stage_to(connection: Connection, delivered: Delivered, *, clock: Clock = own_clock) -> Staging:
    """Store a chunk within an open transaction, as `stage_chunk` does."""
    return _stage(connection, delivered, Expiry(), clock)


def _stage(connection: Connection, new: Delivered, expiry: Expiry, clock: Clock) -> Staging:
    request = _request_of(new)
    data_set, noted = None, dict[str, Any]()
    if request.snapshot:
        # Before the plan is locked, so that its chunks are looked up at the same time.
        data_set, noted = _look(connection, new)
    now, reading = time_now(connection, clock), read_clock(clock)
    plan = _open_plan(connection, request, new, now, reading)
    members = find_members(connection, request.id)
    _require_members(request, members)
    member = next(each for each in members if each.batch_id == new.chunk.batch_id)
    if plan.state != PlanState.STAGED:
        _require_same(connection, plan, new)
        return Staging(is_stored=False)
    if _is_repeated(connection, new):
        return Staging(is_stored=False)
    _require_place(connection, member, new)
    name = new.chunk.data_set
    if name is not None and plan.data_set_name not in (None, name):
        raise StagingConflict(
            f"the plan {plan.id} belongs to the data set {plan.data_set_name}, and this chunk names"
            f" {name}; all chunks of a submission name the same one"
        )
    if request.snapshot and (problem := _problem(new, data_set, reading)) is not None:
        came = {"staged_at": now} | _first_facts(member, new, reading)
        update_member(connection, new.chunk.batch_id, came)
        values = finish(connection, plan, PlanState.DISCARDED, now, detail=problem)
        update_plan(connection, plan.id, values | {"data_set_name": name})
        return Staging(is_stored=False)
    row = _row_of(plan, new, now) | noted
    return _store(connection, plan, member, new, row, expiry, now, reading)


def _look(connection: Connection, new: Delivered) -> tuple[Any | None, dict[str, Any]]:
    """Return the row of a snapshot's data set, and what to store of unchanged requests."""
    if new.kind is not Kind.ENROLLMENTS or new.chunk.data_set is None:
        return None, {}
    data_set = find_data_set(connection, new.chunk.data_set)
    # Before anything is looked up, so that what is lost meanwhile is noticed.
    losses = None if data_set is None else count_losses(connection, data_set.id)
    if data_set is None or losses is None:
        return data_set, {}
    unchanged = find_unchanged(connection, new.chunk, data_set.id)
    if unchanged is None:
        return data_set, {}
    return data_set, {"unchanged": pack(unchanged, new.chunk), "losses": losses}


def _request_of(new: Delivered) -> PlanRequest:
    """Return the plan that a chunk names. Raises StagingConflict if its batch is not part of it."""
    request = new.chunk.plan
    assert request is not None  # noqa: S101 - the caller passes chunks that carry a plan
    if not any(m.batch_id == new.chunk.batch_id and m.kind is new.kind for m in request.members):
        raise StagingConflict(
            f"the plan {request.id} does not list the batch {new.chunk.batch_id} of {new.kind} as a"
            " member; submit it under another batch id"
        )
    return request


def _open_plan(
    connection: Connection, request: PlanRequest, new: Delivered, now: datetime, reading: Reading
) -> Any:
    """Return the row of a chunk's plan, locked; store it if this is the first chunk."""
    plan = lock_plan(connection, request.id)
    if plan is None:
        ids = [member.batch_id for member in request.members]
        if applied := find_batches(connection, ids):
            raise StagingConflict(
                f"chunks of the batch {applied[0]} were already applied without a plan; submit it"
                " under another batch id"
            )
        values = {
            "id": request.id,
            "file_name": new.origin.file_name,
            "submitter": new.origin.submitter,
            "moment": moment_of_message(new.origin.moment, reading),
            "staged_at": now,
        }
        add_plan(connection, values, request)
        plan = lock_plan(connection, request.id)
    assert plan is not None  # noqa: S101 - it was just stored
    if plan.request != request.model_dump(mode="json"):
        raise StagingConflict(
            f"other chunks of the plan {request.id} describe it differently, as if two submissions"
            " used this id; submit one of them under another batch id"
        )
    return plan


def _require_members(request: PlanRequest, members: Sequence[Any]) -> None:
    """Check that all batches of a plan are members of it. Raises StagingConflict."""
    own = {member.batch_id for member in members}
    for member in request.members:
        if member.batch_id not in own:
            raise StagingConflict(
                f"the batch {member.batch_id} already belongs to a plan other than {request.id};"
                " submit it under another batch id"
            )


def _require_same(connection: Connection, plan: Any, new: Delivered) -> None:
    """Check that a chunk is the one that its plan already has. Raises StagingConflict.

    What was planned does not change any more, whatever its state.
    """
    batch_id, number = new.chunk.batch_id, new.chunk.number
    known = staged_fingerprint(connection, batch_id, number)
    if known is None and (entry := find_chunk(connection, batch_id, number)) is not None:
        known = entry.fingerprint
    if known is None:
        stored = (plan.progress or {}).get("fingerprints", {}).get(batch_id, {})
        known = stored.get(str(number))
    is_discarded = plan.state == PlanState.DISCARDED
    if known != new.fingerprint and not (known is None and is_discarded):
        raise StagingConflict(
            f"a different chunk was stored under its batch id and number, or the batch ends before"
            f" it, and its plan is already {plan.state}"
        )


def _is_repeated(connection: Connection, new: Delivered) -> bool:
    """Return whether a chunk is stored. Raises StagingConflict if another one is."""
    stored = staged_fingerprint(connection, new.chunk.batch_id, new.chunk.number)
    if stored not in (None, new.fingerprint):
        raise StagingConflict("a different chunk was stored under its batch id and number")
    return stored is not None


def _require_place(connection: Connection, member: Any, new: Delivered) -> None:
    """Check that a batch may have a chunk with this number. Raises StagingConflict."""
    number = new.chunk.number
    if new.chunk.last and number >= MAX_KEY:
        raise StagingConflict(
            f"it is the last chunk and has the number {number:,}, but that of a batch that is"
            f" planned has at most the number {MAX_KEY - 1:,}; number the chunks from 0 on"
        )
    highest = highest_staged(connection, member.batch_id)
    if member.chunks is not None and (number >= member.chunks or new.chunk.last):
        raise StagingConflict(f"the batch ends with its chunk {member.chunks - 1}, before this one")
    if new.chunk.last and highest is not None and highest > number:
        raise StagingConflict(
            f"it claims to be the last chunk of the batch, but the batch has a chunk {highest}"
        )


def _problem(new: Delivered, data_set: Any | None, reading: Reading) -> str | None:
    """Return why a chunk cannot be part of a snapshot, or None; `data_set` is its row."""
    problem = problem_of_chunk(new.kind, new.chunk) or problem_of_moment(new.origin.moment, reading)
    if problem is not None or (name := new.chunk.data_set) is None:
        return problem
    return problem_of_data_set(name, data_set)


def _store(
    connection: Connection,
    plan: Any,
    member: Any,
    new: Delivered,
    row: Mapping[str, Any],
    expiry: Expiry,
    now: datetime,
    reading: Reading,
) -> Staging:
    """Store a chunk as a row, and what it adds to its batch and to its plan."""
    chunk = new.chunk
    add_staged(connection, row)
    first = _first_facts(member, new, reading)
    moment = member.moment or first["moment"]
    grown = _grown(member, chunk, now)
    update_member(connection, chunk.batch_id, grown | first)
    has_end = member.chunks is not None or "chunks" in grown
    is_complete = has_end and all_chunks_arrived(find_members(connection, plan.id))
    values: dict[str, Any] = {"due_at": now if is_complete else now + expiry.staged}
    if chunk.data_set is not None:
        values["data_set_name"] = chunk.data_set
    if chunk.batch_id == plan.id:  # The last member is the one that the plan is named for.
        values |= {"moment": moment, "file_name": member.file_name or new.origin.file_name}
    update_plan(connection, plan.id, values)
    return Staging(is_stored=True, is_complete=is_complete)


def _row_of(plan: Any, new: Delivered, now: datetime) -> dict[str, Any]:
    """Return a chunk as it is stored."""
    chunk, tally = new.chunk, new.chunk.tally()
    return {
        "batch_id": chunk.batch_id,
        "number": chunk.number,
        "plan_id": plan.id,
        "requests": tally.requests,
        "rows": tally.rows,
        "fingerprint": new.fingerprint,
        "last": chunk.last,
        "staged_at": now,
        "payload": compressed(new.text),
    }


def _grown(member: Any, chunk: Chunk, now: datetime) -> dict[str, Any]:
    """Return the counts of a member after another chunk, and its end if that is the last one."""
    tally = chunk.tally()
    counts = {
        "staged": member.staged + 1,
        "requests": member.requests + tally.requests,
        "rows": member.rows + tally.rows,
        "staged_at": now,
    }
    if not chunk.last:
        return counts
    counts_rows = chunk.before.rows > 0 or chunk.number == 0
    through = chunk.before.rows + tally.rows if counts_rows else None
    return {**counts, "chunks": chunk.number + 1, "rows_through": through}


def _first_facts(member: Any, new: Delivered, reading: Reading) -> dict[str, Any]:
    """Return what the first chunk of a batch says about all of it; nothing for the others."""
    if member.moment is not None:
        return {}
    moment = moment_of_message(new.origin.moment, reading)
    file = {"columns": new.chunk.columns, "form": form_of(new.chunk)}
    return new.origin._asdict() | {"moment": moment} | file
