"""Show how an uploaded file would be understood; nothing is published, and no worker is asked."""

import asyncio
from contextlib import aclosing
from typing import Annotated, Any, Final, NamedTuple

from fastapi import Query, Request
from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect

from producer.errors import UnreadableFile
from producer.files.file_preview import FilePreview
from producer.files.preview import MAX_ARCHIVE, MAX_SHOWN_ROWS, SHOWN_ROWS, bound_of, preview_file
from producer.web.choices import FileChoices
from producer.web.openapi import UPLOAD, problems
from producer.web.problems import Refused
from producer.web.unknown_parameters import check_form_fields
from producer.web.upload_lines import named
from producer.web.uploads import FORM_ERRORS, malformed_form, only_file

MAX_FORM = MAX_ARCHIVE + 65_536
"""The most bytes of a form that are read: the beginning of the file, and what stands around it."""
MAX_BOUNDARY = 70
"""The most characters of the boundary of a form (RFC 2046, 5.1.1)."""
PREVIEW: Final[dict[str, Any]] = {
    "openapi_extra": {"requestBody": UPLOAD},
    "responses": problems(),
}
"""What the OpenAPI document says about the route, besides its parameters."""

_MAX_FIELDS = 10
_MAX_FIELD = 10_000

RowLimit = Annotated[
    int, Query(ge=0, le=MAX_SHOWN_ROWS, description="The largest number of rows to show.")
]
IsPartial = Annotated[
    bool,
    Query(
        description="Write `true` if you send only the beginning of the file: what its end decides"
        " is then left out."
    ),
]


async def preview_batch(
    request: Request,
    choices: FileChoices,
    limit: RowLimit = SHOWN_ROWS,
    *,
    partial: IsPartial = False,
) -> FilePreview:
    """Show how a file would be understood by `POST /batches`, without submitting it.

    At most the first 1 MiB of the file is read, but 8 MiB of a zip archive or a workbook, which
    must be sent as a whole. A file that cannot be read is not an error: then `readable` is false,
    and `problem` says why.
    """
    try:
        beginning, goes_on, name = await _read(request)
    except ClientDisconnect:
        raise Refused(400, "cut_off", "The upload was cut off; send the file again.") from None
    goes_on = goes_on or partial
    choices = named(choices, name)
    return await asyncio.to_thread(
        preview_file, "The file", beginning, choices, goes_on=goes_on, rows=limit
    )


class _Received(NamedTuple):
    """The beginning of a file, whether the file goes on after it, and its name if it has one."""

    beginning: bytes
    goes_on: bool
    name: str | None = None


async def _read(request: Request) -> _Received:
    """Return the beginning of the file in a body."""
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind == b"multipart/form-data":
        return await _read_form(request, options.get(b"boundary", b""))
    body = bytearray()
    async with aclosing(request.stream()) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > bound_of(body):
                break
    bound = bound_of(body)
    return _Received(bytes(body[:bound]), len(body) > bound)


async def _read_form(request: Request, boundary: bytes) -> _Received:
    """Return the beginning of the only file in a form. Raises UnreadableFile."""
    if not 0 < len(boundary) <= MAX_BOUNDARY:
        raise UnreadableFile(
            f"The Content-Type of the multipart body must have a boundary of 1 to {MAX_BOUNDARY}"
            " characters; leave this header to your HTTP client."
        )
    form = _BoundedForm(request, boundary)
    limits = {"max_files": _MAX_FIELDS, "max_fields": _MAX_FIELDS, "max_part_size": _MAX_FIELD}
    try:
        async with Request(request.scope, form.receive).form(**limits) as fields:
            given = fields.multi_items()
            check_form_fields(request, (name for name, value in given if isinstance(value, str)))
            file = only_file(fields)
            beginning = await file.read(MAX_ARCHIVE + 1)
            name = file.filename or None
    except FORM_ERRORS as error:
        raise malformed_form(error) from None
    bound = bound_of(beginning)
    return _Received(beginning[:bound], form.is_cut or len(beginning) > bound, name)


class _BoundedForm:
    """The beginning of a form, which is closed after `MAX_FORM` bytes if it goes on."""

    def __init__(self, request: Request, boundary: bytes) -> None:
        self._request = request
        self._end = b"\r\n--" + boundary + b"--\r\n"
        self._size = 0
        self.is_cut = False

    async def receive(self) -> Any:
        """Return the next message with a piece of the form (ASGI)."""
        if self._size > MAX_FORM:
            self.is_cut = True
            return {"type": "http.request", "body": self._end, "more_body": False}
        message = await self._request.receive()
        self._size += len(message.get("body", b""))
        if self._size > MAX_FORM and message["type"] == "http.request":
            return {**message, "more_body": True}
        return message
