"""The HTTP front stands what callers do to it, all at once, while the queue is in trouble.

In the environment, FAULTS makes the storm of callers longer, as it does that of faults.
"""

import asyncio
import hashlib
import os
from pathlib import Path

import pytest
from redis import Redis

from producer.client import EnrollmentClient
from producer.schemas import RequestState
from support.front_load import ROWS, Load, Seen, Storm
from support.http import serving
from support.rosters import enter_roster
from support.stopwatch import Stopwatch
from support.waiting import wait_for
from support.workers import Deployment

FAULTS = os.environ.get("FAULTS")
LOAD = Load(seconds=120, worker_stopped=60, broker_frozen=20) if FAULTS else Load()
SOON = 1.0
"""Seconds within which the front says that it is alive, and answers the honest caller.

Time in which no processor was free for the front, its broker or the caller does not count.
"""


def with_tokens(folder: Path, *names: str) -> Path:
    """Write a file of tokens that may do everything; each is its own name."""
    tokens = folder / "tokens"
    digests = [(name, hashlib.sha256(name.encode()).hexdigest()) for name in names]
    tokens.write_text("".join(f"{name} submit,drop,lookup {digest}\n" for name, digest in digests))
    tokens.chmod(0o600)
    return tokens


@pytest.mark.timeout(0 if FAULTS else 180)
@pytest.mark.parametrize("fresh_deployment", ["postgresql"], indirect=True)
def test_an_honest_caller_goes_on_through_a_storm(
    fresh_deployment: Deployment, tmp_path: Path
) -> None:
    tokens = with_tokens(tmp_path, "greedy", "honest")
    with EnrollmentClient(fresh_deployment.broker_url, timeout=20) as client:
        enter_roster(client, ["L1"], ["LC1"])
        with Redis.from_url(fresh_deployment.broker_url) as redis:
            redis.set("enrollment:batch:load", '{"state": "queued", "chunks": 1}', ex=300)
        with serving(fresh_deployment.environment, tmp_path / "log", "--tokens", str(tokens)) as (
            url,
            process,
        ):
            storm = Storm(url, process.pid, "greedy", "honest", LOAD)
            seen = asyncio.run(storm.run(fresh_deployment))
            check_callers(seen)
            check_honest(seen)
            check_nothing_is_lost(client, seen)
            watch = Stopwatch(process.pid)
            process.terminate()
            process.wait(60)
            assert watch.seconds() < 25
    assert "Traceback" not in (tmp_path / "log").read_text()


def check_callers(seen: Seen) -> None:
    """Check that each sort of caller got what the bounds say, and no server error."""
    assert {call.status for call in seen.health} == {200}
    statuses = {sort: set(counts) for sort, counts in seen.statuses.items()}
    assert statuses["upload"] <= {202, 429, 0}
    assert seen.statuses["upload"][202] >= LOAD.uploads // 2
    assert statuses.get("slow body without token", {401}) == {401}
    assert statuses.get("slow body with token", set()) <= {429, 408, 0}
    assert statuses["slow head"] == {408}
    assert statuses["stream"] <= {200, 429}
    assert seen.statuses["stream"][200] >= LOAD.streams // 2
    assert statuses["waiter"] <= {200, 202, 429, 503}


def check_honest(seen: Seen) -> None:
    """Check how fast health and the honest caller were answered."""
    assert max(call.seconds for call in seen.health) < SOON
    began, ended = seen.frozen
    while_frozen = [c for c in seen.honest if c.ended >= began and c.started <= ended]
    others = [call for call in seen.honest if call not in while_frozen]
    assert {call.status for call in others} == {202}
    assert [call for call in others if call.seconds >= SOON] == []
    assert {call.status for call in while_frozen} <= {202, 503}


def check_nothing_is_lost(client: EnrollmentClient, seen: Seen) -> None:
    """Check that everything that was accepted is decided."""
    for batch_id in seen.batches:
        batch = client.wait(batch_id, timeout=60)
        assert (batch.books.received, batch.books.rejected) == (ROWS, 0)
    accepted = [call.request_id for call in seen.honest if call.request_id is not None]
    assert accepted

    def are_done() -> bool:
        return {status.state for status in client.statuses(accepted)} == {RequestState.DONE}

    wait_for(are_done, 60)
