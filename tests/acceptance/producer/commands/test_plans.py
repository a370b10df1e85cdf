"""`enroll submit` with a plan, and `enroll plan`, against a real worker."""

import csv
import json
import os
import signal
import uuid
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from producer.client import EnrollmentClient
from producer.contract.plan_requests import PlanMember, PlanPurpose, PlanRequest
from producer.contract.routing import Queue
from producer.fields import MAX_CHUNK_RECORDS
from producer.schemas import Kind
from support.commands import GOOD, HELD, REFUSED, UNREACHABLE, USAGE, run_enroll, write_lines
from support.waiting import wait_for
from support.workers import Deployment

pytestmark = pytest.mark.one_database

COLUMNS = "student_sis_id,course_sis_id"


class Desk:
    """A submitter with a roster of this test's own."""

    def __init__(self, deployment: Deployment, client: EnrollmentClient, folder: Path) -> None:
        self._deployment = deployment
        self.client = client
        self._folder = folder
        self.own = uuid.uuid4().hex[:12]
        self.students = [f"={self.own}-S{number:02}" for number in range(30)]
        self.course = f"{self.own}-C"
        client.wait(client.submit_batch("students", [{"sis_id": s} for s in self.students]))
        client.wait(client.submit_batch("courses", [{"sis_id": self.course}]))

    def file(self, *students: str) -> Path:
        path = self._folder / f"{uuid.uuid4().hex}.csv"
        return write_lines(path, COLUMNS, *(f"{s},{self.course}" for s in students))

    def run(self, *arguments: str | Path, expect: int = GOOD) -> Any:
        return run_enroll(self._deployment.environment, *arguments, expect=expect)

    def plan(self, *arguments: str | Path, expect: int = GOOD) -> dict[str, Any]:
        """Run a command that prints a plan as JSON, and return it."""
        plan: dict[str, Any] = json.loads(self.run(*arguments, "--json", expect=expect).stdout)
        return plan

    def enrolled(self) -> int:
        return len(list(self.client.enrolled_students(self.course)))


@pytest.fixture
def desk(deployment: Deployment, client: EnrollmentClient, tmp_path: Path) -> Desk:
    return Desk(deployment, client, tmp_path)


def test_a_dry_run_shows_what_would_happen(desk: Desk) -> None:
    shown = desk.run("submit", "--dry-run", desk.file(*desk.students, "ghost"), expect=REFUSED)
    assert "received            31" in shown.stdout
    assert "enrolled            30" in shown.stdout
    assert "unknown_student" in shown.stdout
    assert desk.enrolled() == 0
    clean = desk.plan("submit", "--dry-run", desk.file(*desk.students))
    assert (clean["state"], clean["batches"][0]["books"]["enrolled"]) == ("planned", 30)


def test_a_held_snapshot_is_shown_and_approved(desk: Desk, tmp_path: Path) -> None:
    name = f"set-{desk.own}"
    desk.run("data-sets", "create", name)
    done = desk.plan("submit", "--snapshot", name, desk.file(*desk.students))
    assert (done["state"], desk.enrolled()) == ("done", 30)
    held = desk.run("submit", "--snapshot", name, desk.file(*desk.students[:3]), expect=HELD)
    assert "(snapshot of" in held.stdout
    assert "27 of 30" in held.stdout
    plan_id = held.stdout.split("enroll approve ")[1].split()[0]
    assert desk.enrolled() == 30
    assert desk.run("status", plan_id, expect=HELD).stdout.count("held") >= 1
    assert desk.run("wait", plan_id, expect=HELD).stdout.startswith(f"{plan_id}: held")
    # What is stored of a held plan is not missing.
    assert "its plan would refuse no line" in desk.run("errors", plan_id).stderr
    assert "missing" not in desk.run("status", plan_id, expect=HELD).stdout
    report = desk.plan("plan", plan_id, expect=HELD)
    assert (report["owned_before"], report["absent"]["dropped"]) == (30, 27)
    drops = tmp_path / "drops.csv"
    written = desk.run("plan", plan_id, "--csv", drops)
    assert "Planned drops written to" in written.stderr
    header, *rows = csv.reader(drops.read_text("utf-8-sig").splitlines())
    assert header[0] == "student_id"
    assert sorted(row[0] for row in rows) == sorted(f"'{s}" for s in desk.students[3:])
    desk.run("approve", plan_id, "--yes")
    desk.run("wait", plan_id)
    after = desk.plan("plan", plan_id)
    assert (after["state"], after["applied"]["dropped"], desk.enrolled()) == ("done", 27, 3)


