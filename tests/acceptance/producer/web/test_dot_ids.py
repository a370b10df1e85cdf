"""The ids . and .. are found percent-encoded through the server and real HTTP clients."""

import json
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from producer.client import EnrollmentClient
from producer.schemas import Kind
from support.http import serving
from support.requirements import require_program
from support.workers import Deployment

pytestmark = pytest.mark.one_database


def by_curl(url: str) -> str:
    require_program("curl")
    done = subprocess.run(["curl", "-s", url], capture_output=True, text=True, timeout=30)  # noqa: S607, PLW1510
    return done.stdout


def by_urllib(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as response:  # noqa: S310 - our own address
        return str(response.read(), "utf-8")


def by_httpx(url: str) -> str:
    return httpx.get(url, timeout=30).text


def test_ids_of_dots_are_found_percent_encoded(deployment: Deployment, tmp_path: Path) -> None:
    calls: tuple[Callable[[str], str], ...] = (by_httpx, by_urllib, by_curl)
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        for own_id in (".", ".."):
            client.submit_batch(Kind.COURSES, [{"sis_id": "dots"}], batch_id=own_id)
    with serving(deployment.environment, tmp_path / "log") as (url, _):
        for own_id, encoded in ((".", "%2E"), ("..", "%2E%2E")):
            for call in calls:
                assert json.loads(call(f"{url}/batches/{encoded}"))["batch_id"] == own_id
