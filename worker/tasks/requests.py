"""Define the task that decides single requests, alone or as a group."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from celery import Celery
from redis.client import Pipeline

from producer.contract.headers import moment_in
from producer.contract.routing import TaskName
from producer.schemas import StudentEnrollmentResponse
from worker.database.engine import nothing
from worker.enrollment.incoming import IncomingRequest, read_request
from worker.enrollment.results import to_response
from worker.enrollment.rules import Decisions
from worker.messaging import plugins
from worker.messaging.grouping import QueuedRequest
from worker.messaging.signals import sending_signals
from worker.messaging.unavailable import DatabaseUnavailable
from worker.recovery.isolate import give_up_request, isolate_request
from worker.service import Overlap, add_enrollments
from worker.tasks.beginning import BeginningOnce, FailedBefore
from worker.tasks.services import ServicedTask, Services

log = logging.getLogger(__name__)

HandOver = Callable[[], object]
"""Send clients the results they wait for, and remove the marks of their requests."""


class Responses(NamedTuple):
    """What became of some requests, in the two forms in which it is sent."""

    results: Sequence[tuple[str, Any]]
    """What clients wait for, by task id."""
    stored: Sequence[StudentEnrollmentResponse]
    """The results that are stored, to be copied for those who ask later."""


class EnrollTask(ServicedTask):
    """The task `enrollment.enroll`."""

    Strategy = plugins.STRATEGY

    def decide_group(self, queued: Sequence[QueuedRequest]) -> bool:
        """Decide requests in one transaction; return whether each must run alone instead.

        Each must run alone if the group fails, or if one of the requests has already failed or
        killed its worker too often. Raises DatabaseUnavailable if all are to be requeued.
        """
        services = self.services
        task_ids = [message.task_id for message in queued]
        requests = self.read(queued)
        begin = BeginningOnce(partial(self.begin, task_ids, requests))
        done = ended = False
        try:
            with sending_signals(self, queued) as sent:

                def prepare(responses: Responses) -> HandOver:
                    store = self.prepare_to_store(responses, requests, task_ids, begin.generation)

                    def hand_over() -> None:
                        nonlocal ended
                        sent.update(responses.results)
                        store()
                        ended = services.one_redis

                    return hand_over

                attempt = partial(self.decide_together, requests, begin)
                self.decide(queued, attempt, prepare)
            done = True
        except DatabaseUnavailable:
            raise
        except FailedBefore:
            log.info("Each of %s requests runs alone: one has failed too often", len(queued))
        except Exception as error:  # noqa: BLE001 - each request runs alone and raises its own
            log.warning(
                "A group of %s requests failed (%s); each of them now runs alone",
                *(len(queued), type(getattr(error, "orig", error)).__name__),
            )
        finally:
            if not ended:
                services.attempts.end(task_ids, done=done)
        return not done

    def decide_together(
        self,
        requests: Sequence[IncomingRequest],
        begin: BeginningOnce,
        prepare: Callable[[Decisions], object],
    ) -> Decisions:
        """Decide requests in one transaction; call `prepare` with the decisions meanwhile.

        Raises FailedBefore, DatabaseUnavailable, and what the rulebook raises.
        """
        services = self.services
        overlap = Overlap(begin, prepare)
        add = partial(add_enrollments, clock=services.clock, overlap=overlap)
        attempt = partial(add, services.database, requests)
        return services.retry_policy.or_requeue(lambda: begin.in_any_case(attempt))

    def prepare_to_store(
        self,
        responses: Responses,
        requests: Sequence[IncomingRequest],
        task_ids: Sequence[str],
        generation: str | None,
    ) -> HandOver:
        """Return what copies and stores results, ends the attempts and removes the marks.

        It takes one round trip. `generation` is that of the copies.
        """
        services = self.services

        def before(pipeline: Pipeline) -> None:
            services.cached.add_results(pipeline, generation, responses.stored)
            if services.one_redis:
                services.attempts.add_end(pipeline, task_ids)

        marks = self.marks_of(requests)
        prepared: HandOver = self.backend.prepare_all(responses.results, marks, before)
        return prepared

    def decide_alone(self, queued: QueuedRequest) -> Any:
        """Decide a request alone and return its result, for Celery to store.

        A request that fails too often is isolated, then given up. Raises Reject if its message is
        to be requeued.
        """
        services = self.services
        requests = self.read([queued])
        marks = self.marks_of(requests)
        clock = services.clock
        results: list[tuple[str, Any]] = []

        def alone(prepare: Callable[[Decisions], object]) -> Decisions:
            (incoming,) = requests
            decisions = services.retry_policy.with_fallbacks(
                queued.task_id,
                lambda: add_enrollments(services.database, requests, clock=clock),
                isolate=lambda: isolate_request(services.database, incoming, clock=clock),
                give_up=lambda: give_up_request(
                    services.database, incoming, "it killed its worker", clock=clock
                ),
            )
            prepare(decisions)
            return decisions

        def prepare(responses: Responses) -> HandOver:
            results.extend(responses.results)
            return lambda: services.cached.keep_results(generation, responses.stored, forget=marks)

        generation = self.set_running(requests)
        self.decide([queued], alone, prepare)
        return results[0][1] if results else None

    def read(self, queued: Sequence[QueuedRequest]) -> list[IncomingRequest]:
        """Return the requests of messages, each with the moment in its header."""
        return [
            read_request(message.task_id, message.args, message.kwargs, moment_in(message.headers))
            for message in queued
        ]

    def marks_of(self, requests: Sequence[IncomingRequest]) -> list[str]:
        """Return the keys of the marks of requests."""
        keys = self.services.marks.keys
        return [keys.request(incoming.request_id) for incoming in requests]

    def begin(
        self, task_ids: Sequence[str], requests: Sequence[IncomingRequest]
    ) -> tuple[int, str | None]:
        """Record that requests start.

        Return the most attempts of any, divided by the limit, and the generation of cached results.
        It is one round trip where possible: a lone request waits for each of them.
        """
        services = self.services
        if not services.one_redis:
            generation = self.set_running(requests)
            return services.attempts.begin(task_ids), generation
        add = partial(self.add_start, requests=requests)
        attempts, replies = services.attempts.begin_and(task_ids, add)
        return attempts, self.started(replies)

    def set_running(self, requests: Sequence[IncomingRequest]) -> str | None:
        """Mark requests as running; return the generation of cached results."""
        return self.started(self.services.marks.run(partial(self.add_start, requests=requests)))

    def add_start(self, pipeline: Pipeline, requests: Sequence[IncomingRequest]) -> None:
        """Add to a pipeline the marks of requests that start, and what `started` reads."""
        services = self.services
        services.marks.add_running(pipeline, {r.request_id: r.moment for r in requests})
        services.cached.add_look(pipeline)
        services.clock.add_read(pipeline)

    def started(self, replies: Sequence[Any]) -> str | None:
        """Take the time from the replies to `add_start`; return the generation in them."""
        if len(replies) < 2:  # noqa: PLR2004 - Redis failed
            return None
        *_, generation, now = replies
        self.services.clock.take(now)
        return self.services.cached.generation_in(generation)

    def decide(
        self,
        queued: Sequence[QueuedRequest],
        attempt: Callable[[Callable[[Decisions], object]], Decisions],
        prepare: Callable[[Responses], HandOver],
    ) -> None:
        """Decide requests through `attempt`, hand over the results, and report what happened.

        `attempt` calls its argument with the decisions, perhaps before they are committed.
        """
        hand_over: HandOver = nothing

        def prepare_quietly(decisions: Decisions) -> None:
            nonlocal hand_over
            hand_over = nothing
            with _only_warning():
                hand_over = prepare(responses_of(queued, decisions))

        started = time.perf_counter()
        decisions = attempt(prepare_quietly)
        duration = time.perf_counter() - started
        with _only_warning():
            hand_over()
        task_ids = [message.task_id for message in queued]
        self.services.events.requests_decided(task_ids, decisions, duration)


def responses_of(queued: Sequence[QueuedRequest], decisions: Decisions) -> Responses:
    """Return the responses to requests, of which their messages may ask for none."""
    responses = [
        to_response(decision.result, decisions.courses, decisions.sis_ids)
        for decision in decisions.decided
    ]
    results = [
        (message.task_id, response.model_dump(mode="json"))
        for message, response in zip(queued, responses, strict=True)
        if not message.ignore_result
    ]
    stored = [
        response
        for decision, response in zip(decisions.decided, responses, strict=True)
        if decision.is_new or decision.is_repeat
    ]
    return Responses(results, stored)


@contextmanager
def _only_warning() -> Iterator[None]:
    """Log an error in the block: the results of what is committed are in the database."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - whatever a backend raises
        log.warning("Results could not be sent to their clients; the database has them: %s", error)


def register_requests(app: Celery, services: Services) -> None:
    """Register the task for single requests."""

    @app.task(
        shared=False, name=TaskName.ENROLL.value, bind=True, base=EnrollTask, services=services
    )
    def enroll(task: EnrollTask, /, *args: Any, **kwargs: Any) -> Any:
        request = task.request
        ignore_result = bool(request.ignore_result)
        # Celery puts all headers of the message there.
        queued = QueuedRequest(request.id, args, kwargs, ignore_result, vars(request))
        return task.decide_alone(queued)
