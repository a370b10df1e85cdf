"""Send the refused lines of a batch as a file, in pages."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import Executor

from fastapi.responses import StreamingResponse

from producer.contract.batches import BatchStatus, RefusedRecord
from producer.contract.file_form import FileForm
from producer.files import refused_lines
from producer.files.refused_lines import RefusedForm

CSV = "text/csv"
JSON_LINES = "application/jsonl"


async def refused_file(
    status: BatchStatus,
    refusals: Iterable[RefusedRecord],
    accept: str,
    form: RefusedForm,
    threads: Executor,
) -> StreamingResponse | None:
    """Return the file of refused lines in a type that the caller accepts; None if there is none.

    The refusals are looked up in threads, a page at a time.
    """
    if CSV in accept:
        guarded = form is RefusedForm.SPREADSHEET
        encoding = refused_lines.known_or_utf8((status.form or FileForm()).encoding)
        pages = refused_lines.csv_pages(status.columns, status.form, refusals, guarded=guarded)
        name = "refused-spreadsheet.csv" if guarded else "refused.csv"
        media_type = f"{CSV}; charset={encoding}"
    elif JSON_LINES in accept:
        pages = refused_lines.json_lines_pages(status.columns, refusals)
        name, media_type = "refused.jsonl", JSON_LINES
    else:
        return None
    # The first page is read before the response begins; afterwards no error could be reported.
    first = await _next(pages, threads)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    content = _after(first, pages, threads)
    return StreamingResponse(content, media_type=media_type, headers=headers)


async def _after(
    page: bytes | None, pages: Iterator[bytes], threads: Executor
) -> AsyncIterator[bytes]:
    while page is not None:
        yield page
        page = await _next(pages, threads)


async def _next(pages: Iterator[bytes], threads: Executor) -> bytes | None:
    """Return the next page, which a thread looks up; None after the last one."""
    return await asyncio.get_running_loop().run_in_executor(threads, next, pages, None)
