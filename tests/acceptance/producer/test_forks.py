"""A client that was used before a fork works in the parent and in every child."""

import json
import os
import sys
import uuid

import pytest

from producer.client import EnrollmentClient
from support.commands import clean_environment, run_program
from support.rosters import enter_roster
from support.workers import Deployment

pytestmark = pytest.mark.one_database

PROGRAM = """
import billiard, json, multiprocessing, os, sys, threading, traceback
from producer.client import EnrollmentClient

HOW, URL, NAMES, COURSE = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), sys.argv[4]
FORKS = {"multiprocessing": multiprocessing.get_context("fork"), "billiard": billiard}
client = EnrollmentClient(URL, timeout=30)
stop = threading.Event()
problems = []

def use(names, rounds):
    '''Enroll students, each of whom must get the reply for this very student.'''
    for number in range(rounds):
        for name in names:
            result = client.enroll({"student_id": name, "course_ids": [COURSE]})
            assert result.student_sis_id == name, (result, name)
            assert client.status(result.request_id).result == result
            assert client.student(name).sis_id == name
            assert client.submit({"student_id": name, "course_ids": [COURSE]})
        if stop.is_set():
            return

def reported(work, *arguments):
    try:
        work(*arguments)
    except BaseException:
        problems.append(traceback.format_exc())

def child(name):
    problems.clear()
    threads = [threading.Thread(target=reported, args=(use, [name], 3)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if name.endswith("even"):
        client.close()
    print(*problems, file=sys.stderr, end="", flush=True)
    return len(problems)

use(NAMES[:1], 1)  # Used before the fork, so that there are connections to inherit.
busy = [threading.Thread(target=reported, args=(use, [name], 10_000)) for name in NAMES[:2]]
for thread in busy:
    thread.start()
codes = []
if HOW == "os.fork":
    for name in NAMES[2:]:
        if not (pid := os.fork()):
            code = child(name)
            if name.endswith("even"):
                sys.exit(code)  # Finalizers run, as in a script.
            os._exit(code)
        codes.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in codes]
else:
    started = [
        FORKS[HOW].Process(target=lambda name: sys.exit(child(name)), args=(name,))
        for name in NAMES[2:]
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
    codes = [process.exitcode for process in started]
stop.set()
for thread in busy:
    thread.join()
use(NAMES[:1], 1)
client.close()
print(json.dumps([codes, problems]))
"""


@pytest.mark.parametrize("how", ["os.fork", "multiprocessing", "billiard"])
def test_parent_and_children_get_their_own_replies(
    deployment: Deployment, client: EnrollmentClient, how: str
) -> None:
    names = [f"S-{uuid.uuid4()}-{kind}" for kind in ("a", "b", "even", "odd", "even")]
    course = f"C-{uuid.uuid4()}"
    enter_roster(client, names, [course])
    done = run_program(
        *(sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM),
        *(how, deployment.broker_url, json.dumps(names), course),
        env=clean_environment(),
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [[0, 0, 0], []]


def test_a_child_that_ends_takes_no_connection_of_its_parent_along(
    client: EnrollmentClient,
) -> None:
    enter_roster(client, ["S-fork"], ["C-fork"])
    connections = client._connection._redis.connection_pool  # noqa: SLF001
    before = connections._available_connections[0]._sock  # noqa: SLF001
    if not os.fork():
        code = 1
        try:
            code = 0 if client.student("S-fork") else 1
            client.close()
        finally:
            os._exit(code)
    _, status = os.wait()
    assert os.waitstatus_to_exitcode(status) == 0
    assert client.student("S-fork") is not None
    assert any(c._sock is before for c in connections._available_connections)  # noqa: SLF001
