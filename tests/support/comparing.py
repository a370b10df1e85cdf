"""Submit the files of an export, and compare it with the enrollments that are current then."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from producer.client import EnrollmentClient
from producer.files.formats.comparison import Comparison, compare
from producer.files.formats.packages import Package
from producer.schemas import Kind
from support.packages import Table, opened, zipped_package

SECTION_HEADER = "School_id,Section_id,Teacher_id,Name"
ENROLLMENT_HEADER = "School_id,Section_id,Student_id"


def clever(sections: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, Table]:
    """Return a Clever export with these sections, and these students in their sections."""
    return {
        "sections.csv": [SECTION_HEADER, *(f"10,{section},T-1,Algebra" for section in sections)],
        "enrollments.csv": [ENROLLMENT_HEADER, *(f"10,{course},{user}" for user, course in pairs)],
    }


def enroll(client: EnrollmentClient, pairs: Iterable[tuple[str, str]]) -> None:
    """Enroll students, who are stored in the roster with their courses."""
    listed = sorted(pairs)
    for kind, place in ((Kind.STUDENTS, 0), (Kind.COURSES, 1)):
        client.submit_batch(kind, [{"sis_id": i} for i in sorted({p[place] for p in listed})])
    records = [{"student_id": student, "course_ids": [course]} for student, course in listed]
    client.wait(client.submit_batch(Kind.ENROLLMENTS, records))


def submit(
    client: EnrollmentClient, package: Package, own_id: str, *, resume: bool = False
) -> None:
    """Submit every file of a package, as the command does."""
    for source in package.sources:
        batch = client.submit_batch(
            source.kind,
            source.records(),
            batch_id=source.batch_id(own_id),
            resume=resume,
            ordered=source.ordered,
            columns=source.columns,
            form=source.form,
        )
        client.wait(batch)


def compared(
    client: EnrollmentClient, files: Mapping[str, Table], folder: Path, seconds: float = 60
) -> Comparison:
    """Compare a package with what is stored."""
    with opened(zipped_package(files, folder / "export.zip")) as package:
        return compare("export.zip", package.sources, client.rolls, seconds)
