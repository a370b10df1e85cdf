"""Text from outside is escaped before it reaches a terminal; JSON stays exact."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import RenderableType

from producer.commands import display
from producer.commands.terminal import make_console, print_json, tell
from producer.contract.batches import BatchStatus, RefusalGroup
from producer.schemas import (
    Code,
    EnrolledCourse,
    EnrollmentProblem,
    Kind,
    RequestStatus,
    ResultStatus,
    StudentEnrollmentResponse,
    StudentResponse,
)
from support.commands import USAGE, invoke_enroll
from support.terminals import is_harmless

EVIL = "a\x1b[2J\x1b]0;b\x07c\x9b1md\u202ee\u2066\u200bf\ng\rh\x00\x7f[red]:x:"
NOW = datetime(2026, 9, 1, tzinfo=UTC)


def result(text: str) -> StudentEnrollmentResponse:
    problem = EnrollmentProblem(code=Code.UNKNOWN_COURSE, message=text, field=text)
    return StudentEnrollmentResponse(
        request_id=text,
        student_id=text,
        status=ResultStatus.PARTIAL,
        enrolled_courses=(EnrolledCourse(id=1, sis_id=text, title=text, added=True),),
        errors=(problem,),
        completed_at=NOW,
    )


def batch(text: str) -> BatchStatus:
    group = RefusalGroup(
        code=Code.UNKNOWN_COURSE, message=text, count=1, first_lines=(2,), example=text
    )
    return BatchStatus(
        batch_id=text, state="stalled", kind=Kind.STUDENTS, advice=text, refusals=(group,)
    )


SHOWN: dict[str, Callable[[str], RenderableType]] = {
    "batch": lambda text: display.batch(batch(text), timed=True),
    "unknown batch": lambda text: display.batch(BatchStatus(batch_id=text, state="unknown")),
    "refusals": lambda text: display.refusals(batch(text).refusals),
    "request": lambda text: display.request(
        RequestStatus(request_id=text, state="queued", advice=text)
    ),
    "unknown request": lambda text: display.request(
        RequestStatus(request_id=text, state="unknown")
    ),
    "results": lambda text: display.results([result(text)]),
    "student": lambda text: display.student(
        StudentResponse(id=1, sis_id=text, name=text, email=text, courses=())
    ),
    "plain": lambda text: text,
}


def printed(renderable: RenderableType) -> str:
    console = make_console()
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


@pytest.mark.parametrize("shown", SHOWN)
def test_what_is_shown_to_people_is_escaped(shown: str) -> None:
    lines = printed(SHOWN[shown](EVIL)).splitlines()
    assert all(map(is_harmless, lines))
    assert "\\x1b[2J" in "".join(line.strip() for line in lines)
    # A line end in the text does not begin a line that could be taken for one of ours.
    count = len(printed(SHOWN[shown]("a" * len(ascii(EVIL)))).splitlines())
    assert len(lines) <= count


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=30))
def test_any_text_is_escaped_on_both_ways_out(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert is_harmless(printed(text).replace("\n", ""))
    tell(text)
    assert is_harmless(capsys.readouterr().err.replace("\n", ""))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.dictionaries(st.text(max_size=5), st.text(max_size=30) | st.none()))
def test_json_is_exact_and_harmless(data: Any, capsys: pytest.CaptureFixture[str]) -> None:
    print_json(data)
    line = capsys.readouterr().out
    assert line.endswith("\n")
    assert is_harmless(line[:-1])
    assert json.loads(line) == data


@pytest.mark.parametrize(
    "arguments",
    [
        ["submit", "--check", "{evil}"],
        ["submit", "--check", "{file}", "--map", "sis_id={evil}"],
        ["submit", "--check", "{file}", "--map", "{evil}"],
        ["submit", "--check", "{file}", "--encoding", "{evil}"],
        ["submit", "--kind", "{evil}", "{file}"],
        ["submit", "{file}", "--broker", "{evil}"],
        ["student", "key:{evil}", "--broker", "redis://127.0.0.1:1"],
        ["{evil}"],
    ],
)
def test_a_message_about_a_mistake_is_escaped(tmp_path: Path, arguments: list[str]) -> None:
    evil = EVIL.replace("\x00", "")
    file = tmp_path / "students.csv"
    file.write_text(f"sis_id,{evil!r}\nS1,x\n")
    given = [argument.format(evil=evil, file=file) for argument in arguments]
    done = invoke_enroll(*given, ENROLL_BROKER_URL=None)
    assert done.exit_code == USAGE, done.output
    assert all(map(is_harmless, done.output.replace("\r", "\x1b").split("\n")))
    assert "\\x1b" in done.output


def test_a_check_shows_cells_and_names_escaped(tmp_path: Path) -> None:
    file = tmp_path / "st\x1b[2J.csv"
    file.write_text(
        "sis_id,name,x\x1b[2J\nS1,\x9b1m\u202ex,\nS2\u200b,,\n,\x1b,\n" + "S3,Ada,\n" * 200
    )
    done = invoke_enroll("submit", "--check", str(file), ENROLL_BROKER_URL=None)
    assert is_harmless(done.output.replace("\n", ""))
    for escape in ("st\\x1b[2J.csv", "x\\x1b[2J", "\\x9b1m\\u202ex", "\\u200b"):
        assert escape in done.output
