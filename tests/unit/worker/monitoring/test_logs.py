"""The form of the log."""

import json
import logging
import sys

from worker.monitoring.logs import make_formatter
from worker.settings import LogFormat


def record(text: str, **extra: object) -> logging.LogRecord:
    return logging.getLogger("a.logger").makeRecord(
        "a.logger", logging.WARNING, __file__, 1, text, (), None, extra=extra
    )


def failed_record() -> logging.LogRecord:
    secret = "no number, in a variable"  # noqa: S105 - a text that no line may show
    error = None
    try:
        int(secret[:2])
    except ValueError:
        error = sys.exc_info()
    return logging.getLogger("a.logger").makeRecord(
        "a.logger", logging.ERROR, __file__, 1, "task failed", (), error
    )


def test_a_json_event_is_one_object_with_its_fields() -> None:
    line = make_formatter(LogFormat.JSON).format(record("said", request_id="r1", duration=0.25))
    entry = json.loads(line)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {
        "event": "said",
        "level": "warning",
        "logger": "a.logger",
        "request_id": "r1",
        "duration": 0.25,
    }


def test_a_text_event_is_one_line() -> None:
    line = make_formatter(LogFormat.TEXT).format(record("said", request_id="r1", duration=0.25))
    assert line.endswith("[warning  ] said [a.logger] request_id=r1 duration=0.25")


def test_a_json_error_is_one_line_without_the_values_of_variables() -> None:
    line = make_formatter(LogFormat.JSON).format(failed_record())
    assert "\n" not in line
    assert "ValueError" in json.loads(line)["exception"]
    assert "in a variable" not in line


def test_a_text_error_has_no_values_of_variables() -> None:
    text = make_formatter(LogFormat.TEXT).format(failed_record())
    assert "ValueError" in text
    assert "in a variable" not in text


def test_control_characters_and_line_breaks_are_escaped() -> None:
    nasty = "good\n2026-01-01 [info] forged \x1b[2J"
    for log_format in LogFormat:
        line = make_formatter(log_format).format(record(nasty, why=nasty))
        assert not {"\n", "\x1b"} & set(line)


def test_the_arguments_that_celery_adds_are_left_out() -> None:
    line = make_formatter(LogFormat.JSON).format(record("said", data={"args": "Ada Example"}))
    assert "Ada" not in line
