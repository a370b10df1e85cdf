"""What is true of every command: exit codes, JSON, times, and text from outside.

The tables name every command that `enroll --help` lists, and every exit code that its help names:
a new one has no place in them, and fails a test, until a case is added.
"""

import inspect
import json
import re
import signal
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import Result
from redis import Redis

from producer.cli import enroll
from producer.client import EnrollmentClient
from producer.commands.plan_wait import STAGES
from producer.contract.exit_codes import ExitCode
from producer.contract.keys import Keys
from producer.contract.marks import MARK_SECONDS
from producer.contract.plan_requests import PlanMember, PlanPurpose, PlanRequest
from producer.contract.printable import json_line, printable
from producer.contract.routing import TaskName
from producer.publishing.chunking import SourceRecord
from producer.schemas import Kind
from support.commands import (
    CANNOT_FINISH,
    GOOD,
    HELD,
    INTERRUPTED,
    REFUSED,
    UNREACHABLE,
    USAGE,
    invoke_enroll,
    invoke_on_terminal,
)
from support.databases import dead_letters, opened_database
from support.paths import ROOT
from support.rosters import enter_roster, finished
from support.terminals import is_harmless
from support.workers import Deployment
from worker.data_sets.repository import data_set_key
from worker.dead_letters.letters import dead_letter, keep
from worker.models import LetterForm, LetterReason

# One process of the test run starts a deployment, for all of these tests.
pytestmark = [pytest.mark.one_database, pytest.mark.xdist_group("every command")]

EVIL = "a\x1b[2J\x1b]0;b\x07c\x9b1md\u202ee\u2066f\ng\rh\x7f\u2028[red]:x:"
TAME = "a" * len(printable(EVIL))
"""A harmless text that takes as much room as the other one when it is escaped."""


def leaves(command: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    """Yield the path of every command below a command."""
    if not isinstance(command, click.Group):
        yield path
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        part = command.get_command(context, name)
        assert part is not None
        yield from leaves(part, *path, name)


def command_at(path: Sequence[str]) -> click.Command:
    command: click.Command = enroll
    for name in path:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), name)
        assert found is not None
        command = found
    return command


ALL = [*leaves(enroll)]


@dataclass(frozen=True)
class Case:
    """A command line that ends with an exit code.

    `{…}` stands for a name of the scene. `--nowhere`, `--foreign` and `--spare` are not options:
    they stand for other databases.
    """

    code: int
    line: str
    typed: str | None = None
    """What is typed on the terminal; without it, there is no terminal."""

    @property
    def path(self) -> tuple[str, ...]:
        (path,) = [path for path in ALL if self.line.split(" ")[: len(path)] == [*path]]
        return path


