"""`enroll doctor` tries every kind of lookup, or says why not."""

from producer.commands.checks.lookups import LOOKUPS, UNTRIED, check_lookups
from producer.contract.routing import TASK_QUEUES, Queue
from producer.testing import FakeEnrollmentClient


def test_every_kind_of_lookup_is_tried_or_left_out_on_purpose() -> None:
    kinds = {task for task, queue in TASK_QUEUES.items() if queue is Queue.LOOKUPS}
    assert LOOKUPS.keys() | UNTRIED == kinds
    assert LOOKUPS.keys().isdisjoint(UNTRIED)


def test_every_kind_that_is_tried_answers_although_nothing_has_the_id() -> None:
    with FakeEnrollmentClient(timeout=1) as client:
        findings = list(check_lookups(client))
    assert findings[0].state == "ok"
    assert f"{len(LOOKUPS)} kinds answered" in findings[0].found
