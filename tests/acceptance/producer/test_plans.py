"""What every client promises about plans: the same tests for the real ones and the stand-ins."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from redis import Redis

from producer.client import EnrollmentClient
from producer.contract.batches import Books
from producer.contract.marks import MARK_SECONDS, SubmissionMark
from producer.contract.plan_requests import PlanMember, PlanPurpose, PlanRequest
from producer.contract.plans import PlanState, PlanStatus
from producer.errors import (
    BatchConflict,
    DecisionRefused,
    DropsNotKnown,
    InvalidRequest,
    UnreadableFile,
)
from producer.schemas import Kind
from producer.testing import FakeEnrollmentClient
from support.commands import run_enroll
from support.waiting import wait_for
from support.workers import Deployment

COLUMNS = "student_id,course_id\n"
UNKNOWN = "no-such-name"


def own_id(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex}"


@pytest.fixture
def client(any_client: EnrollmentClient) -> EnrollmentClient:
    return any_client


@pytest.fixture
def data_set(client: EnrollmentClient, deployment: Deployment) -> str:
    """A data set that snapshots may use."""
    name = own_id("set")
    if client.shown_url == "memory://":
        cast("FakeEnrollmentClient", client).create_data_set(name)
    else:
        run_enroll(deployment.environment, "data-sets", "create", name)
    return name


class Term:
    """A term with a course of this test's own, and the files about it."""

    def __init__(self, client: EnrollmentClient, folder: Path, students: int) -> None:
        self.client = client
        self.course = own_id("C")
        self.students = [own_id(f"S{number:02}") for number in range(students)]
        self._folder = folder
        client.wait(client.submit_batch(Kind.COURSES, [{"sis_id": self.course}]))
        client.wait(client.submit_batch("students", [{"sis_id": s} for s in self.students]))

    def file(self, *students: str) -> Path:
        """Write a file that enrolls these students in the course."""
        path = self._folder / f"{uuid.uuid4().hex}.csv"
        path.write_text(COLUMNS + "".join(f"{s},{self.course}\n" for s in students))
        return path

    def enrolled(self) -> set[str]:
        """Return the students of the course."""
        return {student.sis_id for student in self.client.enrolled_students(self.course)}

    def plan_of(self, *students: str, **options: object) -> PlanStatus:
        """Submit a file with options of a plan, and return the plan once it goes no further."""
        submitted = self.client.submit_file(self.file(*students), **options)  # type: ignore[arg-type]
        self.client.wait(submitted, timeout=60)
        assert submitted.plan_id is not None
        return self.ended(submitted.plan_id)

    def ended(self, plan_id: str) -> PlanStatus:
        """Return a plan once it does not change by itself."""
        under_way = (PlanState.STAGED, PlanState.APPROVED, PlanState.APPLYING, PlanState.SWEEPING)
        wait_for(lambda: self.client.plan(plan_id).state not in under_way, 60)
        return self.client.plan(plan_id)


@pytest.fixture
def make_term(client: EnrollmentClient, tmp_path: Path) -> Callable[[int], Term]:
    return lambda students: Term(client, tmp_path, students)


def test_a_dry_run_reports_what_would_happen_and_changes_nothing(
    make_term: Callable[[int], Term],
) -> None:
    term = make_term(2)
    plan = term.plan_of(*term.students, UNKNOWN, dry_run=True)
    assert (plan.state, plan.purpose, plan.snapshot) == ("planned", "report", False)
    (batch,) = plan.batches
    assert (batch.books.received, batch.books.enrolled, batch.books.rejected) == (3, 2, 1)
    assert [group.code for group in batch.refusals] == ["unknown_student"]
    (refused,) = term.client.refusals(plan.plan_id)
    assert (refused.line, refused.code) == (4, "unknown_student")
    assert refused.record["student_id"] == UNKNOWN
    assert term.client.refusal_page(plan.plan_id, code="unknown_student") == [refused]
    assert term.enrolled() == set()
    status = term.client.batch(plan.plan_id)
    assert (status.state, status.plan_id) == ("planned", plan.plan_id)
    assert (status.books.received, status.books.not_applied) == (3, 3)
    assert term.client.results(term.students[0]) == []


