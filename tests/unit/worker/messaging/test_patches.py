"""Each patch of another library works, and is still needed.

For each there is one test of what we get with the patch, and one of what the library does without
it: when that fails, the patch can go. Each runs in a process of its own, because a patch stays, and
because it matters what is imported first.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import worker

ROOT = Path(worker.__file__).parent.parent


def run(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run code in a process of its own."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("ENROLL_") and name.upper() != "PROMETHEUS_MULTIPROC_DIR"
    }
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=clean, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


# --- A pool process that stops waits until its last result is read -----------------------------

WAIT_FOR_READER = """
import json, sys, time
from types import SimpleNamespace
from billiard import pool

{patch}

slept = []
time.sleep = slept.append
process = pool.Worker.__new__(pool.Worker)
process.on_ready_counter = SimpleNamespace(value=0)  # Nothing is read any more.
process._ensure_messages_consumed(completed=1)
print(json.dumps(sum(slept)))
"""

APP = """
from celery import signals
from worker.app import make_app
from worker.settings import Settings

make_app(Settings(broker_url="redis://127.0.0.1:1/0", database_url="sqlite:///nowhere.db"))


class OtherWorker:
    app = None


signals.worker_init.send(sender=OtherWorker)
signals.worker_process_init.send(sender=None)
"""


@pytest.mark.parametrize(
    "patch",
    ["from worker.messaging import patches; patches.stop_pool_processes_soon(sender=None)", APP],
    ids=["the patch", "the app's pool processes"],
)
def test_a_pool_process_waits_half_a_second_for_its_last_result_to_be_read(patch: str) -> None:
    seconds = json.loads(run(WAIT_FOR_READER.format(patch=patch)).stdout)
    assert seconds == pytest.approx(0.5)


def test_without_the_patch_a_pool_process_would_wait_half_a_minute() -> None:
    seconds = json.loads(run(WAIT_FOR_READER.format(patch="")).stdout)
    assert seconds == pytest.approx(30)


# --- A pool process that ends ------------------------------------------------------------------

END = """
import json, os, time
from billiard import Process
from celery.concurrency.asynpool import AsynPool
from kombu.asynchronous import Hub

{patch}

def linger():
    # The kernel, too, closes the files of a process before the process has ended.
    os.closerange(3, 256)
    time.sleep(0.5)

process, hub, seen = Process(target=linger), Hub(), []
process.start()
pool = AsynPool.__new__(AsynPool)
pool.maintain_pool = lambda: seen.append(process.exitcode)
pool._track_child_process(process, hub)
while not seen:
    hub.run_once()
try:
    pool._track_child_process(process, hub)  # As after a reconnect.
except ValueError as error:
    seen.append(str(error))
print(json.dumps(seen))
"""


@pytest.mark.parametrize(
    "patch",
    ["from worker.messaging import patches; patches.notice_ended_processes()", APP],
    ids=["the patch", "the app"],
)
def test_a_pool_process_that_ended_is_noticed_at_once_and_survived(patch: str) -> None:
    assert json.loads(run(END.format(patch=patch)).stdout) == [0]


def test_without_the_patch_it_would_be_noticed_later_and_end_the_worker() -> None:
    seen = json.loads(run(END.format(patch="")).stdout)
    assert seen == [None, "file descriptor is None"]


# --- A worker that stops while it writes to a pool process --------------------------------------

STOP_WHILE_WRITING = """
import os, signal, threading
from celery.concurrency.asynpool import AsynPool
from kombu.asynchronous import Hub

{patch}

pool, hub = AsynPool(1, threads=False), Hub()
pool.register_with_event_loop(hub)
(process,) = pool._pool

def give_up(*_):
    print("it waits for ever", flush=True)
    os.kill(process.pid, signal.SIGKILL)
    os._exit(0)

first = pool.apply_async(len, ("",))
while not first.ready():
    hub.run_once()
