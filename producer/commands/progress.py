"""Records are submitted as a batch, and followed until it is done.

On a terminal with a live bar; elsewhere, as in a log, with a plain line now and then.
"""

import contextlib
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from producer.client import EnrollmentClient
from producer.contract.batches import BatchState, BatchStatus, Books
from producer.errors import (
    AnswerNotUnderstood,
    BrokerUnavailable,
    EnrollmentError,
    LookupFailed,
    NoWorkerAnswered,
)
from producer.files.reader import FileSource, StreamSource
from producer.publishing.batches import MAX_QUEUED, QUEUE_PATIENCE, SubmittedBatch

POLL_SECONDS = 0.25
LINE_SECONDS = 10.0
"""Between two lines about the progress, where there is no terminal."""


def submit_source(
    client: EnrollmentClient,
    source: FileSource | StreamSource,
    console: Console,
    *,
    wait: bool,
    batch_id: str | None = None,
    resume: bool = False,
    max_queued: int = MAX_QUEUED,
) -> BatchStatus:
    """Submit a source's records; returns the batch's status, when `wait` is set once it is done.

    `batch_id`, `resume` and `max_queued` are those of `EnrollmentClient.submit_batch`. Raises
    BrokerUnavailable, BatchConflict; NoWorkerAnswered when nobody works on it.
    """
    batch_id = batch_id or uuid.uuid4().hex
    console.print(f"{source.name} becomes batch {batch_id} ({source.kind})")
    with _Bar(source, console) as bar:
        with bar.following(client, batch_id):
            submitted = client.submit_batch(
                source.kind,
                source.records(),
                batch_id=batch_id,
                resume=resume,
                columns=source.columns,
                max_queued=max_queued,
                on_progress=bar.submitted,
                on_outage=bar.outage,
            )
        if submitted.published < submitted.chunks:
            applied = submitted.chunks - submitted.published
            console.print(f"{applied} of its {submitted.chunks} chunks had been applied before.")
        if wait:
            _wait_until_done(client, batch_id, bar)
            return client.batch(batch_id)
    return BatchStatus(
        batch_id=batch_id,
        state=BatchState.QUEUED,
        kind=source.kind,
        requests=submitted.tally.requests,
        chunks=submitted.chunks,
        books=Books(received=submitted.tally.rows, not_applied=submitted.tally.rows),
    )


def _wait_until_done(client: EnrollmentClient, batch_id: str, bar: "_Bar") -> None:
    heard = applied = time.monotonic()
    while True:
        now = time.monotonic()
        try:
            status = client.batch(batch_id, refusals=False)
        except (BrokerUnavailable, LookupFailed) as error:
            # Waiting makes no version older.
            if isinstance(error, AnswerNotUnderstood) or now - heard > QUEUE_PATIENCE:
                raise
            bar.outage(error)
        except NoWorkerAnswered as error:
            # A worker needs a while to come back after its broker did.
            if not bar.away or now - heard > QUEUE_PATIENCE:
                hint = f" Batch {batch_id} stays queued; see later with: enroll status {batch_id}"
                raise NoWorkerAnswered(str(error) + hint) from error
        else:
            heard = now
            bar.applied(status)
            if status.state is BatchState.DONE:
                return
            if status.state not in (BatchState.STALLED, BatchState.UNKNOWN):
                applied = now
            elif now - applied > QUEUE_PATIENCE:
                lost = f"The broker lost it: submit the same again with --batch-id {batch_id}"
                what = status.advice or lost
                raise NoWorkerAnswered(f"Batch {batch_id} stands still. {what}")
        time.sleep(POLL_SECONDS)


class _Bar:
    """Submitted, applied and refused rows, rows a second, time left."""

    def __init__(self, source: FileSource | StreamSource, console: Console) -> None:
        self._source = source
        self._started = self._said = time.monotonic()
        self._advised = False
        self.away = False
        # Not where colors are forced upon a log: a bar is drawn over itself.
        self._live = console.is_interactive and console.file.isatty()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.completed:,.0f} of {task.fields[submitted]:,} applied"),
            TextColumn("{task.fields[refused]:,} refused"),
            TextColumn("{task.fields[speed]:,.0f} rows/s"),
            TimeRemainingColumn(),
            console=console,
            disable=not self._live,
        )
        self._task: TaskID = self._progress.add_task(
            Path(source.name).name, total=None, submitted=0, refused=0, speed=0.0
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()
        self._say_line(seconds=0)

    def _say_line(self, seconds: float = LINE_SECONDS) -> None:
        """Where there is no bar: a line, unless there was one less than so many seconds ago."""
        now = time.monotonic()
        if self._live or now - self._said < seconds:
            return
        self._said = now
        (task,) = self._progress.tasks
        left = task.time_remaining
        self._progress.console.print(
            f"{task.description}: {task.completed:,.0f} of {task.fields['submitted']:,} rows"
            f" applied, {task.fields['refused']:,} refused, {task.fields['speed']:,.0f} rows/s"
            + (f", about {left:,.0f} s left" if left else "")
        )

    def submitted(self, batch: SubmittedBatch) -> None:
        """A chunk was published; the file's size tells how many rows are to come."""
        self._back()
        share = self._source.share
        rows = batch.tally.rows
        total = max(rows, round(rows / share)) if share else None
        self._progress.update(self._task, submitted=rows, total=total)
        self._say_line()

    def outage(self, error: EnrollmentError) -> None:
        """The broker or the database is away: said once, until it is back."""
        if not self.away:
            self._progress.console.print(f"{error} Waiting for it ...", style="yellow")
        self.away = True

    def _back(self) -> None:
        if self.away:
            self._progress.console.print("It is back.", style="green")
        self.away = False

    def applied(self, status: BatchStatus) -> None:
        """A worker told how far it has come."""
        self._back()
        if status.advice and not self._advised:
            self._progress.console.print(status.advice, style="yellow")
        self._advised = status.advice is not None
        rows = status.books.received - status.books.not_applied
        self._progress.update(
            self._task,
            completed=rows,
            submitted=status.books.received,
            refused=status.books.rejected,
            speed=rows / (time.monotonic() - self._started),
        )
        if status.chunks is not None:
            self._progress.update(self._task, total=status.books.received)
        self._say_line()

    @contextlib.contextmanager
    def following(self, client: EnrollmentClient, batch_id: str) -> Iterator[None]:
        """Ask for the progress while the file is still being published."""
        over = threading.Event()

        def follow() -> None:
            while not over.wait(POLL_SECONDS if self._live else LINE_SECONDS / 4):
                # Publishing goes on without an answer; whether one comes is found out after it.
                with contextlib.suppress(EnrollmentError):
                    self.applied(client.batch(batch_id, refusals=False))

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
