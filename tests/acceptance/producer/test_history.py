"""What happened to a student, and who was in a course: clients, commands and routes tell it."""

import json
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from producer.aio.client import AsyncEnrollmentClient
from producer.client import EnrollmentClient
from producer.contract.history import HistoryEntry
from producer.errors import ClientClosed
from producer.schemas import Kind
from support.clients import blocking
from support.commands import GOOD, REFUSED, write_lines
from support.http import serving
from support.rosters import enter_roster
from support.workers import Deployment

MONDAY = datetime(2026, 8, 31, 8, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture(params=["real", "asynchronous"])
def client(request: pytest.FixtureRequest, deployment: Deployment) -> Iterator[EnrollmentClient]:
    url = deployment.broker_url
    if request.param == "real":
        with EnrollmentClient(url, timeout=20) as connected:
            yield connected
    else:
        with blocking(lambda: AsyncEnrollmentClient(url, timeout=20)) as connected:
            yield connected


class Term:
    """A student and two courses of a test's own, and what is asked for them."""

    def __init__(self, client: EnrollmentClient) -> None:
        self.client = client
        own = uuid.uuid4().hex[:8]
        self.student, self.other = f"S-{own}", f"T-{own}"
        self.logic, self.algebra = f"LOGIC-{own}", f"ALG-{own}"
        enter_roster(
            client,
            [{"sis_id": self.student, "name": "Ada"}, self.other],
            [{"sis_id": self.logic, "title": "Logic"}, self.algebra],
        )

    def ask(self, enroll: tuple[str, ...] = (), drop: tuple[str, ...] = (), **fields: Any) -> Any:
        """Send one request of the student, or of another one, and return its result."""
        request = {"student_id": self.student, "course_ids": enroll, "drop_course_ids": drop}
        return self.client.enroll({**request, **fields})

    def entries(self, course: str | None = None, **options: Any) -> tuple[HistoryEntry, ...]:
        return self.client.history(self.student, course, **options).entries


@pytest.fixture
def term(client: EnrollmentClient) -> Term:
    return Term(client)


def changes_in(entries: tuple[HistoryEntry, ...]) -> list[tuple[str, str | None, datetime]]:
    return [(e.change.value, sis_id_of(e), e.moment) for e in entries]


def sis_id_of(entry: HistoryEntry) -> str | None:
    return None if entry.course is None else entry.course.sis_id


def test_a_student_was_enrolled_dropped_and_enrolled_again(term: Term) -> None:
    requests = [
        term.ask((term.logic,), as_of=MONDAY, reason="a place became free"),
        term.ask(drop=(term.logic,), as_of=MONDAY + DAY, reason="moved to another section"),
        term.ask((term.logic, term.algebra), as_of=MONDAY + 2 * DAY),
        term.ask((term.logic,), as_of=MONDAY + 3 * DAY),  # Already enrolled: nothing happened.
    ]
    history = term.client.history(term.student)
    assert (history.student_sis_id, history.more) == (term.student, False)
    assert sorted(changes_in(history.entries[:2])) == sorted(
        ("enrolled", course, MONDAY + 2 * DAY) for course in (term.logic, term.algebra)
    )
    assert changes_in(history.entries[2:]) == [
        ("dropped", term.logic, MONDAY + DAY),
        ("enrolled", term.logic, MONDAY),
    ]
    dropped, enrolled = history.entries[2:]
    assert dropped.reason == "moved to another section"
    assert enrolled.reason == "a place became free"
    assert dropped.request_id == requests[1].request_id
    assert dropped.completed_at == requests[1].completed_at
    assert (dropped.batch_id, dropped.line, dropped.action) == (None, None, "drop")
    assert dropped.course is not None
    assert dropped.course.title == "Logic"


def test_requests_that_changed_nothing_are_told_with_why(term: Term) -> None:
    term.ask((term.logic,), as_of=MONDAY)
    term.ask(drop=(term.logic,), as_of=MONDAY - DAY)
    term.ask((term.algebra, "nowhere"))
    term.ask((term.algebra, "nowhere", "elsewhere"))
    whole, one, enrolled, superseded = term.entries()
    assert (whole.change, whole.course, len(whole.errors)) == ("rejected", None, 2)
    assert (one.change, one.errors[0].code) == ("rejected", "unknown_course")
    assert one.course is not None
    assert (one.course.id, one.course.sis_id) == (None, "nowhere")
    assert changes_in((enrolled,)) == [("enrolled", term.logic, MONDAY)]
    assert changes_in((superseded,)) == [("superseded", term.logic, MONDAY - DAY)]
    assert (superseded.superseded_by, superseded.action) == (MONDAY, "drop")


def test_with_a_course_only_what_was_changed_in_it_is_told(term: Term) -> None:
    term.ask((term.logic,), as_of=MONDAY)
    term.ask((term.algebra, "nowhere"), as_of=MONDAY + DAY, atomic=False)
    term.ask((term.algebra, "nowhere"), as_of=MONDAY + 2 * DAY)
    assert changes_in(term.entries(term.logic)) == [("enrolled", term.logic, MONDAY)]
    assert changes_in(term.entries(term.algebra)) == [("enrolled", term.algebra, MONDAY + DAY)]
    assert term.entries("nowhere") == ()


def test_a_file_is_told_with_its_batch_and_its_lines(term: Term, tmp_path: Path) -> None:
    s, other, logic, algebra = term.student, term.other, term.logic, term.algebra
    path = write_lines(
        tmp_path / "changes.csv",
        "student_id,course_id,action",
        *(f"{other},{logic},enroll", f"{s},{logic},enroll", f"{other},{algebra},enroll"),
        *(f"{s},{algebra},enroll", f"{s},nowhere,enroll", f"{s},{logic},drop"),
    )
    batch = term.client.submit_file(path)
    term.client.wait(batch)
    entries = term.entries()
    lines = {(entry.change.value, sis_id_of(entry), entry.line) for entry in entries}
    assert lines == {
        ("enrolled", logic, 3),
        ("enrolled", algebra, 5),
        ("rejected", "nowhere", 6),
        ("dropped", logic, 7),
    }
    assert [entry.change.value for entry in term.entries(logic)] == ["dropped", "enrolled"]
    assert {entry.batch_id for entry in entries} == {batch.batch_id}


def test_a_file_may_have_several_lines_for_a_request(term: Term, tmp_path: Path) -> None:
    s, other, logic, algebra = term.student, term.other, term.logic, term.algebra
    path = write_lines(
        tmp_path / "enrollments.csv",
        "student_id,course_id",
        *(f"{s},{logic}", f"{s},{algebra}"),
        *(f"{other},{algebra}", f"{other},nowhere", f"{other},{logic}"),
    )
    term.client.wait(term.client.submit_file(path))
    lines = {sis_id_of(entry): entry.line for entry in term.entries()}
    assert lines == {logic: 2, algebra: 3}
    others = term.client.history(other).entries
    assert {sis_id_of(e): e.line for e in others}["nowhere"] == 5


def test_a_refusal_of_several_lines_names_all_of_them(term: Term, tmp_path: Path) -> None:
    ghost, solo = f"{term.student}-ghost", f"{term.student}-solo"
    path = write_lines(
        tmp_path / "enrollments.csv",
        "student_id,course_id",
        *(f"{term.student},no-1", f"{ghost},{term.logic}", f"{term.other},{term.logic}"),
        *(
            f"{term.student},no-2",
            f"{ghost},no-3",
            f"{ghost},{term.algebra}",
            f"{solo},{term.logic}",
        ),
    )
    term.client.wait(term.client.submit_file(path))
    shown = {
        student: [(entry.line, entry.lines) for entry in term.client.history(student).entries]
        for student in (term.student, ghost, term.other, solo)
    }
    assert shown == {
        term.student: [(2, (2, 5))],
        ghost: [(3, (3, 6, 7))],
        term.other: [(4, ())],
        solo: [(8, ())],
    }


def test_drops_of_a_batch_are_told_by_record(term: Term) -> None:
    term.ask((term.logic, term.algebra), as_of=MONDAY)
    records: list[Any] = [
        {"student_id": term.other, "drop_course_ids": [term.logic]},
        {"student_id": term.student, "drop_course_ids": [term.algebra], "reason": "closed"},
        {"student_id": term.student, "drop_course_ids": [term.logic]},
    ]
    batch = term.client.submit_batch(Kind.ENROLLMENTS, records)
    term.client.wait(batch)
    newest = term.entries(limit=1)  # All of a batch have its moment.
    shown = {(e.change.value, sis_id_of(e), e.line, e.reason) for e in newest}
    assert shown == {
        ("dropped", term.algebra, 2, "closed"),
        ("dropped", term.logic, 3, None),
    }
    assert term.client.history(term.other).entries == ()


def test_a_history_is_read_in_pages(term: Term) -> None:
    for number in range(5):
        action = {"enroll": (term.logic,)} if number % 2 == 0 else {"drop": (term.logic,)}
        term.ask(**action, as_of=MONDAY + number * DAY)
    whole = term.client.history(term.student)
    found: list[HistoryEntry] = []
    more, before = True, None
    while more:
        page = term.client.history(term.student, limit=2, before=before)
        found += page.entries
        more, before = page.more, page.entries[-1].moment
    assert found == list(whole.entries)
    assert len(found) == 5
    by_text = term.entries(before="2026-09-01T10:00:00+02:00")
    assert changes_in(by_text) == [("enrolled", term.logic, MONDAY)]


def test_entries_of_one_moment_stay_together(term: Term) -> None:
    term.ask((term.logic, term.algebra), as_of=MONDAY)
    page = term.client.history(term.student, limit=1)
    assert (len(page.entries), page.more) == (2, False)


def test_an_unknown_student_has_at_most_refused_requests(term: Term) -> None:
    nobody = f"nobody-{term.student}"
    history = term.client.history(nobody)
    assert (history.student_id, history.student_sis_id) == (None, nobody)
    assert history.entries == ()
    term.ask((term.logic,), student_id=nobody)
    history = term.client.history(nobody)
    assert history.student_id is None
    assert [e.errors[0].code for e in history.entries] == ["unknown_student"]


def test_a_roll_shows_who_was_enrolled_at_a_moment(term: Term) -> None:
    client, logic = term.client, term.logic
    term.ask((logic,), as_of=MONDAY)
    term.ask((logic,), student_id=term.other, as_of=MONDAY + DAY)
    term.ask(drop=(logic,), as_of=MONDAY + 2 * DAY)
    rolls = {
        number: client.roll(logic, MONDAY + number * DAY if number < 9 else None)
        for number in (-1, 0, 1, 2, 9)
    }
    found = {
        number: roll and [student.sis_id for student in roll.students]
        for number, roll in rolls.items()
    }
    assert found == {
        -1: [],
        0: [term.student],
        1: [term.student, term.other],
        2: [term.other],
        9: [term.other],
    }
    then = rolls[1]
    assert then is not None
    assert (then.sis_id, then.title, then.at) == (logic, "Logic", MONDAY + DAY)
    assert (then.students[0].name, then.students[0].enrolled_at) == ("Ada", MONDAY)
    ends = [student.ended_at for student in then.students]
    assert ends == [MONDAY + 2 * DAY, None]
    assert client.roll(then.id, MONDAY + DAY) == then
    assert client.roll("no such course") is None
    assert list(client.enrolled_students("no such course")) == []


def test_a_roll_is_read_in_pages(term: Term, monkeypatch: pytest.MonkeyPatch) -> None:
    for student in (term.student, term.other):
        term.ask((term.logic,), student_id=student)
    first = term.client.roll(term.logic, limit=1)
    assert first is not None
    assert ([s.sis_id for s in first.students], first.more) == ([term.student], True)
    second = term.client.roll(term.logic, limit=1, after=first.students[-1].id)
    assert second is not None
    assert ([s.sis_id for s in second.students], second.more) == ([term.other], False)
    for module in ("producer.client", "producer.aio.client"):
        monkeypatch.setattr(f"{module}.MAX_LOOKUP", 1)
    everybody = list(term.client.enrolled_students(term.logic))
    assert everybody == [*first.students, *second.students]


def test_a_closed_client_raises(client: EnrollmentClient) -> None:
    client.close()
    for call in (
        lambda: client.history("S"),
        lambda: client.roll("C"),
        lambda: client.enrolled_students("C"),
    ):
        with pytest.raises(ClientClosed):
            call()


# --- the command line -------------------------------------------------------------------------


@pytest.fixture
def own_term(deployment: Deployment) -> Iterator[Term]:
    """A term with a history of four entries, of which one is of a file."""
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        term = Term(client)
        term.ask((term.logic,), as_of=MONDAY)
        term.ask(drop=(term.logic,), as_of=MONDAY + DAY, reason="a clash in the timetable")
        term.ask((term.logic,), as_of=MONDAY + DAY / 2, request_id=f"late-{term.student}")
        yield term


def test_the_command_shows_a_history_as_a_table(deployment: Deployment, own_term: Term) -> None:
    done = deployment.enroll("history", own_term.student)
    head, columns, *rows = [line.rstrip() for line in done.stdout.splitlines()]
    assert head.startswith(f"Student {own_term.student} (key ")
    assert columns.split() == ["moment", "change", "course", "request", "reason"]
    dropped, superseded, enrolled = rows
    assert dropped.startswith(f"2026-09-01 08:00:00 UTC  dropped     {own_term.logic}  ")
    assert dropped.endswith("a clash in the timetable")
    assert f"  superseded  {own_term.logic}  late-{own_term.student}" in superseded
    assert superseded.endswith("to enroll: a request of 2026-09-01 08:00:00 UTC won")
    assert enrolled.startswith("2026-08-31 08:00:00 UTC  enrolled  ")
    assert done.stderr == ""


def test_older_entries_are_shown_as_the_command_says(
    deployment: Deployment, own_term: Term
) -> None:
    newest = deployment.enroll("history", own_term.student, "--limit", "2")
    assert len(newest.stdout.splitlines()) == 4
    moment = "2026-08-31T20:00:00.000000Z"
    assert (
        newest.stderr
        == f"There are older entries: add --before {moment}, or show all with --all.\n"
    )
    older = deployment.enroll("history", own_term.student, "--before", moment)
    assert [line.split()[3] for line in older.stdout.splitlines()[2:]] == ["enrolled"]
    printed = deployment.enroll("history", own_term.student, "--before", "2026-08-31 20:00:00 UTC")
    assert printed.stdout == older.stdout
    whole = deployment.enroll("history", own_term.student, "--all")
    assert whole.stdout == deployment.enroll("history", own_term.student).stdout


def test_the_command_shows_a_long_history_whole(
    deployment: Deployment, own_term: Term, monkeypatch: pytest.MonkeyPatch
) -> None:
    from producer.commands import history  # noqa: PLC0415 - an ordinary test needs no commands
    from support.commands import invoke_enroll  # noqa: PLC0415

    monkeypatch.setattr(history, "ALL_AT_ONCE", 1)
    arguments = ("history", own_term.student, "--all", "--broker", deployment.broker_url)
    done = invoke_enroll(*arguments)
    assert done.exit_code == GOOD
    lines = [json.loads(line) for line in invoke_enroll(*arguments, "--json").stdout.splitlines()]
    assert [line["change"] for line in lines] == ["dropped", "superseded", "enrolled"]
    assert done.stdout.count("\n") == 5
    assert done.stdout.count("moment") == 1


def test_json_has_a_line_for_each_entry_and_each_student(
    deployment: Deployment, own_term: Term
) -> None:
    printed = deployment.enroll("history", own_term.student, own_term.logic, "--json").stdout
    entries = [json.loads(line) for line in printed.splitlines()]
    assert [entry["change"] for entry in entries] == ["dropped", "superseded", "enrolled"]
    assert entries[0]["moment"] == "2026-09-01T08:00:00.000000Z"
    assert entries[0]["course"]["sis_id"] == own_term.logic
    who = ("who", own_term.logic, "--at", "2026-08-31T12:00:00Z", "--json")
    (student,) = [json.loads(line) for line in deployment.enroll(*who).stdout.splitlines()]
    assert (student["sis_id"], student["ended_at"]) == (
        own_term.student,
        "2026-09-01T08:00:00.000000Z",
    )
    assert deployment.enroll("who", own_term.logic, "--json").stdout == ""


def test_the_command_shows_who_is_and_who_was_in_a_course(
    deployment: Deployment, own_term: Term
) -> None:
    now = deployment.enroll("who", own_term.logic).stdout
    assert now.startswith(f"Course {own_term.logic} (key ")
    assert now.endswith("No student is enrolled.\n")
    then = deployment.enroll("who", own_term.logic, "--at", "2026-08-31T08:00:00Z").stdout
    _, columns, row = then.splitlines()
    assert columns.split() == ["student", "key", "name", "enrolled", "ended"]
    assert row.split()[0] == own_term.student
    assert row.endswith("Ada   2026-08-31 08:00:00 UTC  2026-09-01 08:00:00 UTC")


def test_unknown_ids_are_reported(deployment: Deployment, own_term: Term) -> None:
    unknown_course = "No course has the id nowhere. Check the id, or submit the course.\n"
    for arguments, sentence in (
        (("history", "no-student"), "No student has the id no-student. Check the id, or submit "),
        (("history", own_term.student, "nowhere"), unknown_course),
        (("who", "nowhere"), unknown_course),
    ):
        done = deployment.enroll(*arguments, expect=REFUSED)
        assert done.stderr.startswith(sentence)
        assert done.stdout == ""
    done = deployment.enroll("history", own_term.student, own_term.algebra)
    assert done.stdout.endswith("No stored enrollment or request matches.\n")


# --- HTTP -------------------------------------------------------------------------------------


@pytest.mark.one_database
def test_histories_and_rolls_are_read_over_http(
    deployment: Deployment, own_term: Term, tmp_path: Path
) -> None:
    with (
        serving(deployment.environment, tmp_path / "log") as (url, _),
        httpx.Client(base_url=url, timeout=30) as front,
    ):
        history = f"/students/{own_term.student}/history"
        whole = front.get(history).json()
        assert [entry["change"] for entry in whole["entries"]] == [
            *("dropped", "superseded", "enrolled")
        ]
        first = front.get(history, params={"limit": 2, "course": own_term.logic}).json()
        assert first["more"] is True
        before = first["entries"][-1]["moment"]
        second = front.get(history, params={"before": before}).json()
        assert [*first["entries"], *second["entries"]] == whole["entries"]
        assert front.get(history, params={"course": own_term.algebra}).json()["entries"] == []
        by_key = front.get(f"/students/key:{whole['student_id']}/history").json()
        assert by_key == whole
        roll = f"/courses/{own_term.logic}/students"
        assert front.get(roll).json()["students"] == []
        then = front.get(roll, params={"at": "2026-08-31T08:00:00Z", "limit": 1}).json()
        assert [student["sis_id"] for student in then["students"]] == [own_term.student]
        after = then["students"][0]["id"]
        rest = front.get(roll, params={"at": "2026-08-31T08:00:00Z", "after": after}).json()
        assert rest["students"] == []
        assert front.get(f"/courses/key:{then['id']}/students").json()["sis_id"] == own_term.logic
        for path, status, code in (
            ("/courses/nowhere/students", 404, "unknown_course"),
            ("/courses/key:0/students", 404, "unknown_course"),
            ("/students/key:0/history", 404, "unknown_student"),
            (f"{history}?course=key:0", 404, "unknown_course"),
            (f"{history}?before=noon", 422, "invalid_request"),
            (f"{history}?limit=1001", 422, "invalid_request"),
            (f"{roll}?at=2026-09-01", 422, "invalid_request"),
            (f"{roll}?after=-1", 422, "invalid_request"),
        ):
            answer = front.get(path)
            assert (answer.status_code, answer.json()["code"]) == (status, code), path