CASES = [
    Case(GOOD, "submit {ok} --batch-id {new_id}"),
    Case(GOOD, "submit {ok} --no-wait --batch-id {new_id} --submitter {t}"),
    Case(GOOD, "submit --check {ok} --map name={{sis_id}}"),
    Case(REFUSED, "submit --check {file} --refused {new}"),
    Case(REFUSED, "submit {file} --batch-id {new_id}"),
    Case(USAGE, "submit {gone}"),
    Case(USAGE, "submit --check {ok} --map {t}"),
    Case(USAGE, "submit --check {ok} --encoding {t}"),
    Case(USAGE, "submit {ok} --batch-id {batch}"),
    Case(UNREACHABLE, "submit {ok} --broker {wrong}"),
    Case(USAGE, "submit --check {ok} --format {t}"),
    Case(GOOD, "submit --dry-run {ok} --batch-id {new_id}"),
    Case(HELD, "submit --hold always {ok} --batch-id {new_id}"),
    Case(USAGE, "submit {ok} --hold {t}"),
    Case(GOOD, "formats"),
    Case(USAGE, "formats {t}"),
    Case(GOOD, "request {another} {course}"),
    Case(GOOD, "request {another} --drop {course} --reason {t}"),
    Case(REFUSED, "request {another} {t}-no --request-id {t}-request"),
    Case(USAGE, "request key:{t} {course}"),
    Case(UNREACHABLE, "request {student} {course} --broker {wrong}"),
    Case(GOOD, "status {request}"),
    Case(REFUSED, "status {refused}"),
    Case(REFUSED, "status {batch}"),
    Case(REFUSED, "status {batch} --watch"),
    Case(REFUSED, "status {t}-unknown"),
    Case(REFUSED, "status {t}-unknown --watch"),
    Case(USAGE, "status {long}"),
    Case(UNREACHABLE, "status {batch} --broker {wrong}"),
    Case(CANNOT_FINISH, "status {stuck}"),
    Case(CANNOT_FINISH, "status {stuck} --watch"),
    Case(HELD, "status {held}"),
    Case(HELD, "status {held} --watch"),
    Case(GOOD, "wait {request} {request}"),
    Case(REFUSED, "wait {request} {batch} {refused}"),
    Case(REFUSED, "wait {t}-unknown"),
    Case(USAGE, "wait {long}"),
    Case(UNREACHABLE, "wait {batch} --broker {wrong}"),
    Case(UNREACHABLE, "wait {queued} {batch} --timeout 0.2"),
    Case(CANNOT_FINISH, "wait {stuck} {queued} {t}-unknown --timeout 0.2"),
    Case(HELD, "wait {held} {batch}"),
    Case(GOOD, "plan {held} --csv {new}"),
    Case(HELD, "plan {held}"),
    Case(REFUSED, "plan {t}-unknown"),
    Case(USAGE, "plan {long}"),
    Case(UNREACHABLE, "plan {held} --broker {wrong}"),
    Case(GOOD, "errors {roster}"),
    Case(GOOD, "errors {batch} --csv {new} --jsonl {new}.jsonl --spreadsheet {new}.csv"),
    Case(REFUSED, "errors {batch}"),
    Case(REFUSED, "errors {t}-unknown"),
    Case(REFUSED, "errors {t}-unknown --csv {new}-none"),
    Case(USAGE, "errors {batch} --csv /nowhere/{name}"),
    Case(UNREACHABLE, "errors {batch} --broker {wrong}"),
    Case(GOOD, "student {student}"),
    Case(REFUSED, "student {t}-unknown"),
    Case(GOOD, "student --find {student}"),
    Case(REFUSED, "student --find {t}-unknown"),
    Case(USAGE, "student {student} --find {t}"),
    Case(USAGE, "student key:{t}"),
    Case(UNREACHABLE, "student {student} --broker {wrong}"),
    Case(GOOD, "results {student}"),
    Case(GOOD, "results {roster_only}"),
    Case(GOOD, "results {t}-foreign"),
    Case(REFUSED, "results {t}-unknown"),
    Case(USAGE, "results {student} --limit {t}"),
    Case(UNREACHABLE, "results {student} --broker {wrong}"),
    Case(GOOD, "history {student}"),
    Case(GOOD, "history {student} {course} --limit 1"),
    Case(GOOD, "history {t}-foreign --all"),
    Case(GOOD, "history {roster_only}"),
    Case(REFUSED, "history {t}-unknown"),
    Case(REFUSED, "history {student} {t}-unknown"),
    Case(USAGE, "history {student} --limit {t}"),
    Case(UNREACHABLE, "history {student} --broker {wrong}"),
    Case(GOOD, "who {quiet}"),
    Case(GOOD, "who {quiet} --at 2099-09-01T08:00:00Z"),
    Case(REFUSED, "who {t}-unknown"),
    Case(USAGE, "who key:{t}"),
    Case(UNREACHABLE, "who {course} --broker {wrong}"),
    Case(REFUSED, "doctor --broker {absent} --timeout 1"),
    Case(USAGE, "doctor {t}"),
    Case(USAGE, "up {t}"),
    Case(USAGE, "demo {t}"),
    Case(USAGE, "serve --tokens {file}"),
    Case(GOOD, "schema json"),
    Case(GOOD, "schema asyncapi"),
    Case(USAGE, "schema {t}"),
    Case(GOOD, "completion bash"),
    Case(USAGE, "completion {t}"),
    Case(GOOD, "approve {plan}", "y\n"),
    Case(REFUSED, "approve {plan}", "n\n"),
    Case(REFUSED, "approve {t}-unknown"),
    Case(USAGE, "approve {held}"),
    Case(UNREACHABLE, "approve {held} --nowhere"),
    Case(GOOD, "discard {plan} --yes"),
    Case(REFUSED, "discard {plan} --digest {t} --yes"),
    Case(USAGE, "discard {held}"),
    Case(UNREACHABLE, "discard {held} --nowhere"),
    Case(GOOD, "batches --limit 1000"),
    Case(USAGE, "batches {t}"),
    Case(UNREACHABLE, "batches --nowhere"),
    Case(GOOD, "database show"),
    Case(REFUSED, "database show --foreign"),
    Case(USAGE, "database show {t}"),
    Case(UNREACHABLE, "database show --nowhere"),
    Case(GOOD, "database accept --yes"),
    Case(REFUSED, "database accept --foreign", "n\n"),
    Case(USAGE, "database accept --foreign"),
    Case(UNREACHABLE, "database accept --nowhere"),
    Case(GOOD, "database renew --spare", "y\n"),
    Case(REFUSED, "database renew", "n\n"),
    Case(USAGE, "database renew"),
    Case(UNREACHABLE, "database renew --nowhere"),
    Case(GOOD, "data-sets create sis:2026-fall"),
    Case(USAGE, "data-sets create"),
    Case(UNREACHABLE, "data-sets create sis:2026-fall --nowhere"),
    Case(GOOD, "data-sets list"),
    Case(USAGE, "data-sets list {t}"),
    Case(UNREACHABLE, "data-sets list --nowhere"),
    Case(GOOD, "data-sets rules lms --always"),
    Case(REFUSED, "data-sets rules unknown"),
    Case(USAGE, "data-sets rules lms --drops 101"),
    Case(UNREACHABLE, "data-sets rules lms --nowhere"),
    Case(GOOD, "dead-letters list"),
    Case(USAGE, "dead-letters list --after {t}"),
    Case(UNREACHABLE, "dead-letters list --nowhere"),
    Case(GOOD, "dead-letters show {letter}"),
    Case(GOOD, "dead-letters show {binary}"),
    Case(REFUSED, "dead-letters show 999999"),
    Case(USAGE, "dead-letters show {t}"),
    Case(UNREACHABLE, "dead-letters show {letter} --nowhere"),
    Case(GOOD, "dead-letters retry {record}"),
    Case(REFUSED, "dead-letters retry 999999 {letter}"),
    Case(USAGE, "dead-letters retry"),
    Case(UNREACHABLE, "dead-letters retry {letter} --nowhere"),
    Case(GOOD, "dead-letters discard {record}", "y\n"),
    Case(GOOD, "dead-letters discard {record} --yes"),
    Case(REFUSED, "dead-letters discard {letter} {binary}", "n\n"),
    Case(REFUSED, "dead-letters discard 999999 --yes"),
    Case(USAGE, "dead-letters discard {letter}"),
    Case(UNREACHABLE, "dead-letters discard {letter} --nowhere"),
    Case(GOOD, "prune --older-than 400d --dry-run"),
    Case(GOOD, "prune --older-than 400d", "y\n"),
    Case(REFUSED, "prune --older-than 400d", "n\n"),
    Case(USAGE, "prune --older-than 400d"),
    Case(USAGE, "prune --older-than {t} --yes"),
    Case(UNREACHABLE, "prune --older-than 400d --nowhere"),
    Case(GOOD, "undo {batch} --dry-run"),
    Case(REFUSED, "undo {t}-nowhere --yes"),
    Case(REFUSED, "undo {roster} --dry-run"),
    Case(REFUSED, "undo {batch}", "n\n"),
    Case(USAGE, "undo {batch}"),
    Case(UNREACHABLE, "undo {batch} --nowhere"),
]

