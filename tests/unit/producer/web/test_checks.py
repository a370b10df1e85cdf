"""`POST /batches/check`: what is refused for form before a file is sent, and nothing is sent."""

import asyncio
import io
import threading
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings

from producer.files.describing import Choices
from producer.files.refused_lines import cells_of
from producer.files.whole_check import MAX_LISTED, MAX_LISTED_TEXT, check_whole_file
from producer.schemas import Code
from producer.testing import FakeEnrollmentClient
from producer.web import uploads as uploads_module
from producer.web.upload_lines import Upload
from producer.web.uploads import PUBLISHED_TOGETHER, Uploads
from support import any_files
from support.front import MemoryFront

PAIRS = b"Student ID,course_id,note\nS1,C1,x\nS1,C2,y\n,C3,\n"


def check(content: bytes, **params: Any) -> Any:
    response = MemoryFront().call("POST", "/batches/check", content=content, params=params)
    assert response.status_code == 200, response.text
    return response.json()


def test_every_mistake_is_shown_with_its_cells_and_nothing_is_published() -> None:
    front = MemoryFront()
    response = front.call("POST", "/batches/check", content=PAIRS)
    shown = response.json()
    empty = {"field": "student_id", "message": "the cell is empty; fill it in"}
    assert shown.pop("groups") == [
        {**empty, "count": 1, "first_lines": [4], "example": f"student_id: {empty['message']}"}
    ]
    assert shown.pop("refused") == [
        {**empty, "line": 4, "message": f"student_id: {empty['message']}", "cells": ["", "C3", ""]}
    ]
    assert shown.pop("lines") == {
        "total": 4,
        "header": 1,
        "read": 2,
        "continued": 0,
        "skipped": 0,
        "blank": 0,
        "refused": 1,
    }
    assert shown == {
        "readable": True,
        "problem": None,
        "field": None,
        "kind": "enrollments",
        "content": "enrollments",
        "columns": ["Student ID", "course_id", "note"],
        "rows": 2,
        "notices": [],
        "system": None,
        "passed_over": {},
        "first_rows": [
            {"line": line, "fields": {"student_id": "S1", "course_id": course}}
            for line, course in ((2, "C1"), (3, "C2"))
        ],
        "files": [],
    }
    assert not front.client.recent_batches()
    assert front.call("POST", "/batches/check", files={"file": ("a.csv", PAIRS)}).json() == (
        response.json()
    )


def test_the_parameters_are_those_of_a_submission() -> None:
    mapped = check(
        b"note,course id\nS\xe9,C\n\x81,\n",
        map=["student_id={note}", "course_id={course id}"],
        drop=True,
        encoding="cp1252",
    )
    assert (mapped["content"], mapped["rows"]) == ("drops", 1)
    assert [line["line"] for line in mapped["refused"]] == [3]
    assert check(b"sis_id\nS1\n", kind="courses")["kind"] == "courses"


@pytest.mark.parametrize(
    ("content", "field", "words"),
    [
        (b"", None, "is empty"),
        (b"PK\x03\x04", None, "zip"),
        (b"who,what\n1,2\n", "kind", "does not show"),
        (b"who,course_id\n1,2\n", "map", "map another column"),
    ],
)
def test_a_file_that_cannot_be_read_is_no_error(
    content: bytes, field: str | None, words: str
) -> None:
    shown = check(content)
    assert (shown["readable"], shown["field"], shown["refused"]) == (False, field, [])
    assert words in shown["problem"]


def test_a_cell_that_the_file_does_not_hold_apart_from_its_record_is_shown() -> None:
    shown = check(b"sis_id,name,as_of\nS1,Ada,yesterday\n")
    assert shown["refused"][0]["cells"] == ["S1", "Ada", "yesterday"]
    assert shown["refused"][0]["field"] == "as_of"


def test_a_file_of_mistakes_makes_no_response_without_bounds() -> None:
    shown = check(b"student_id,course_id\n" + b",C1\n" * (MAX_LISTED + 5))
    assert (len(shown["refused"]), shown["groups"][0]["count"]) == (MAX_LISTED, MAX_LISTED + 5)
    wide = b"student_id,course_id\n" + (b"," + b"x" * 500_000 + b"\n") * 30
    found = check_whole_file("The file", io.BytesIO(wide), Choices())
    assert found.lines is not None
    assert found.lines.refused == 30
    cells = sum(len(cell) for line in found.refused for cell in line.cells or ())
    assert MAX_LISTED_TEXT <= cells < MAX_LISTED_TEXT + 600_000


