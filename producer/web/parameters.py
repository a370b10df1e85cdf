"""Describe the parameters of the routes, for FastAPI and the OpenAPI document."""

from collections.abc import Iterable
from typing import Annotated
from urllib.parse import unquote

from fastapi import Depends, Header, Path, Query, Request

from producer.aio.client import AsyncEnrollmentClient
from producer.contract.batches import BatchState
from producer.contract.lookups import SubmitterName
from producer.contract.searching import SearchText
from producer.errors import InvalidRequest
from producer.fields import MAX_KEY, MAX_LOOKUP, MAX_REQUEST_ID, MAX_TEXT, NewBatchId
from producer.files.refused_lines import RefusedForm
from producer.schemas import Code, EnrollmentProblem, Kind
from producer.web.problems import Refused
from producer.web.services import Services


async def services_of(request: Request) -> Services:
    """Return what the routes share."""
    services: Services = request.app.state.services
    return services


async def _client(request: Request) -> AsyncEnrollmentClient:
    services: Services = request.app.state.services
    return services.client


FrontServices = Annotated[Services, Depends(services_of)]
Client = Annotated[AsyncEnrollmentClient, Depends(_client)]


def identifier(text: str, code: Code) -> int | str:
    """Return the id in a part of a path. Raises Refused, as `parse_id` does."""
    return parse_id(unquote(text), code)


def parse_id(text: str, code: Code) -> int | str:
    """Return our key if the text is like `key:4711`, else the SIS id, without a leading `sis:`.

    Raises Refused, with the code for an unknown id, for a key that nothing can have.
    """
    digits = text.removeprefix("key:")
    if digits != text and digits.isascii() and digits.isdigit():
        digits = digits.lstrip("0")[:20]  # Python refuses to read thousands of digits.
        if not digits or int(digits) > MAX_KEY:
            raise Refused(404, code, f"A key is an integer from 1 to {MAX_KEY}.")
        return int(digits)
    return text.removeprefix("sis:")


def column_templates(maps: Iterable[str] | None) -> dict[str, str]:
    """Return the template of each of our columns that is mapped. Raises Refused."""
    return dict(map(_template, maps or ()))


def _template(text: str) -> tuple[str, str]:
    column, equals, template = text.partition("=")
    if not equals or not template:
        detail = f"map={text}: write map=COLUMN=TEMPLATE, for example map=sis_id={{id}}."
        raise Refused(422, "bad_map", detail)
    return column, template


StudentInPath = Annotated[
    str,
    Path(
        description="The student's SIS id, or our key written as `key:4711`. Write"
        " `sis:` before a SIS id that itself begins with `key:` or `sis:`, or that is `.` or `..`."
    ),
]
CourseInPath = Annotated[
    str, Path(description="The course's SIS id, or our key, written as that of a student.")
]
RequestIdInPath = Annotated[str, Path(description="The id of the request.")]
BatchIdInPath = Annotated[str, Path(description="The id of the batch.")]

PageLimit = Annotated[
    int, Query(ge=1, le=MAX_LOOKUP, description="The largest number of results on a page.")
]
PageCursor = Annotated[
    str | None,
    Query(description="`next` from the previous page; without it, the page of the newest results."),
]

CourseOfHistory = Annotated[
    str | None,
    Query(
        description="Only what was changed or superseded in this course: its SIS id, or our key"
        " written as `key:17`."
    ),
]
EntryLimit = Annotated[
    int,
    Query(
        ge=1,
        le=MAX_LOOKUP,
        description="The number of entries on a page; there are more if several have the moment of"
        " the last.",
    ),
]
BeforeMoment = Annotated[
    str | None,
    Query(
        description="Only what counts earlier: a time with its time zone, for example"
        " `2026-09-01T08:00:00Z`. For the next page, the `moment` of the last entry."
    ),
]
AtMoment = Annotated[
    str | None,
    Query(
        description="Who was enrolled at this moment: a time with its time zone, for example"
        " `2026-09-01T08:00:00Z`. Without it, who is enrolled now."
    ),
]
StudentLimit = Annotated[
    int, Query(ge=1, le=MAX_LOOKUP, description="The largest number of students on a page.")
]
AfterStudent = Annotated[
    int,
    Query(
        ge=0,
        le=MAX_KEY,
        description="Only students with a larger key. For the next page, the `id` of the last"
        " student.",
    ),
]

SearchedText = Annotated[
    SearchText,
    Query(
        description="A SIS id, an e-mail address, or words of a name or title, whatever their case"
        " and their order."
    ),
]
FoundPageLimit = Annotated[
    int, Query(ge=1, le=MAX_LOOKUP, description="The largest number of matches.")
]

