"""What users write is clean under mypy without pydantic's plug-in, and under pyright."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.commands import run_program
from support.paths import BIN, ROOT
from support.transcripts import DOCUMENTS, blocks

pytestmark = pytest.mark.xdist_group("types")

BLOCKS = {
    f"{name} {number}": block
    for name in DOCUMENTS
    for number, block in enumerate(blocks(name, "python"), 1)
    # These libraries publish no types.
    if "from celery" not in block and "from django" not in block
}

USES = """
import asyncio
import os
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from producer import AsyncEnrollmentClient, BatchStatus, CourseRecord, EnrollmentClient, Kind
from producer import RefusedRecord, RequestStatus, StudentEnrollmentRequest
from producer import StudentEnrollmentResponse, StudentRecord
from producer.schemas import ResultStatus
from producer.testing import EnrollmentStack, FakeAsyncEnrollmentClient, FakeEnrollmentClient

names: list[str] = ["C1", "C2"]
keys: tuple[int, ...] = (1, 2)
several: Sequence[int | str] = ["C1", 2]
requests = [
    StudentEnrollmentRequest(student_id="S1", course_ids=("C1",)),
    StudentEnrollmentRequest(student_id="S1", course_ids=["C1"]),
    StudentEnrollmentRequest(student_id=4711, course_ids=names, request_id="r", atomic=False),
    StudentEnrollmentRequest(student_id=4711, course_ids=keys),
    StudentEnrollmentRequest(student_id="S1", course_ids=several, request_id=None),
]
first: tuple[int | str, ...] = requests[0].course_ids
changed = requests[0].model_copy(update={"atomic": False})

def records() -> Iterator[dict[str, object]]:
    yield {"student_id": "S1", "course_ids": ["C1"]}

kind: str = os.environ["KIND"]
with EnrollmentClient("redis://h/0", result_backend_url=None, key_prefix="p:") as client:
    ids: list[str] = client.submit_all(requests)
    client.submit_all([requests[0], {"student_id": "S1", "course_ids": ["C1"]}])
    one: str = client.submit({"student_id": "S1", "course_ids": ["C1"]})
    result: StudentEnrollmentResponse = client.enroll(requests[0], timeout=1)
    done: bool = result.status is ResultStatus.ENROLLED
    also_done: bool = result.status == "enrolled"
    batch = client.submit_batch(kind, records(), batch_id="b")
    client.submit_batch("students", [StudentRecord(sis_id="S1"), {"sis_id": "S2"}])
    client.submit_batch(Kind.COURSES, (CourseRecord(sis_id=c, title="T") for c in names))
    client.submit_batch("courses", [{"sis_id": "C1"}], on_progress=lambda b: print(b.chunks))
    file = client.submit_file(Path("x.csv"), kind="courses", maps={"sis_id": "{id}"})
    lines: list[int] = [refused.line for refused in file.refused]
    status: BatchStatus = client.wait(batch, timeout=1, on_status=lambda s: print(s.state))
    client.wait("b", on_error=lambda e: print(e))
    refusals: list[RefusedRecord] = list(client.refusals(batch.batch_id))
    rows: int = status.books.received + sum(b.books.enrolled for b in client.recent_batches())
    student = client.student("S1")
    titles = [] if student is None else [course.title or "" for course in student.courses]
    when = client.results("S1", limit=5)[0].completed_at.isoformat()

async def stream() -> AsyncIterator[StudentRecord]:
    yield StudentRecord(sis_id="S1")

async def use(client: AsyncEnrollmentClient) -> None:
    async with client:
        many: list[StudentEnrollmentResponse] = await asyncio.gather(*map(client.enroll, requests))
        asking = asyncio.create_task(client.status("r"))
        state: RequestStatus = await asking
        batch = await client.submit_batch("students", stream(), on_progress=lambda b: print(b))
        rows: int = (await client.wait(batch, timeout=1)).books.received
        lines: list[int] = [refused.line async for refused in client.refusals("b")]
        file = await client.submit_file("x.csv", batch_id="b")
        print(many, state, rows, lines, file.refused_lines)

def test_both(enrollment_stack: EnrollmentStack) -> None:
    client: EnrollmentClient = FakeEnrollmentClient(timeout=1)
    other: AsyncEnrollmentClient = FakeAsyncEnrollmentClient()
    print(client, other, enrollment_stack.client.health().version)
"""
"""What a program may do with the client, for the type checkers; it is not run."""

MISTAKES = {
    "a missing field": "StudentEnrollmentRequest(student_id='S1')",
    "a wrong field": "StudentEnrollmentRequest(student_id='S1', course_ids=['C'], atomc=True)",
    "a wrong type": "StudentRecord(sis_id=5)",
    "a wrong verb": "EnrollmentClient().enrol({})",
    "a result of a wrong type": "n: int = EnrollmentClient().submit({})",
    "a single id": "EnrollmentClient().wait(5)",
}
IMPORTS = "from producer import EnrollmentClient, StudentEnrollmentRequest, StudentRecord\n"


def check_with_mypy(folder: Path) -> "subprocess.CompletedProcess[str]":
    """Check all files in a folder, strictly, without any setting of ours."""
    (folder / "mypy.ini").write_text("[mypy]\nstrict = true\nfollow_imports = silent\n")
    return run_program(
        *(sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "."),
        env={"MYPYPATH": str(ROOT), "PATH": str(BIN)},
        cwd=folder,
    )


def check_with_pyright(folder: Path) -> "subprocess.CompletedProcess[str]":
    """Check all files in a folder, strictly. It is the pyright that brings its own Node."""
    settings = {
        "typeCheckingMode": "strict",
        "venvPath": str(BIN.parent.parent),
        "venv": BIN.parent.name,
        "extraPaths": [str(ROOT)],
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    return run_program(BIN / "basedpyright", env={"PATH": str(BIN)}, cwd=folder)


CHECKERS: list[Callable[[Path], "subprocess.CompletedProcess[str]"]] = [
    check_with_mypy,
    check_with_pyright,
]


@pytest.mark.parametrize("check", CHECKERS)
def test_what_users_and_pages_write_is_clean_and_mistakes_are_found(
    check: Callable[[Path], "subprocess.CompletedProcess[str]"], tmp_path: Path
) -> None:
    assert {name.split()[0] for name in BLOCKS} >= {"README.md", "docs/python.md"}
    mistakes = IMPORTS + "\n".join(MISTAKES.values()) + "\n"
    for name, block in {**BLOCKS, "uses": USES, "mistakes": mistakes}.items():
        module = "".join(c if c.isalnum() else "_" for c in name)
        (tmp_path / f"{module}.py").write_text(block)
    done = check(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    reported = set(re.findall(r"(\w+)\.py:(\d+)", done.stdout))
    lines = range(2, 2 + len(MISTAKES))
    assert reported == {("mistakes", str(number)) for number in lines}, done.stdout
