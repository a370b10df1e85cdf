"""Compare an export that has been submitted with the current enrollments of its sections."""

from producer.client import EnrollmentClient
from producer.commands.inputs import Input
from producer.files.formats.comparison import (
    COMPARISON_SECONDS,
    Comparison,
    compare,
    is_complete,
)
from producer.files.reader import StreamSource


def compare_input(client: EnrollmentClient, entry: Input) -> Comparison | None:
    """Compare the export that ends with this input; return None if it cannot be compared.

    It cannot if it does not name all current enrollments, or if it cannot be read again.
    """
    sources = entry.package.sources if entry.package is not None else (entry.source,)
    files = [source for source in sources if not isinstance(source, StreamSource)]
    if sources[-1] is not entry.source or not is_complete(files):
        return None
    name = entry.source.name if entry.package is None else entry.package.name
    return compare(name, files, client.rolls, COMPARISON_SECONDS)
