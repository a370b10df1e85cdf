"""Say when a lookup that has no answer yet is sent again."""

import math

from producer.contract.routing import TaskName


def repeat_after(task: TaskName, timeout: float) -> float:
    """Return after how many seconds a lookup is sent again while its client waits for `timeout`.

    The first message may have been purged, or lost in a failover of Redis. Only the dry run of an
    undo is never sent again: of a large batch it takes so long that the first one would still hold
    the locks that the second one needs. The second one would fail, and its client be told so.
    """
    return math.inf if task is TaskName.REHEARSE_UNDO else timeout / 2