os.kill(process.pid, signal.SIGSTOP)
done = pool.apply_async(len, (b"more than a pipe holds" * 100_000,))
while not pool._active_writers or not done._write_to:
    hub.run_once()
threading.Timer(0.5, os.kill, (process.pid, signal.SIGCONT)).start()
signal.signal(signal.SIGALRM, give_up)
signal.alarm(5)
pool.close()
pool.join()
print(done.get())
"""


@pytest.mark.parametrize(
    "patch",
    ["from worker.messaging import patches; patches.end_between_messages()", APP],
    ids=["the patch", "the app"],
)
def test_a_worker_that_stops_finishes_what_it_writes(patch: str) -> None:
    assert run(STOP_WHILE_WRITING.format(patch=patch)).stdout == "2200000\n"


def test_without_the_patch_it_would_wait_for_ever() -> None:
    assert run(STOP_WHILE_WRITING.format(patch="")).stdout == "it waits for ever\n"


# --- What Celery says when it is told to stop --------------------------------------------------

STOP = """
import logging, os, signal, sys
from types import SimpleNamespace
from celery.apps import worker
from worker.messaging import patches

logging.basicConfig(level="INFO", format="log: %(message)s", stream=sys.stdout)
if sys.argv[1] == "patched":
    patches.log_shutdown_messages()
if sys.argv[1] == "json":
    from worker.monitoring import logs
    logs.configure(logs.LogFormat.JSON)
worker.{install}(SimpleNamespace(hostname="here"))
os.kill(os.getpid(), signal.{number})
"""

SIGNALS = pytest.mark.parametrize(
    ("install", "number", "text"),
    [
        ("install_worker_term_handler", "SIGTERM", "worker: Warm shutdown (MainProcess)"),
        ("install_worker_int_handler", "SIGINT", "worker: Hitting Ctrl+C again"),
    ],
)


@SIGNALS
@pytest.mark.parametrize("how", ["patched", "json"])
def test_celerys_shutdown_message_goes_through_the_log(
    install: str, number: str, text: str, how: str
) -> None:
    done = run(STOP.format(install=install, number=number), how)
    lines = done.stdout.splitlines()
    assert lines
    assert lines[0].startswith(f"log: {text}")
    assert [line for line in (lines + done.stderr.splitlines()) if "log: " not in line] == []


@SIGNALS
def test_without_the_patch_the_stop_message_bypasses_the_log(
    install: str, number: str, text: str
) -> None:
    done = run(STOP.format(install=install, number=number), "as it is")
    assert (done.stdout + done.stderr).lstrip().startswith(text)
    assert "log: worker:" not in done.stdout


# --- Numbers of all processes ------------------------------------------------------------------

COUNT = """
import json, os, sys, tempfile
import prometheus_client  # As Flower does, before we can set the variable.
from pathlib import Path
from worker.messaging import patches

folder = tempfile.mkdtemp(dir=sys.argv[2])
os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
if sys.argv[1] == "patched":
    patches.count_in_all_processes()
if sys.argv[1] == "metrics":
    from worker.monitoring.metrics import FOLDER, Metrics
    Metrics(served=True).recovered.inc()
    folder = os.environ[FOLDER]
else:
    prometheus_client.Counter("things", "Things.").inc()
print(json.dumps(sorted(path.suffix for path in Path(folder).iterdir())))
"""


def files_of_numbers(how: str, folder: Path) -> Any:
    return json.loads(run(COUNT, how, str(folder)).stdout)


@pytest.mark.parametrize("how", ["patched", "metrics"])
def test_numbers_are_stored_in_files_even_if_prometheus_was_imported_before(
    how: str, tmp_path: Path
) -> None:
    assert ".db" in files_of_numbers(how, tmp_path)


def test_without_the_patch_numbers_would_be_stored_in_each_process(tmp_path: Path) -> None:
    assert files_of_numbers("as it is", tmp_path) == []
