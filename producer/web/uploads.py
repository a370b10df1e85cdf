"""Receive files over HTTP, and publish or check them in threads of their own.

A file is stored until all of it has arrived, so a slow caller holds no thread, and a file that is
cut off publishes nothing.
"""

import asyncio
import errno
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from tempfile import SpooledTemporaryFile
from threading import Event
from typing import BinaryIO, Final, NamedTuple, cast

from fastapi import Request
from fastapi.concurrency import run_in_threadpool
from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from producer.aio.records import in_daemon_thread
from producer.client import EnrollmentClient
from producer.errors import UnreadableFile
from producer.files.describing import NO_CHOICES, Choices
from producer.files.formats.comparison import Source, compare, is_complete
from producer.files.formats.packages import Package
from producer.files.layout import FileLayout, Named
from producer.files.reader import named_in
from producer.files.submitted import check_planned
from producer.files.whole_check import WholeCheck, check_package, check_whole_file
from producer.publishing.batches import SubmittedBatch
from producer.publishing.planning import NO_PLAN, PlanOptions
from producer.web.problems import Refused
from producer.web.unknown_parameters import check_form_fields
from producer.web.upload_lines import (
    Upload,
    members,
    named,
    opened,
    opened_as_snapshot,
    refuse_drops,
    refuse_drops_in,
)

FORM_ERRORS: Final = (HTTPException, FormParserError, ValueError)
"""What is raised for a multipart body that cannot be read."""

IN_MEMORY: Final = 1 << 20
"""The largest file in bytes that is kept in memory; a larger one is stored in a temporary file."""

PUBLISHED_TOGETHER: Final = 8
"""Files that are published or checked at the same time, half of them for the tokens of one name.

More threads would slow the event loop down.
"""

COMPARISON_SECONDS: Final = 60.0
"""The longest time that an upload is compared with the current enrollments."""

