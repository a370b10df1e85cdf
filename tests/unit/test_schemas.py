"""The contract: what is taken, what is refused, and how a refusal is explained."""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import pytest
from pydantic import ValidationError

from producer import contract, schemas
from producer.contract.chunks import Chunk, RefusedLine, Tally, count_rows
from producer.contract.explain import explain
from producer.contract.routing import KIND_TASKS, TASK_QUEUES, TaskName
from producer.schemas import (
    CODE_MEANINGS,
    MAX_CHUNK_RECORDS,
    MAX_KEY,
    Code,
    ContractModel,
    CourseRecord,
    EnrollmentProblem,
    Kind,
    StudentEnrollmentRequest,
    StudentRecord,
)

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
    "a lone surrogate": ("\ud800", "must be text; a lone surrogate is none"),
    "a list": ([], f"{ID_RULE}, not []"),
    "an object": ({}, f"{ID_RULE}, not {{}}"),
}
bad_ids = pytest.mark.parametrize(("bad", "message"), BAD_IDS.values(), ids=BAD_IDS)


def request(**fields: Any) -> dict[str, Any]:
    return {"student_id": 1, "course_ids": [1], **fields}


def problems(record: Any, model: type[ContractModel] = StudentEnrollmentRequest) -> dict[Any, str]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(record)
    explained = explain(caught.value)
    assert {problem.code for problem in explained} == {Code.INVALID_REQUEST}
    found = {problem.field: problem.message for problem in explained}
    assert len(found) == len(explained), "one problem for each field"
    return found


# --- Requests -------------------------------------------------------------------------------


@bad_ids
def test_a_bad_student_id_is_refused_with_the_rule_and_what_was_given(
    bad: Any, message: str
) -> None:
    assert problems(request(student_id=bad)) == {"student_id": f"student_id: {message}"}


@bad_ids
def test_a_bad_course_id_is_refused_by_its_place_in_the_list(bad: Any, message: str) -> None:
    found = problems(request(course_ids=["M1", bad, 3]))
    assert found == {"course_ids[1]": f"course_ids[1]: {message}"}


@pytest.mark.parametrize("good", [1, MAX_KEY, "4711", 4711, "x", "x" * 255, "Ä 😀", " "])
def test_an_id_is_kept_as_it_came(good: int | str) -> None:
    taken = StudentEnrollmentRequest.model_validate(request(student_id=good, course_ids=[good]))
    for kept in (taken.student_id, *taken.course_ids):
        assert (type(kept), kept) == (type(good), good)


def test_repeated_courses_are_folded_in_order_and_a_key_is_no_sis_id() -> None:
    taken = StudentEnrollmentRequest.model_validate(request(course_ids=["B", 1, "A", "1", "B", 1]))
    assert taken.course_ids == ("B", 1, "A", "1")


