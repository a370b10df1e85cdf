"""Define the part of the client that connects, and publishes single requests."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, Final, Self

from producer.broker_search import find_broker
from producer.call_log import verb
from producer.contract.headers import moment_headers
from producer.contract.routing import TaskName
from producer.errors import (
    BrokerUnavailable,
    ClientClosed,
    InvalidRequest,
    LookupFailed,
    NoWorkerAnswered,
)
from producer.publishing.connection import (
    CALL_ID,
    BrokerConnection,
    check_timeout,
)
from producer.publishing.lookups import Lookups
from producer.publishing.records import plain_fields
from producer.publishing.requests import (
    IdentifiedRequest,
    check_not_lost,
    refuse_single,
    with_id,
)
from producer.publishing.results import parse_result
from producer.publishing.rosters import PublishedRosters
from producer.schemas import (
    Code,
    EnrollmentProblem,
    StudentEnrollmentRequest,
    StudentEnrollmentResponse,
)

FIND: Final = "find"
"""In place of the broker's URL: find the broker as the commands do."""


def connect(
    broker_url: str, result_backend_url: str | None, key_prefix: str | None
) -> BrokerConnection:
    """Return a connection to a broker. Raises ValueError, and BrokerNotFound instead of `FIND`."""
    if broker_url == FIND:
        found = find_broker()
        broker_url = found.url
        result_backend_url = result_backend_url or found.result_backend_url
        key_prefix = found.key_prefix if key_prefix is None else key_prefix
    prefix = "" if key_prefix is None else key_prefix
    return BrokerConnection(broker_url, result_backend_url, prefix)


def represent(client: type, connection: BrokerConnection, timeout: float, *, closed: bool) -> str:
    """Return the representation of a client, without the broker's password."""
    prefix = connection.key_prefix
    parts = [client.__name__, connection.shown_url]
    parts += [f"key_prefix={prefix!r}"] if prefix else []
    parts += [f"timeout={timeout:g}"]
    parts += ["closed"] if closed else []
    return f"<{' '.join(parts)}>"


def prefixes_of(call_ids: Sequence[str | None] | None, requests: int) -> Sequence[str | None]:
    """Return the text that each task id begins with.

    Raises InvalidRequest if there is not one for each request: the rest would not be published.
    """
    if call_ids is None:
        return [None] * requests
    refuse_single("call_ids", call_ids)
    if len(call_ids) != requests:
        message = f"call_ids: must have an entry for each of the {requests} requests"
        problem = EnrollmentProblem(code=Code.INVALID_REQUEST, message=message, field="call_ids")
        raise InvalidRequest((problem,))
    return call_ids


class RequestSubmitter:
    """A connection to the broker, and the verbs that publish requests one by one."""

    def __init__(
        self,
        broker_url: str = FIND,
        *,
        result_backend_url: str | None = None,
        timeout: float = 10.0,
        key_prefix: str | None = None,
    ) -> None:
        check_timeout(timeout)
        self._use(connect(broker_url, result_backend_url, key_prefix), timeout)

    def _use(self, connection: BrokerConnection, timeout: float) -> None:
        self.timeout = timeout
        self._connection = connection
        self._lookups = Lookups(connection)
        self._rosters = PublishedRosters()

    @property
    def shown_url(self) -> str:
        """Return the broker's URL without its password, for messages."""
        return self._connection.shown_url

    @property
    def closed(self) -> bool:
        """Return whether the client was closed; then every method raises ClientClosed."""
        return self._connection.closed

    def __repr__(self) -> str:
        return represent(type(self), self._connection, self.timeout, closed=self.closed)

    def __enter__(self) -> Self:
        if self.closed:
            raise ClientClosed
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection. The client cannot be used again; another call does nothing."""
        self._connection.close()

    @verb
    def submit(self, request: StudentEnrollmentRequest | Mapping[str, Any]) -> str:
        """Publish one request and return its id at once; call `status` for the result later.

        The id is the request's own, or a new one if it has none. Raises InvalidRequest.
        """
        identified = with_id(request)
        _, moment = self._send(identified, ignore_result=True)
        self._connection.let_pass(moment)
        return identified.id

    def _send(self, identified: IdentifiedRequest, **options: Any) -> tuple[str, datetime | None]:
        """Publish one request; return its task id, and its moment if that may lie ahead."""
        args = [plain_fields(identified.request)]
        if not identified.has_own_id:
            return self._connection.send_new(identified.id, args, **options)
        headers = self._mark([identified])[identified.id]
        return self._connection.send(TaskName.ENROLL, args, headers=headers, **options), None

    def _mark(self, requests: Sequence[IdentifiedRequest]) -> dict[str, dict[str, str]]:
        """Mark requests as `queued`; return the headers of their messages, by id."""
        known_ids = [identified.id for identified in requests if identified.has_own_id]
        ids = [identified.id for identified in requests]
        moments = self._connection.mark_requests(ids, known_ids)
        return {request_id: moment_headers(moments.get(request_id)) for request_id in ids}

    @verb
    def submit_all(
        self,
        requests: Sequence[StudentEnrollmentRequest | Mapping[str, Any]],
        call_ids: Sequence[str | None] | None = None,
    ) -> list[str]:
        """Publish several requests together, each as its own message, and return their ids.

        A batch is cheaper for many requests. `call_ids`, if given, holds for each request the
        text that its task id begins with. Raises InvalidRequest before anything is published.
        After BrokerUnavailable, some requests may have been published.
        """
        refuse_single("requests", requests)
        checked = [with_id(request) for request in requests]
        prefixes = prefixes_of(call_ids, len(checked))
        headers = self._mark(checked)
        with self._connection.sending_together() as producer:
            for identified, call_id in zip(checked, prefixes, strict=True):
                CALL_ID.set(call_id)
                self._connection.send(
                    TaskName.ENROLL,
                    [plain_fields(identified.request)],
                    ignore_result=True,
                    headers=headers[identified.id],
                    producer=producer,
                )
        return [identified.id for identified in checked]

    @verb
    def enroll(
        self,
        request: StudentEnrollmentRequest | Mapping[str, Any],
        *,
        timeout: float | None = None,
    ) -> StudentEnrollmentResponse:
        """Publish one request and wait for its result, at most `timeout` seconds.

        Raises InvalidRequest. Raises NoWorkerAnswered when the time is up; the request then stays
        queued, and `status` returns its result later. Raises SubmissionLost as soon as a worker
        reports that the request is lost. Raises LookupFailed if the request was processed but its
        result cannot be understood.
        """
        seconds = self.timeout if timeout is None else timeout
        check_timeout(seconds)
        identified = with_id(request)
        task_id, moment = self._send(identified)
        hint = f"Request {identified.id} stays queued; look up its status later."
        try:
            data = self._connection.wait(
                task_id, seconds, hint, partial(self._check, identified.id)
            )
        finally:
            self._connection.let_pass(moment)
        result: StudentEnrollmentResponse = parse_result(TaskName.ENROLL, data)
        return result

    def _check(self, request_id: str, timeout: float) -> None:
        """Raise SubmissionLost if a worker reports within the timeout that a request is lost."""
        # A submitter may lack the right to look up; the wait itself notices a broken connection.
        with suppress(NoWorkerAnswered, LookupFailed, BrokerUnavailable):
            arguments = [[request_id]]
            seconds = min(timeout, self.timeout)
            (status,) = self._connection.ask(TaskName.STATUS, arguments, timeout=seconds)
            check_not_lost(status)
