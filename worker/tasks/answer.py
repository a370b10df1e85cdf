"""Turn what a task returns into JSON."""

import logging
from collections.abc import Sequence
from typing import Any, TypeVar

from producer.schemas import ContractModel

log = logging.getLogger(__name__)
T = TypeVar("T")

REQUEST = "worker.messaging.consumer:CountedRequest"


def _dump(value: Any) -> Any:
    if isinstance(value, ContractModel):
        return value.model_dump(mode="json")
    return [_dump(one) for one in value] if isinstance(value, Sequence) else value
