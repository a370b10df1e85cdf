"""Load the fixtures from `support.fixtures`; the modules beside it build what they need."""

import signal

import pytest

pytest.register_assert_rewrite("support")
pytest_plugins = ["support.fixtures", "support.source_files", "support.environment"]

# A shell that runs the tests in the background lets all their processes ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
