"""The page offers the formats that `enroll formats` lists."""

from producer.files.formats.registry import FORMATS
from support.page_modules import run_module


def test_the_page_offers_every_format_and_no_other() -> None:
    assert run_module("systems.js", "page.SYSTEMS", None) == [
        [known.name, known.title] for known in FORMATS
    ]
