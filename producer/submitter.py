"""Define the half of the client that publishes: batches and files, beside single requests."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from producer.call_log import verb
from producer.contract.file_forms import FileForm
from producer.contract.headers import BatchOrigin
from producer.contract.plan_requests import PlanRequest
from producer.errors import (
    BrokerUnavailable,
)
from producer.files.describing import Choices
from producer.files.formats.comparison import Comparison
from producer.files.formats.registry import choice_of
from producer.files.submitted import OpenedFile, SubmittedFile, opened_file
from producer.publishing.batches import (
    MAX_QUEUED,
    BatchPublisher,
    OnOutage,
    OnProgress,
    SubmittedBatch,
)
from producer.publishing.chunking import Membership
from producer.publishing.planning import checked_membership, checked_options, own_batch_id
from producer.publishing.records import Record
from producer.publishing.requests import new_batch, refuse_single
from producer.request_submitter import RequestSubmitter
from producer.schemas import Kind


class EnrollmentSubmitter(RequestSubmitter):
    """The verbs that publish; `EnrollmentClient` adds the reads."""

    @verb
    def submit_batch(
        self,
        kind: Kind | str,
        records: Iterable[Record],
        *,
        batch_id: str | None = None,
        resume: bool = True,
        ordered: bool = False,
        columns: Iterable[str] | None = None,
        form: FileForm | None = None,
        file_name: str | None = None,
        submitter: str | None = None,
        data_set: str | None = None,
        plan: PlanRequest | None = None,
        moment: datetime | None = None,
        max_queued: int = MAX_QUEUED,
        wait_for_rosters: bool = True,
        on_progress: OnProgress = None,
        on_outage: OnOutage = None,
    ) -> SubmittedBatch:
        """Publish a stream of records in chunks, with one chunk in memory at a time.

        The worker refuses a record that breaks the contract and reports its line. Raises
        InvalidRequest for an invalid `kind` or `batch_id`, and for a single record. If `batch_id`
        was submitted before, only the chunks that were never applied are published. If the records
        differ, BatchConflict is raised at the first chunk that differs, usually before anything is
        published, or else by `count_applied`; NoWorkerAnswered, if no worker says what was applied.
        `resume=False` skips this; use it only for a new `batch_id`. With `ordered`, a later request
        wins against an earlier one. `columns` and `form` are the header and the form of a CSV file;
        `file_name` and `submitter` are not checked. `data_set` is the feed of enrollments; with
        `plan`, the batch is a member of that plan. Publishing pauses while `max_queued` chunks
        wait. Enrollments first wait for the rosters of this client for the same submitter, unless
        `wait_for_rosters` is false. The records count at `moment`, if it is given. `on_progress` is
        called after each chunk. With `on_outage`, an outage is waited out for up to ten minutes.
        """
        refuse_single("records", records)
        batch_id = own_batch_id(batch_id, plan)
        origin = BatchOrigin(file_name, submitter)
        about: dict[str, Any] = {"columns": columns, "form": form, "max_queued": max_queued}
        about |= {"on_progress": on_progress, "on_outage": on_outage, "origin": origin}
        batch, is_known = new_batch(kind, batch_id, moment), resume and batch_id is not None
        options = {"is_new": batch_id is None, "wait": wait_for_rosters}
        belongs_to = checked_membership(batch, data_set, plan)
        with self._in_order(batch, belongs_to, submitter, **options) as publish:
            return publish(records, ordered=ordered, resume=is_known, **about)

    @contextmanager
    def _in_order(
        self,
        batch: SubmittedBatch,
        belongs_to: Membership,
        submitter: str | None,
        *,
        wait: bool,
        is_new: bool,
    ) -> Iterator[Callable[..., SubmittedBatch]]:
        """Yield `BatchPublisher.publish`, of enrollments once the rosters before are applied.

        `is_new` is set if the id of the batch was made for it. The rosters of a plan are not waited
        for: its enrollments are planned, and applied, after them.
        """
        is_roster = batch.kind is not Kind.ENROLLMENTS
        publisher = BatchPublisher(
            self._connection, batch, self.timeout, is_new=is_new, membership=belongs_to
        )
        if wait and not is_roster and self._rosters.are_there(submitter):
            with suppress(BrokerUnavailable):  # Reported, or waited out, when it is published.
                publisher.begin()  # It counts from here, and not from the end of the wait.
            look_up = partial(self._lookups.batches, timeout=self.timeout, refusals=False)
            self._rosters.wait(submitter, look_up)
        try:
            yield publisher.publish
        finally:
            if is_roster and publisher.has_published and belongs_to.plan is None:
                self._rosters.add(submitter, batch.batch_id)

    @verb
    def submit_file(
        self,
        path: str | os.PathLike[str],
        *,
        kind: Kind | str | None = None,
        maps: Mapping[str, str] | None = None,
        encoding: str | None = None,
        drop: bool = False,
        format_name: str | None = None,
        sheet: str | None = None,
        sections_are_one: bool = False,
        moments_from_file: bool = False,
        batch_id: str | None = None,
        resume: bool = True,
        file_name: str | None = None,
        submitter: str | None = None,
        data_set: str | None = None,
        dry_run: bool = False,
        snapshot: str | None = None,
        hold: str | None = None,
        adopt: bool = False,
        max_queued: int = MAX_QUEUED,
        wait_for_rosters: bool = True,
        on_progress: OnProgress = None,
        on_outage: OnOutage = None,
    ) -> SubmittedFile:
        """Publish a file as a batch, or a package as one for each file, as `enroll submit` does.

        The arguments up to `moments_from_file` are its options (`maps` is `--map`, `format_name` is
        `--format`); others are those of `submit_batch`. Returns the batch with the lines that could
        not be read; of a package, the last one, which has all in `batches`. A client that can look
        up counts what a complete export does not name. With `dry_run`, `snapshot` or `hold`, `plan`
        has the report. Raises UnreadableFile, and what `submit_batch` raises.
        """
        plan = checked_options(data_set, dry_run, snapshot, hold, adopt)
        labels = BatchOrigin(file_name, submitter)
        choice = choice_of(
            format_name, sections_are_one=sections_are_one, moments_from_file=moments_from_file
        )
        own_kind = None if kind is None else new_batch(kind, batch_id).kind
        choices = Choices(own_kind, dict(maps or {}), encoding, drop, choice, sheet)
        rules: dict[str, Any] = {"on_progress": on_progress, "on_outage": on_outage}
        rules |= {"resume": resume and batch_id is not None, "max_queued": max_queued}
        with opened_file(Path(path), choices, batch_id, plan) as opened:
            return self._publish(opened, labels, wait=wait_for_rosters, **rules)

    def _publish(
        self, opened: OpenedFile, labels: BatchOrigin, *, wait: bool, **options: Any
    ) -> SubmittedFile:
        """Publish what a file holds; `options` are those of `BatchPublisher.publish`."""
        submitted = []
        for watched in opened.sources:
            source = watched.source
            batch = new_batch(source.kind, watched.batch_id, source.moment)
            turn = {"wait": wait, "is_new": watched.is_new}
            with self._in_order(batch, watched.membership, labels.submitter, **turn) as publish:
                published = publish(
                    watched.records(),
                    columns=source.columns,
                    form=source.form,
                    origin=labels._replace(file_name=watched.named(labels.file_name)),
                    ordered=source.ordered,
                    **options,
                )
            source.counts_at(published.moment)
            submitted.append(watched.of(published))
        return opened.together(submitted, self._compared(opened))

    def _compared(self, _opened: OpenedFile) -> Comparison | None:
        """Return None: a submitter does not look up who is enrolled (`EnrollmentClient` does)."""
        return None
