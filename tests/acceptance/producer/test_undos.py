"""What every client promises about undos: the same tests for the real ones and the stand-ins."""

import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from producer.client import EnrollmentClient
from producer.contract.undos import BatchUndo
from producer.errors import UndoRefused
from support.workers import Deployment

pytestmark = pytest.mark.one_database


def own_id(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex}"


@pytest.fixture
def client(any_client: EnrollmentClient) -> EnrollmentClient:
    return any_client


class Term:
    """Two students and two courses of this test's own."""

    def __init__(self, client: EnrollmentClient) -> None:
        self.client = client
        self.students = sorted(own_id(name) for name in ("S1", "S2"))
        self.courses = sorted(own_id(name) for name in ("C1", "C2"))
        roster = [{"sis_id": sis_id, "name": f"Name of {sis_id}"} for sis_id in self.students]
        client.wait(client.submit_batch("students", roster))
        client.wait(client.submit_batch("courses", [{"sis_id": c} for c in self.courses]))

    def batch(self, *records: Mapping[str, object]) -> str:
        """Apply requests as a batch, and return its id."""
        batch = self.client.submit_batch(
            "enrollments", records, batch_id=own_id("b"), file_name="changes.csv"
        )
        assert self.client.wait(batch, timeout=60).books.rejected == 0
        return batch.batch_id

    def enrolls(self, *courses: str) -> str:
        """Enroll all students in these courses, and return the id of the batch."""
        return self.batch(*({"student_id": s, "course_ids": list(courses)} for s in self.students))

    def enrolled(self) -> list[tuple[str, str]]:
        """Return the pairs that are enrolled."""
        return [
            (student.sis_id, course)
            for course in self.courses
            for student in self.client.enrolled_students(course)
        ]

    def undone(self, batch_id: str) -> BatchUndo:
        """Undo a batch, and return the undo once it is done."""
        undo = self.client.undo(batch_id)
        self.client.wait(undo.undo_id, timeout=60)
        return undo


@pytest.fixture
def make_term(client: EnrollmentClient) -> Callable[[], Term]:
    return lambda: Term(client)


def test_an_undo_is_shown_first_and_then_ends_what_the_batch_began(
    make_term: Callable[[], Term],
) -> None:
    term = make_term()
    first = term.enrolls(term.courses[0])
    second = term.batch(
        {"student_id": term.students[0], "course_ids": list(term.courses)},
        {"student_id": term.students[1], "drop_course_ids": [term.courses[0]]},
    )
    before = term.enrolled()
    shown = term.client.undo(second, dry_run=True)
    assert (shown.state, shown.undo_id, shown.is_complete) == ("planned", f"undo:{second}", True)
    assert (shown.books.dropped, shown.books.enrolled, shown.books.superseded) == (1, 1, 0)
    counts = {course.sis_id: (course.dropped, course.enrolled) for course in shown.courses}
    assert counts == {term.courses[0]: (0, 1), term.courses[1]: (1, 0)}
    changes = {(c.action.value, c.student_sis_id, c.course_sis_id) for c in shown.changes}
    dropped = ("drop", term.students[0], term.courses[1])
    assert changes == {dropped, ("enroll", term.students[1], term.courses[0])}
    assert {c.student_name for c in shown.changes} == {f"Name of {s}" for s in term.students}
    assert term.enrolled() == before
    assert term.client.batch(shown.undo_id).state == "unknown"

    undo = term.undone(second)
    assert (undo.state, undo.books.dropped, undo.books.enrolled) == ("done", 1, 1)
    assert term.enrolled() == [(student, term.courses[0]) for student in term.students]
    status = term.client.batch(undo.undo_id)
    assert (status.state, status.books.received, status.kind) == ("done", 2, "enrollments")
    assert (status.undoes, status.file_name) == (second, "changes.csv")
    again = term.client.undo(second)
    assert (again.state, again.books) == ("done", undo.books)
    assert undo.advice is None
    assert f"was undone already, by undo:{second}" in str(again.advice)
    with pytest.raises(UndoRefused, match="was undone already"):
        term.client.undo(second, dry_run=True)
    # Redo: the undo can be undone.
    term.undone(undo.undo_id)
    assert sorted(term.enrolled()) == sorted(before)
    term.undone(first)


def test_what_a_later_request_decides_is_left_and_listed(make_term: Callable[[], Term]) -> None:
    term = make_term()
    batch = term.enrolls(term.courses[0])
    confirming = own_id("r")
    record = {"student_id": term.students[0], "course_ids": [term.courses[0]]}
    term.client.enroll({**record, "request_id": confirming})
    shown = term.client.undo(batch, dry_run=True)
    undo = term.undone(batch)
    assert term.enrolled() == [(term.students[0], term.courses[0])]
    for status in (shown, undo):
        assert (status.books.dropped, status.books.superseded) == (1, 1)
        (left,) = status.left
        assert (left.student_sis_id, left.course_sis_id) == (term.students[0], term.courses[0])
        assert (left.action, left.request_id) == ("drop", confirming)


def test_what_cannot_be_undone_is_refused_with_the_way_out(make_term: Callable[[], Term]) -> None:
    term = make_term()
    client = term.client
    for dry_run in (True, False):
        with pytest.raises(UndoRefused, match="is unknown") as refusal:
            client.undo(own_id("b"), dry_run=dry_run)
        assert refusal.value.is_unknown
    roster = client.wait(client.submit_batch("students", [{"sis_id": own_id("S")}])).batch_id
    with pytest.raises(UndoRefused, match="Rosters are not undone") as refusal:
        client.undo(roster)
    assert not refusal.value.is_unknown


def test_a_held_batch_is_to_be_discarded_instead(
    make_term: Callable[[], Term], tmp_path: Path
) -> None:
    term = make_term()
    file = tmp_path / "night.csv"
    file.write_text(f"student_id,course_id\n{term.students[0]},{term.courses[0]}\n")
    held = term.client.submit_file(file, hold="always")
    assert term.client.wait(held, timeout=60).state == "held"
    for dry_run in (True, False):
        with pytest.raises(UndoRefused, match="Discard the plan instead"):
            term.client.undo(held.batch_id, dry_run=dry_run)
    assert term.client.plan(str(held.plan_id)).state == "held"


def test_a_small_undo_of_several_parts_is_done_when_it_is_answered(
    deployment: Deployment, tmp_path: Path
) -> None:
    """What a snapshot opened, and what it dropped, are undone by chunks of their own."""
    data_set, path = own_id("sis"), tmp_path / "night.csv"
    deployment.enroll("data-sets", "create", data_set)
    with EnrollmentClient(deployment.broker_url, timeout=30) as client:
        term = Term(client)
        (kept, added), (course, _) = term.students, term.courses
        for students in ([kept], [added]):
            path.write_text("student_id,course_id\n" + "".join(f"{s},{course}\n" for s in students))
            snapshot = client.submit_file(path, snapshot=data_set)
            client.wait(snapshot.batch_id, timeout=60)
        assert term.enrolled() == [(added, course)]
        undo = client.undo(snapshot.batch_id)
        assert (undo.state, undo.books.dropped, undo.books.enrolled) == ("done", 1, 1)
        assert term.enrolled() == [(kept, course)]
