"""The rules by which a snapshot waits for a decision, at their very borders."""

from typing import Any

import pytest

from producer.contract.batches import Books
from producer.contract.plan_requests import PlanMember, PlanPurpose, PlanRequest
from producer.contract.plans import AbsentRows, HoldReason, PlannedBatch
from producer.schemas import Kind
from worker.snapshots.hold import reasons_to_hold
from worker.snapshots.rules import HoldRules, read_rules
from worker.snapshots.values import Absence, CourseLoss, Doubts, OtherOwner

ALWAYS, MANY, MOST = HoldReason.ALWAYS, HoldReason.MANY_DROPS, HoldReason.MOST_DROPS
COURSE, EMPTY = HoldReason.COURSE_LOSES_MOST, HoldReason.NO_ENROLLMENTS
REFUSED, NOT_OWNED = HoldReason.REFUSED_LINES, HoldReason.NOT_OWNED
OTHER = HoldReason.OTHER_DATA_SET


def request(hold: str | None = None, *, adopt: bool = False, snapshot: bool = True) -> PlanRequest:
    return PlanRequest(
        id="b",
        members=(PlanMember(batch_id="b", kind=Kind.ENROLLMENTS),),
        purpose=PlanPurpose.APPLY,
        snapshot=snapshot,
        adopt=adopt,
        hold=hold,
    )


def batch(**books: int) -> PlannedBatch:
    return PlannedBatch(batch_id="b", kind=Kind.ENROLLMENTS, books=Books(**books))


def absence(drops: int, owned: int, **more: Any) -> Absence:
    return Absence(owned, AbsentRows(absent=drops, dropped=drops), **more)


def loss(drops: int, owned: int, name: str = "ALG-1") -> CourseLoss:
    return CourseLoss(1, name, "Algebra", owned, drops)


def codes(
    found: Absence | None, rules: HoldRules | None = None, enrolled: int = 1, **options: Any
) -> list[HoldReason]:
    reasons = reasons_to_hold(
        request(**options), rules or HoldRules(), found, batch(enrolled=enrolled)
    )
    return [reason.code for reason in reasons]


@pytest.mark.parametrize(
    ("drops", "owned", "expected"),
    [
        (0, 0, []),
        (10, 199, []),  # More than 5 %, but not more than ten rows.
        (11, 220, []),  # More than ten rows, but just 5 %.
        (11, 219, [MANY]),
        (60, 1_000, [MANY]),
        (1, 1, []),  # A single row is no pattern.
        (1, 2, []),
        (2, 4, []),
        (2, 3, [MOST]),
        (9, 10, [MOST]),
        (11, 11, [MANY, MOST]),
    ],
)
def test_a_snapshot_with_many_drops_is_held(
    drops: int, owned: int, expected: list[HoldReason]
) -> None:
    assert codes(absence(drops, owned)) == expected


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([loss(6, 10)], [COURSE]),
        ([loss(5, 10)], []),
        ([loss(9, 9)], []),
        ([loss(1, 100), loss(10, 10, "BIO")], [COURSE]),
    ],
)
def test_a_snapshot_that_empties_a_course_is_held(
    losses: list[CourseLoss], expected: list[HoldReason]
) -> None:
    assert codes(absence(6, 10_000, losses=tuple(losses))) == expected


def test_a_snapshot_that_enrolls_no_student_is_held() -> None:
    assert codes(absence(0, 0), enrolled=0) == [EMPTY]
    already = reasons_to_hold(request(), HoldRules(), absence(0, 5), batch(already_enrolled=5))
    assert already == ()


@pytest.mark.parametrize("doubts", [Doubts(half=1), Doubts(nothing=1)])
def test_refused_lines_hold_a_snapshot_that_drops(doubts: Doubts) -> None:
    assert codes(absence(1, 1_000, doubts=doubts)) == [REFUSED]
    assert codes(absence(0, 1_000, doubts=doubts)) == []


@pytest.mark.parametrize(
    ("doubts", "start", "end"),
    [
        (Doubts(half=1), "1 refused line may", "has only the student or only the course"),
        (Doubts(nothing=2), "2 refused lines may", "has neither the student nor the course"),
        (Doubts(half=1, nothing=1_000), "1,001 refused lines may", "and for 1,000, neither"),
    ],
)
def test_the_sentence_about_refused_lines_counts_what_is_there(
    doubts: Doubts, start: str, end: str
) -> None:
    (reason,) = reasons_to_hold(
        request(), HoldRules(), absence(1, 1_000, doubts=doubts), batch(enrolled=1)
    )
    assert reason.message.startswith(start)
    assert f"{end}. Correct" in reason.message


