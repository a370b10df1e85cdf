"""Read one file of a package as the source of a batch."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from producer.files.formats.package_files import PackageFiles
from producer.files.layout import FileLayout, Lines, Named
from producer.files.reader import io_errors_named
from producer.schemas import Kind


@dataclass
class SharedMoment:
    """The moment at which all enrollments of a package count, once the first batch has one.

    Several files of enrollments describe one state. If they counted one after another, a drop in
    one of them would end an enrollment that another one names.
    """

    moment: datetime | None = None


class PackageSource:
    """One file of a package, whose first lines have been checked.

    `batch_name` ends the id of its batch. `share` is not known while it is read.
    """

    share = None

    def __init__(
        self,
        files: PackageFiles,
        file_name: str,
        name: str,
        layout: FileLayout,
        batch_name: str,
        shared: SharedMoment,
    ) -> None:
        self._files = files
        self._shared = shared
        self.file_name = file_name
        self.name = name
        self.batch_name = batch_name
        self.layout = layout
        self.kind = layout.kind
        self.columns = layout.columns
        self.form = layout.form
        self.ordered = layout.ordered
        self.notices = layout.notices

    @property
    def moment(self) -> datetime | None:
        """Return the moment at which its batch must count; None if it gets one of its own."""
        return self._shared.moment if self.kind is Kind.ENROLLMENTS else None

    def counts_at(self, moment: datetime | None) -> None:
        """Note the moment of its batch, which counts for the enrollments of the package as well."""
        if self.kind is Kind.ENROLLMENTS:
            self._shared.moment = moment

    def batch_id(self, own_id: str) -> str:
        """Return the id of its batch, if the package is submitted under an id."""
        return f"{own_id}:{self.batch_name}"

    def records(self) -> Lines:
        """Yield every record from the beginning of the file. Raises UnreadableFile."""
        with io_errors_named(self.name), self._files.open(self.file_name) as content:
            yield from self.layout.read(content.file)

    def named(self) -> Iterator[Named]:
        """Yield which courses and students the file names. Raises UnreadableFile."""
        with io_errors_named(self.name), self._files.open(self.file_name) as content:
            if self.layout.named is not None:
                yield from self.layout.named(content.file)
