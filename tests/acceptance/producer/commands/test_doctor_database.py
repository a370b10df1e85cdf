"""`enroll doctor` tells the truth about a database, through a worker's own connections."""

import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from producer.client import EnrollmentClient
from producer.contract.findings import State
from producer.contract.lookups import DatabaseState, WorkerHealth
from support.commands import invoke_enroll
from support.copies import Administer, as_role, name_of, template_copy
from support.databases import opened_database
from support.workers import running_worker


class SetUp:
    """A running worker with a role of its own, and its doctor."""

    def __init__(self, broker_url: str, owner_url: str, role: str) -> None:
        self.broker_url, self.owner_url, self.role = broker_url, owner_url, role
        self.url = as_role(owner_url, role)

    def doctor(self, **environment: str) -> dict[str, dict[str, str]]:
        """Return the findings that are not ok, with their remedies, by check."""
        variables = {"ENROLL_DATABASE_URL": None, **environment}
        done = invoke_enroll("doctor", "--broker", self.broker_url, "--json", **variables)
        found: dict[str, dict[str, str]] = {}
        for line in done.stdout.splitlines():
            finding = json.loads(line)
            if finding["state"] != "ok" and finding["check"] not in ("persistence", "message size"):
                found.setdefault(finding["check"], {})[finding["found"]] = finding["remedy"]
        return found

    def run(self, *statements: str) -> None:
        with opened_database(self.owner_url) as database, database.writing() as connection:
            for statement in statements:
                connection.execute(text(statement))


@pytest.fixture
def set_up(
    broker_url: str,
    administer: Administer,
    new_database: Callable[[str], str],
    tmp_path: Path,
) -> Iterator[SetUp]:
    role = f"r{uuid.uuid4().hex}"
    administer(f"CREATE ROLE {role} LOGIN")
    made = SetUp(broker_url, new_database("postgresql"), role)
    made.run(
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role}",
        f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {role}",
    )
    with running_worker(broker_url, made.url, tmp_path / "worker.log", "--concurrency=2"):
        yield made


def one(findings: dict[str, dict[str, str]], check: str) -> tuple[str, str]:
    ((found, remedy),) = findings[check].items()
    return found, remedy


def test_faults_are_found_and_gone_once_the_remedy_has_been_run(set_up: SetUp) -> None:
    assert set_up.doctor(ENROLL_DATABASE_URL=set_up.url) == {}
    # A right is revoked.
    set_up.run(f"REVOKE INSERT ON student_courses FROM {set_up.role}")
    found, remedy = one(set_up.doctor(), "writes")
    assert "permission denied for table student_courses" in found
    set_up.run(remedy.partition("tables: ")[2])
    assert set_up.doctor() == {}
    # A right is revoked that only plans need.
    name = name_of(set_up.url)
    set_up.run(f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC")
    found, remedy = one(set_up.doctor(), "plans")
    assert f"the role {set_up.role} may not create temporary tables" in found
    set_up.run(remedy.partition("database: ")[2])
    assert set_up.doctor() == {}
    # A key is lost while the worker runs.
    set_up.run("ALTER TABLE student_courses DROP CONSTRAINT pk_student_courses")
    found, remedy = one(set_up.doctor(), "keys")
    assert "the primary key of student_courses (student_id, course_id) is missing" in found
    set_up.run(remedy.partition("tables: ")[2].partition(" If rows")[0])
    assert set_up.doctor() == {}


def test_a_lookup_that_fails_is_named_in_the_words_of_the_database(set_up: SetUp) -> None:
    set_up.run(f"REVOKE SELECT ON enrollment_results FROM {set_up.role}")  # noqa: S608
    found = set_up.doctor()
    assert any(
        "permission denied for table enrollment_results" in words for words in found["writes"]
    )
    failed = " ".join(found["lookups"])
    assert "enrollment.status failed" in failed
    assert "enrollment.results failed" in failed
    assert "enrollment.student failed" not in failed


def test_a_database_that_became_read_only_is_reported(set_up: SetUp) -> None:
    set_up.run(
        f"ALTER DATABASE {name_of(set_up.url)} SET default_transaction_read_only = on",
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{set_up.role}'",  # noqa: S608
    )
    set_up.doctor()  # The first one finds that its connection was ended.
    found, remedy = one(set_up.doctor(), "writes")
    assert "cannot execute INSERT in a read-only transaction" in found
    assert "default_transaction_read_only = off" in remedy


def test_a_lock_of_another_session_does_not_silence_the_worker(set_up: SetUp) -> None:
    with opened_database(set_up.owner_url) as owner, owner.writing() as connection:
        connection.execute(text("LOCK TABLE student_courses"))
        with EnrollmentClient(set_up.broker_url, timeout=9) as client:
            health = client.health()
    states = {finding.check: finding.state for finding in health.findings}
    assert State.WRONG in states.values()


def test_the_database_seen_from_here_is_compared_with_the_workers(
    set_up: SetUp, new_database: Callable[[str], str]
) -> None:
    copy = new_database("postgresql")
    found, remedy = one(set_up.doctor(ENROLL_DATABASE_URL=copy), "identity")
    assert f"points to {name_of(copy)} at" in found
    assert f"to {name_of(set_up.url)} at" in found
    assert "ENROLL_DATABASE_URL" in remedy


def test_without_a_worker_the_registered_database_is_compared(
    broker_url: str, new_database: Callable[[str], str], administer: Administer, tmp_path: Path
) -> None:
    url = new_database("postgresql")
    with running_worker(broker_url, url, tmp_path / "worker.log", "--concurrency=2"):
        pass
    copy = template_copy(administer, url)
    done = invoke_enroll(
        *("doctor", "--broker", broker_url, "--json", "--timeout", "0.5"), ENROLL_DATABASE_URL=copy
    )
    assert "is a copy of the one that the workers of this Redis use" in done.stdout
    assert "enroll database accept" in done.stdout


def test_a_worker_of_an_older_version_is_understood() -> None:
    answer: dict[str, Any] = {"version": "0.0.9", "now": "2030-01-01T00:00:00Z"}
    answer |= {"database": "ready", "detail": "postgresql, migration 0004"}
    health = WorkerHealth.model_validate(answer)
    assert (health.database, health.identity, health.findings) == (DatabaseState.READY, None, ())


def test_reports_at_the_same_time_do_not_disturb_each_other(set_up: SetUp) -> None:
    def ask(_: int) -> WorkerHealth:
        with EnrollmentClient(set_up.broker_url, timeout=30) as client:
            return client.health()

    with ThreadPoolExecutor(8) as threads:
        reports = list(threads.map(ask, range(24)))
    assert {report.database for report in reports} == {DatabaseState.READY}
    assert {f.state for report in reports for f in report.findings} == {State.OK}
