"""Define the types of the fields in the contract, and the limits that they keep.

`producer.schemas` makes the models of them. Like it, this module imports nothing else of ours.
"""

import re
from contextlib import suppress
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import AwareDatetime, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic.functional_validators import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError

MAX_KEY: Final = 2**31 - 1
MAX_COURSES: Final = 100
MAX_TEXT: Final = 255
MAX_REQUEST_ID: Final = 128
UNDO_PREFIX: Final = "undo:"
"""The id of the batch that undoes another one is this and the id of that batch."""
MAX_STORED_ID: Final = 160
"""The longest id of a batch: that of a submitter, with this prefix once or a few times."""
MAX_LOOKUP: Final = 1_000
MAX_LOOKUP_RESULTS: Final = 10_000
"""The most results that one lookup may ask for: its students times its limit."""
ROLLS_ROWS: Final = 20_000
"""The most enrollments that a worker reads for a part of rolls: those of all courses count."""
MAX_CHUNK_RECORDS: Final = 10_000
MAX_COLUMNS: Final = 1_000
MAX_CHUNK_BYTES: Final = 1_048_576
"""The largest chunk that a client publishes, in bytes of ASCII JSON; a larger one is split."""

MAX_MESSAGE: Final = 4 * 1024 * 1024
"""The largest message that a worker accepts, in bytes: more than a 1 MiB chunk needs once it is
quoted and encoded in base64."""

Key = Annotated[int, Field(strict=True, ge=1, le=MAX_KEY)]
NO_NUL: Final = r"^[^\x00]*$"
"""NUL is the one character that PostgreSQL cannot store."""
Text = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=MAX_TEXT, pattern=NO_NUL)
]
RequestId = Annotated[
    str, StringConstraints(strict=True, min_length=1, max_length=MAX_REQUEST_ID, pattern=NO_NUL)
]


def _not_of_an_undo(batch_id: str) -> str:
    if batch_id.startswith(UNDO_PREFIX):
        raise ValueError(
            f"must not begin with {UNDO_PREFIX}, because such ids belong to the batches that undo"
            " others; choose another id"
        )
    return batch_id


NewBatchId = Annotated[RequestId, AfterValidator(_not_of_an_undo)]
"""A submitter's own id of a batch; it can never be the id of a batch that undoes another one."""


def _without_undo(stored_id: str) -> str:
    submitted = stored_id
    while submitted.startswith(UNDO_PREFIX):
        submitted = submitted.removeprefix(UNDO_PREFIX)
    if len(submitted) > MAX_REQUEST_ID:
        raise PydanticCustomError("id_too_long", "must be shorter")
    return stored_id


StoredId = Annotated[
    str,
    StringConstraints(strict=True, min_length=1, max_length=MAX_STORED_ID, pattern=NO_NUL),
    AfterValidator(_without_undo),
]
"""The id of a request or a batch, also of one that undoes another, when it is looked up."""

MAX_DATA_SET: Final = 128
_SPACES_AT_ENDS: Final = "must not begin or end with a space; remove the spaces at its ends"


def _without_spaces_at_ends(name: str) -> str:
    # Two names that look the same would be two feeds.
    if name != name.strip():
        raise ValueError(_SPACES_AT_ENDS)
    return name


DataSetName = Annotated[
    str,
    StringConstraints(
        strict=True, min_length=1, max_length=MAX_DATA_SET, pattern=r"^[^\x00-\x1f\x7f]*$"
    ),
    AfterValidator(_without_spaces_at_ends),
]
"""The name of a data set: the feed that a batch belongs to, for example `sis:2026-fall`."""
_DATA_SET_NAME: Final[TypeAdapter[str]] = TypeAdapter(DataSetName)


def data_set_name_problem(name: str) -> str | None:
    """Return a sentence that says why a text is not a valid name of a data set; None if it is."""
    try:
        _DATA_SET_NAME.validate_python(name)
    except ValidationError as error:
        if error.errors()[0]["type"] == "value_error":
            return f"the name of a data set {_SPACES_AT_ENDS}"
        return (
            f"the name of a data set has 1 to {MAX_DATA_SET} characters, none of them a control"
            " character such as a line break; for example sis:2026-fall"
        )
    return None


