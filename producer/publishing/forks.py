"""Let the child of a fork use a client, whatever the threads of its parent were doing.

These threads do not exist in the child, but the locks that they held at that moment do, and they
would never be released.
"""

import os
import sys
import threading
from collections.abc import Iterator
from typing import Protocol
from weakref import WeakSet

from kombu.utils.objects import cached_property


class ForkAware(Protocol):
    """An object that holds locks, or connections that only one process may use."""

    def after_fork(self) -> None:
        """Replace the locks in the child, before any of its threads can wait for one."""


_objects: "WeakSet[ForkAware]" = WeakSet()


def renew_after_fork(fork_aware: ForkAware) -> None:
    """Call `after_fork` of an object in every child that is forked while the object exists."""
    _objects.add(fork_aware)


def _renew_all() -> None:
    for fork_aware in list(_objects):
        fork_aware.after_fork()
    if _objects:
        for each in _cached_properties():
            each.lock = threading.RLock()


def _cached_properties() -> Iterator[cached_property]:
    """Yield the properties of Celery and kombu: all objects of a class share the lock of one.

    Each reading of such a property takes the lock, and a publish reads several.
    """
    for name, module in list(sys.modules.items()):
        if module is not None and name.partition(".")[0] in ("celery", "kombu"):
            # Not `isinstance`, for which a proxy of Celery would look at its object.
            for defined in [v for v in vars(module).values() if issubclass(type(v), type)]:
                if defined.__module__ == name:
                    yield from (v for v in vars(defined).values() if isinstance(v, cached_property))


if hasattr(os, "register_at_fork"):  # There are no forks on Windows.
    os.register_at_fork(after_in_child=_renew_all)
