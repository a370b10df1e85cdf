"""List what a chunk names, so that it can be looked up in the real tables. Pure, no SQL."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, Final, NamedTuple

from pydantic import TypeAdapter, ValidationError

from producer.contract.chunks import COURSE_FIELDS, CheckedColumns, Chunk
from producer.fields import MAX_COURSES, RequestId
from producer.schemas import Kind, StudentEnrollmentRequest
from worker.snapshots.recognizing import Id, valid_ids

_REQUEST_ID: TypeAdapter[str] = TypeAdapter(RequestId)


class Named(NamedTuple):
    """What a chunk names. There may be more ids than its requests are decided by."""

    students: set[Id]
    courses: set[Id]
    request_ids: set[str]
    """The ids that requests have of their own."""


def names_in(kind: Kind, chunk: Chunk, positions: Sequence[int] | None = None) -> Named:
    """Return what the records and the refused lines of a chunk name.

    Of requests, only those at the given positions count, if any are given. A cell of a refused line
    may be the id of a student or of a course.
    """
    if kind is not Kind.ENROLLMENTS:
        sis_ids = set(_sis_ids(chunk.records_in_order))
        is_of_students = kind is Kind.STUDENTS
        return Named(sis_ids, set(), set()) if is_of_students else Named(set(), sis_ids, set())
    named = Named(set(), set(), set())
    if positions is not None and not positions:
        pass  # Nothing has to be parsed.
    elif isinstance(columns := getattr(chunk, "requests", None), CheckedColumns):
        students, courses = columns.student_ids, columns.courses
        places = range(len(students)) if positions is None else positions
        listed = chain.from_iterable(courses[i] for i in places)
        named = Named({students[i] for i in places}, set(listed), set())
    else:
        records = chunk.records_in_order
        named = _in_records(records if positions is None else [records[i] for i in positions])
    cells = {value for line in chunk.refused for value in valid_ids(line.cells or ())}
    return named._replace(students=named.students | cells, courses=named.courses | cells)


def _sis_ids(records: Iterable[Any]) -> Iterator[Id]:
    for record in records:
        named = (
            record.get("sis_id") if isinstance(record, dict) else getattr(record, "sis_id", None)
        )
        yield from valid_ids([named])


def _in_records(records: Iterable[Any]) -> Named:
    named = Named(set(), set(), set())
    for record in records:
        if isinstance(record, StudentEnrollmentRequest):
            named.students.add(record.student_id)
            named.courses.update(record.course_ids, record.drop_course_ids)
            if record.request_id is not None:
                named.request_ids.add(record.request_id)
        elif isinstance(record, dict):
            named.students.update(valid_ids([record.get("student_id")]))
            for field in COURSE_FIELDS.values():
                courses = record.get(field)
                listed = courses if isinstance(courses, list | tuple) else ()
                named.courses.update(valid_ids(islice(listed, MAX_COURSES)))
            named.request_ids.update(_valid_request_ids(record.get("request_id")))
    return named


def _valid_request_ids(value: object) -> Iterator[str]:
    try:
        yield _REQUEST_ID.validate_python(value)
    except ValidationError:
        return


class Scan(NamedTuple):
    """What the requests of a plan may do; true if that is not certain."""

    may_drop: bool = False
    """A request may drop something, so results matter: they confirm enrollments."""
    may_name_times: bool = False
    """A request may count at a time of its own."""


def scan(texts: Iterable[str]) -> Scan:
    """Return what the requests in the texts of chunks may do, without parsing them."""
    may_drop = may_name_times = False
    for text in texts:
        is_escaped = _ESCAPE in text and any(escape in text for escape in _ESCAPED_LETTERS)
        may_drop = may_drop or is_escaped or '"drop_course_ids"' in text
        may_name_times = may_name_times or is_escaped or '"as_of"' in text
    return Scan(may_drop, may_name_times)


_ESCAPE: Final = "\\u00"
_ESCAPED_LETTERS: Final = ("\\u005f", "\\u005F", "\\u006", "\\u007")
"""How JSON may write the letters in the name of a field without using them."""