def test_two_reasons_about_drops_do_not_say_the_same() -> None:
    many, most = reasons_to_hold(request(), HoldRules(), absence(20, 30), batch(enrolled=1))
    assert many.message.startswith("It would drop 20 enrollments of the 30 ")
    assert most.message.startswith("It would drop most of its data set: 20 of 30 enrollments. ")
    assert "of the right term" in most.message


def test_a_file_about_enrollments_without_an_owner_is_held_unless_it_adopts_them() -> None:
    first = absence(0, 0, named=10, not_owned=6)
    assert codes(first) == [NOT_OWNED]
    assert codes(first, adopt=True) == []
    assert codes(first._replace(not_owned=5)) == []


def owners(*new: int) -> tuple[OtherOwner, ...]:
    return tuple(OtherOwner(f"sis:{i}", count, count) for i, count in enumerate(new))


@pytest.mark.parametrize(
    ("not_owned", "others", "expected"),
    [
        (0, owners(5), []),  # Just half of the ten that are named: two feeds that overlap.
        (0, owners(6), [OTHER]),
        (0, owners(3, 3), [OTHER]),
        (3, owners(2), []),
        (3, owners(3), [NOT_OWNED, OTHER]),
        (6, owners(4), [NOT_OWNED]),
        (4, owners(6), [OTHER]),
        (0, (OtherOwner("sis:0", owned=9, new=5),), []),  # Four were named before, and accepted.
    ],
)
def test_a_file_about_enrollments_of_other_data_sets_is_held(
    not_owned: int, others: tuple[OtherOwner, ...], expected: list[HoldReason]
) -> None:
    found = absence(0, 0, named=10, not_owned=not_owned, others=others)
    assert codes(found) == expected
    assert codes(found, HoldRules(not_owned_percent=100)) == []
    assert NOT_OWNED not in codes(found, adopt=True)


def test_the_sentence_about_another_data_set_names_it_and_the_option() -> None:
    others = (OtherOwner("sis 2026", 1_204, 1_204), OtherOwner("lms", 2, 2))
    found = Absence(4, AbsentRows(), named=1_300, others=others)
    (reason,) = reasons_to_hold(request(), HoldRules(), found, batch(enrolled=1))
    assert reason.message.startswith(
        "Of the 1,210 enrollments in the file that already exist, 1,204 belong to the data set sis"
        " 2026, and 2 to other data sets. Check"
    )
    assert "submit the file again with --snapshot 'sis 2026'." in reason.message


def test_publishers_tighten_the_rules() -> None:
    assert codes(absence(2, 100), hold="2%") == [MANY]
    assert codes(absence(1, 100), hold="2%") == []
    assert codes(absence(1, 100_000), hold="0%") == [MANY]
    assert codes(absence(0, 100), hold="0%") == []
    assert codes(absence(0, 100), hold="always") == [ALWAYS]
    assert codes(absence(60, 1_000), hold="50%") == [MANY]  # They cannot loosen them.


def test_operators_loosen_the_rules_of_a_data_set() -> None:
    loose = HoldRules(drops_percent=80, course_percent=100, no_enrollments=False)
    assert codes(absence(80, 100, losses=(loss(10, 10),)), loose, enrolled=0) == []
    assert codes(absence(81, 100), loose) == [MANY, MOST]
    assert codes(absence(0, 100), HoldRules(always=True)) == [ALWAYS]
    stored = loose.model_dump(exclude_defaults=True)
    assert read_rules(stored) == loose
    assert read_rules(None) == HoldRules()


def test_a_plan_that_is_no_snapshot_is_held_only_by_its_publisher() -> None:
    assert codes(None, HoldRules(always=True), enrolled=0, snapshot=False) == []
    assert codes(None, hold="always", snapshot=False) == [ALWAYS]
    with pytest.raises(ValueError, match="percentage only with snapshot"):
        request("5%", snapshot=False)


def test_a_reason_names_numbers_the_course_and_what_to_do() -> None:
    losses = (loss(1_200, 1_500), *(loss(9, 10, f"C{i}") for i in range(5)))
    found = absence(1_245, 20_000, losses=losses)
    many, course = reasons_to_hold(request(), HoldRules(), found, batch(enrolled=1))
    assert many.message == (
        "It would drop 1,245 enrollments of the 20,000 that its data set owns (6.2 %); a snapshot"
        " that drops more than 5 % is held. Check that the file is complete. If it is, approve the"
        " plan; if not, discard it."
    )
    assert "ALG-1 (Algebra) would lose 1,200 of 1,500; " in course.message
    assert "and 3 more courses" in course.message
