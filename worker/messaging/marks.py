"""What submitters left in Redis about requests and batches that are not finished yet."""

import logging
from collections.abc import Callable, Sequence

from pydantic import ValidationError
from redis import Redis
from redis.exceptions import RedisError

from producer.contract.marks import MARK_SECONDS, AgedMark, SubmissionMark, batch_key, request_key

log = logging.getLogger(__name__)


class SubmissionMarks:
    """Reads and updates submissions. Connects at first use; the pool notices a fork."""

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

    def running(self, request_id: str) -> None:
        """A worker has begun with a request."""
        running = SubmissionMark(state="running").model_dump_json()
        self._hint(lambda redis: redis.set(request_key(request_id), running, ex=MARK_SECONDS))

    def forget(self, request_ids: Sequence[str]) -> None:
        """The outcomes are committed, and SQL tells; or nothing came that could be understood."""
        self._hint(lambda redis: redis.unlink(*map(request_key, request_ids)))

    def _hint(self, write: Callable[[Redis], object]) -> None:
        """The work goes on without the hint when Redis does not take it."""
        try:
            write(self._redis)
        except RedisError as error:
            log.warning("The progress of a request could not be noted: %s", error)
