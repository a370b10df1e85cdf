"""What is missing can be installed with the command that is shown, wherever the package is from."""

import json
from typing import Any

import pytest

from producer import installation
from producer.installation import how_to_install


class Recorded:
    """A package as pip installed it, with what pip recorded about its source."""

    def __init__(self, text: str | None) -> None:
        self._text = text

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return self._text


WHEEL = "/wheels/enrollment_worker-0.1.0-py3-none-any.whl"
SOURCES: list[tuple[Any, str]] = [
    ({"url": f"file://{WHEEL}", "archive_info": {}}, f"pip install '{WHEEL}[http]'"),
    ({"url": "file:///src", "dir_info": {}}, "pip install '/src[http]'"),
    ({"url": "file:///my%20src", "dir_info": {"editable": True}}, "pip install -e '/my src[http]'"),
]
UNKNOWN: list[Any] = [
    None, {}, [], 7, {"url": None}, {"url": "https://git.example/x.git", "vcs_info": {}},
]  # fmt: skip


@pytest.mark.parametrize(("recorded", "command"), SOURCES)
def test_the_command_names_what_the_package_was_installed_from(
    recorded: Any, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "distribution", lambda _: Recorded(json.dumps(recorded)))
    assert how_to_install("http") == command


@pytest.mark.parametrize("recorded", [json.dumps(one) for one in UNKNOWN] + ["{", "", None])
def test_the_command_names_no_index_if_the_source_is_unknown(
    recorded: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installation, "distribution", lambda _: Recorded(recorded))
    command = how_to_install("http")
    assert "pip install '.[http]' in a checkout" in command
    assert "enrollment-worker" not in command
