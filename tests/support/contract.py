"""Make records of the contract, and explain what is wrong with them."""

from typing import Any

import pytest
from pydantic import ValidationError

from producer.contract.explain import explain
from producer.schemas import Code, ContractModel, StudentEnrollmentRequest


def request(**fields: Any) -> dict[str, Any]:
    """Return a request that is valid, unless a field is changed or added."""
    return {"student_id": 1, "course_ids": [1], **fields}


def problems(record: Any, model: type[ContractModel] = StudentEnrollmentRequest) -> dict[Any, str]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(record)
    explained = explain(caught.value)
    assert {problem.code for problem in explained} == {Code.INVALID_REQUEST}
    found = {problem.field: problem.message for problem in explained}
    assert len(found) == len(explained), "one problem for each field"
    return found
