"""The page says what was passed over or dropped without the words of programs."""

from producer.files.formats.base import DROP, NOT_NAMED, PASS
from producer.files.formats.judging import Tally
from producer.files.formats.verdicts import Verdict
from support.page_modules import run_module


def test_each_notice_about_lines_is_shown_in_plain_words() -> None:
    tally = Tally()
    verdicts = [
        Verdict(PASS, "teacher"), Verdict(PASS, "teacher"), Verdict(PASS, "proctor's, 2 'aide"),
        Verdict(PASS, NOT_NAMED), Verdict(PASS, "deleted", remark="gone"), Verdict(DROP, "ended"),
    ]  # fmt: skip
    for line, verdict in enumerate(verdicts, 2):
        tally.add(line, verdict)
    sentences = list(tally.sentences("users.csv"))
    shown = run_module("notices.js", "value.map(page.noticeInWords)", sentences)
    assert shown == [
        (
            "users.csv: Passed over, because only students are enrolled: 2 teachers, 1 line about"
            " “proctor's, 2 'aide”, and 1 person whom no file calls a student."
        ),
        (
            "users.csv: Passed over, because of the status: 1 line with “deleted”. A list"
            " of students or courses removes nothing; to end enrollments, send them as drops."
        ),
        "users.csv: Ends enrollments: 1 line with “ended”.",
    ]
    assert run_module("notices.js", "value.map(page.isAboutOthers)", sentences) == [
        True, False, False,
    ]  # fmt: skip


def test_a_notice_about_something_else_is_shown_with_its_reason() -> None:
    notice = "The file: only the sheet 'A' is read, and not 'B'; to submit another sheet, name it."
    assert run_module("notices.js", "page.noticeInWords(value)", notice) == (
        "Only the sheet 'A' is read, and not 'B'. To send another one, choose the file again, and"
        " then the sheet."
    )
