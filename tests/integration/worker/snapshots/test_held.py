"""Files that registrars submit by mistake are held, and drop nothing. On both databases."""

from collections.abc import Iterable

import pytest

from producer.contract.chunks import RefusedLine
from producer.contract.plans import HoldReason
from support.databases import store_roster
from support.snapshots import Feeds, Pair, Planned, at, chunk_of
from worker.data_sets.repository import set_rules
from worker.database.engine import Database
from worker.models import PastEnrollment

STUDENTS = [f"{number:06}" for number in range(1, 61)]
COURSES = ["ALG-1", "BIO-1"]
ALL: list[Pair] = [(student, course) for student in STUDENTS for course in COURSES]


@pytest.fixture
def feeds(database: Database) -> Feeds:
    store_roster(database, STUDENTS, COURSES)
    return Feeds(database)


def reasons(feeds: Feeds, planned: Planned) -> set[HoldReason]:
    return {reason.code for reason in feeds.reasons(planned)}


def plan(feeds: Feeds, pairs: Iterable[Pair]) -> Planned:
    return feeds.plan("sis", pairs, at(10))


def unread(*lines: tuple[str, ...]) -> list[RefusedLine]:
    return [
        RefusedLine(line=number, message="it cannot be read", cells=cells)
        for number, cells in enumerate(lines, 2)
    ]


def test_a_file_that_changes_little_is_not_held(feeds: Feeds) -> None:
    feeds.batch("sis", ALL, at(0))
    assert reasons(feeds, plan(feeds, ALL)) == set()
    planned = feeds.plan("sis", ALL[5:], at(11))
    assert planned.absence.absent.dropped == 5
    assert reasons(feeds, planned) == set()


def test_an_empty_file_is_held(feeds: Feeds) -> None:
    feeds.batch("sis", ALL, at(0))
    planned = plan(feeds, [])
    assert planned.absence.absent.dropped == planned.absence.owned_before == 120
    assert reasons(feeds, planned) == {
        HoldReason.NO_ENROLLMENTS,
        HoldReason.MANY_DROPS,
        HoldReason.MOST_DROPS,
        HoldReason.COURSE_LOSES_MOST,
    }
    assert feeds.count(PastEnrollment) == 0


def test_an_empty_first_file_is_held(feeds: Feeds) -> None:
    assert reasons(feeds, plan(feeds, [])) == {HoldReason.NO_ENROLLMENTS}


def test_a_file_without_a_tenth_of_its_rows_is_held(feeds: Feeds) -> None:
    feeds.batch("sis", ALL, at(0))
    assert reasons(feeds, plan(feeds, ALL[:-12])) == {HoldReason.MANY_DROPS}


def test_a_file_with_one_of_ten_rows_is_held(feeds: Feeds) -> None:
    feeds.batch("sis", ALL[:10], at(0))
    assert reasons(feeds, plan(feeds, ALL[:1])) == {HoldReason.MOST_DROPS}


def test_a_file_without_one_course_is_held_and_the_reason_names_it(feeds: Feeds) -> None:
    feeds.batch("sis", [*ALL[1::2], *ALL[:20:2]], at(0))
    planned = plan(feeds, ALL[1::2])
    assert reasons(feeds, planned) == {HoldReason.COURSE_LOSES_MOST}
    (reason,) = feeds.reasons(planned)
    assert "ALG-1 would lose 10 of 10" in reason.message
    (course,) = planned.absence.courses
    assert (course.sis_id, course.owned, course.drops) == ("ALG-1", 10, 10)


def test_a_file_whose_ids_lost_their_zeros_is_held(feeds: Feeds) -> None:
    feeds.batch("sis", ALL, at(0))
    stripped = [(student.lstrip("0"), course) for student, course in ALL]
    planned = plan(feeds, stripped)
    assert planned.absence.absent.dropped == 120
    assert {HoldReason.NO_ENROLLMENTS, HoldReason.REFUSED_LINES} <= reasons(feeds, planned)


def test_a_first_file_about_enrollments_that_exist_is_held(feeds: Feeds) -> None:
    feeds.batch(None, ALL[:60], at(0))
    planned = plan(feeds, ALL[:100])
    assert (planned.absence.named, planned.absence.not_owned) == (100, 60)
    assert planned.absence.owned_before == planned.absence.absent.absent == 0
    assert reasons(feeds, planned) == {HoldReason.NOT_OWNED}
    adopting = feeds.plan("sis", ALL[:100], at(11), adopt=True)
    assert reasons(feeds, adopting) == set()


def test_a_file_of_another_data_set_is_held_and_the_reason_names_that(feeds: Feeds) -> None:
    feeds.batch("sis", ALL[:70], at(0))
    feeds.batch("lms", ALL[70:90], at(1))
    feeds.batch(None, ALL[90:100], at(2))
    wrong = feeds.plan("evening", ALL, at(10))
    assert reasons(feeds, wrong) == {HoldReason.OTHER_DATA_SET}
    (reason,) = feeds.reasons(wrong)
    assert reason.message.startswith("Of the 100 enrollments in the file that already exist, 70")
    assert "belong to the data set sis, and 20 to other data sets." in reason.message
    # Once it was approved, the overlap is known: the next night is not held because of it.
    feeds.begin(wrong)
    feeds.apply(wrong)
    feeds.sweep(wrong)
    assert reasons(feeds, feeds.plan("evening", ALL, at(20))) == set()


@pytest.mark.parametrize(
    ("line", "is_held"),
    [
        (("000001", "typo"), True),  # The student of a planned drop.
        (("typo", "ALG-1"), True),  # The course of a planned drop.
        (("typo", "typo"), True),
        (("000002", "typo"), False),  # All enrollments of this student are named.
        (("000001", "ALG-1"), False),  # It names the enrollment, which is kept.
    ],
)
def test_a_refused_line_holds_a_file_if_it_may_be_about_a_drop(
    feeds: Feeds, line: tuple[str, str], is_held: bool
) -> None:
    feeds.batch("sis", ALL, at(0))
    chunk = chunk_of("night", ALL[1:], "sis", refused=unread(line))
    planned = feeds.plan("sis", (), at(10), chunks=[chunk], batch_id="night")
    assert reasons(feeds, planned) == ({HoldReason.REFUSED_LINES} if is_held else set())
    assert planned.absence.absent.kept_refused == (line == ("000001", "ALG-1"))
    # A request that was read, and that names an unknown student or course, counts like it.
    chunk = chunk_of("night2", [*ALL[1:], line], "sis")
    planned = feeds.plan("sis", (), at(10), chunks=[chunk], batch_id="night2")
    assert reasons(feeds, planned) == ({HoldReason.REFUSED_LINES} if is_held else set())


def test_refused_lines_do_not_hold_a_file_that_drops_nothing(feeds: Feeds) -> None:
    feeds.batch("sis", ALL, at(0))
    chunk = chunk_of("night", ALL, "sis", refused=unread(("typo", "typo")))
    planned = feeds.plan("sis", (), at(10), chunks=[chunk], batch_id="night")
    assert reasons(feeds, planned) == set()


def test_the_rules_of_a_data_set_are_its_own(feeds: Feeds) -> None:
    feeds.batch("sis", ALL, at(0))
    planned = plan(feeds, ALL[:-12])
    with feeds.database.writing() as connection:
        set_rules(connection, planned.sweep.data_set, {"drops_percent": 10})
    assert reasons(feeds, planned) == set()
    planned = feeds.plan("sis", ALL[:-12], at(11), hold="always")
    assert reasons(feeds, planned) == {HoldReason.ALWAYS}