BatchLimit = Annotated[
    int, Query(ge=1, le=MAX_LOOKUP, description="The largest number of batches on a page.")
]
BatchListCursor = Annotated[
    str | None,
    Query(
        description="`next` from the previous page, with the same filters; without it, the page of"
        " the newest batches."
    ),
]
StateOfBatch = Annotated[
    BatchState | None,
    Query(
        description="Only batches in this state. Then a page may be short, or empty, although"
        " `next` leads to more. No batch of the list is `unknown`."
    ),
]
KindOfBatch = Annotated[Kind | None, Query(description="Only batches with records of this kind.")]
SubmitterOfBatch = Annotated[
    SubmitterName | None,
    Query(description="Only batches of this submitter: over HTTP, the name of the token."),
]

BatchKind = Annotated[
    Kind | None,
    Query(description="The kind of the records; without it, the first line of the file decides."),
]
OwnBatchId = Annotated[
    NewBatchId | None,
    Query(
        description="Your own id for the batch, under which the same file can be sent again without"
        " a second effect; without it, the batch gets a random id."
    ),
]
ColumnMaps = Annotated[
    list[str] | None,
    Query(
        alias="map",
        description="`COLUMN=TEMPLATE` makes one of our columns from columns of a CSV file, for"
        " example `course_sis_id={module}-{term}`. Repeat the parameter for each column.",
    ),
]
TextEncoding = Annotated[
    str | None,
    Query(
        max_length=40,
        description="The encoding of the file, for example `cp1252`; by default UTF-8 or UTF-16,"
        " which are recognized. With `auto`, a file in a zip archive that is neither is read as"
        " cp1252. Any other file is read only once, and its lines that are not UTF-8 are refused.",
    ),
]

FormatName = Annotated[
    str | None,
    Query(
        alias="format",
        max_length=40,
        description="The system that the file comes from, for example `oneroster`; by default the"
        " header or the files of the package decide. `enroll formats` lists them. With `plain`, the"
        " file is read as one of our own, and every line counts.",
    ),
]

SheetName = Annotated[
    str | None,
    Query(
        max_length=100,
        description="The sheet of an Excel workbook; by default the first visible one whose header"
        " is known.",
    ),
]

AllDrops = Annotated[
    bool,
    Query(
        description="With `true`, every line of a CSV file of enrollments drops its student. A file"
        " with a column `action`, and JSON Lines, say themselves which lines are drops."
    ),
]

LineLimit = Annotated[
    int,
    Query(
        ge=1,
        le=MAX_LOOKUP,
        description="The largest number of lines on a page; if they are long, there are fewer.",
    ),
]
LinesCursor = Annotated[
    str | None,
    Query(description="`next` from the previous page, with the same filters."),
]
RefusalCode = Annotated[
    Code | None, Query(description="Only lines that were refused for this cause.")
]
RefusalMessage = Annotated[
    str | None,
    Query(
        max_length=1_000,
        description="Only lines with this `message` or this `rule`. Then a page may be short, or"
        " empty, although `next` leads to more.",
    ),
]

DropReason = Annotated[
    str | None,
    Query(
        max_length=MAX_TEXT, description="Why, for the student's history, in up to 255 characters."
    ),
]
DropAsOf = Annotated[
    str | None,
    Query(
        max_length=40,
        description="When the drop counts: a time with its time zone, at most five minutes ahead;"
        " by default, when it is submitted. Write the + of a time zone as %2B.",
    ),
]
DropRequestId = Annotated[
    str | None,
    Query(description="Your own id for the request; the header Idempotency-Key takes precedence."),
]

Prefer = Annotated[
    str | None,
    Header(description="`wait=N`: wait up to N seconds for the result, at most 60 (RFC 7240)."),
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=MAX_REQUEST_ID,
        description="Your own id for the request; it takes precedence over `request_id`.",
    ),
]
AcceptedType = Annotated[
    str,
    Header(
        description="`text/csv` returns a file of the refused lines, and `application/jsonl` the"
        " refused records as JSON Lines; else refusals by cause."
    ),
]
FormOfRefused = Annotated[
    RefusedForm,
    Query(
        description="For `text/csv`: `submission` writes the lines like the submitted file;"
        " `spreadsheet` writes them so that a spreadsheet runs no cell as a formula. Both can be"
        " corrected and submitted again."
    ),
]


def check_addressable(name: str, own_id: str | None) -> None:
    """Refuse a new id, the parameter or field `name`, that no browser leaves in an address.

    Raises InvalidRequest.
    """
    if own_id in (".", ".."):
        message = (
            f"{name}: {own_id!r} cannot be part of an address, because browsers and proxies take it"
            " for a folder; choose another id"
        )
        problem = EnrollmentProblem(code=Code.INVALID_REQUEST, field=name, message=message)
        raise InvalidRequest((problem,))
