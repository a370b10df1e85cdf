"""A refusal is explained: one problem for each field, with the rule and what was given."""

from typing import Any

import pytest

from producer.contract.chunks import CourseChunk, EnrollmentChunk, StudentChunk
from producer.contract.explain import parse_record
from producer.schemas import (
    ContractModel,
    CourseRecord,
    StudentEnrollmentRequest,
    StudentRecord,
)
from support.contract import problems, request


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


TOO_MANY = [f"C{n}" for n in range(101)]
BAD_DROPS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "a course in both lists": (
        {"course_ids": ["A", 2], "drop_course_ids": [3, 2]},
        {"drop_course_ids[1]": "is also in course_ids; remove the course from one of the two"},
    ),
    "no course at all": (
        {},
        {"course_ids": "must be a list of 1 to 100 courses, unless drop_course_ids names some"},
    ),
    "two empty lists": (
        {"course_ids": [], "drop_course_ids": []},
        {"course_ids": "must be a list of 1 to 100 courses, unless drop_course_ids names some"},
    ),
    "too many drops": (
        {"drop_course_ids": TOO_MANY},
        {"drop_course_ids": "must be a list of at most 100 courses, not a list of 101"},
    ),
    "too many courses together": (
        {"course_ids": TOO_MANY[:60], "drop_course_ids": TOO_MANY[60:]},
        {"drop_course_ids": "must name at most 100 courses together with course_ids; divide"},
    ),
    "drops that are not a list": (
        {"drop_course_ids": "C1"},
        {"drop_course_ids": 'must be a list of at most 100 courses, not "C1"'},
    ),
    "a bad course to drop": (
        {"drop_course_ids": ["C1", True]},
        {"drop_course_ids[1]": "must be our key (an integer from 1 to 2147483647) or the SIS id"},
    ),
    "a reason that is too long": (
        {"course_ids": [1], "reason": "x" * 256},
        {"reason": 'must be a text of at most 255 characters, not "xxx'},
    ),
    "a reason that is no text": (
        {"course_ids": [1], "reason": 5},
        {"reason": "must be a text of at most 255 characters, not 5"},
    ),
    "a reason with NUL": (
        {"course_ids": [1], "reason": "a\0"}, {"reason": "must not contain the character NUL"},
    ),
    "a time without a zone": (
        {"drop_course_ids": [1], "as_of": "2026-09-01T08:00:00"},
        {"as_of": "must be a time with its time zone, for example 2026-09-01T08:00:00Z, not '2026"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "expected"), BAD_DROPS.values(), ids=BAD_DROPS)
def test_a_bad_drop_is_explained_at_the_field_to_correct(
    fields: dict[str, Any], expected: dict[str, str]
) -> None:
    found = problems({"student_id": "S1", **fields})
    assert list(found) == list(expected)
    for field, message in found.items():
        assert message.startswith(f"{field}: {expected[field]}")


def test_a_request_may_have_two_lists_of_courses_that_share_none() -> None:
    fields = {"student_id": 1, "course_ids": [1, "1"], "drop_course_ids": ["2", 2, "2"]}
    request, found = parse_record(StudentEnrollmentRequest, fields)
    assert found == ()
    assert request is not None
    assert (request.course_ids, request.drop_course_ids) == ((1, "1"), ("2", 2))


MEMBER = {"batch_id": "b", "kind": "enrollments"}
PLAN: dict[str, Any] = {"id": "b", "members": [MEMBER], "purpose": "apply"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"purpose": "maybe"}, 'plan.purpose: must be report or apply, not "maybe"'),
        ({"hold": "2"}, 'plan.hold: must be always, or a percentage such as 2%, not "2"'),
        ({"id": None}, "plan.id: must be a string of 1 to 128 characters, not null"),
        ({"snapshot": "yes"}, 'plan.snapshot: must be true or false, not "yes"'),
        ({"colour": 1}, "plan.colour: is not a known field; correct its name, or remove it"),
        ({"members": []}, "plan.members: must be a list of 1 to 10 batches, not []"),
        (
            {"members": [{**MEMBER, "kind": "drops"}]},
            'plan.members[0].kind: must be students, courses or enrollments, not "drops"',
        ),
        ({"members": [{"kind": "courses"}]}, "plan.members[0].batch_id: is required"),
        ({"adopt": True}, "plan: adopt is only for snapshots; leave it out"),
        (
            {"hold": "2%"},
            "plan: hold can be a percentage only with snapshot; write always without it",
        ),
        (
            {"hold": "always", "purpose": "report"},
            "plan: a dry run is never held: leave out hold, or set purpose to apply",
        ),
        (
            {"id": "s", "members": [MEMBER, {"batch_id": "s", "kind": "students"}]},
            "plan: members are applied in their order: name rosters before enrollments",
        ),
    ],
)
def test_a_bad_plan_is_explained_at_its_own_field(fields: dict[str, Any], message: str) -> None:
    chunk = {"batch_id": "b", "number": 0, "plan": PLAN | fields}
    found = problems(chunk, EnrollmentChunk)
    assert found == {message.partition(":")[0]: message}


def test_a_chunk_of_a_roster_has_no_data_set() -> None:
    chunk = {"batch_id": "b", "number": 0, "data_set": "sis:2026-fall"}
    assert EnrollmentChunk.model_validate(chunk).data_set == "sis:2026-fall"
    for model in (StudentChunk, CourseChunk):
        (message,) = problems(chunk, model).values()
        assert message == "data_set is only for enrollments; leave it out of chunks of a roster"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sis:f ", "must not begin or end with a space; remove the spaces at its ends"),
        ("\u00a0sis", "must not begin or end with a space; remove the spaces at its ends"),
        (" ", "must not begin or end with a space; remove the spaces at its ends"),
        ("a\n", r'must be a name of 1 to 128 characters without control characters, not "a\n"'),
        ("", 'must be a name of 1 to 128 characters without control characters, not ""'),
    ],
)
def test_a_bad_name_of_a_data_set_is_refused(name: str, message: str) -> None:
    chunk = {"batch_id": "b", "number": 0, "data_set": name}
    assert problems(chunk, EnrollmentChunk) == {"data_set": f"data_set: {message}"}


def test_bad_sizes_of_earlier_chunks_are_explained_at_their_own_field() -> None:
    chunk = {"batch_id": "b", "number": 1, "before": {"requests": -1, "rows": 2}}
    assert problems(chunk, EnrollmentChunk) == {
        "before.requests": "before.requests: must be an integer from 0 on, not -1"
    }
