"""Submit records as a batch, and show its progress until it is done.

On a terminal the progress is a live bar; elsewhere, for example in a log, a line now and then.
"""

import contextlib
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from producer.client import EnrollmentClient
from producer.commands.terminal import safe
from producer.contract.batches import BatchState, BatchStatus, Books
from producer.contract.printable import shell_argument
from producer.errors import EnrollmentError, NoWorkerAnswered
from producer.files.formats.packages import AnySource
from producer.files.layout import Lines
from producer.publishing.batches import MAX_QUEUED, SubmittedBatch
from producer.publishing.chunking import ALONE, Membership

POLL_SECONDS = 0.25
_SAME_REFUSALS = (
    "Lines that were refused before are not tried again under the same batch id. If you have"
    " corrected the cause, for example in the roster, write these lines to a file with `enroll"
    " errors {batch_id} --csv refused.csv`, and submit that file under a new batch id."
)
LINE_SECONDS = 10.0
"""Seconds between two lines of progress if there is no terminal."""


def submit_source(
    client: EnrollmentClient,
    source: AnySource,
    console: Console,
    *,
    wait: bool,
    batch_id: str | None = None,
    resume: bool = False,
    max_queued: int = MAX_QUEUED,
    submitter: str | None = None,
    membership: Membership = ALONE,
    records: Lines | None = None,
) -> BatchStatus:
    """Submit the records of a source and return the batch's status; with `wait`, once it is done.

    `batch_id`, `resume`, `max_queued` and `submitter` are those of `EnrollmentClient.submit_batch`;
    `membership` is what its chunks say of their data set and plan. `records` are those of the
    source, if they were read from it in another way. Raises BrokerUnavailable, BatchConflict,
    BatchCannotFinish, and NoWorkerAnswered if no worker processes the batch.
    """
    batch_id = batch_id or uuid.uuid4().hex
    console.print(f"Submitting {source.name} as batch {batch_id} ({source.layout.content})")
    with _Bar(source, console, is_planned=membership.plan is not None) as bar:
        with bar.following(client, batch_id):
            submitted = client.submit_batch(
                source.kind,
                source.records() if records is None else records,
                batch_id=batch_id,
                resume=resume,
                submitter=submitter,
                max_queued=max_queued,
                on_progress=bar.submitted,
                on_outage=bar.outage,
                **membership._asdict(),
                **_described(source),
            )
        source.counts_at(submitted.moment)
        if applied := submitted.chunks - submitted.published:
            console.print(f"{applied} of the {submitted.chunks} chunks had already arrived.")
        if not wait:
            return _queued(submitted)
        status = _wait(client, submitted, bar)
    if submitted.published < submitted.chunks and status.books.rejected:
        source.notices.add(_SAME_REFUSALS.format(batch_id=batch_id))
    return status


def _described(source: AnySource) -> dict[str, Any]:
    """Return what a batch says of its file, as arguments of `EnrollmentClient.submit_batch`."""
    names = ("ordered", "columns", "form", "file_name", "moment")
    return {name: getattr(source, name) for name in names}


def _wait(client: EnrollmentClient, batch: SubmittedBatch, bar: "_Bar") -> BatchStatus:
    try:
        return client.wait(batch, on_status=bar.applied, on_error=bar.outage)
    except NoWorkerAnswered as error:
        hint = f"See it later with: enroll status {shell_argument(batch.batch_id)}"
        raise NoWorkerAnswered(f"{error} {hint}") from error


def _queued(batch: SubmittedBatch) -> BatchStatus:
    """Return the status of a batch that was submitted just now."""
    return BatchStatus(
        batch_id=batch.batch_id,
        state=BatchState.QUEUED,
        kind=batch.kind,
        requests=batch.tally.requests,
        chunks=batch.chunks,
        books=Books(received=batch.tally.rows, not_applied=batch.tally.rows),
    )


class _Bar:
    """Shows the rows submitted, applied and rejected, the speed, and the time left."""

    def __init__(self, source: AnySource, console: Console, *, is_planned: bool) -> None:
        self._source = source
        self._is_planned = is_planned
        self._started = self._last_line = time.monotonic()
        self._advised = False
        self._in_outage = False
        # A log has no bar, even if colors are forced, because a bar is redrawn over itself.
        self._live = console.is_interactive and console.file.isatty()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.fields[submitted]:,} applied"),
            TextColumn("{task.fields[rejected]:,} rejected"),
            TextColumn("{task.fields[speed]:,.0f} rows/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not self._live,
        )
        self._task: TaskID = self._progress.add_task(
            safe(Path(source.name).name), total=None, submitted=0, rejected=0, speed=0.0
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        self._print_line(seconds=0)

    def _print_line(self, seconds: float = LINE_SECONDS) -> None:
        """Print a line if there is no bar and the last line is at least so many seconds old."""
        now = time.monotonic()
        if self._live or now - self._last_line < seconds:
            return
        self._last_line = now
        (task,) = self._progress.tasks
        if self._is_planned:
            submitted = task.fields["submitted"]
            self._progress.console.print(f"{task.description}: {submitted:,} rows submitted")
            return
        seconds_left = task.time_remaining
        self._progress.console.print(
            f"{task.description}: {task.completed:,.0f} of {task.fields['submitted']:,} rows"
            f" applied, {task.fields['rejected']:,} rejected, {task.fields['speed']:,.0f} rows/s"
            + (f", about {seconds_left:,.0f} s left" if seconds_left else "")
        )

    def submitted(self, batch: SubmittedBatch) -> None:
        """Show that a chunk was published, and estimate the total from the size of the file."""
        self._end_outage()
        share = self._source.share
        rows = batch.tally.rows
        total = max(rows, round(rows / share)) if share else None
        self._progress.update(self._task, submitted=rows, total=total)
        self._print_line()

    def outage(self, error: EnrollmentError) -> None:
        """Print, once in an outage, that the broker or the database is not available."""
        if not self._in_outage:
            reason = str(error).rstrip(".")
            message = f"{reason}. Waiting; the submission continues by itself ..."
            self._progress.console.print(message, style="yellow")
        self._in_outage = True

    def _end_outage(self) -> None:
        if self._in_outage:
            self._progress.console.print("The outage is over; continuing.", style="green")
        self._in_outage = False

    def applied(self, status: BatchStatus) -> None:
        """Show the progress that a worker reported."""
        self._end_outage()
        if status.advice and not self._advised:
            self._progress.console.print(status.advice, style="yellow")
        self._advised = status.advice is not None
        rows = status.books.received - status.books.not_applied
        self._progress.update(
            self._task,
            completed=rows,
            submitted=status.books.received,
            rejected=status.books.rejected,
            speed=rows / (time.monotonic() - self._started),
        )
        if status.chunks is not None:
            self._progress.update(self._task, total=status.books.received)
        self._print_line()

    @contextlib.contextmanager
    def following(self, client: EnrollmentClient, batch_id: str) -> Iterator[None]:
        """Look up the progress in a thread while the file is still being published."""
        published = threading.Event()

        def follow() -> None:
            while not published.wait(POLL_SECONDS if self._live else LINE_SECONDS / 4):
                # An error does not stop publishing; if it persists, it is reported afterwards.
                with contextlib.suppress(EnrollmentError):
                    self.applied(client.batch(batch_id, refusals=False))

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            published.set()
            thread.join()