def test_files_of_one_command_are_one_plan(desk: Desk, tmp_path: Path) -> None:
    new = f"{desk.own}-new"
    roster = write_lines(tmp_path / "students.csv", "sis_id,name", f"{new},Ada")
    plan = desk.plan("submit", "--dry-run", desk.file(new), roster)
    assert [batch["kind"] for batch in plan["batches"]] == ["students", "enrollments"]
    assert plan["batches"][1]["books"]["enrolled"] == 1
    assert desk.client.student(new) is None
    name = f"set-{desk.own}"
    two = desk.run(
        "submit", "--snapshot", name, desk.file(new), desk.file(new), roster, expect=USAGE
    )
    assert "one file of enrollments is the whole truth" in two.stderr


def test_a_plan_of_several_files_is_resumed_in_any_order(
    desk: Desk, deployment: Deployment
) -> None:
    # The worker may take one chunk at once, so the first file has three.
    large = desk.file(*desk.students * (2 * MAX_CHUNK_RECORDS // len(desk.students) + 1))
    small = desk.file(desk.students[0])
    killed_id = killed_within_a_file(deployment, "submit", "--dry-run", large, small)
    # A submission without a plan does not continue one that is planned.
    assert desk.plan("submit", "--resume", small)["state"] == "done"
    plan = desk.plan("submit", "--resume", "--dry-run", small, large)
    assert [batch["batch_id"] for batch in plan["batches"]] == [killed_id, plan["plan_id"]]
    first, second = (batch["books"] for batch in plan["batches"])
    assert (first["enrolled"], second["already_enrolled"]) == (len(desk.students) - 1, 1)


def killed_within_a_file(deployment: Deployment, *arguments: str | Path) -> str:
    """Kill a submission while it waits to publish its first file; return that batch's id."""
    with Redis.from_url(deployment.broker_url) as redis:
        wait_for(lambda: redis.llen(Queue.BATCHES.value) == 0)
        os.kill(deployment.process.pid, signal.SIGSTOP)
        try:
            process = deployment.start_enroll(*arguments, "--max-queued", "1")
            wait_for(lambda: redis.llen(Queue.BATCHES.value) == 1)
            process.kill()
            _, printed = process.communicate(timeout=60)
        finally:
            os.kill(deployment.process.pid, signal.SIGCONT)
    return printed.split("batch ")[1].split()[0].rstrip(".,:")


def test_a_plan_need_not_be_waited_for(desk: Desk) -> None:
    file = desk.file(*desk.students, "ghost")
    left = desk.run("submit", "--hold", "always", file, "--no-wait")
    plan_id = left.stdout.strip()
    assert f"enroll plan {plan_id}" in left.stderr
    desk.run("wait", plan_id, expect=HELD)
    shown = desk.run("errors", plan_id, expect=REFUSED)
    assert "Correct them in the file itself" in shown.stderr
    assert "unknown_student" in shown.stdout
    refused = desk.run("errors", plan_id, "--csv", "-").stdout
    assert f"unknown_student,no student has the SIS id 'ghost',ghost,{desk.course}" in refused
    desk.run("discard", plan_id, "--yes")
    discarded = desk.plan("plan", plan_id, expect=REFUSED)
    assert (discarded["state"], desk.enrolled()) == ("discarded", 0)


def test_an_unknown_plan_and_an_unknown_data_set_are_named(desk: Desk) -> None:
    unknown = desk.run("plan", f"{desk.own}-none", expect=REFUSED)
    assert f"No plan with the id {desk.own}-none is known" in unknown.stderr
    refused = desk.run(
        "submit", "--snapshot", f"no-{desk.own}", desk.file(*desk.students), expect=REFUSED
    )
    assert f"enroll data-sets create no-{desk.own}" in refused.stdout


def test_a_data_set_alone_needs_no_plan(desk: Desk) -> None:
    name, file = f"set-{desk.own}", desk.file(*desk.students, "no-such-student")
    shown = desk.run("submit", "--data-set", name, file, "--batch-id", desk.own, expect=REFUSED)
    assert f"Data set: {name}" in shown.stdout
    assert desk.enrolled() == 30
    refused = desk.run("errors", desk.own, expect=REFUSED)
    assert f"Submit the corrected lines with --data-set {name}. Otherwise" in refused.stderr


def test_the_id_of_a_package_or_of_a_part_leads_to_the_right_one(
    desk: Desk, tmp_path: Path
) -> None:
    folder, own_id = tmp_path / "export", f"{desk.own}-p"
    folder.mkdir()
    write_lines(folder / "students.csv", "sis_id,name", f"{desk.own}-new,Ada")
    write_lines(folder / "enrollments.csv", COLUMNS, f"{desk.own}-new,{desk.course}")
    desk.run("submit", folder, "--hold", "always", "--batch-id", own_id, expect=HELD)
    for named in (own_id, f"{own_id}:students"):
        unknown = desk.run("plan", named, expect=REFUSED)
        assert f"`enroll plan {own_id}:enrollments`" in unknown.stderr
        refused = desk.run("approve", named, "--yes", expect=REFUSED)
        assert f"It is a part of the plan {own_id}:enrollments" in refused.stderr
    status = desk.run("status", own_id, expect=REFUSED)
    assert f"Its batches are: {own_id}:students, {own_id}:enrollments." in status.stderr
    plan = f"{own_id}:enrollments"
    held = desk.run("plan", plan, expect=HELD)
    digest = str(desk.client.plan(plan).digest)
    assert f"Its digest is {digest}." in held.stdout
    desk.run("approve", plan, "--digest", digest, "--yes")
    desk.run("wait", plan)
    for named in (own_id, f"{own_id}:students"):
        refused = desk.run("undo", named, "--yes", expect=REFUSED)
        assert f"of the package {own_id}, undo the batch {plan}" in refused.stderr


def test_the_wait_for_a_plan_can_be_bounded(desk: Desk) -> None:
    file = desk.file(*desk.students)
    late = desk.run("submit", "--dry-run", "--wait-timeout", "0", file, expect=UNREACHABLE)
    assert "is still under way. It continues by itself" in late.stderr
    plan_id = late.stderr.split("`enroll wait ")[1].split("`")[0]
    assert "planned" in desk.run("wait", plan_id).stdout
    wrong = desk.run("submit", "--wait-timeout", "5", file, expect=USAGE)
    assert "--wait-timeout is for the wait for a plan" in wrong.stderr


def test_no_file_is_written_as_long_as_the_drops_are_not_known(desk: Desk, tmp_path: Path) -> None:
    """An empty file would look like that of a plan that drops nothing."""
    first, last, drops = f"{desk.own}-1", f"{desk.own}-2", tmp_path / "drops.csv"
    members = tuple(PlanMember(batch_id=own, kind=Kind.ENROLLMENTS) for own in (first, last))
    plan = PlanRequest(id=last, members=members, purpose=PlanPurpose.REPORT)
    desk.client.submit_batch("enrollments", [], batch_id=first, plan=plan)
    wait_for(lambda: desk.client.plan(last).state == "staged")
    refused = desk.run("plan", last, "--csv", drops, expect=REFUSED)
    assert f"The report of the plan {last} is not made yet" in refused.stderr
    assert not drops.exists()
