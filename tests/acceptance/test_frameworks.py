"""The programs of docs/frameworks.md run: a script, FastAPI, Django, and another Celery app."""

import asyncio
import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from celery import Celery

from producer.client import EnrollmentClient
from support.commands import run_program
from support.requirements import report_missing
from support.rosters import enter_roster
from support.transcripts import blocks
from support.valkey import running_valkey
from support.workers import Deployment, ended_after

pytestmark = pytest.mark.one_database

PAGE = "docs/frameworks.md"


def program(beginning: str) -> str:
    """Return the only program of the page with this text."""
    (found,) = (block for block in blocks(PAGE, "python") if beginning in block)
    return found


@pytest.fixture(autouse=True)
def roster(client: EnrollmentClient) -> None:
    enter_roster(client, [f"S{n}" for n in range(1, 1001)], ["ALG-1"])


@pytest.fixture(autouse=True)
def broker(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENROLL_BROKER_URL", deployment.broker_url)


def test_the_script_for_asyncio_runs(deployment: Deployment) -> None:
    code = program("asyncio.run(main())")
    done = run_program(sys.executable, "-W", "error", "-c", code, env=deployment.environment)
    assert (done.stdout, done.stderr) == ("1000 enrolled\n", "")


def test_the_program_for_fastapi_runs() -> None:
    module: dict[str, Any] = {}
    exec(program("FastAPI("), module)  # noqa: S102
    app = module["app"]

    async def post() -> list[Any]:
        transport = httpx.ASGITransport(app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            calls = (client.post(f"/students/{name}/courses/ALG-1") for name in ("S1", "nobody"))
            return [response.json() for response in await asyncio.gather(*calls)]

    enrolled, refused = asyncio.run(post())
    assert (enrolled["status"], enrolled["student_sis_id"]) == ("enrolled", "S1")
    assert refused["errors"][0]["code"] == "unknown_student"


DJANGO = """
from django.conf import settings
settings.configure(ROOT_URLCONF="urls", ALLOWED_HOSTS=["*"])
import django, logging
django.setup()
from django.test import Client
response = Client().post("/students/S2/courses/ALG-1")
print(response.status_code, response.json()["status"])
print(Client().get("/students/S2/courses/ALG-1").status_code)
"""


def test_the_program_for_django_runs(deployment: Deployment, tmp_path: Path) -> None:
    if importlib.util.find_spec("django") is None:
        report_missing("Django is not installed: pip install django.")
    (tmp_path / "urls.py").write_text(program("from django"))
    environment = deployment.environment | {"PYTHONPATH": str(tmp_path)}
    done = run_program(sys.executable, "-c", DJANGO, env=environment, cwd=tmp_path)
    assert done.stdout == "200 enrolled\n405\n", done.stderr


def test_the_program_for_celery_runs_beside_our_worker(
    deployment: Deployment, tmp_path: Path
) -> None:
    (tmp_path / "registrar.py").write_text(program("from celery import"))
    with running_valkey(tmp_path / "valkey") as server:
        url = f"{server.connection_url}/0"
        environment = deployment.environment | {
            "REGISTRAR_BROKER": url,
            "PYTHONPATH": str(tmp_path),
        }
        command = (sys.executable, "-m", "celery", "-A", "registrar", "worker", "-c", "2")
        worker = subprocess.Popen(
            command,
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        with ended_after(worker), Celery(broker=url, backend=url, set_as_current=False) as app:
            sent = [app.send_task("registrar.enroll", [f"S{n}", ["ALG-1"]]) for n in (3, 4, 5)]
            results = [one.get(timeout=60) for one in sent]
    assert {result["status"] for result in results} == {"enrolled"}
    assert [result["request_id"] for result in results] == [one.id for one in sent]
