"""Search students and courses in SQL, by SIS id, e-mail address, name and title.

No index serves a search: it would slow down every upsert of the roster.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from sqlalchemy import Connection, Integer, String, and_, bindparam, case, func, or_, select

from producer.contract.searching import Search, pattern_of
from worker.models import Course, Student

Model = type[Student] | type[Course]

_NAMES: Final[Mapping[Model, Any]] = {Student: Student.name, Course: Course.title}
"""What has the words of a search."""
_COLUMNS: Final[Mapping[Model, tuple[Any, ...]]] = {
    Student: (Student.id, Student.sis_id, Student.name, Student.email),
    Course: (Course.id, Course.sis_id, Course.title),
}
_GLOB_SIGNS: Final = "*?["


def find_largest_key(connection: Connection, model: Model) -> int:
    """Return the largest key of a student or course; 0 if there are none."""
    return connection.scalar(select(func.max(model.id))) or 0


def find_exact(connection: Connection, model: Model, search: Search) -> list[Any]:
    """Return the student or course with exactly this SIS id, through its index; at most one row."""
    statement = select(*_COLUMNS[model]).where(model.sis_id == bindparam("whole", type_=String()))
    return list(connection.execute(statement, {"whole": search.whole}))


def find_matching(
    connection: Connection,
    model: Model,
    search: Search,
    keys: tuple[int, int],
    limit: int,
    *,
    any_accent: bool = False,
) -> list[Any]:
    """Return the best matches with keys above the first and up to the second one, each with a rank.

    The rank is 0 for the SIS id, 1 for it in another case, 2 for a number with other zeros in
    front, 3 for the e-mail address, and 4 for all words in the name or title.
    """
    dialect = connection.dialect.name
    statement = _select_matching(dialect, model, len(search.words), search.number is not None)
    is_regular = dialect == "postgresql"
    literal = re.escape if is_regular else _globbed
    whole = pattern_of(search.whole, literal, any_accent=any_accent)
    words = [pattern_of(word, literal, any_accent=any_accent) for word in search.words]
    parameters = {
        f"word_{number}": word if is_regular else f"*{word}*" for number, word in enumerate(words)
    }
    if search.number is not None:
        parameters["number"] = search.number
    parameters |= {"whole": search.whole, "pattern": f"^{whole}$" if is_regular else whole}
    first, last = keys
    values = {**parameters, "first": first, "last": last, "most": limit}
    return list(connection.execute(statement, values))


@cache
def _select_matching(dialect: str, model: Model, words: int, has_number: bool) -> Any:  # noqa: FBT001 - for the cache
    def matches(of: Any, name: str) -> Any:
        return of.op("~" if dialect == "postgresql" else "GLOB")(bindparam(name, type_=String()))

    is_exact = model.sis_id == bindparam("whole", type_=String())
    ranks = [(is_exact, 0), (matches(model.sis_id, "pattern"), 1)]
    if has_number:
        without_zeros = func.ltrim(model.sis_id, "0")
        ranks.append((without_zeros == bindparam("number", type_=String()), 2))
    if model is Student:
        ranks.append((matches(Student.email, "pattern"), 3))
    has_words = and_(*(matches(_NAMES[model], f"word_{number}") for number in range(words)))
    rank = case(*ranks, else_=4).label("rank")
    return (
        select(*_COLUMNS[model], rank)
        .where(
            model.id > bindparam("first", type_=Integer()),
            model.id <= bindparam("last", type_=Integer()),
            or_(*(condition for condition, _ in ranks), has_words),
        )
        .order_by(rank, model.id)
        .limit(bindparam("most", type_=Integer()))
    )


def _globbed(character: str) -> str:
    """Return the pattern of SQLite's GLOB for one character."""
    return f"[{character}]" if character in _GLOB_SIGNS else character
