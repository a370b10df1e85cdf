"""Files are published a few at a time, and one submitter leaves turns to the others."""

import asyncio
import io
import threading
import uuid
from typing import Any

import pytest

from producer.files.describing import Choices
from producer.testing import FakeEnrollmentClient
from producer.web.upload_lines import Upload
from producer.web.uploads import PUBLISHED_TOGETHER, Uploads

PAIRS = b"student_id,course_id\nS1,C1\n"


class SlowFile(io.BytesIO):
    """A file whose rest takes long to read: until the test ends."""

    def __init__(self, end: threading.Event) -> None:
        super().__init__(PAIRS)
        self._end = end

    def read(self, size: int | None = -1) -> bytes:
        self._end.wait(20)
        return super().read(size)


async def publish(uploads: Uploads, file: io.BytesIO, submitter: str | None) -> Any:
    return await uploads.submit(
        Upload(file, None), Choices(), uuid.uuid4().hex, submitter, may_drop=True, resume=False
    )


@pytest.mark.parametrize(
    ("submitters", "is_published"),
    [
        (["greedy"] * 3 * PUBLISHED_TOGETHER, True),
        ([None] * (PUBLISHED_TOGETHER - 1), True),
        ([None] * PUBLISHED_TOGETHER, False),
    ],
    ids=["one submitter", "without tokens, one turn left", "without tokens, none left"],
)
def test_slow_files_of_one_submitter_hold_up_no_other(
    submitters: list[str | None], *, is_published: bool
) -> None:
    end = threading.Event()

    async def race() -> bool:
        uploads = Uploads(FakeEnrollmentClient())
        slow = [
            asyncio.ensure_future(publish(uploads, SlowFile(end), submitter))
            for submitter in submitters
        ]
        await asyncio.sleep(0)
        quick = asyncio.ensure_future(publish(uploads, io.BytesIO(PAIRS), "honest"))
        done, _ = await asyncio.wait([quick], timeout=60 if is_published else 1)
        end.set()
        await asyncio.gather(*slow, quick)
        return bool(done)

    assert asyncio.run(race()) is is_published
