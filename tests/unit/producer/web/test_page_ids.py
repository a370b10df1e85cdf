"""The page writes every SIS id into a path so that it arrives as it is."""

import pytest

from producer.schemas import Code
from producer.web.parameters import identifier
from support.page_modules import run_module

IDS = [".", "..", "...", "S1", "a/b", "key:7", "sis:x", "%2e%2e", "é ?#", ".a"]


@pytest.mark.parametrize("sis_id", IDS)
def test_an_id_in_a_path_arrives_as_it_is(sis_id: str) -> None:
    expression = "new URL(`http://x.test/students/${page.inPath(value)}/history`).pathname"
    path = run_module("ids.js", expression, sis_id)
    *above, part, below = path.split("/")
    assert (above, below) == (["", "students"], "history")
    assert identifier(part, Code.UNKNOWN_STUDENT) == sis_id
