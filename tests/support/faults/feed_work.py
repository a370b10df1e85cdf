"""What the parts of a feed share: the client, the model, patience with faults, and the undo."""

import contextlib
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy.exc import DBAPIError

from producer.client import EnrollmentClient
from producer.contract.batches import BatchState
from producer.errors import BatchCannotFinish, BatchNotDone, EnrollmentError
from producer.schemas import Action, Kind
from support.databases import opened_database
from support.faults.feed_model import FeedModel, Pair
from support.faults.report import FEED_PREFIX
from worker.undo import run
from worker.undo.repository import find_progress
from worker.undo.start import undo_id_of
from worker.undo.values import CannotUndo

DATA_SET = "sis:storm"


class Interrupted(Exception):
    """The undo is interrupted between two transactions."""


class FeedWork:
    """Submits and undoes for a feed, as often as it takes.

    `chance` decides what is submitted, and does not depend on the time that things take; `whim`
    decides when it is interrupted.
    """

    def __init__(self, client: EnrollmentClient, database_url: str, seed: int) -> None:
        self.client = client
        self.url = database_url
        self.chance = random.Random(f"feed {seed}")
        self.whim = random.Random(f"interruptions {seed}")
        self.until: Callable[[], float] = lambda: float("inf")
        """Returns the time at which the feed gives up."""
        self.model = FeedModel()
        self.number = 0
        self.to_undo: list[str] = []
        """What is done and may be undone."""
        self.undone = self.unexplained = 0

    def persist(self, attempt: Callable[[], bool]) -> bool:
        """Repeat until an attempt succeeds; return False if the time is up."""
        last: Exception | None = None
        while time.monotonic() < self.until():
            try:
                if attempt():
                    return True
            except (EnrollmentError, DBAPIError, CannotUndo) as error:
                if repr(error) != repr(last):
                    print(f"{time.strftime('%X')} feed: {error!r:.300}", flush=True)
                last = error
            time.sleep(0.2)
        print(f"{time.strftime('%X')} feed: gave up", flush=True)
        return False

    def next_number(self) -> int:
        self.number += 1
        return self.number

    def next_name(self) -> str:
        return f"{FEED_PREFIX}{self.next_number()}"

    def wrong(self, sentence: str) -> None:
        """Count something that the model does not explain."""
        self.unexplained += 1
        print(f"unexplained: {sentence}", flush=True)

    def submit(self, name: str, records: Sequence[Any], **options: Any) -> bool:
        """Submit a batch, or what is missing of it; return whether it is done."""
        self.client.submit_batch(Kind.ENROLLMENTS, records, batch_id=name, **options)
        with contextlib.suppress(BatchNotDone, BatchCannotFinish):
            return self.client.wait(name, timeout=2).state is BatchState.DONE
        return False

    def undo(self, name: str) -> bool:
        """Undo a batch, perhaps only a part; return whether it is undone. Raises CannotUndo."""

        def perhaps_interrupt() -> None:
            if self.whim.random() < 0.1:
                raise Interrupted

        with opened_database(self.url) as database:
            try:
                report = run.undo(database, name, on_chunk=perhaps_interrupt)
            except Interrupted:
                return False
            except CannotUndo:
                if not self.is_undone(name):
                    raise
                return True
        self.undone += 1
        return report.discarded_plan is None

    def is_undone(self, name: str) -> bool:
        with opened_database(self.url) as database, database.reading() as connection:
            return find_progress(connection, undo_id_of(name)).is_done


def request_of(name: str, action: Action, pair: Pair) -> dict[str, Any]:
    verb = "course_ids" if action is Action.ENROLL else "drop_course_ids"
    return {"request_id": name, "student_id": pair[0], verb: [pair[1]]}
