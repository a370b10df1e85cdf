"""Make the app for `celery -A worker`: the only module that reads the environment on import."""

from worker.app import make_app
from worker.settings import SettingsError, load_settings

try:
    app = make_app(load_settings())
except SettingsError as error:
    raise SystemExit(str(error)) from None