ELSEWHERE = {
    ("submit", CANNOT_FINISH): "producer/publishing/test_batch_names.py",
    ("doctor", GOOD): "producer/commands/test_doctor.py",
    ("up", GOOD): "producer/embedded/test_stack.py",
    ("up", UNREACHABLE): "producer/embedded/test_stack.py",
    ("demo", GOOD): "producer/embedded/test_stack.py",
    ("demo", UNREACHABLE): "producer/embedded/test_stack.py",
    ("serve", GOOD): "producer/test_main.py",
    ("serve", UNREACHABLE): "producer/test_main.py",
}
"""Where else a command is tested that starts servers or waits for a minute."""

REFUSED_FILE = "student_sis_id,course_sis_id\nx{t}-S,x{t}-C\nx{t}-none,x{t}-C\n{t}\n"


@dataclass
class Scene:
    """A deployment with a roster, requests, batches and dead letters whose every text is `text`."""

    text: str
    folder: Path
    deployment: Deployment
    foreign: str
    """The URL of another database."""

    def fill(self) -> None:
        """Submit everything, and store the dead letters."""
        t = self.text
        with EnrollmentClient(self.deployment.broker_url, timeout=20) as client:
            student = {"sis_id": f"{t}-S", "name": t, "email": t}
            enter_roster(
                client,
                [student, f"{t}-S2", f"{t}-only"],
                [*({"sis_id": f"{t}-{n}", "title": t} for n in ("C", "quiet")), f"{t}-other"],
            )
            client.submit_batch(Kind.COURSES, [{"sis_id": f"{t}-C"}], batch_id=f"{t}-roster")
            for student_id, course, request_id in (
                (f"{t}-S", f"{t}-C", f"{t}-done"),
                (f"{t}-S", f"{t}-quiet", f"{t}-quietly"),
                (f"{t}-S", f"{t}-none", f"{t}-refused"),
                (f"{t}-foreign", f"{t}-C", f"{t}-other"),
            ):
                client.enroll(
                    {"student_id": student_id, "course_ids": [course], "request_id": request_id}
                )
            record = {"student_id": f"{t}-none", "course_ids": [f"{t}-C"]}
            client.submit_batch(
                Kind.ENROLLMENTS,
                [SourceRecord(record, [2], [[t, t]])],
                batch_id=f"{t}-batch",
                columns=[t, "x"],
                file_name=t,
                submitter=t,
            )
            for batch_id in (f"{t}-batch", f"{t}-roster"):
                finished(client, batch_id)
            self.hold(client, f"{t}-held")
        with (
            opened_database(self.deployment.database_url) as database,
            database.writing() as writing,
        ):
            data_set_key(writing, "lms", datetime.now(UTC))
        cell = printable(t)  # A line end would begin another line of the file.
        (self.folder / f"{t}.csv").write_text(REFUSED_FILE.format(t=cell))
        (self.folder / f"{t}-ok.csv").write_text(f"sis_id,name,{cell}\nx-{len(t)},x,\n")

    def hold(self, client: EnrollmentClient, plan_id: str) -> None:
        """Submit a batch that waits for a decision."""
        member = PlanMember(batch_id=plan_id, kind=Kind.ENROLLMENTS)
        plan = PlanRequest(id=plan_id, members=(member,), purpose=PlanPurpose.APPLY, hold="always")
        record = {"student_id": f"{self.text}-none", "course_ids": [f"{self.text}-C"]}
        batch = client.submit_batch("enrollments", [record], plan=plan, file_name=self.text)
        client.wait(batch)

    def plan(self) -> str:
        """Make a plan that waits for a decision, and return its id."""
        plan_id = f"{self.text}-{uuid.uuid4().hex[:8]}"
        with EnrollmentClient(self.deployment.broker_url) as client:
            self.hold(client, plan_id)
        return plan_id

    def letter(self, form: LetterForm, content: bytes, **ids: Any) -> str:
        """Store a new dead letter, and return its id."""
        letter = dead_letter(
            form,
            content,
            LetterReason.MALFORMED,
            self.text,
            identity=uuid.uuid4().bytes,
            **ids,
        )
        with opened_database(self.deployment.database_url) as database:
            keep(database, letter)
            ids_stored = {found.fingerprint: found.id for found in dead_letters(database)}
        return str(ids_stored[letter["fingerprint"]])

    def record(self) -> str:
        """Store a dead letter that can be retried."""
        request_id = f"{self.text}-{uuid.uuid4().hex[:8]}"
        request = {"student_id": f"{self.text}-S2", "course_ids": [f"{self.text}-other"]}
        content = json.dumps({**request, "request_id": request_id}).encode()
        task = TaskName.ENROLL.value
        return self.letter(LetterForm.RECORD, content, task=task, request_id=request_id)

    def stuck(self) -> str:
        """Store a chunk of a batch that cannot finish."""
        call = {"task": TaskName.ENROLL_BATCH.value, "task_id": "t", "args": [], "kwargs": {}}
        content = json.dumps(call).encode()
        return self.letter(LetterForm.CALL, content, batch_id=f"{self.text}-stuck", task=self.text)

    def queued(self) -> str:
        """Mark a request as queued just now, and return its id."""
        request_id = f"{self.text}-queued"
        with Redis.from_url(self.deployment.broker_url) as redis:
            redis.set(Keys().request(request_id), '{"state": "queued"}', ex=MARK_SECONDS)
        return request_id

    def names(self, line: str) -> dict[str, str]:
        """Return what the names in a command line stand for."""
        t, address = self.text, self.deployment.broker_url
        made: dict[str, Callable[[], str]] = {
            "record": self.record,
            "queued": self.queued,
            "plan": self.plan,
            "letter": lambda: self.letter(LetterForm.MESSAGE, t.encode(), request_id=t),
            "binary": lambda: self.letter(LetterForm.MESSAGE, b"\xff", batch_id=t, task=t),
        }
        return {
            "t": t,
            "new_id": f"{t}-{uuid.uuid4().hex}",
            "absent": "redis://127.0.0.1:1/0",
            "wrong": address.removesuffix("/0") + "/4711",
            "name": f"{t}.csv",
            "ok": str(self.folder / f"{t}-ok.csv"),
            "file": str(self.folder / f"{t}.csv"),
            "gone": str(self.folder / f"{t}-gone.csv"),
            "new": str(self.folder / f"{t}-new"),
            "student": f"{t}-S",
            "another": f"{t}-S2",
            "course": f"{t}-C",
            "quiet": f"{t}-quiet",
            "roster_only": f"{t}-only",
            "request": f"{t}-done",
            "refused": f"{t}-refused",
            "batch": f"{t}-batch",
            "roster": f"{t}-roster",
            "held": f"{t}-held",
            "stuck": f"{t}-stuck",
            "long": t + "x" * 129,
            **{name: make() for name, make in made.items() if f"{{{name}}}" in line},
        }

    def run(self, case: Case, *options: str) -> Result:
        """Run the command line of a case."""
        names = self.names(case.line)
        words = [word.format(**names) for word in case.line.split(" ")]
        databases = {
            "--nowhere": "postgresql://u@127.0.0.1:1/d",
            "--foreign": self.foreign,
            "--spare": self.foreign,
        }
        other = [databases[word] for word in words if word in databases]
        variables = {
            "ENROLL_BROKER_URL": self.deployment.broker_url,
            "ENROLL_DATABASE_URL": other[0] if other else self.deployment.database_url,
            "XDG_STATE_HOME": str(self.folder / "state"),
            "COLUMNS": "2000",  # Ids in commands have quotes and escapes, and no line may wrap.
            "TERM": "dumb",
        }
        arguments = [*(word for word in words if word not in databases), *options]
        if case.typed is None:
            return invoke_enroll(*arguments, **variables)
        return invoke_on_terminal(*arguments, typed=case.typed, **variables)


