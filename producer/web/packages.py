"""Open an uploaded zip archive that holds the files of an export."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from producer.aio.records import in_daemon_thread
from producer.contract.printable import printable
from producer.files.archives import open_archive
from producer.files.describing import Choices
from producer.files.formats.package_files import ArchiveFiles
from producer.files.formats.packages import Package, is_package, read_package
from producer.web.upload_lines import Upload

MAX_NAME = 100
"""The most characters of the name of a package that are shown in messages."""


@asynccontextmanager
async def opened_package(
    upload: Upload, choices: Choices, turn: AbstractAsyncContextManager[None]
) -> AsyncIterator[Package | None]:
    """Yield the package in an upload; None if the upload is a single file.

    Its files are read to their ends in a turn of the submitter (`producer.web.uploads`).

    Raises UnreadableFile, also if the package holds nothing that can be submitted.
    """

    def read() -> Package:
        name = printable(upload.name or "")[:MAX_NAME] or "The package"
        archive = open_archive(name, upload.file)
        return read_package(ArchiveFiles(archive, None), choices)

    if not await in_daemon_thread(lambda: is_package(upload.file)):
        yield None
        return
    async with turn:
        package = await in_daemon_thread(read)
    with package:
        package.check_not_empty()
        yield package
