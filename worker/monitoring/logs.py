"""Format the log: one line for each event, as text for people or as JSON for machines.

Celery's own lines have the same format. Modules log with the standard library and pass the fields
of an event in `extra`.
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

from producer.contract.printable import printable
from worker.messaging import patches
from worker.settings import LogFormat

_REDUNDANT_LOGGERS = ("celery.worker.strategy", "celery.app.trace")
"""Loggers whose lines about successful tasks say less than our events, and quote arguments."""

Event = MutableMapping[str, Any]


def configure(log_format: LogFormat) -> None:
    """Make Celery's processes use this log format as soon as they set up logging."""

    def begin(**_: Any) -> None:
        # Celery warns about some things before it sets up logging; format these lines as well.
        logging.captureWarnings(True)
        setup(logging.WARNING)

    def setup(loglevel: int, logfile: str | None = None, **_: Any) -> None:
        # A watched file is reopened after it has been rotated.
        handler = (
            logging.handlers.WatchedFileHandler(logfile, encoding="utf-8")
            if logfile
            else logging.StreamHandler()
        )
        handler.setFormatter(make_formatter(log_format, colors=not logfile and _in_colors()))
        root = logging.getLogger()
        root.handlers = [handler]
        root.setLevel(loglevel)
        for name in _REDUNDANT_LOGGERS:
            logging.getLogger(name).setLevel(max(loglevel, logging.WARNING))
        # Alembic logs lines of its own each time a worker is asked for its health.
        logging.getLogger("alembic").setLevel(max(loglevel, logging.WARNING))
        # The pool's logger reports how a process ended; by default it does not propagate.
        pool = billiard_util.get_logger()
        pool.propagate = True
        pool.setLevel(max(loglevel, logging.WARNING))

    def silence(**_: Any) -> None:
        # We chose what happens to running tasks when the connection is lost; see
        # `worker.messaging.celery_settings`.
        warnings.filterwarnings("ignore", "\nIn Celery 5.1", CPendingDeprecationWarning)

    signals.celeryd_after_setup.connect(silence, weak=False)
    signals.celeryd_init.connect(begin, weak=False)
    signals.setup_logging.connect(setup, weak=False)
    if log_format is LogFormat.JSON:
        patches.log_shutdown_messages()


def make_formatter(log_format: LogFormat, *, colors: bool = False) -> logging.Formatter:
    """Return the formatter that turns a record of the standard library into a line."""
    # If rich is installed, structlog would print local variables, which may hold secrets.
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
    """Remove the arguments of a task, which Celery adds and which may hold personal data."""
    event.pop("data", None)
    return event


def _without_control_characters(_logger: Any, _method: str, event: Event) -> Event:
    """Escape control characters: a client's text must not move a cursor or fake a log line."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = printable(value, keep="\n" if name == "exception" else "")
    return event


def _in_colors() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")
