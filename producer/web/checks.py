"""Define the route that reads a whole file and reports its mistakes, before anything is sent."""

from typing import Any, Final

from fastapi import Request

from producer.errors import UnreadableFile
from producer.files.whole_check import WholeCheck
from producer.web.access import Submitter, check_scope, has_scope
from producer.web.choices import FileChoices
from producer.web.openapi import UPLOAD, problems
from producer.web.packages import opened_package
from producer.web.parameters import FrontServices
from producer.web.problems import stopping
from producer.web.tokens import Scope
from producer.web.uploads import received

CHECK: Final[dict[str, Any]] = {
    "openapi_extra": {"requestBody": UPLOAD},
    "responses": problems(507),
}
"""What the OpenAPI document says about the route, besides its parameters."""


async def check_batch(
    request: Request,
    services: FrontServices,
    submitter: Submitter,
    choices: FileChoices,
) -> WholeCheck:
    """Read a whole file as `POST /batches` does, and return every mistake of its form.

    Of a package, every file is read. Nothing is published. A file with a drop is refused, as by
    `POST /batches`, if the token lacks the scope `drop`. The check does not look for the students
    and courses in the roster. A file that cannot be read is not an error: then `readable` is false,
    and `problem` says why.
    """
    if choices.drop:
        check_scope(request, Scope.DROP, " for drop=true")
    may_drop = has_scope(request, Scope.DROP)

    async def gone() -> None:
        """Return once the caller has gone away, whose check would take a turn from others."""
        while (await request.receive())["type"] != "http.disconnect":
            pass

    async with received(request) as upload:
        try:
            turn = services.uploads.turn_of(submitter)
            async with opened_package(upload, choices, turn) as package:
                work = services.uploads.check(
                    upload, choices, submitter, package, may_drop=may_drop
                )
                check = await services.stopping.unless_begun(work, gone())
        except UnreadableFile as error:
            return WholeCheck.unreadable(error)
    if check is None:
        raise stopping()
    return check
