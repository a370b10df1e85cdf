"""Define a Celery app that has only the settings that it is given, wherever it runs.

Celery itself prefers what it finds in the environment: URLs in `CELERY_BROKER_URL` and its
siblings, a module of settings, a loader, and Django. A process in which our app is a guest has
these for its own app.
"""

from typing import Any

from celery import Celery
from celery.app.utils import Settings
from celery.loaders.app import AppLoader

LOADER = "producer.contract.own_celery:GivenLoader"
"""Celery takes the name of a loader, not the class."""


class GivenLoader(AppLoader):  # type: ignore[misc]
    """A loader that does not read the module that `CELERY_CONFIG_MODULE` names."""

    def read_configuration(self, *_: Any, **__: Any) -> dict[str, Any]:
        """Return no settings; the app has its own."""
        return {}


class GivenSettings(Settings):  # type: ignore[misc]
    """Settings whose URLs are the given ones, for reading and for writing."""

    @property
    def broker_url(self) -> Any:
        return self.first("broker_url")

    @property
    def broker_read_url(self) -> Any:
        return self.broker_url

    @property
    def broker_write_url(self) -> Any:
        return self.broker_url

    @property
    def result_backend(self) -> Any:
        return self.first("result_backend")


class OwnCelery(Celery):  # type: ignore[misc]
    """A Celery app that neither reads the settings of another app nor becomes the current one."""

    def __init__(self, name: str, **options: Any) -> None:
        # Celery's fix-ups for Django would make this app the default one.
        own = {"loader": LOADER, "fixups": [], "set_as_current": False}
        super().__init__(name, **{**options, **own})

    def on_init(self) -> None:
        """Replace the class of the settings; Celery has no option for it."""
        # Not by an assignment, which would store a setting of this name.
        object.__setattr__(self._conf, "__class__", GivenSettings)
