"""Give the tests of a program a real broker, database and worker.

pytest loads this module wherever the package is installed. It imports nothing else of ours, and no
library, until a test takes the fixture.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from producer.testing.stack import EnrollmentStack


@pytest.fixture(scope="session")
def enrollment_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator["EnrollmentStack"]:
    """A real broker (Valkey), database (SQLite) and worker, which end with the test run.

    It has a `client`, and the `broker_url` and the `database_url` for programs of your own. All
    tests of a run share it, with its data: let each test use ids of its own.
    """
    from producer.embedded.folder import StackError  # noqa: PLC0415 - only if a test asks for it
    from producer.testing.stack import running_stack  # noqa: PLC0415 - the same

    folder = tmp_path_factory.mktemp("enrollment_stack")
    try:
        with running_stack(folder) as running:
            yield running
    except StackError as error:
        pytest.fail(str(error), pytrace=False)
