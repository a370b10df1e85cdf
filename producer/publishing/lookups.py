"""Look up many ids: in Redis what it knows, and through a worker the rest."""

from collections.abc import Mapping, Sequence
from typing import Any

from producer.contract.batches import BatchStatus
from producer.contract.routing import TaskName
from producer.fields import MAX_LOOKUP, MAX_LOOKUP_RESULTS
from producer.publishing.arguments import check_ids
from producer.publishing.connection import BrokerConnection
from producer.publishing.merging import MAX_IDS, MergedLookups
from producer.schemas import RequestStatus


class Lookups:
    """The lookups of one client; threads may share it.

    Every method raises InvalidRequest for ids that nothing can have, and for a single id in place
    of several, and what `BrokerConnection.ask` raises. `timeout` is the longest wait for a worker,
    in seconds.
    """

    def __init__(self, connection: BrokerConnection) -> None:
        self._connection = connection
        self._merged = MergedLookups()

    def requests(self, request_ids: Sequence[str], timeout: float) -> list[RequestStatus]:
        """Return the status of each request, in the same order."""
        request_ids = check_ids(TaskName.STATUS, request_ids)
        known = self._connection.known_requests(request_ids)
        return self._with_known(known, TaskName.STATUS, request_ids, None, timeout)

    def batches(
        self, batch_ids: Sequence[str], timeout: float, *, refusals: bool
    ) -> list[BatchStatus]:
        """Return the status of each batch, in the same order, with its refusals if asked for."""
        batch_ids = check_ids(TaskName.BATCH, batch_ids)
        known = self._connection.known_batches(batch_ids, refusals=refusals)
        options = {"refusals": refusals}
        return self._with_known(known, TaskName.BATCH, batch_ids, options, timeout)

    def _with_known(
        self,
        known: Mapping[str, Any],
        task: TaskName,
        ids: Sequence[str],
        options: Mapping[str, Any] | None,
        timeout: float,
    ) -> list[Any]:
        """Return what is known of each id, in order; ask a worker about the others."""
        missing = [identity for identity in ids if identity not in known]
        answers = iter(self.ask(task, missing, timeout, options=options))
        return [known[i] if i in known else next(answers) for i in ids]

    def ask(
        self,
        task: TaskName,
        ids: Sequence[Any],
        timeout: float,
        page: int = MAX_LOOKUP,
        options: Mapping[str, Any] | None = None,
    ) -> list[Any]:
        """Ask a worker about any number of ids, at most `page` at a time; return its answers.

        A short lookup is sent together with those that other threads make at the same time.
        """
        ids = check_ids(task, ids)

        def ask(some_ids: list[Any], seconds: float) -> Any:
            return self._connection.ask(task, [some_ids], options, timeout=seconds)

        if 0 < len(ids) <= min(MAX_IDS, page):
            return list(self._merged.ask((task, repr(options)), ids, page, ask, timeout))
        answers: list[Any] = []
        for start in range(0, len(ids), page):
            answers += ask(list(ids[start : start + page]), timeout)
        return answers


def results_page(limit: int) -> int:
    """Return how many students one lookup of results may name, with this many results for each."""
    return min(MAX_LOOKUP, MAX_LOOKUP_RESULTS // limit)
