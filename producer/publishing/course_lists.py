"""Make the courses of a request a list before they are counted, compared and published."""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any, Final

from producer.contract.chunks import COURSE_FIELDS
from producer.fields import MAX_COURSES

_FIELDS: Final = tuple(COURSE_FIELDS.values())

_PLAIN: Final = (list, tuple, type(None), str)
"""The types of almost every value, which stay as they are."""

_SET: Final = "a set, which has no order"
"""Stands for a set of courses, and is refused as one.

The order of a set differs from process to process, so the same request would be taken for a
different one when it is submitted again.
"""


def with_course_lists(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of a request, or of any other record, with its courses in lists.

    What cannot be a list of courses stays as it is, and is refused later.
    """
    copy = dict(fields)
    for field in _FIELDS:
        if type(courses := copy.get(field)) not in _PLAIN:
            copy[field] = _listed(courses)
    return copy


def _listed(courses: Any) -> Any:
    """Return what is not a list as one, if its elements have an order."""
    if isinstance(courses, AbstractSet):
        return _SET
    if isinstance(courses, Iterator) or (
        isinstance(courses, Sequence) and not isinstance(courses, str | bytes | bytearray)
    ):
        return list(islice(courses, MAX_COURSES + 1))
    return courses