MAX_FIELDS: Final = 20
"""Fields of a form, besides the file; they are ignored."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Understood(NamedTuple):
    """How an upload was understood, and how many current enrollments it does not name.

    `not_in_file` is None if the upload need not name them all, or if they could not be counted.
    """

    notices: tuple[str, ...]
    not_in_file: int | None = None


class _Uploaded(NamedTuple):
    """An upload of a single file, which can be read again."""

    upload: Upload
    layout: FileLayout
    choices: Choices

    def named(self) -> Iterator[Named]:
        """Yield which courses and students the file names. Raises UnreadableFile."""
        self.upload.file.seek(0)
        yield from named_in("The file", self.upload.file, self.layout, self.choices)


@asynccontextmanager
async def received(request: Request) -> AsyncIterator[Upload]:
    """Receive the file of a call: its body, or the file in its form.

    Raises UnreadableFile for a form without exactly one file, and Refused.
    """
    try:
        if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            async with _file_in_form(request) as upload:
                yield upload
            return
        with SpooledTemporaryFile(IN_MEMORY) as file:
            async for piece in request.stream():
                await _write(file, piece)
            file.seek(0)
            yield Upload(cast("BinaryIO", file), None)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        detail = "The HTTP front has no room to store the file; ask the operator to make room."
        raise Refused(507, "no_room", detail, Connection="close") from None
    except ClientDisconnect:
        raise Refused(400, "cut_off", "The upload was cut off; send the file again.") from None


async def _write(file: "SpooledTemporaryFile[bytes]", piece: bytes) -> None:
    """Write a piece; a disk may be slow, so the event loop does not wait for it."""
    if file.tell() + len(piece) > IN_MEMORY:
        await run_in_threadpool(file.write, piece)
    else:
        file.write(piece)


@asynccontextmanager
async def _file_in_form(request: Request) -> AsyncIterator[Upload]:
    try:
        form = await request.form(max_files=2, max_fields=MAX_FIELDS)
    except FORM_ERRORS as error:
        raise malformed_form(error) from None
    try:
        fields = form.multi_items()
        check_form_fields(request, (name for name, value in fields if isinstance(value, str)))
        file = only_file(form)
        yield Upload(file.file, file.filename or None)
    finally:
        await form.close()


def only_file(form: FormData) -> UploadFile:
    """Return the file in a form. Raises UnreadableFile if there is no file, or more than one."""
    files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    if not files:
        raise UnreadableFile(
            "The multipart body contains no file; add one, for example with `curl -F file=@FILE`."
        )
    if len(files) > 1:
        raise UnreadableFile("The multipart body contains several files; send one at a time.")
    return files[0]


def malformed_form(error: Exception) -> Exception:
    """Return what to raise for one of the `FORM_ERRORS`: itself, if it is our own refusal."""
    if isinstance(error, Refused):
        return error
    reason = str(getattr(error, "detail", error)).rstrip(".")
    return UnreadableFile(
        f"The multipart body is malformed ({reason[:200]}); send the file as the body itself, or"
        " with `curl -F file=@FILE`."
    )


def name_in_package(upload: Upload, file_name: str) -> str:
    """Return the name under which a file of a package is stored: that of the package first."""
    return file_name if upload.name is None else f"{upload.name}/{file_name}"


class Uploads:
    """Publishes and checks files, a few at a time; belongs to one event loop."""

    def __init__(self, client: EnrollmentClient) -> None:
        self._client = client
        self._turns = asyncio.Semaphore(PUBLISHED_TOGETHER)
        self._turns_of: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(PUBLISHED_TOGETHER // 2)
        )
        """By submitter. Each has at most half of the turns, so that the others are not held up."""

    async def submit(
        self,
        upload: Upload,
        choices: Choices,
        batch_id: str,
        submitter: str | None,
        *,
        may_drop: bool,
        resume: bool,
        plan: PlanOptions = NO_PLAN,
    ) -> tuple[SubmittedBatch, Understood]:
        """Publish a file, and return its batch and how it was understood.

        With `resume`, the batch may have been published before, as a whole or in part. Without
        `may_drop`, a file with a drop is refused before any of it is published.

        Once publishing has begun it goes on, even if the caller does not wait. Raises
        UnreadableFile, Refused, and what `EnrollmentClient.submit_batch` raises.
        """

        def publish() -> tuple[SubmittedBatch, Understood]:
            if not may_drop:
                refuse_drops(upload, choices)
            open_upload = opened if plan.snapshot is None else opened_as_snapshot
            layout, records = open_upload(upload, choices)
            plan.check_members([layout.kind])
            belongs_to = plan.membership(layout.kind, plan.request_of([(batch_id, layout.kind)]))
            batch = self._client.submit_batch(
                layout.kind,
                records,
                batch_id=batch_id,
                resume=resume,
                ordered=layout.ordered,
                columns=layout.columns,
                form=layout.form,
                file_name=upload.name,
                submitter=submitter,
                **belongs_to._asdict(),
            )
            files = [_Uploaded(upload, layout, named(choices, upload.name))]
            return batch, self._compared(files, layout.notices, plan)

        async with self.turn_of(submitter):
            return await in_daemon_thread(publish)

    async def submit_package(
        self,
        upload: Upload,
        package: Package,
        batch_id: str,
        submitter: str | None,
        *,
        may_drop: bool,
        resume: bool,
        choices: Choices = NO_CHOICES,
        plan: PlanOptions = NO_PLAN,
    ) -> tuple[list[tuple[SubmittedBatch, str]], Understood]:
        """Publish the files of a package; return their batches, each with the name of its file.

        Also returns how the package was understood. Enrollments wait until its rosters are applied,
        unless the package is planned. The options and errors are those of `submit`.
        """

        def publish() -> tuple[list[tuple[SubmittedBatch, str]], Understood]:
            if not may_drop:
                refuse_drops_in(package)
            check_planned(package.sources, choices, plan, package)
            batches = []
            for source, belongs_to, records in members(package, batch_id, plan):
                batch = self._client.submit_batch(
                    source.kind,
                    records,
                    batch_id=source.batch_id(batch_id),
                    resume=resume,
                    ordered=source.ordered,
                    columns=source.columns,
                    form=source.form,
                    file_name=name_in_package(upload, source.file_name),
                    submitter=submitter,
                    moment=source.moment,
                    **belongs_to._asdict(),
                )
                source.counts_at(batch.moment)
                batches.append((batch, source.file_name))
            return batches, self._compared(package.sources, package.all_notices(), plan)

        async with self.turn_of(submitter):
            return await in_daemon_thread(publish)

    def _compared(
        self, files: Sequence[Source], given: Iterable[str], plan: PlanOptions
    ) -> Understood:
        """Compare files with the current enrollments, if they name them all; add a notice.

        A batch changes only the enrollments that it names, so it need not be applied before. The
        plan of a snapshot says itself what the files do not name.
        """
        notices = tuple(given)
        if plan.snapshot is not None or not is_complete(files):
            return Understood(notices)
        found = compare("The file", files, self._client.rolls, COMPARISON_SECONDS)
        own = () if found.notice is None else (found.notice,)
        return Understood((*notices, *own), found.not_in_file)

    async def check(
        self,
        upload: Upload,
        choices: Choices,
        submitter: str | None,
        package: Package | None = None,
        *,
        may_drop: bool = True,
    ) -> WholeCheck:
        """Read a file, or every file of a package, in a turn of its submitter.

        Returns the mistakes. The reading stops if this call is cancelled. Raises Refused for a file
        with a drop, as a submission does, without `may_drop`.
        """
        is_cancelled = Event()

        def is_wanted() -> bool:
            return not is_cancelled.is_set()

        own = named(choices, upload.name)

        def read() -> WholeCheck:
            if package is not None:
                found = check_package(package, is_wanted)
                if not may_drop:  # Afterwards: the lines are counted as often as they are read.
                    refuse_drops_in(package, is_wanted)
                return found
            if not may_drop:
                with suppress(UnreadableFile):  # The check says why.
                    refuse_drops(upload, choices, is_wanted)
            upload.file.seek(0)
            return check_whole_file("The file", upload.file, own, is_wanted)

        async with self.turn_of(submitter):
            try:
                return await in_daemon_thread(read)
            finally:
                is_cancelled.set()

    @asynccontextmanager
    async def turn_of(self, submitter: str | None) -> AsyncIterator[None]:
        """Wait for a turn of a submitter, and hold it."""
        own_turn = nullcontext() if submitter is None else self._turns_of[submitter]
        async with own_turn, self._turns:
            yield
