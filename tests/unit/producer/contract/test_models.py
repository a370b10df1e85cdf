"""The contract as a document: every model has a JSON Schema, every field a sentence."""

from importlib import import_module
from pkgutil import iter_modules

import pytest

from producer import contract, schemas
from producer.schemas import ContractModel


def models() -> list[type[ContractModel]]:
    """Return every model of the contract, wherever it is defined."""
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
