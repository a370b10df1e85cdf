"""Define the message headers that a worker accepts."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.functional_validators import AfterValidator

from producer.schemas import MAX_REQUEST_ID


def _is_moment(text: str) -> str:
    datetime.fromisoformat(text)
    return text


_Word = str | None
_Empty = Annotated[list[Any] | dict[str, Any], Field(max_length=0)] | None
_Few = Annotated[int, Field(ge=0, le=1000)] | None
_TaskId = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_REQUEST_ID, pattern=r"^[^\x00-\x1f\x7f]*$")
]


class MessageHeaders(BaseModel):
    """The headers of Celery's message protocol 2, as far as a worker reads them.

    What would make it do more than the task, or do it later, is not for strangers.
    """

    model_config = ConfigDict(strict=True, extra="ignore")

    task: str = Field(description="The fixed name of a task.")
    id: _TaskId = Field(description="The task's id; the key of its answer ends with it.")
    expires: Annotated[str, AfterValidator(_is_moment)] | None = Field(
        None, description="Of a lookup: the moment from which on nobody waits for the answer."
    )
    ignore_result: bool | None = Field(None, description="True: no answer is stored.")
    timelimit: Annotated[list[None], Field(max_length=2)] | None = None
    eta: None = None
    chord: None = None
    compression: None = None
    stamped_headers: _Empty = None
    stamps: _Empty = None
    group_index: _Few = None
    retries: _Few = None
    replaced_task_nesting: _Few = None
    group: _Word = None
    root_id: _Word = None
    parent_id: _Word = None
    shadow: _Word = None
    origin: _Word = None
    lang: _Word = None
    meth: _Word = None
    argsrepr: _Word = None
    kwargsrepr: _Word = None