def test_a_snapshot_drops_what_it_does_not_name(
    make_term: Callable[[int], Term], data_set: str
) -> None:
    term = make_term(30)
    first = term.plan_of(*term.students, snapshot=data_set)
    assert (first.state, first.reasons, first.data_set) == ("done", (), data_set)
    assert term.enrolled() == set(term.students)
    second = term.plan_of(*term.students[1:], snapshot=data_set)
    assert (second.state, second.owned_before) == ("done", 30)
    assert (second.absent.absent, second.absent.dropped, second.applied) == (1, 1, second.absent)
    assert term.enrolled() == set(term.students[1:])
    (drop,) = term.client.planned_drops(second.plan_id)
    assert (drop.student_sis_id, drop.course_sis_id) == (term.students[0], term.course)
    assert drop.outcome == "dropped"
    (newest, *_) = term.client.results(term.students[0])
    assert (newest.status, newest.batch_id) == ("dropped", second.plan_id)
    same = term.plan_of(*term.students[1:], snapshot=data_set)
    assert (same.state, same.absent.absent) == ("done", 0)
    assert same.batches[0].books.already_enrolled == 29


def test_a_large_change_is_held_until_it_is_approved(
    make_term: Callable[[int], Term], data_set: str
) -> None:
    term = make_term(40)
    term.plan_of(*term.students, snapshot=data_set)
    held = term.plan_of(*term.students[:10], snapshot=data_set)
    assert held.state == "held"
    codes = {reason.code for reason in held.reasons}
    assert codes == {"many_drops", "most_drops", "course_loses_most"}
    assert [(c.sis_id, c.owned, c.drops) for c in held.courses] == [(term.course, 40, 30)]
    assert term.enrolled() == set(term.students)
    status = term.client.batch(held.plan_id)
    assert (status.state, status.plan_id, status.data_set) == ("held", held.plan_id, data_set)
    assert status.advice is not None
    assert held.digest is not None
    with pytest.raises(DecisionRefused, match="another digest"):
        term.client.decide(held.plan_id, "approve", "0" * 64)
    assert term.client.plan(held.plan_id).state == "held"
    term.client.decide(held.plan_id, "approve", held.digest)
    done = term.ended(held.plan_id)
    assert (done.state, done.differences, done.applied) == ("done", (), held.absent)
    assert term.enrolled() == set(term.students[:10])
    term.client.decide(held.plan_id, "approve", held.digest)  # A repeat does no harm.
    with pytest.raises(DecisionRefused, match="is done"):
        term.client.decide(held.plan_id, "discard", held.digest)


def test_only_a_snapshot_says_what_became_of_what_it_does_not_name(
    make_term: Callable[[int], Term],
) -> None:
    term = make_term(2)
    held = term.plan_of(*term.students, hold="always")
    term.client.decide(held.plan_id, "approve", str(held.digest))
    done = term.ended(held.plan_id)
    assert (done.state, done.applied, done.differences) == ("done", None, ())


def test_a_held_submission_can_be_discarded(make_term: Callable[[int], Term]) -> None:
    term = make_term(1)
    held = term.plan_of(*term.students, hold="always")
    assert (held.state, [reason.code for reason in held.reasons]) == ("held", ["always"])
    assert held.digest is not None
    assert term.client.decide(held.plan_id, "discard", held.digest).state == "discarded"
    # What Redis has of a batch may be a second old.
    wait_for(lambda: term.client.batch(held.plan_id).state == "discarded")
    with pytest.raises(DecisionRefused, match="is discarded"):
        term.client.decide(held.plan_id, "approve", held.digest)
    assert term.enrolled() == set()


def test_a_snapshot_of_a_data_set_that_was_not_created_is_discarded(
    make_term: Callable[[int], Term],
) -> None:
    term = make_term(1)
    plan = term.plan_of(*term.students, snapshot=own_id("unknown"))
    assert plan.state == "discarded"
    assert "enroll data-sets create" in str(plan.advice)
    (batch,) = plan.batches
    assert (batch.batch_id, batch.kind, batch.books) == (plan.plan_id, "enrollments", Books())
    assert term.enrolled() == set()


