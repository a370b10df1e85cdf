"""Requests: what is accepted, what is refused, and with which words."""

from typing import Any

import pytest
from pydantic import ValidationError

from producer.fields import MAX_KEY
from producer.schemas import CODE_MEANINGS, Code, EnrollmentProblem, StudentEnrollmentRequest
from support.contract import problems, request

ID_RULE = (
    f"must be our key (an integer from 1 to {MAX_KEY})"
    " or the SIS id (a string of 1 to 255 characters)"
)
BAD_IDS: dict[str, tuple[Any, str]] = {
    "a boolean": (True, f"{ID_RULE}, not true"),
    "a float": (1.5, f"{ID_RULE}, not 1.5"),
    "a whole float": (1.0, f"{ID_RULE}, not 1.0"),
    "null": (None, f"{ID_RULE}, not null"),
    "zero": (0, f"{ID_RULE}, not 0"),
    "a negative key": (-1, f"{ID_RULE}, not -1"),
    "a key too large": (2**31, f"{ID_RULE}, not 2147483648"),
    "an empty string": ("", f'{ID_RULE}, not ""'),
    "a string too long": ("x" * 256, f'{ID_RULE}, not "{"x" * 56}...'),
    "NUL": ("a\0b", "must not contain the character NUL"),
    "a lone surrogate": ("\ud800", "must be valid Unicode text, without lone surrogates"),
    "a list": ([], f"{ID_RULE}, not []"),
    "an object": ({}, f"{ID_RULE}, not {{}}"),
}
bad_ids = pytest.mark.parametrize(("bad", "message"), BAD_IDS.values(), ids=BAD_IDS)


@bad_ids
def test_a_bad_student_id_is_refused_with_the_rule_and_the_value(bad: Any, message: str) -> None:
    assert problems(request(student_id=bad)) == {"student_id": f"student_id: {message}"}


@bad_ids
def test_a_bad_course_id_is_refused_with_its_position_in_the_list(bad: Any, message: str) -> None:
    found = problems(request(course_ids=["M1", bad, 3]))
    assert found == {"course_ids[1]": f"course_ids[1]: {message}"}


@pytest.mark.parametrize("good", [1, MAX_KEY, "4711", 4711, "x", "x" * 255, "Ä 😀", " "])
def test_an_id_is_unchanged(good: int | str) -> None:
    taken = StudentEnrollmentRequest.model_validate(request(student_id=good, course_ids=[good]))
    for kept in (taken.student_id, *taken.course_ids):
        assert (type(kept), kept) == (type(good), good)


def test_repeated_courses_are_removed_and_a_key_differs_from_a_sis_id() -> None:
    taken = StudentEnrollmentRequest.model_validate(request(course_ids=["B", 1, "A", "1", "B", 1]))
    assert taken.course_ids == ("B", 1, "A", "1")


@pytest.mark.parametrize(
    ("courses", "shown"),
    [
        (list(range(1, 102)), "a list of 101"),
        (["M1"] * 101, "a list of 101"),
        ("M1", '"M1"'),
        (None, "null"),
        ({"M1": 1}, '{"M1": 1}'),
    ],
)
def test_anything_but_1_to_100_courses_is_one_problem(courses: Any, shown: str) -> None:
    assert problems(request(course_ids=courses)) == {
        "course_ids": f"course_ids: must be a list of 1 to 100 courses, not {shown}"
    }


def test_a_hundred_courses_are_accepted() -> None:
    courses = tuple(range(1, 101))
    assert StudentEnrollmentRequest(student_id=1, course_ids=courses).course_ids == courses


@pytest.mark.parametrize("bad", [1, 0, "true", "false", None, []])
def test_atomic_must_be_a_boolean(bad: Any) -> None:
    (message,) = problems(request(atomic=bad)).values()
    assert message.startswith("atomic: must be true or false, not ")


@pytest.mark.parametrize("bad", ["", "x" * 129, 5, True])
def test_a_request_id_has_1_to_128_characters(bad: Any) -> None:
    (message,) = problems(request(request_id=bad)).values()
    assert message.startswith("request_id: must be a string of 1 to 128 characters, not ")


@pytest.mark.parametrize("good", ["x", "x" * 128, None])
def test_a_request_id_at_the_bounds_is_accepted(good: str | None) -> None:
    taken = StudentEnrollmentRequest.model_validate(request(request_id=good))
    assert taken.request_id == good


def test_a_request_is_all_or_nothing_by_default() -> None:
    assert StudentEnrollmentRequest.model_validate(request()).atomic is True


def test_an_unknown_field_is_refused() -> None:
    assert problems(request(seat=3)) == {
        "seat": "seat: is not a known field; correct its name, or remove it"
    }


@pytest.mark.parametrize("name", ["action", "drop", "drop_courses"])
def test_an_unknown_field_that_asks_for_a_drop_is_not_to_be_removed(name: str) -> None:
    (message,) = problems(request(**{name: "drop"})).values()
    assert message == (
        f"{name}: is not a known field; a request names the courses to drop in drop_course_ids"
    )


def test_a_request_is_frozen() -> None:
    taken = StudentEnrollmentRequest.model_validate(request())
    with pytest.raises(ValidationError, match="frozen"):
        taken.student_id = 2  # type: ignore[misc]


def test_every_code_has_a_meaning() -> None:
    assert set(CODE_MEANINGS) == set(Code)
    assert all(CODE_MEANINGS.values())


def test_a_code_is_written_as_its_plain_text() -> None:
    problem = EnrollmentProblem(code=Code.UNKNOWN_COURSE, message="No.")
    assert problem.model_dump(mode="json")["code"] == "unknown_course"
