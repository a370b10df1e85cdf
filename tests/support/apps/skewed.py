"""The same worker with a clock that is two hours ahead."""

import time

_real_time = time.time
time.time = lambda: _real_time() + 7200

from worker.app import make_app  # noqa: E402
from worker.settings import load_settings  # noqa: E402

app = make_app(load_settings())
