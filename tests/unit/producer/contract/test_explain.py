"""A refusal is explained: one problem for each field, with the rule and what was given."""

from typing import Any

import pytest

from producer.schemas import ContractModel, CourseRecord, StudentRecord
from support.contract import problems


def request(**fields: Any) -> dict[str, Any]:
    return {"student_id": 1, "course_ids": [1], **fields}


def test_a_list_of_bad_courses_is_not_also_called_too_short() -> None:
    assert list(problems(request(course_ids=[True, ""]))) == ["course_ids[0]", "course_ids[1]"]


def test_every_bad_field_is_explained_at_once() -> None:
    found = problems({"course_ids": [True, "M1", ""], "request_id": "", "atomic": 1, "seat": 3})
    assert list(found) == [
        "student_id", "course_ids[0]", "course_ids[2]", "request_id", "atomic", "seat",
    ]  # fmt: skip
    assert found["student_id"] == "student_id: is required"


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "null"), (5, "5"), ("x", '"x"'), ([1], "[1]"), (True, "true")]
)
def test_a_record_that_is_not_an_object_is_explained_without_a_field(
    value: Any, shown: str
) -> None:
    assert problems(value) == {None: f"must be a JSON object, not {shown}"}


def test_the_name_of_an_unknown_field_is_shown_in_plain_and_short_text() -> None:
    (field,) = problems(request(**{"a\0é\n" + "b" * 999: 1}))
    assert field.startswith(r"'a\x00\xe9\nbbb")
    assert len(field) == 255


@pytest.mark.parametrize("model", [StudentRecord, CourseRecord])
def test_a_roster_record_is_explained_by_the_rule_of_its_field(model: type[ContractModel]) -> None:
    texts = [name for name in model.model_fields if name not in ("sis_id", "as_of")]
    found = problems({"sis_id": 4711, **dict.fromkeys(texts, "")}, model)
    rule = "must be a string of 1 to 255 characters"
    expected = {name: f'{name}: {rule}, not ""' for name in texts}
    assert found == {"sis_id": f"sis_id: {rule}, not 4711", **expected}
