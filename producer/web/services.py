"""Hold what the routes use: the clients of the queue, and what calls share."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Self

from producer.aio.client import AsyncEnrollmentClient
from producer.client import EnrollmentClient
from producer.web.audit import AuditLog
from producer.web.feeds import BatchFeeds
from producer.web.health import Readiness
from producer.web.owners import Owners
from producer.web.stopping import Stopping
from producer.web.uploads import Uploads

DOWNLOADS: Final = 32
"""Downloads whose next page is looked up at the same time; the lookups of others wait."""


@dataclass(frozen=True, slots=True)
class Services:
    """What the routes of one process share."""

    client: AsyncEnrollmentClient
    """Answers every call but uploads and downloads; it waits without a thread."""
    blocking: EnrollmentClient
    """Reads and writes files, in threads."""
    uploads: Uploads
    downloads: ThreadPoolExecutor
    feeds: BatchFeeds
    readiness: Readiness
    stopping: Stopping
    owners: Owners
    audit: AuditLog | None
    """Records what is disclosed; None if that was not asked for."""

    @classmethod
    def over(
        cls,
        client: AsyncEnrollmentClient,
        blocking: EnrollmentClient,
        audit: AuditLog | None = None,
    ) -> Self:
        """Return the services over two clients; call this in the event loop."""
        stopping = Stopping()
        return cls(
            client,
            blocking,
            Uploads(blocking),
            ThreadPoolExecutor(DOWNLOADS, "enrollment-download"),
            BatchFeeds(client, stopping),
            Readiness(client, audit),
            stopping,
            Owners(client),
            audit,
        )

    async def close(self) -> None:
        """Close the connections; a thread that is busy is not waited for."""
        self.downloads.shutdown(wait=False, cancel_futures=True)
        await self.client.close()
        self.blocking.close()
        if self.audit is not None:
            self.audit.close()
