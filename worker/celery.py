"""Make the app for `celery -A worker`: the only module that reads the environment on import."""

import gc

# Imports create many objects and next to no garbage; looking for it takes a fifth of the start.
gc.disable()

from worker.app import make_app  # noqa: E402
from worker.settings import SettingsError, load_settings  # noqa: E402

try:
    app = make_app(load_settings())
except SettingsError as error:
    raise SystemExit(str(error)) from None
finally:
    # What was imported stays; the pool processes share its memory, which a collection would copy.
    gc.freeze()
    gc.enable()