def test_planned_drops_come_in_pages(make_term: Callable[[int], Term], data_set: str) -> None:
    term = make_term(5)
    term.plan_of(*term.students, snapshot=data_set)
    plan_id = term.plan_of(term.students[0], snapshot=data_set).plan_id
    page = term.client.planned_drop_page(plan_id, limit=3)
    assert len(page.drops) == 3
    rest = term.client.planned_drop_page(plan_id, after=page.next, limit=3)
    assert (len(rest.drops), rest.next) == (1, None)
    both = [drop.student_sis_id for drop in (*page.drops, *rest.drops)]
    assert sorted(both) == sorted(term.students[1:])
    assert [drop.student_sis_id for drop in term.client.planned_drops(plan_id)] == both


def test_a_package_is_one_plan_whose_rosters_count(
    make_term: Callable[[int], Term], tmp_path: Path
) -> None:
    client = make_term(0).client
    student, course = own_id("S"), own_id("C")
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "students.csv").write_text(f"sis_id,name\n{student},Ada\n")
    (folder / "courses.csv").write_text(f"sis_id,title\n{course},Logic\n")
    (folder / "enrollments.csv").write_text(f"{COLUMNS}{student},{course}\n")
    submitted = client.submit_file(folder, dry_run=True)
    client.wait(submitted, timeout=60)
    plan = client.plan(str(submitted.plan_id))
    assert plan.state == "planned"
    assert [batch.kind for batch in plan.batches] == ["students", "courses", "enrollments"]
    assert plan.batches[-1].books.enrolled == 1
    assert {part.plan_id for part in submitted.batches} == {plan.plan_id}
    assert client.student(student) is None


def test_a_planned_submission_is_continued_under_its_id(make_term: Callable[[int], Term]) -> None:
    term = make_term(1)
    path, batch_id = term.file(*term.students), own_id("night")
    client = term.client
    first = client.submit_file(path, batch_id=batch_id, hold="always")
    client.wait(first, timeout=60)
    again = client.submit_file(path, batch_id=batch_id, hold="always")
    assert (again.published, again.fingerprints) == (0, first.fingerprints)
    with pytest.raises(BatchConflict):
        client.submit_file(path, batch_id=batch_id, dry_run=True)


def test_an_unknown_plan_is_unknown(client: EnrollmentClient) -> None:
    plan_id = own_id("plan")
    unknown_plan = client.plan(plan_id)
    assert unknown_plan.state == "unknown"
    assert "Check the id" in str(unknown_plan.advice)
    for read in (client.planned_drop_page, lambda own: list(client.planned_drops(own))):
        with pytest.raises(DropsNotKnown, match=r"No plan with the id .* is known") as unknown:
            read(plan_id)
        assert unknown.value.is_unknown
    with pytest.raises(DecisionRefused, match=r"No plan with the id .* is known") as refused:
        client.decide(plan_id, "approve", "0" * 64)
    assert refused.value.is_unknown


def test_the_drops_of_a_plan_are_not_known_before_its_report_is_made(
    client: EnrollmentClient, tmp_path: Path
) -> None:
    """A plan of two batches of which one never arrives."""
    first, last = own_id("first"), own_id("last")
    members = tuple(PlanMember(batch_id=own, kind=Kind.ENROLLMENTS) for own in (first, last))
    plan = PlanRequest(id=last, members=members, purpose=PlanPurpose.REPORT)
    record = {"student_id": UNKNOWN, "course_ids": [UNKNOWN]}
    client.submit_batch("enrollments", [record], batch_id=first, plan=plan)
    wait_for(lambda: client.plan(last).state == PlanState.STAGED, 60)
    with pytest.raises(DropsNotKnown, match="is not made yet") as early:
        list(client.planned_drops(last))
    assert not early.value.is_unknown


