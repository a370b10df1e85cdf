"""A client is a guest: in a process with another Celery app, it changes nothing of the host's."""

import json
import sys
from pathlib import Path

import pytest
from redis import Redis

from producer.contract.keys import Keys
from support.commands import clean_environment, run_program
from support.workers import Deployment

pytestmark = pytest.mark.one_database

HOST = """
import json, logging, os, signal, sys, threading
import celery
from celery import Celery, _state, current_app, shared_task, signals
from kombu import pools

host = Celery("host", backend="cache+memory://")
{become}
host.pool  # Its pools have the size that the host chose.

@shared_task
def shared():
    return 1

@host.task
def calls_the_client():
    with EnrollmentClient(os.environ["GIVEN"], timeout=30) as inner:
        return inner.enroll({{"student_id": "S", "course_ids": ["C"]}}).status

published = []
signals.before_task_publish.connect(lambda **given: published.append(given["sender"]), weak=False)

def seen():
    return [
        current_app._get_current_object() is host,
        _state.default_app is host if {is_default} else None,
        repr(sorted(map(str, host.conf.without_defaults().items()))),
        host.conf.broker_url, host.conf.task_default_queue, pools.get_limit(), host.pool.limit,
        len(pools.connections), len(pools.producers),
        sorted(name for name in host.tasks if not name.startswith("celery.")),
        [logging.getLogger(name).handlers for name in (None, "celery", "kombu", "redis")],
        [logging.getLogger(name).level for name in (None, "celery", "kombu", "redis")],
        logging.root.manager.disable,
        [signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)],
        sys.path, sys.excepthook, threading.excepthook,
        {{name: len(getattr(signals, name).receivers or ()) for name in dir(signals)
          if hasattr(getattr(signals, name), "receivers")}},
        "celery.fixups.django" in sys.modules,
    ]

before = seen()
from producer.client import EnrollmentClient

client = EnrollmentClient(os.environ["GIVEN"], timeout=30)
result = client.enroll({{"student_id": "S", "course_ids": ["C"]}})
status = client.wait(client.submit_batch("students", [{{"sis_id": "S9"}}]), timeout=60)
assert client.status(result.request_id).state == "done"
assert status.state == "done"
assert seen() == before, [pair for pair in zip(before, seen()) if pair[0] != pair[1]]

# The host's own tasks still run where they did, also those that use the client.
host.conf.task_always_eager = True
eager = calls_the_client.delay()
assert eager.get() == "rejected" and eager.children in (None, []), eager.children
assert shared.delay().get() == 1
host.conf.task_always_eager = False
with host.connection_for_write() as connection:
    host.send_task("hosts.task")
    queue = connection.SimpleQueue("hosts-queue")
    assert queue.get(timeout=60).headers["task"] == "hosts.task"
client.close()
host.send_task("hosts.task")
print(json.dumps(published))
"""

BECOME = {
    "current": "host.set_current()",
    "default": "host.set_default()",
    "both": "host.set_default(); host.set_current()",
}

CONFIGURATION = """
broker_pool_limit = 50
task_default_queue = "hosts-queue"
task_send_sent_event = True
broker_transport_options = {"global_keyprefix": "host:"}
"""


@pytest.mark.parametrize("become", BECOME)
def test_another_app_stays_as_it_was(deployment: Deployment, become: str, tmp_path: Path) -> None:
    (tmp_path / "host_config.py").write_text(CONFIGURATION)
    environment = clean_environment() | {
        "PYTHONPATH": str(tmp_path),
        "CELERY_CONFIG_MODULE": "host_config",
        "CELERY_BROKER_URL": "memory://",
        "CELERY_BROKER_READ_URL": "memory://",
        "CELERY_BROKER_WRITE_URL": "memory://",
        "GIVEN": deployment.broker_url,
    }
    code = HOST.format(become=BECOME[become], is_default=become != "current")
    done = run_program(sys.executable, "-c", code, env=environment)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert json.loads(done.stdout).count("hosts.task") == 2


DJANGO = """
import os, sys
from celery import _state, current_app
from producer.client import EnrollmentClient

path = list(sys.path)
with EnrollmentClient(os.environ["GIVEN"], timeout=30) as client:
    client.submit({"student_id": 1, "course_ids": [1]})
assert _state.default_app is None and _state._tls.current_app is None
assert sys.path == path
"""


def test_a_client_in_a_process_of_django_is_not_made_its_app(
    broker_url: str, tmp_path: Path
) -> None:
    """Celery makes the first app of such a process the default one and loads Django for it."""
    (tmp_path / "django").mkdir()
    (tmp_path / "django/__init__.py").write_text("VERSION = (5, 2)")
    (tmp_path / "django/conf.py").write_text("raise AssertionError('Django must not be loaded')")
    environment = clean_environment() | {
        "DJANGO_SETTINGS_MODULE": "site.settings",
        "PYTHONPATH": str(tmp_path),
        "GIVEN": broker_url,
    }
    done = run_program(sys.executable, "-c", DJANGO, env=environment)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    with Redis.from_url(broker_url) as redis:
        assert redis.llen(Keys().queue("enrollments")) == 1
