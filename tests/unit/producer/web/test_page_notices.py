"""The page says what was passed over or dropped without the words of programs."""

from producer.files.formats.base import DROP, NO_COURSE, NOT_NAMED, PASS
from producer.files.formats.judging import Tally
from producer.files.formats.verdicts import Verdict
from support.page_modules import run_module


def test_each_notice_about_lines_is_shown_in_plain_words() -> None:
    tally = Tally()
    verdicts = [
        Verdict(PASS, "teacher"), Verdict(PASS, "teacher"), Verdict(PASS, "proctor's, 2 'aide"),
        Verdict(PASS, NOT_NAMED), Verdict(PASS, NO_COURSE),
        Verdict(PASS, "deleted", remark="gone"), Verdict(DROP, "ended"),
    ]  # fmt: skip
    for line, verdict in enumerate(verdicts, 2):
        tally.add(line, verdict)
    sentences = list(tally.sentences("users.csv"))
    shown = run_module("notices.js", "value.map(page.noticeInWords)", sentences)
    assert shown == [
        (
            "users.csv: Passed over, because only students are enrolled: 2 teachers and 1 line"
            " about “proctor's, 2 'aide”."
        ),
        (
            "users.csv: 1 user is passed over, because no file of the package names this user as a"
            " student."
        ),
        "users.csv: 1 line is passed over, because it names no course.",
        (
            "users.csv: Passed over, because of the status: 1 line with “deleted”. A list"
            " of students or courses removes nothing; to end enrollments, send them as drops."
        ),
        "users.csv: Ends enrollments: 1 line with “ended”.",
    ]
    assert run_module("notices.js", "value.map(page.isAboutOthers)", sentences) == [
        True, True, True, False, False,
    ]  # fmt: skip


def test_a_notice_about_something_else_is_shown_with_its_reason() -> None:
    notice = "The file: only the sheet 'A' is read, and not 'B'; to submit another sheet, name it."
    assert run_module("notices.js", "page.noticeInWords(value)", notice) == (
        "Only the sheet 'A' is read, and not 'B'. To send another one, choose the file again, and"
        " then the sheet."
    )


def test_what_is_counted_of_a_file_is_said_in_one_sentence() -> None:
    counts = {"teacher": 2, NOT_NAMED: 1, NO_COURSE: 1}
    assert run_module("notices.js", "page.passedOver(value)", counts) == (
        "Passed over, because only students are enrolled: 2 teachers, 1 person whom no file calls a"
        " student, and 1 line without a course."
    )
