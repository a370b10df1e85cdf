"""Read and write the marks that tell `queued` and `running` from `unknown`."""

import logging
from collections.abc import Callable, Iterable, Sequence

from pydantic import ValidationError
from redis import Redis
from redis.exceptions import RedisError

from producer.contract.marks import (
    MARK_SECONDS,
    AgedMark,
    MarkState,
    SubmissionMark,
    batch_key,
    request_key,
)

log = logging.getLogger(__name__)


_RUNNING = SubmissionMark(state=MarkState.RUNNING).model_dump_json()


class SubmissionMarks:
    """The marks in Redis. Connects at first use; the pool notices a fork."""

    def __init__(self, result_backend_url: str) -> None:
        self._redis = Redis.from_url(
            result_backend_url, socket_timeout=10, socket_connect_timeout=3
        )

    def of_requests(self, request_ids: Sequence[str]) -> dict[str, AgedMark]:
        """What is known, by request id. Raises RedisError: silence would say `unknown`."""
        return self._find(request_ids, request_key)

    def of_batches(self, batch_ids: Sequence[str]) -> dict[str, AgedMark]:
        """What is known, by batch id. Raises RedisError: silence would say `unknown`."""
        return self._find(batch_ids, batch_key)

    def _find(self, identities: Sequence[str], key: Callable[[str], str]) -> dict[str, AgedMark]:
        keys = list(map(key, identities))
        with self._redis.pipeline(transaction=False) as pipeline:
            for name in keys:
                pipeline.get(name)
                pipeline.pttl(name)
            answers = pipeline.execute()
        found = {}
        for identity, text, left in zip(identities, answers[::2], answers[1::2], strict=True):
            try:
                if text is not None:
                    # Redis counts the time, so that no two clocks need to agree.
                    age = max(0.0, MARK_SECONDS - left / 1000)
                    # A newer submitter may have more to say.
                    left_by = SubmissionMark.model_validate_json(text, extra="ignore")
                    found[identity] = AgedMark(left_by, age)
            except ValidationError:
                log.warning("The submission of %r cannot be read and is ignored", identity)
        return found

    def set_running(self, keys: Iterable[str]) -> None:
        """Mark requests as running, by the keys of their marks.

        Only logs what Redis does not take: the work goes on.
        """
        try:
            with self._redis.pipeline(transaction=False) as pipeline:
                for key in keys:
                    pipeline.set(key, _RUNNING, ex=MARK_SECONDS)
                pipeline.execute()
        except RedisError as error:
            log.warning("Requests could not be marked as running: %s", error)

    def remove(self, keys: Iterable[str]) -> None:
        """Remove marks by their keys. Only logs what Redis does not take."""
        try:
            self._redis.unlink(*keys)
        except RedisError as error:
            log.warning("The marks of requests could not be removed: %s", error)
