"""Read the arguments of lookups, and explain what is wrong with them by the contract's rules."""

from datetime import datetime
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from producer.contract.batches import BatchCursor, BatchState
from producer.contract.explain import explain_argument, parse_record
from producer.contract.lookups import (
    Identifiers,
    Limit,
    Number,
    Numbers,
    PairCursor,
    RequestIds,
    ResultCursor,
    RollsCursor,
    SubmitterName,
)
from producer.contract.plans import DecisionMessage
from producer.contract.searching import SearchText
from producer.fields import Identifier, Moment, StoredId
from producer.schemas import Code, Kind

T = TypeVar("T")

TEXT: TypeAdapter[str] = TypeAdapter(StoredId)
TEXTS: TypeAdapter[list[str]] = TypeAdapter(RequestIds)
NUMBER: TypeAdapter[int] = TypeAdapter(Number)
NUMBERS: TypeAdapter[list[int]] = TypeAdapter(Numbers)
ID: TypeAdapter[int | str] = TypeAdapter(Identifier)
ID_OR_NONE: TypeAdapter[int | str | None] = TypeAdapter(Identifier | None)
IDS: TypeAdapter[list[int | str]] = TypeAdapter(Identifiers)
CURSOR: TypeAdapter[ResultCursor | None] = TypeAdapter(ResultCursor | None)
ROLLS_CURSOR: TypeAdapter[RollsCursor | None] = TypeAdapter(RollsCursor | None)
PAIR_CURSOR: TypeAdapter[PairCursor | None] = TypeAdapter(PairCursor | None)
LIMIT: TypeAdapter[int] = TypeAdapter(Limit)
MOMENT: TypeAdapter[datetime | None] = TypeAdapter(Moment | None)
PLACE: TypeAdapter[BatchCursor | None] = TypeAdapter(BatchCursor | None)
STATE: TypeAdapter[BatchState | None] = TypeAdapter(BatchState | None)
SEARCH: TypeAdapter[str] = TypeAdapter(SearchText)
KIND: TypeAdapter[Kind | None] = TypeAdapter(Kind | None)
CODE: TypeAdapter[Code | None] = TypeAdapter(Code | None)
SUBMITTER: TypeAdapter[str | None] = TypeAdapter(SubmitterName | None)


class InvalidArgument(ValueError):
    """An argument of a lookup breaks the contract; the message is for the client."""


def checked(adapter: TypeAdapter[T], value: Any, name: str) -> T:
    """Return the argument of this name, as its type reads it. Raises InvalidArgument."""
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        # The client reads this text; pydantic's exception would not survive the trip as JSON.
        raise InvalidArgument(explain_argument(error, value, name)) from None


def checked_decision(value: Any) -> DecisionMessage:
    """Return the argument of a decision. Raises InvalidArgument, which names each wrong field."""
    decision, problems = parse_record(DecisionMessage, value)
    if decision is None:
        raise InvalidArgument("; ".join(problem.message for problem in problems))
    return decision
