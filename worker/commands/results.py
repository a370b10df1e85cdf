"""Share what commands need that change stored results, because Redis has copies for clients."""

import contextlib
from collections.abc import Callable, Iterator

from redis.exceptions import RedisError

from producer.contract.keys import Keys
from worker.commands.session import UNREACHABLE, fail
from worker.messaging.cached import CachedAnswers
from worker.messaging.celery_settings import results_url
from worker.settings import load_settings


@contextlib.contextmanager
def changing_results() -> Iterator[Callable[[], None]]:
    """Let no copy count while results change; exit if Redis fails. Raises SettingsError.

    Call the yielded function before each transaction of a command that may take long.
    """
    settings = load_settings()
    cached = CachedAnswers(results_url(settings), Keys(settings.key_prefix))
    try:
        with cached.closed() as close:
            yield close
    except RedisError as error:
        fail(
            f"The Redis of results (ENROLL_RESULT_BACKEND_URL, or else ENROLL_BROKER_URL) cannot"
            f" be used: {error}. It holds copies of recent results for clients, which must go"
            " before results change. What was done so far stays done; run the command again when"
            " Redis is back, as the user operator (docs/access.md).",
            UNREACHABLE,
        )
