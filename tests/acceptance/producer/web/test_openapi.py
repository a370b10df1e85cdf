"""Every response of the HTTP front follows its own OpenAPI document (schemathesis)."""

from pathlib import Path

import pytest

from support.commands import run_program
from support.http import serving
from support.paths import BIN
from support.workers import Deployment

pytestmark = pytest.mark.one_database

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)


@pytest.mark.timeout(150)
def test_every_response_follows_the_openapi_document(
    deployment: Deployment, tmp_path: Path
) -> None:
    with serving(deployment.environment, tmp_path / "log") as (url, _):
        done = run_program(
            *(BIN / "schemathesis", "run"),
            *(f"{url}/openapi.json", "--checks", ",".join(CHECKS)),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "10"),
            *("--suppress-health-check", "all", "--no-color"),
            cwd=tmp_path,
        )
    print(done.stdout[-600:])
    assert done.returncode == 0, done.stdout[-8000:]
