"""Records that are legal JSON of a given size, but break the contract in many ways at once."""

import random
from collections.abc import Callable, Mapping
from typing import Any, Final

GOOD_FIELDS: Final[dict[str, Any]] = {"student_id": "A", "course_ids": ["M1"], "atomic": False}


def _unknown_fields(size: int, chance: random.Random) -> dict[str, Any]:
    return GOOD_FIELDS | {f"x{chance.randrange(10**8)}": 1 for _ in range(size // 14)}


def _long_names(size: int, chance: random.Random) -> dict[str, Any]:
    return GOOD_FIELDS | {chance.choice("ab\0é") * 900 + str(n): None for n in range(size // 900)}


def _long_text(size: int, chance: random.Random) -> dict[str, Any]:
    return GOOD_FIELDS | {"student_id": chance.choice('xé"\\') * size}


def _long_courses(size: int, chance: random.Random) -> dict[str, Any]:
    count = chance.choice([3, 100, 150])
    courses = [f"{n}" * (size // count // 3) for n in range(100, 100 + count)]
    return GOOD_FIELDS | {"course_ids": courses}


def _bad_courses(size: int, chance: random.Random) -> dict[str, Any]:
    bad: list[Any] = [chance.choice([0, -1, None, "", [], {}, 1.5]) for _ in range(size // 4)]
    return GOOD_FIELDS | {"course_ids": bad[: chance.choice([60, len(bad)])]}


def _many_courses(size: int, _: random.Random) -> dict[str, Any]:
    return GOOD_FIELDS | {"course_ids": list(range(1, size // 7))}


def _huge_integers(size: int, chance: random.Random) -> dict[str, Any]:
    digits = chance.choice([400, 4_000])
    return GOOD_FIELDS | {"course_ids": [10**digits + n for n in range(size // digits)]}


def _deep(size: int, chance: random.Random) -> dict[str, Any]:
    value: Any = "x"
    for _ in range(chance.choice([50, 150])):
        value = [value] if chance.random() < 0.5 else {"in": value}
    return GOOD_FIELDS | {"student_id": value, "course_ids": [value], "pad": "y" * size}


def _wide_and_deep(size: int, _: random.Random) -> dict[str, Any]:
    return GOOD_FIELDS | {"more": [{"a": [n, {"b": None}]} for n in range(size // 25)]}


_SHAPES: Final[Mapping[str, Callable[[int, random.Random], dict[str, Any]]]] = {
    "unknown fields": _unknown_fields,
    "fields with long names": _long_names,
    "a long text": _long_text,
    "long courses": _long_courses,
    "bad courses": _bad_courses,
    "many courses": _many_courses,
    "huge integers": _huge_integers,
    "deep": _deep,
    "wide and deep": _wide_and_deep,
}
SHAPES = sorted(_SHAPES)


def large_request(shape: str, size: int, seed: int) -> dict[str, Any]:
    """Return a request of this shape and of about this many bytes."""
    return _SHAPES[shape](size, random.Random(seed))


def giant(size: int, seed: int) -> bytes:
    """Return this many bytes, which begin like a message."""
    block = b'{"body": "' + random.Random(seed).randbytes(500_000).hex().encode()
    return (block * (size // len(block) + 1))[:size]


def as_roster_record(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a roster record that is as large and as wrong as a request."""
    names = {"student_id": "sis_id", "course_ids": "name", "atomic": "email"}
    return {names.get(name, name): value for name, value in request.items()}