@pytest.fixture(scope="module")
def scenes(
    module_deployment: Deployment,
    new_database: Callable[[str], str],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Scene, Scene]:
    """The same scene twice: with the evil text, and with the harmless one."""
    foreign = new_database("sqlite")
    made = (
        Scene(EVIL, tmp_path_factory.mktemp("a"), module_deployment, foreign),
        Scene(TAME, tmp_path_factory.mktemp("b"), module_deployment, foreign),
    )
    for scene in made:
        scene.fill()
        scene.stuck()
    return made


def codes_in_help(path: Sequence[str]) -> set[int]:
    """Return the exit codes that the help of a command names."""
    text = invoke_enroll(*path, "--help").stdout
    _, _, section = text.partition("  Exit codes:\n")
    lines = section.partition("\n\n")[0].splitlines()
    return {int(line.split()[0]) for line in lines}


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_exit_code_in_the_help_of_a_command_has_a_case(path: tuple[str, ...]) -> None:
    named = codes_in_help(path)
    assert {GOOD, USAGE} <= named <= {*ExitCode}
    elsewhere = {code: file for (name, code), file in ELSEWHERE.items() if (name,) == path}
    assert all((ROOT / "tests" / "acceptance" / file).exists() for file in elsewhere.values())
    here = {case.code for case in CASES if case.path == path}
    assert here | {*elsewhere} == named - {INTERRUPTED}


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_succeeds_and_an_unknown_option_is_wrong_usage(path: tuple[str, ...]) -> None:
    assert invoke_enroll(*path, "--help").exit_code == GOOD
    assert invoke_enroll(*path, "--no-such-option").exit_code == USAGE


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.code} {case.line}")
def test_a_command_ends_with_its_code_and_shows_text_from_outside_escaped(
    scenes: tuple[Scene, Scene], case: Case
) -> None:
    evil = scenes[0].run(case)
    # An outage takes seconds to notice, and its message quotes nothing.
    tame = evil if "{wrong}" in case.line else scenes[1].run(case)
    for done in (evil, tame):
        assert done.exit_code == case.code, done.output
        assert isinstance(done.exception, SystemExit | None)
        for line in done.output.split("\n"):
            assert is_harmless(line.replace("\t", "")), ascii(line)
            check_times_for_people(line)
    # A line end in a text does not begin a line that could be taken for one of ours.
    assert count_of_lines(evil.stdout) == count_of_lines(tame.stdout), evil.stdout
    assert count_of_lines(evil.stderr) == count_of_lines(tame.stderr), evil.stderr


