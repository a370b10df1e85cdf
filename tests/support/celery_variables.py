"""The variables of Celery, as a deployment that has a Celery app of its own sets them."""

from pathlib import Path

from support.valkey import free_port

CONFIGURATION = """
broker_url = {url!r}
broker_read_url = {url!r}
broker_write_url = {url!r}
result_backend = {url!r}
broker_transport_options = {{"global_keyprefix": "elsewhere:", "socket_timeout": 0.1}}
task_always_eager = True
task_default_queue = "elsewhere"
task_routes = {{"*": {{"queue": "elsewhere"}}}}
task_serializer = "pickle"
"""

LOADER = """
from celery.loaders.app import AppLoader

class Loader(AppLoader):
    def read_configuration(self, *args, **options):
        return {{"broker_url": {url!r}, "result_backend": {url!r}}}
"""


def celery_variables(url: str, folder: Path) -> dict[str, str]:
    """Return every variable that may lead a Celery app to another broker, with modules for them."""
    folder.mkdir(exist_ok=True)
    (folder / "elsewhere_config.py").write_text(CONFIGURATION.format(url=url))
    (folder / "elsewhere_loader.py").write_text(LOADER.format(url=url))
    return {
        "CELERY_BROKER_URL": url,
        "CELERY_BROKER_READ_URL": url,
        "CELERY_BROKER_WRITE_URL": url,
        "CELERY_RESULT_BACKEND": url,
        "CELERY_RESULT_BACKEND_URL": url,
        "CELERY_CONFIG_MODULE": "elsewhere_config",
        "CELERY_LOADER": "elsewhere_loader:Loader",
        "CELERY_TASK_ALWAYS_EAGER": "1",
        "CELERY_TASK_DEFAULT_QUEUE": "elsewhere",
        "CELERY_BROKER_TRANSPORT_OPTIONS": '{"global_keyprefix": "elsewhere:"}',
        "BROKER_URL": url,
        "REDIS_URL": url,
        "PYTHONPATH": str(folder),
    }


def dead_url() -> str:
    """Return the URL of a Redis that is not there."""
    return f"redis://127.0.0.1:{free_port()}/0"
