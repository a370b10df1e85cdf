"""The same worker, but all of it is killed once: after the first part of an undo was applied.

The file that `KILLED` names is there afterwards.
"""

import os
import signal
from pathlib import Path

from producer.contract.undos import BatchUndo
from worker.app import make_app
from worker.settings import load_settings
from worker.tasks import undos


def _die(self: undos.UndoTask, status: BatchUndo) -> None:
    killed = Path(os.environ["KILLED"])
    if not killed.exists():
        killed.touch()
        os.killpg(os.getpgid(0), signal.SIGKILL)


# The client is answered after the first part, which is small here.
undos.ANSWER_SECONDS = 0.0  # type: ignore[misc]
undos.UndoTask.answer_early = _die  # type: ignore[method-assign]
app = make_app(load_settings())
