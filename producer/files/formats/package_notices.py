"""Notice what a package lacks, and what it holds besides; refuse it if a file cannot be read."""

from collections.abc import Collection, Mapping

from producer.errors import UnreadableFile
from producer.files.archives import within
from producer.files.columns import AS_OF
from producer.files.formats.base import Format, Table
from producer.files.formats.manifest import Manifest
from producer.files.formats.package_source import PackageSource
from producer.files.notices import Notices
from producer.schemas import Kind


def notice_unread(
    package: str,
    unread: Mapping[str, Collection[str]],
    known: Format,
    notices: Notices,
    *,
    is_chosen: bool,
) -> None:
    """Add a notice for each of these files, which are not read; `unread` has their headers, folded.

    Raises UnreadableFile for a file with a wrong header, whose lines would be missing; if the
    submitter has chosen the format, this may be the mistake.
    """
    inside = within(package)
    for name, header in unread.items():
        if not known.knows(name):
            notices.add(f"{name} in {inside} is not a file of {known.title} and is not read.")
        elif any(table.kind and name in table.file_names for table in known.tables):
            raise UnreadableFile(
                f"{name} in {inside} {_wrong_header(known, name, header)}"
                + (", or leave the format out if it is of another system." if is_chosen else "."),
                *["format"] * is_chosen,
            )
        elif name not in {*known.passed_over, known.manifest}:
            notices.add(
                f"{name} in {inside} is not read, because its header lacks columns of that file;"
                " export it again with all its columns."
            )


def _wrong_header(known: Format, file_name: str, header: Collection[str]) -> str:
    """Return what is wrong with the header of a file of a package, and what to do, without a stop.

    Of several tables with this name, the one counts that the header comes nearest to.
    """
    tables = [table for table in known.tables if file_name in table.file_names]
    table = min(tables, key=lambda table: len(_missing(table, header)))
    missing = _missing(table, header)
    if not missing:
        extra = ", ".join(sorted(table.without.intersection(header)))
        return (
            f"has columns that this file of {known.title} never has: {extra}. Remove them, or name"
            " the system that made the package as its format"
        )
    other = known.table_of(header)
    of_other = "" if other is None else f", and has those of its {other.name}"
    return (
        f"lacks columns that this file of {known.title} has: {', '.join(missing)}{of_other}."
        " Export it again with all its columns"
    )


def _missing(table: Table, header: Collection[str]) -> list[str]:
    """Return the columns that a header lacks, in words."""
    groups = (" or ".join(sorted(group)) for group in table.any_of if group.isdisjoint(header))
    return [*sorted(table.required.difference(header)), *groups]


def check_moments(package: str, sources: Collection[PackageSource]) -> None:
    """Raise UnreadableFile if lines are to count when they were changed, and no file says when."""
    has_moments = any(AS_OF in (source.layout.mapping or ()) for source in sources)
    if sources and not has_moments:
        raise UnreadableFile(
            f"{package} has no file that says when each line was last changed; leave out the option"
            " that takes moments from the file.",
            "moments-from-file",
        )


def notice_missing(
    package: str, sources: Collection[PackageSource], manifest: Manifest, notices: Notices
) -> None:
    """Add a notice for each kind of files that the package lacks."""
    if not sources:
        notices.add(f"{package} has no file but its manifest: there is nothing to change.")
    elif all(source.kind is not Kind.ENROLLMENTS for source in sources):
        notices.add(f"{package} has no file of enrollments; it holds only a roster.")
    elif manifest.is_delta:
        return
    else:
        kinds = {source.kind for source in sources}
        for kind in (Kind.STUDENTS, Kind.COURSES):
            if kind not in kinds:
                notices.add(
                    f"{package} has no file of {kind}, so lines that name {kind} that the roster"
                    " does not have yet are refused."
                )
