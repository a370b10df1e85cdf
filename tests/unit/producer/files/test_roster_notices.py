"""Values of a roster that are hardly meant are noticed before anything is submitted."""

import json

import pytest

from producer.schemas import Kind
from support.source_files import Open, read

ODD = {
    "a missing name": ({"sis_id": "S2", "name": "NULL"}, ["the name 'NULL'", "missing value"]),
    "a missing address": ({"sis_id": "S2", "email": "#N/A"}, ["the email '#N/A'", "empty such"]),
    "a rounded id": ({"sis_id": "1,23E+05"}, ["the sis_id '1,23E+05'", "spreadsheet", "as text"]),
    "decimals": ({"sis_id": "124.0"}, ["the sis_id '124.0'"]),
    "a formula": ({"sis_id": '="00200"'}, ["the sis_id '=\"00200\"'"]),
    "an apostrophe": ({"sis_id": "'00201"}, ['sis_id "\'00201"']),
    "an accent of its own": ({"sis_id": "Zoe\u0301"}, ["'Zoe\\u0301'", "(NFD)", "another id"]),
    "Korean letters in parts": ({"sis_id": "\u1100\u1161"}, ["'\\u1100\\u1161'", "(NFC)"]),
}
FIELDS = ("sis_id", "name", "email")


def _csv(*records: dict[str, str]) -> str:
    rows = [[record.get(field, "").replace('"', '""') for field in FIELDS] for record in records]
    lines = [",".join(f'"{cell}"' for cell in row) for row in rows]
    return "\n".join([",".join(FIELDS), *lines, ""])


@pytest.mark.parametrize(("record", "words"), ODD.values(), ids=ODD)
@pytest.mark.parametrize("is_json", [False, True])
def test_an_odd_value_is_noticed_once_and_stays(
    opened: Open, record: dict[str, str], words: list[str], is_json: bool
) -> None:
    records = [{"sis_id": "S1", "name": "Ada", "email": "ada@x"}, record, record]
    text = "".join(json.dumps(one) + "\n" for one in records) if is_json else _csv(*records)
    source = opened(text, Kind.STUDENTS)
    (notice,) = source.notices
    assert f"line {2 if is_json else 3} has" in notice
    for word in words:
        assert word in notice
    assert [entry[0] for entry in read(source)] == records
    assert list(source.notices) == [notice]


def test_plain_values_are_not_noticed(opened: Open) -> None:
    ids = ("00123", "1E5", "A.0", "12.05", "O'Neil-1", "1-0", "Zo\u00e9", "\uac00 1", "\u674e")
    records = [{"sis_id": sis_id, "name": "Nullmann", "email": "nan@x"} for sis_id in ids]
    source = opened(_csv(*records))
    assert [entry[0] for entry in read(source)] == records
    assert list(source.notices) == []
