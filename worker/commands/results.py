"""Share what commands need that change stored results, because Redis has copies for clients."""

import contextlib
from collections.abc import Callable, Iterator

from redis.exceptions import RedisError

from producer.contract.exit_codes import ExitCode
from producer.contract.keys import Keys
from worker.commands.location import load_command_settings
from worker.commands.session import fail
from worker.messaging.cached import CachedAnswers
from worker.messaging.celery_settings import results_url
from worker.messaging.clock import RedisClock
from worker.moments import Clock


@contextlib.contextmanager
def changing_results() -> Iterator[Callable[[], None]]:
    """Let no copy count while results change; exit if Redis fails.

    Call the yielded function before each transaction of a command that may take long. Raises
    SettingsError, UnusableFolder.
    """
    settings = load_command_settings()
    cached = CachedAnswers(results_url(settings), Keys(settings.key_prefix))
    try:
        with contextlib.closing(cached), cached.closed() as close:
            yield close
    except RedisError as error:
        fail(
            f"The Redis of results (ENROLL_RESULT_BACKEND_URL, or else ENROLL_BROKER_URL) cannot"
            f" be used: {error}. It holds copies of recent results for clients, which must go"
            " before results change. What was done so far stays done; run the command again when"
            " Redis is back, as the user operator (docs/access.md).",
            ExitCode.UNREACHABLE,
        )


def present_clock() -> Clock:
    """Return the clock of the Redis with the marks, as it is now. Raises as `changing_results`."""
    clock = RedisClock(results_url(load_command_settings()))
    clock.read()
    return clock