Identifier = Annotated[Text | Key, Field(union_mode="left_to_right")]
"""An integer is our primary key, a string is the upstream SIS id; neither is read as the other."""

_LINE_REQUEST_ID: Final = re.compile(r".*:[0-9]+:[0-9]+", re.DOTALL)


def is_line_request_id(request_id: str) -> bool:
    """Return whether an id has the form `BATCH:CHUNK:POSITION` of ids made for lines of batches."""
    return _LINE_REQUEST_ID.fullmatch(request_id) is not None


def _not_of_a_line(request_id: str) -> str:
    if is_line_request_id(request_id):
        raise ValueError(
            "must not end in :NUMBER:NUMBER, because such ids belong to the lines of batches;"
            " choose another id"
        )
    return request_id


Reason = Annotated[str, StringConstraints(strict=True, max_length=MAX_TEXT, pattern=NO_NUL)]
"""Free text of a submitter; it may be empty."""

MAX_MAPPED: Final = 20
"""The most columns that a mapping names; a file has fewer columns of ours."""
MAX_TEMPLATE: Final = 1_000
"""The most characters of a template that travels with a batch."""

Template = Annotated[str, StringConstraints(max_length=MAX_TEMPLATE, pattern=NO_NUL)]

FIELD_ERROR: Final = "field_of_record"
"""The type of an error that names its field in its context, because it is about several fields."""

OwnRequestId = Annotated[RequestId, AfterValidator(_not_of_a_line)]
"""A submitter's own id of a request; it can never be the id of a line in another batch."""


def _fold(course_ids: tuple[int | str, ...]) -> tuple[int | str, ...]:
    return course_ids if len(course_ids) == 1 else tuple(dict.fromkeys(course_ids))


CourseIds = Annotated[
    tuple[Identifier, ...], Field(min_length=1, max_length=MAX_COURSES), AfterValidator(_fold)
]
"""Duplicates are removed; the order stays."""

CourseList = Annotated[tuple[Identifier, ...], Field(max_length=MAX_COURSES), AfterValidator(_fold)]
"""Like `CourseIds`, but it may be empty."""


_MOMENT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,9})?)?"
    r"([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)"
)
_MOMENT_EXAMPLE: Final = "2026-09-01T08:00:00Z"
FIRST_YEAR: Final = 1900
"""The first year in which a moment may lie."""


def read_moment(value: Any) -> datetime:
    """Return a moment in UTC, from a text as in ISO 8601 or from a `datetime`. Raises ValueError.

    A number is not read: it could be seconds or milliseconds.
    """
    if isinstance(value, str) and _is_shown(value):
        # The form in which our own clients write all of them: quickly.
        with suppress(ValueError):
            if (shown := datetime.fromisoformat(value)).year >= FIRST_YEAR:
                return shown
    if isinstance(value, str) and _MOMENT.fullmatch(value):
        try:
            value = datetime.fromisoformat(value.upper())
        except ValueError:
            raise ValueError(f"must be a time that exists, not {value}") from None
    if not isinstance(value, datetime) or value.utcoffset() is None:
        given = f", not {value!r:.40}" if isinstance(value, str | int | float) else ""
        raise ValueError(f"must be a time with its time zone, for example {_MOMENT_EXAMPLE}{given}")
    try:
        moment = value.astimezone(UTC)
    except OverflowError:
        moment = None
    if moment is None or moment.year < FIRST_YEAR:
        raise ValueError(f"must lie in the years {FIRST_YEAR} to 9999 in UTC")
    return moment


def _is_shown(text: str) -> bool:
    """Return whether a text has the form of `show_moment`."""
    separators = text[4:5] + text[7:8] + text[10:11] + text[26:]
    return separators == "--TZ" and text[19] == "." and text.isascii()


def show_moment(moment: datetime) -> str:
    """Return a moment as text in UTC with microseconds, as it travels in headers."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


Moment = Annotated[AwareDatetime, BeforeValidator(read_moment)]
"""The point in time at which a request or roster record counts, in UTC with microseconds."""
