"""Define the message headers that a worker accepts."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.functional_validators import AfterValidator

from producer.schemas import MAX_REQUEST_ID


def _is_moment(text: str) -> str:
    datetime.fromisoformat(text)
    return text


_Text = str | None
_Empty = Annotated[list[Any] | dict[str, Any], Field(max_length=0)] | None
_SmallCount = Annotated[int, Field(ge=0, le=1000)] | None
_TaskId = Annotated[
    str, StringConstraints(min_length=1, max_length=MAX_REQUEST_ID, pattern=r"^[^\x00-\x1f\x7f]*$")
]


class MessageHeaders(BaseModel):
    """The headers of Celery's message protocol 2 that a worker reads.

    Headers that would make the worker do more than run the task, or run it later, must be empty.
    """

    model_config = ConfigDict(strict=True, extra="ignore")

    task: str = Field(description="The name of the task.")
    id: _TaskId = Field(description="The task id; the Redis key of the result ends with it.")
    expires: Annotated[str, AfterValidator(_is_moment)] | None = Field(
        default=None, description="For a lookup: when it expires, because the client stops waiting."
    )
    ignore_result: bool | None = Field(
        default=None, description="If true, no result key is written unless the message is refused."
    )
    timelimit: Annotated[list[None], Field(max_length=2)] | None = None
    eta: None = None
    chord: None = None
    compression: None = None
    stamped_headers: _Empty = None
    stamps: _Empty = None
    group_index: _SmallCount = None
    retries: _SmallCount = None
    replaced_task_nesting: _SmallCount = None
    group: _Text = None
    root_id: _Text = None
    parent_id: _Text = None
    shadow: _Text = None
    origin: _Text = None
    lang: _Text = None
    meth: _Text = None
    argsrepr: _Text = None
    kwargsrepr: _Text = None
