"""The form of the log: one line an event, for people or, as JSON, for machines.

Celery's own lines have the same form. Modules write with the standard library, and what an event
is about goes into `extra`.
"""

import logging
import logging.handlers
import os
import sys
import warnings
from collections.abc import MutableMapping
from typing import Any

import structlog
from billiard import util as billiard_util
from celery import signals
from celery.exceptions import CPendingDeprecationWarning
from structlog.stdlib import ExtraAdder, ProcessorFormatter

from worker.messaging import patches
from worker.plain_text import printable
from worker.settings import LogFormat

_SAID_BY_US = ("celery.worker.strategy", "celery.app.trace")
"""Loggers whose lines about a good task say less than our events, and quote its arguments."""

Event = MutableMapping[str, Any]


def configure(log_format: LogFormat) -> None:
    """Give Celery's process the log's form as soon as it sets up logging."""

    def begin(**_: Any) -> None:
        # Warnings of what Celery checks before it sets up logging have the same form.
        logging.captureWarnings(True)
        setup(logging.WARNING)

    def setup(loglevel: int, logfile: str | None = None, **_: Any) -> None:
        # Watched, so that it may be rotated.
        handler = (
            logging.handlers.WatchedFileHandler(logfile, encoding="utf-8")
            if logfile
            else logging.StreamHandler()
        )
        handler.setFormatter(make_formatter(log_format, colors=not logfile and _in_colors()))
        root = logging.getLogger()
        root.handlers = [handler]
        root.setLevel(loglevel)
        for name in _SAID_BY_US:
            logging.getLogger(name).setLevel(max(loglevel, logging.WARNING))
        # What it says when a worker is asked how its database is.
        logging.getLogger("alembic").setLevel(max(loglevel, logging.WARNING))
        # The pool's own, which says how a process ended; it keeps to itself otherwise.
        pool = billiard_util.get_logger()
        pool.propagate = True
        pool.setLevel(max(loglevel, logging.WARNING))

    def silence(**_: Any) -> None:
        # What a lost connection does to running tasks was decided; see `worker.app.options`.
        warnings.filterwarnings("ignore", "\nIn Celery 5.1", CPendingDeprecationWarning)

    signals.celeryd_after_setup.connect(silence, weak=False)
    signals.celeryd_init.connect(begin, weak=False)
    signals.setup_logging.connect(setup, weak=False)
    if log_format is LogFormat.JSON:
        patches.log_shutdown_messages()


def make_formatter(log_format: LogFormat, *, colors: bool = False) -> logging.Formatter:
    """What makes a line of a record of the standard library."""
    # rich, where it is installed, would print the values of variables.
    plain = structlog.dev.plain_traceback
    text = structlog.dev.ConsoleRenderer(
        colors=colors, exception_formatter=plain, sort_keys=False, pad_event_to=0
    )
    render: list[Any] = (
        [structlog.processors.JSONRenderer(default=repr)]
        if log_format is LogFormat.JSON
        else [_without_control_characters, text]
    )
    return ProcessorFormatter(
        foreign_pre_chain=[
            structlog.stdlib.add_log_level,
            structlog.stdlib.add_logger_name,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            ExtraAdder(),
            structlog.processors.format_exc_info,
            _without_arguments,
        ],
        processors=[ProcessorFormatter.remove_processors_meta, *render],
    )


def _without_arguments(_logger: Any, _method: str, event: Event) -> Event:
    """Celery adds the arguments of a task, with whatever they hold."""
    event.pop("data", None)
    return event


def _without_control_characters(_logger: Any, _method: str, event: Event) -> Event:
    """Nothing that strangers wrote moves a cursor, or looks like a line of its own."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = printable(value, keep="\n" if name == "exception" else "")
    return event


def _in_colors() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")
