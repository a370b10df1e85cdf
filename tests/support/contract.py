"""Explain what is wrong with a record of the contract."""

from typing import Any

import pytest
from pydantic import ValidationError

from producer.contract.explain import explain
from producer.schemas import Code, ContractModel, StudentEnrollmentRequest


def problems(record: Any, model: type[ContractModel] = StudentEnrollmentRequest) -> dict[Any, str]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(record)
    explained = explain(caught.value)
    assert {problem.code for problem in explained} == {Code.INVALID_REQUEST}
    found = {problem.field: problem.message for problem in explained}
    assert len(found) == len(explained), "one problem for each field"
    return found
