"""Define the message headers that a worker accepts."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.functional_validators import AfterValidator, BeforeValidator

from producer.fields import MAX_REQUEST_ID, Moment, read_moment, show_moment

MOMENT_HEADER: Final = "enrollment-moment"
"""The header with the moment of a request or batch, a time of the clock of Redis."""

MAX_LABEL: Final = 255
"""The most characters of a file name or submitter that are stored."""

_NOT_STORABLE: Final = re.compile("[\x00\ud800-\udfff]")


def label(value: object) -> str | None:
    """Return a file name or submitter in the form that is stored; None if it is not a text.

    It only informs people, so a strange one is cut and its NULs and lone surrogates are replaced;
    no message is refused because of it.
    """
    if not isinstance(value, str):
        return None
    return _NOT_STORABLE.sub("\ufffd", value[:MAX_LABEL]).strip() or None


class BatchOrigin(NamedTuple):
    """Where and when a batch was submitted, as its submitter says; None is unknown."""

    file_name: str | None = None
    submitter: str | None = None
    moment: datetime | None = None

    @classmethod
    def from_headers(cls, headers: object) -> Self:
        """Read the origin from the headers of a message, whatever they are."""
        named = headers if isinstance(headers, Mapping) else {}
        file_name, submitter = (label(named.get(name)) for name in LABELS)
        return cls(file_name, submitter, moment_in(named))

    def labels(self) -> dict[str, str]:
        """Return the headers that only inform people."""
        labels = {name: label(getattr(self, name)) for name in LABELS}
        return {name: value for name, value in labels.items() if value is not None}

    def headers(self) -> dict[str, str]:
        """Return the headers that carry the origin."""
        return self.labels() | moment_headers(self.moment)


LABELS: Final = ("file_name", "submitter")
"""The headers that only inform people."""


def moment_in(headers: Mapping[str, Any]) -> datetime | None:
    """Return the moment in the headers of a message; None if it is missing or unreadable."""
    try:
        return read_moment(headers[MOMENT_HEADER])
    except (KeyError, ValueError):
        return None


def moment_headers(moment: datetime | None) -> dict[str, str]:
    """Return the headers that carry a moment."""
    return {} if moment is None else {MOMENT_HEADER: show_moment(moment)}


UNKNOWN_ORIGIN: Final = BatchOrigin()


def _is_moment(text: str) -> str:
    datetime.fromisoformat(text)
    return text


_Text = str | None
_Label = Annotated[str | None, BeforeValidator(label)]
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
    file_name: _Label = Field(
        None,
        description="For a chunk: the name of the submitted file, for the list of batches. At most"
        f" {MAX_LABEL} characters are stored; what is not a string is ignored.",
    )
    submitter: _Label = Field(
        None,
        description="For a chunk: who submitted the batch, for the list of batches. It proves"
        " nothing, because any submitter may write any name. Stored like file_name.",
    )
    moment: Moment | None = Field(
        None,
        alias=MOMENT_HEADER,
        description="When the request counts, or every request of the batch: a time of the clock of"
        " the Redis that holds the marks. Without it, the worker reads that clock.",
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