def count_of_lines(printed: str) -> int:
    """Return how many lines there are that do not depend on the moment of a look-up.

    The content of a dead letter is indented, and no line of ours.
    """
    lines = [line for line in printed.split("\n") if not line.startswith("  ")]
    return len([line for line in lines if line not in STAGES.values()])


def check_times_for_people(line: str) -> None:
    """Moments have one form, and nothing else looks like one."""
    for found in re.findall(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d\S*(?: UTC)?", line):
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", found), line


WITH_JSON = [
    case
    for case in CASES
    if any(option.name == "as_json" for option in command_at(case.path).params)
    and "{wrong}" not in case.line
]


def test_only_commands_that_print_nothing_but_text_have_no_json() -> None:
    have_json = {case.path[0] for case in WITH_JSON}
    assert {path[0] for path in ALL} - have_json == {"up", "demo", "serve", "schema", "completion"}


@pytest.mark.parametrize("case", WITH_JSON, ids=lambda case: f"{case.code} {case.line}")
def test_all_json_is_in_one_dialect(scenes: tuple[Scene, Scene], case: Case) -> None:
    done = scenes[0].run(case, "--json")
    assert done.exit_code == case.code, done.output
    for line in done.stdout.splitlines():
        data = json.loads(line)
        assert isinstance(data, dict)
        assert line == json_line(data)
        assert is_harmless(line)
        for text in texts_in(data):
            if re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d", text):
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text), text
    lists_nothing = any(word in case.line for word in ("{roster}", "{roster_only}", "--csv"))
    assert done.stdout or case.code != GOOD or lists_nothing


