"""Describe the parameters of the routes, for FastAPI and the OpenAPI document."""

from typing import Annotated

from fastapi import Header, Path, Query

from producer.schemas import MAX_LOOKUP, MAX_REQUEST_ID, Kind, RequestId

StudentInPath = Annotated[
    str,
    Path(
        description="The student's SIS id, or our key written as `key:4711`. Write"
        " `sis:` before a SIS id that itself begins with `key:` or `sis:`."
    ),
]
RequestIdInPath = Annotated[str, Path(description="The id of the request.")]
BatchIdInPath = Annotated[str, Path(description="The id of the batch.")]

PageLimit = Annotated[
    int, Query(ge=1, le=MAX_LOOKUP, description="The largest number of results on a page.")
]
PageCursor = Annotated[
    str | None,
    Query(
        max_length=400,
        description="`next` from the previous page; without it, the page of the newest results.",
    ),
]

BatchKind = Annotated[
    Kind | None,
    Query(description="The kind of the records; without it, the first line of the file decides."),
]
OwnBatchId = Annotated[
    RequestId | None,
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
    Header(description="`text/csv` returns a file of the refused lines; else refusals by cause."),
]