@pytest.mark.parametrize(
    ("courses", "shown"),
    [
        ([], "[]"),
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


def test_a_hundred_courses_are_taken() -> None:
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
def test_a_request_id_at_the_bounds_is_taken(good: str | None) -> None:
    taken = StudentEnrollmentRequest.model_validate(request(request_id=good))
    assert taken.request_id == good


def test_a_request_is_all_or_nothing_by_default() -> None:
    assert StudentEnrollmentRequest.model_validate(request()).atomic is True


def test_a_field_that_nobody_knows_is_refused() -> None:
    assert problems(request(seat=3)) == {"seat": "seat: is no field of the contract; remove it"}


def test_a_request_is_frozen() -> None:
    taken = StudentEnrollmentRequest.model_validate(request())
    with pytest.raises(ValidationError, match="frozen"):
        taken.student_id = 2  # type: ignore[misc]


# --- Explanations ---------------------------------------------------------------------------


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
def test_what_is_no_object_is_explained_without_a_field(value: Any, shown: str) -> None:
    assert problems(value) == {None: f"must be a JSON object, not {shown}"}


def test_the_name_of_an_unknown_field_is_shown_in_plain_and_short_text() -> None:
    (field,) = problems(request(**{"a\0é\n" + "b" * 999: 1}))
    assert field.startswith(r"'a\x00\xe9\nbbb")
    assert len(field) == 255


@pytest.mark.parametrize("model", [StudentRecord, CourseRecord])
def test_a_roster_record_is_explained_by_the_rule_of_its_field(model: type[ContractModel]) -> None:
    texts = [name for name in model.model_fields if name != "sis_id"]
    found = problems({"sis_id": 4711, **dict.fromkeys(texts, "")}, model)
    rule = "must be a string of 1 to 255 characters"
    expected = {name: f'{name}: {rule}, not ""' for name in texts}
    assert found == {"sis_id": f"sis_id: {rule}, not 4711", **expected}


# --- The contract as a document -------------------------------------------------------------


def models() -> list[type[ContractModel]]:
    """Every model of the contract, wherever it is defined."""
    names = [info.name for info in iter_modules(contract.__path__, "producer.contract.")]
    modules = [schemas, *map(import_module, names)]
    found = {value for module in modules for value in vars(module).values() if is_model(value)}
    return sorted(found, key=lambda model: model.__name__)


def is_model(value: object) -> bool:
    return (
        isinstance(value, type) and issubclass(value, ContractModel) and value is not ContractModel
    )


def test_the_contract_is_more_than_one_module() -> None:
    assert {"Chunk", "BatchStatus", "StudentEnrollmentRequest"} <= {m.__name__ for m in MODELS}


MODELS = models()


@pytest.mark.parametrize("model", MODELS)
def test_every_message_has_a_json_schema_that_forbids_other_fields(
    model: type[ContractModel],
) -> None:
    schema = model.model_json_schema()
    assert schema["additionalProperties"] is False
    assert schema["description"]


@pytest.mark.parametrize("model", MODELS)
def test_every_field_of_the_contract_is_described(model: type[ContractModel]) -> None:
    properties = model.model_json_schema()["properties"]
    assert [name for name, field in properties.items() if not field.get("description")] == []


def test_every_code_has_a_meaning() -> None:
    assert set(CODE_MEANINGS) == set(Code)
    assert all(CODE_MEANINGS.values())


def test_every_task_has_a_queue_and_every_kind_a_task() -> None:
    assert set(TASK_QUEUES) == set(TaskName)
    assert set(KIND_TASKS) == set(Kind)


def test_a_code_is_written_as_its_plain_text() -> None:
    problem = EnrollmentProblem(code=Code.UNKNOWN_COURSE, message="No.")
    assert problem.model_dump(mode="json")["code"] == "unknown_course"


# --- Counting and chunks --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "rows"),
    [
        ({"student_id": 1, "course_ids": ["A", "B"]}, 2),
        ({"course_ids": ["A", "A", "B"]}, 2),
        ({"course_ids": (1, "1")}, 2),
        ({"course_ids": [True, "True", {}, []]}, 4),
        ({"course_ids": []}, 1),
        ({"course_ids": "AB"}, 1),
        ({"course_ids": None}, 1),
        ({"sis_id": "S1"}, 1),
        (None, 1),
        ([1, 2, 3], 1),
    ],
)
def test_a_request_counts_its_distinct_courses_and_all_else_counts_one(
    record: Any, rows: int
) -> None:
    assert count_rows(record) == rows


def chunk(**fields: Any) -> dict[str, Any]:
    return {"batch_id": "b", "number": 0, **fields}


PAIR = {"student_id": 1, "course_ids": ["A", "B"]}


@pytest.mark.parametrize(
    ("records", "lines"),
    [
        ([], []),
        ([PAIR], None),
        ([PAIR], [7]),
        ([PAIR], [7, 9]),
        (["no object", PAIR], [2, 3]),
        (["no object", PAIR], [2, 3, 4]),
    ],
)
def test_a_record_has_one_line_or_a_line_for_each_course(records: Any, lines: Any) -> None:
    taken = Chunk.model_validate(chunk(records=records, lines=lines))
    assert taken.tally().requests == len(records)


@pytest.mark.parametrize(
    ("records", "lines"),
    [
        ([PAIR], []),
        ([], [1]),
        ([PAIR], [1, 2, 3]),
        (["no object"], [1, 2]),
    ],
)
def test_lines_that_do_not_fit_their_records_are_refused(records: Any, lines: Any) -> None:
    message = "lines must have an entry for each record, or one for each row"
    assert problems(chunk(records=records, lines=lines), Chunk) == {None: message}


def test_cells_are_given_for_each_line() -> None:
    kept = chunk(records=[PAIR], lines=[7, 9], cells=[["1", "A"], ["1", "B"]])
    assert Chunk.model_validate(kept).cells == (("1", "A"), ("1", "B"))
    message = "cells must have an entry for each of the lines"
    assert problems({**kept, "cells": [["1", "A"]]}, Chunk) == {None: message}


@pytest.mark.parametrize(
    "bad",
    [
        {"number": True},
        {"number": -1},
        {"last": 1},
        {"batch_id": ""},
        {"before": {"requests": -1}},
        {"before": {"rows": 2**53 + 1}},
        {"lines": ["1"], "records": [1]},
        {"records": [1] * (MAX_CHUNK_RECORDS + 1)},
        {"refused": [{"line": 0, "message": ""}]},
        {"refused": [{"line": 1, "message": "x" * 1001}]},
        {"refused": [{"line": 1, "message": "\0"}]},
    ],
    ids=lambda bad: next(iter(bad)),
)
def test_a_chunk_outside_its_bounds_is_refused_by_one_field(bad: dict[str, Any]) -> None:
    (field,) = problems(chunk(**bad), Chunk)
    assert field.partition("[")[0] in bad


def test_a_chunk_counts_refused_lines_as_requests_of_one_row() -> None:
    refused = (RefusedLine(line=4, message="x"), RefusedLine(line=5, message="x"))
    held = Chunk(batch_id="b", number=0, records=(PAIR, "no object"), refused=refused)
    assert held.tally() == Tally(requests=4, rows=5)


def test_a_chunk_survives_the_way_through_json() -> None:
    sent = Chunk(batch_id="b", number=3, records=(PAIR,), lines=(7, 9), last=True)
    taken = Chunk.model_validate_json(sent.model_dump_json())
    assert taken.model_dump(mode="json") == sent.model_dump(mode="json")