def texts_in(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict | list):
        for value in data.values() if isinstance(data, dict) else data:
            yield from texts_in(value)


def test_json_is_exact_where_the_text_is_evil(scenes: tuple[Scene, Scene]) -> None:
    scene, _ = scenes
    student = json.loads(scene.run(Case(GOOD, "student {student}"), "--json").stdout)
    assert (student["name"], student["courses"][0]["title"]) == (EVIL, EVIL)
    lines = scene.run(Case(GOOD, "batches --limit 1000"), "--json").stdout.splitlines()
    rows = {row["batch"]: row for row in map(json.loads, lines)}
    row = rows[f"{EVIL}-batch"]
    assert (row["file"], row["submitter"]) == (EVIL, EVIL)


@pytest.mark.parametrize(
    "path", [path for path in ALL if INTERRUPTED in codes_in_help(path)], ids=" ".join
)
def test_ctrl_c_ends_every_command_in_the_same_way(
    scenes: tuple[Scene, Scene], path: tuple[str, ...]
) -> None:
    """The signal comes when the command has just begun its own work."""
    cases = [case for case in CASES if case.path == path]
    case = next((case for case in cases if case.code == GOOD), Case(GOOD, " ".join(path)))
    work = inspect.unwrap(command_at(path).callback).__code__  # type: ignore[arg-type]

    def interrupt(frame: Any, event: str, _: object) -> None:
        if event == "call" and frame.f_code is work:
            sys.setprofile(None)
            signal.raise_signal(signal.SIGINT)

    sys.setprofile(interrupt)
    try:
        done = scenes[1].run(case)
    finally:
        sys.setprofile(None)
    assert done.exit_code == INTERRUPTED, done.output
    assert done.stderr.endswith("Interrupted.\n")
    assert done.stdout == ""