def test_a_plan_is_staged_while_its_first_chunk_waits_in_the_queue(deployment: Deployment) -> None:
    plan_id = own_id("plan")
    mark = SubmissionMark(kind=Kind.ENROLLMENTS, chunks=1, complete=True).model_dump_json()
    with Redis.from_url(deployment.broker_url) as redis:
        redis.set(f"enrollment:batch:{plan_id}", mark, ex=MARK_SECONDS)
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        waiting = client.plan(plan_id)
        assert (waiting.state, waiting.digest) == (PlanState.STAGED, None)
        assert "waits in the queue" in str(waiting.advice)
        with pytest.raises(DropsNotKnown, match="is not made yet"):
            client.planned_drop_page(plan_id)
        with pytest.raises(DecisionRefused):
            client.decide(plan_id, "approve", "0" * 64)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dry_run": True, "hold": "always"}, "hold: a dry run is never applied"),
        ({"hold": "2%"}, "hold: a percentage"),
        ({"hold": "often", "snapshot": "s"}, "hold: 'often' is not a rule"),
        ({"adopt": True}, "adopt: only a snapshot"),
        ({"snapshot": "s", "data_set": "t"}, "data_set: a snapshot belongs"),
        ({"snapshot": ""}, "snapshot: the name of a data set has 1 to 128 characters"),
        (
            {"snapshot": "sis "},
            "snapshot: the name .* must not begin or end with a space",
        ),
        ({"data_set": " sis"}, "data_set: the name .* remove the spaces at its ends"),
        ({"data_set": "x" * 129}, "data_set: the name of a data set has 1 to 128 characters"),
    ],
)
def test_options_that_make_no_sense_together_are_refused(
    client: EnrollmentClient, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    path = tmp_path / "enrollments.csv"
    path.write_text(f"{COLUMNS}S,C\n")
    with pytest.raises(InvalidRequest, match=message):
        client.submit_file(path, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("header", "line"),
    [("student_id,course_id,action", "S,C,drop"), ("student_id,course_id,action", "S,C,")],
)
def test_a_file_of_actions_is_no_snapshot(
    client: EnrollmentClient, tmp_path: Path, header: str, line: str
) -> None:
    path = tmp_path / "enrollments.csv"
    path.write_text(f"{header}\n{line}\n")
    with pytest.raises(UnreadableFile, match="has a column action"):
        client.submit_file(path, snapshot="s")


def test_a_drop_in_a_snapshot_is_refused_before_anything_is_published(
    client: EnrollmentClient, tmp_path: Path
) -> None:
    path, batch_id = tmp_path / "enrollments.jsonl", own_id("b")
    drop = '{"student_id": "S", "drop_course_ids": ["C"]}\n'
    path.write_text('{"student_id": "S", "course_ids": ["C"]}\n' * 20_000 + drop)
    with pytest.raises(UnreadableFile, match=r"Line 20,001 of .* is a drop"):
        client.submit_file(path, snapshot="s", batch_id=batch_id)
    assert client.batch(batch_id).state == "unknown"


def test_a_batch_must_be_a_member_of_its_plan(client: EnrollmentClient) -> None:
    own = own_id("b")
    member = PlanMember(batch_id=own, kind=Kind.ENROLLMENTS)
    plan = PlanRequest(id=own, members=(member,), purpose=PlanPurpose.REPORT)
    with pytest.raises(InvalidRequest, match="plan: it has no member"):
        client.submit_batch("enrollments", [], batch_id=own_id("other"), plan=plan)
    for wrong in ({}, plan.model_dump(), own, False):
        with pytest.raises(InvalidRequest, match="plan: must be a PlanRequest, not"):
            client.submit_batch("enrollments", [], plan=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest, match="data_set: only enrollments belong"):
        client.submit_batch("students", [], data_set="s")
    snapshot = PlanRequest(**{**dict(plan), "snapshot": True})
    with pytest.raises(InvalidRequest, match="data_set: a snapshot needs the name"):
        client.submit_batch("enrollments", [], plan=snapshot)
