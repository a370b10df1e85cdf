"""Load the fixtures from `support.fixtures`; the modules beside it build what they need."""

import gc
import os
import signal

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("support")
pytest_plugins = [
    "support.fixtures",
    "support.source_files",
    "support.environment",
    "support.groups",
    "support.compiled",
    "support.timeouts",
]

# A shell that runs the tests in the background lets all their processes ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    # So does `nohup` with the end of a terminal. A handler is not inherited: this process goes on.
    signal.signal(signal.SIGHUP, lambda *_: None)

# A loaded machine may take long for one example; `timeout` bounds each test. An example that failed
# once must not be lost: what is printed with it finds it again, on any machine. Each run has other
# examples, unless a failure must be due to what was changed since the run before.
settings.register_profile(
    "tests", deadline=None, print_blob=True, derandomize="SAME_EXAMPLES" in os.environ
)
settings.load_profile("tests")


# What the collection creates stays until the end. Each test process would look for cycles in all of
# it again and again, which takes up to a third of its time.
gc.disable()


def pytest_collection_finish() -> None:
    """Let the garbage collector skip all modules and tests from now on."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 50)
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out the second database of a test that does not depend on it."""
    items[:] = [item for item in items if not _is_repeated(item)]


def _is_repeated(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    parameters = {} if callspec is None else callspec.params
    is_marked = item.get_closest_marker("one_database") is not None
    is_in_memory = "fake" in parameters.get("any_client", "")
    names = ("deployment", "module_deployment", "fresh_deployment")
    is_second = any(parameters.get(name) == "sqlite" for name in names)
    return (is_marked or is_in_memory) and is_second
