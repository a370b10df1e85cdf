"""Convert what a task returns to JSON."""

from collections.abc import Sequence
from typing import Any

from producer.schemas import ContractModel


def to_json(value: Any) -> Any:
    """Return a model, or nested lists of models, as JSON values."""
    if isinstance(value, ContractModel):
        return value.model_dump(mode="json")
    return [to_json(item) for item in value] if isinstance(value, Sequence) else value
