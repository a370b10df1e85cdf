"""A real HTTP front."""

import contextlib
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx

from support.prepared import Prepared
from support.valkey import free_port
from support.waiting import wait_for

NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For calls in a loop (`verify=NO_TLS`): else each reads all certificates, for 20 ms of CPU."""


@contextlib.contextmanager
def serving(environment: dict[str, str], log: Path, *arguments: str) -> Iterator[Any]:
    """`enroll serve`, ready to answer; gives its address and process."""
    port = free_port()
    command = ["-m", "producer", "serve", "--port", str(port), *arguments]
    environment = environment | {"XDG_STATE_HOME": str(log.parent / "state")}
    with log.open("ab") as output:
        process = Prepared(command, env=environment, cwd=log.parent, stdout=output, stderr=output)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_for(lambda: _answers(url, process, log))
        yield url, process
    finally:
        process.terminate()
        process.wait(60)


def _answers(url: str, process: "subprocess.Popen[bytes]", log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{url}/health/live", verify=NO_TLS).status_code == 200
    return False