@settings(max_examples=300, deadline=None)
@given(any_files.uploads)
def test_a_check_refuses_what_a_submission_of_the_same_file_refuses_for_form(
    upload: any_files.Upload,
) -> None:
    front = MemoryFront()
    kind, templates, encoding, drop, *_ = upload.choices
    params: dict[str, Any] = {"map": [f"{name}={text}" for name, text in templates.items()]}
    params |= {"drop": drop, "kind": kind, "encoding": encoding}
    call: dict[str, Any] = {
        "content": upload.content,
        "params": {n: v for n, v in params.items() if v is not None},
    }
    shown = front.call("POST", "/batches/check", **call).json()
    sent = front.call("POST", "/batches", **call)
    assert sent.status_code == (202 if shown["readable"] else 422)
    if not shown["readable"]:
        assert (sent.json()["detail"], sent.json().get("field")) == (
            shown["problem"],
            shown["field"],
        )
        return
    batch_id = sent.json()["batch_id"]
    status = front.client.batch(batch_id)
    messages: defaultdict[int, list[str]] = defaultdict(list)
    cells: dict[int, Any] = {}
    for refusal in front.client.refusals(batch_id):
        if refusal.code is Code.INVALID_REQUEST:
            messages[refusal.line].append(refusal.message)
            cells.setdefault(refusal.line, cells_of(status.columns, refusal))
    assert {line["line"]: line["message"] for line in shown["refused"]} == {
        line: "; ".join(parts) for line, parts in messages.items()
    }
    assert {line["line"]: line["cells"] for line in shown["refused"]} == {
        line: None if known is None else list(known) for line, known in cells.items()
    }
    assert shown["columns"] == (None if status.columns is None else list(status.columns))
    assert (shown["kind"], shown["notices"]) == (sent.json()["kind"], sent.json()["notices"])
    assert sum(group["count"] for group in shown["groups"]) == shown["lines"]["refused"]
    if shown["columns"]:  # A record of JSON Lines may have several rows.
        assert shown["rows"] + shown["lines"]["refused"] == status.books.received


class SlowFile(io.BytesIO):
    """A file with one line after the other, as long as it is read."""

    def __init__(self, line: bytes) -> None:
        super().__init__(PAIRS)
        self.line = line
        self.blocks = 0
        self.has_begun = threading.Event()

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() < len(PAIRS):
            return super().read(size)
        self.blocks += 1
        if self.blocks > 2:  # The first reads look for the end of the header.
            self.has_begun.set()
        whole = self.line * 100
        return whole if size is None or size < 0 else whole[:size]


def endless(line: bytes = b"S1,C1,z\n") -> tuple[Upload, SlowFile]:
    file = SlowFile(line)
    return Upload(file, None), file


@pytest.mark.parametrize("line", [b"S1,C1,z\n", b"\n", b"S1,C1\n"], ids=["bad", "blank", "good"])
def test_a_check_whose_caller_goes_away_ends_and_gives_its_turn_to_others(line: bytes) -> None:
    async def run() -> None:
        uploads = Uploads(FakeEnrollmentClient())
        files = [endless(line) for _ in range(PUBLISHED_TOGETHER // 2)]
        running = [
            asyncio.ensure_future(uploads.check(upload, Choices(), "greedy")) for upload, _ in files
        ]
        for _, file in files:
            assert await asyncio.to_thread(file.has_begun.wait, 60)
        small = Upload(io.BytesIO(PAIRS), None)
        assert (await uploads.check(small, Choices(), "honest")).readable
        for check in running:
            check.cancel()
        await asyncio.wait(running)
        small = Upload(io.BytesIO(PAIRS), None)
        assert (await uploads.check(small, Choices(), "greedy")).readable
        async with asyncio.timeout(30):
            while "enrollment-batch" in {thread.name for thread in threading.enumerate()}:
                await asyncio.sleep(0.05)

    asyncio.run(run())


def test_a_check_and_a_submission_share_their_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads_module, "PUBLISHED_TOGETHER", 2)

    async def run() -> bool:
        uploads = Uploads(FakeEnrollmentClient())
        upload, file = endless()
        check = asyncio.ensure_future(uploads.check(upload, Choices(), "sis"))
        assert await asyncio.to_thread(file.has_begun.wait, 60)
        pairs = Upload(io.BytesIO(PAIRS), None)
        options: dict[str, Any] = {"may_drop": True, "resume": False}
        sent = asyncio.ensure_future(uploads.submit(pairs, Choices(), "b", "sis", **options))
        done, _ = await asyncio.wait([sent], timeout=0.5)
        check.cancel()
        await sent
        return not done

    assert asyncio.run(run())
