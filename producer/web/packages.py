"""Open an uploaded zip archive that holds the files of an export."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from producer.aio.records import in_daemon_thread
from producer.files.archives import open_archive
from producer.files.describing import Choices
from producer.files.formats.package_files import ArchiveFiles
from producer.files.formats.packages import Package, is_package, read_package
from producer.web.uploads import Upload


@asynccontextmanager
async def opened_package(upload: Upload, choices: Choices) -> AsyncIterator[Package | None]:
    """Yield the package in an upload; None if the upload is a single file.

    Raises UnreadableFile, also if the package holds nothing that can be submitted.
    """

    def read() -> Package | None:
        if not is_package(upload.file):
            return None
        archive = open_archive("The file", upload.file)
        return read_package(ArchiveFiles(archive, None), choices)

    package = await in_daemon_thread(read)
    if package is None:
        yield None
        return
    with package:
        package.check_not_empty()
        yield package
