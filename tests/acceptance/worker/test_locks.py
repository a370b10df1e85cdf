"""Lookups are answered while another session holds locks, however much work waits for these."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import psycopg
import pytest

from producer.client import EnrollmentClient
from producer.errors import LookupFailed
from producer.schemas import Kind, RequestState
from support.databases import dead_letters_at
from support.rosters import enter_roster, finished
from support.stopwatch import Stopwatch
from support.waiting import wait_for
from support.workers import Deployment

STUDENTS = [f"S{number}" for number in range(200)]
COURSES = [f"C{number}" for number in range(3)]
SECONDS = 5
"""Within which a lookup is answered, with a result or an error."""

STRIKES = (
    "TABLE students FOR UPDATE",
    "LOCK TABLE courses",
    (
        "LOCK TABLE students, courses, student_courses, enrollment_results, batches, batch_chunks,"
        " batch_refusals, plans, plan_members, data_sets, dead_letters"
    ),
)
"""What the other session does: it locks rows, a table that work needs, or all tables."""

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"


@contextmanager
def struck(url: str, statement: str) -> Iterator[Callable[[], bool]]:
    """Hold a lock; yield what returns whether both processes of the worker wait for it."""
    with psycopg.connect(url) as other, psycopg.connect(url, autocommit=True) as looking:
        other.execute(statement.encode())
        yield lambda: looking.execute(WAITING).fetchone() == (2,)
        other.rollback()


def submit_work(deployment: Deployment, number: int) -> tuple[list[str], list[str]]:
    """Submit single requests and small chunks, which form groups, and chunks that run alone.

    Returns the ids of the requests and of the batches.
    """
    rows = [{"student_id": name, "course_ids": [COURSES[number]]} for name in STUDENTS]
    with EnrollmentClient(deployment.broker_url, timeout=30) as client:
        batches = [client.submit_batch(Kind.ENROLLMENTS, rows).batch_id for _ in range(3)]
        ids = client.submit_all(rows)
        for part in "abc":
            roster = [{"sis_id": name, "name": f"{part} {number}"} for name in STUDENTS]
            batches.append(client.submit_batch(Kind.STUDENTS, roster).batch_id)
    return ids, batches


@pytest.mark.parametrize("fresh_deployment", ["postgresql"], indirect=True)
def test_lookups_are_answered_while_both_processes_wait_for_locks(
    fresh_deployment: Deployment,
) -> None:
    deployment = fresh_deployment
    with EnrollmentClient(deployment.broker_url, timeout=30) as client:
        enter_roster(client, STUDENTS, COURSES)
        lookups: Sequence[Callable[[], Any]] = (
            lambda: client.student("S1"),
            lambda: client.status("another"),
            lambda: client.results("S1"),
            lambda: client.batch("another"),
            lambda: client.plan("another"),
        )
        for number, strike in enumerate(STRIKES):
            with struck(deployment.database_url, strike) as is_stuck:
                ids, batches = submit_work(deployment, number)
                wait_for(is_stuck)
                for lookup in lookups:
                    watch = Stopwatch(os.getpid(), deployment.process.pid, families=True)
                    with suppress(LookupFailed):  # A lookup that needs what is locked fails.
                        lookup()
                    assert watch.seconds() < SECONDS, strike
            wait_for(partial(are_done, client, ids))
            assert [finished(client, batch).books.rejected for batch in batches] == [0] * 6
        assert dead_letters_at(deployment.database_url) == []


def are_done(client: EnrollmentClient, ids: Sequence[str]) -> bool:
    return all(status.state == RequestState.DONE for status in client.statuses(ids))
