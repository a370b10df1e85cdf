"""The likely causes of unknown ids: found once a batch is done, in bounded work."""

import time

import pytest

from producer.contract.batches import Cause, LikelyCause
from producer.schemas import Code, Kind
from support.chunks import apply_chunk, chunk, pairs, status
from support.databases import store_roster
from worker import repository
from worker.batches import causes
from worker.batches.status import batch_statuses
from worker.database.engine import Database


def causes_of(database: Database, code: Code, batch_id: str = "b") -> tuple[LikelyCause, ...]:
    groups = {group.code: group for group in status(database, batch_id).refusals}
    return groups[code].likely_causes


@pytest.mark.parametrize(
    ("existing", "refused", "cause"),
    [
        ("00123", "123", Cause.LEADING_ZEROS_LOST),
        ("123", "00123", Cause.LEADING_ZEROS_ADDED),
        ("AB-9", "ab-9", Cause.LETTER_CASE),
        ("aBcD", "AbCd", Cause.LETTER_CASE),
        ("S 9", "S\N{NO-BREAK SPACE}9", Cause.SPACES),
        ("S9", "S\N{ZERO WIDTH SPACE}9", Cause.SPACES),
        ("S9", "\N{RIGHT-TO-LEFT MARK}S9", Cause.SPACES),
        ("MATH 101", "MATH101", Cause.SPACES),
        ("12345", "12345.0", Cause.DECIMALS),
        ("123000", "1.23E+05", Cause.SCIENTIFIC),
        ("123456", "1.23E+05", Cause.SCIENTIFIC),
        ("12E3", "1.20E+04", Cause.SCIENTIFIC),
        ("00123", '="00123"', Cause.QUOTED),
        ("1234567", "1,234,567", Cause.THOUSANDS),
        ("A-1", "A\N{EN DASH}1", Cause.LOOK_ALIKE),
    ],
)
def test_an_id_is_explained_by_the_one_that_exists(
    database: Database, existing: str, refused: str, cause: Cause
) -> None:
    store_roster(database, [existing], [existing])
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs(refused, "M1"), pairs("A", refused)))
    for code in (Code.UNKNOWN_STUDENT, Code.UNKNOWN_COURSE):
        (found,) = causes_of(database, code)
        assert (found.causes, found.ids, found.count) == ((cause,), 1, 1)
        assert found.examples[0].model_dump() == {"id": refused, "meant": (existing,)}
        assert repr(refused) in found.message
        assert repr(existing) in found.message


def test_two_changes_are_named_together(database: Database) -> None:
    store_roster(database, ["0012345", "AB-1"], [])
    refused = [pairs("12345.0", "M1"), pairs('="ab-1"', "M1")]
    apply_chunk(database, Kind.ENROLLMENTS, chunk(*refused))
    found = {cause.causes: cause.examples for cause in causes_of(database, Code.UNKNOWN_STUDENT)}
    assert found[Cause.LEADING_ZEROS_LOST, Cause.DECIMALS][0].meant == ("0012345",)
    assert found[Cause.LETTER_CASE, Cause.QUOTED][0].meant == ("AB-1",)


def test_what_may_mean_several_ids_is_not_guessed(database: Database) -> None:
    store_roster(database, ["07", "007", "98", "1230400", "1229900"], [])
    refused = [pairs("7", "M1"), pairs("98.0", "M1"), pairs("1.23E+06", "M1")]
    apply_chunk(database, Kind.ENROLLMENTS, chunk(*refused))
    found = causes_of(database, Code.UNKNOWN_STUDENT)
    meant = {cause.causes: set(cause.examples[0].meant) for cause in found}
    assert meant == {
        (Cause.LEADING_ZEROS_LOST,): {"07", "007"},
        (Cause.DECIMALS,): {"98"},
        (Cause.SCIENTIFIC,): {"1230400", "1229900"},
    }
    messages = {cause.causes: cause.message for cause in found}
    assert "'07' or '007'; find out which is right" in messages[Cause.LEADING_ZEROS_LOST,]


def test_a_rounded_number_may_mean_ids_with_leading_zeros(database: Database) -> None:
    store_roster(database, ["00248000", "00247515", "0000999001"], [])
    refused = [pairs("2.48E+05", "M1"), pairs("9.99E+05", "M1")]
    apply_chunk(database, Kind.ENROLLMENTS, chunk(*refused))
    found = causes_of(database, Code.UNKNOWN_STUDENT)
    assert {cause.causes for cause in found} == {(Cause.LEADING_ZEROS_LOST, Cause.SCIENTIFIC)}
    meant = {example.id: set(example.meant) for cause in found for example in cause.examples}
    assert meant == {"2.48E+05": {"00248000", "00247515"}, "9.99E+05": {"0000999001"}}
    assert any(cause.message.endswith("export the file again") for cause in found)


def test_a_small_roster_is_searched_for_every_id_that_may_be_meant(database: Database) -> None:
    store_roster(database, ["ABC-1", "aBc-1", "LATE", "late"], [])
    refused = [pairs("abc-1", "M1"), pairs("lAtE", "M1")]
    apply_chunk(database, Kind.ENROLLMENTS, chunk(*refused))
    (found,) = causes_of(database, Code.UNKNOWN_STUDENT)
    assert found.causes == (Cause.LETTER_CASE,)
    meant = {example.id: set(example.meant) for example in found.examples}
    assert meant == {"abc-1": {"ABC-1", "aBc-1"}, "lAtE": {"LATE", "late"}}


def test_a_large_roster_is_not_read_as_a_whole(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository, "SMALL_ROSTER", 3)
    store_roster(database, ["aBcD", "AB-1"], [])
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("AbCd", "M1"), pairs("ab-1", "M1")))
    (found,) = causes_of(database, Code.UNKNOWN_STUDENT)
    assert [example.id for example in found.examples] == ["ab-1"]


def test_ids_without_a_likely_cause_and_keys_have_none(database: Database) -> None:
    refused = [pairs("nobody", "M1"), {"student_id": 4711, "course_ids": ["M1"]}]
    apply_chunk(database, Kind.ENROLLMENTS, chunk(*refused))
    (group,) = status(database).refusals
    assert (group.count, group.likely_causes, group.examined) == (2, (), 2)


@pytest.mark.parametrize("text", ["nan", "NaN", "NULL", "None", "#REF!", "#VALUE!", "#N/A", "####"])
def test_a_missing_value_is_named_as_such(database: Database, text: str) -> None:
    store_roster(database, ["NAN-1"], [])
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs(text, "M1"), pairs("NAN-1", "M1")))
    (found,) = causes_of(database, Code.UNKNOWN_STUDENT)
    assert found.causes == (Cause.MISSING_VALUE,)
    assert f"a text such as {text!r} stands in place of missing ids" in found.message


def test_a_number_that_lost_digits_is_explained_although_nothing_matches(
    database: Database,
) -> None:
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("4.56E+11", "M1")))
    (found,) = causes_of(database, Code.UNKNOWN_STUDENT)
    assert (found.causes, found.examples[0].meant) == ((Cause.SCIENTIFIC,), ())
    assert "format the column as text" in found.message


def test_an_id_that_reached_the_roster_later_is_to_be_submitted_again(database: Database) -> None:
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("late", "M1")))
    store_roster(database, ["late"], [])
    (found,) = causes_of(database, Code.UNKNOWN_STUDENT)
    assert found.causes == (Cause.IN_ROSTER,)
    assert "submit the refused lines again under a new batch id" in found.message


def test_each_id_is_counted_once_and_each_refusal(database: Database) -> None:
    store_roster(database, ["001", "002"], [])
    refused = [pairs("1", "M1"), pairs("1", "M2"), pairs("2", "M1"), pairs("x", "M1")]
    apply_chunk(database, Kind.ENROLLMENTS, chunk(*refused))
    (found,) = causes_of(database, Code.UNKNOWN_STUDENT)
    assert (found.ids, found.count) == (2, 3)
    assert found.message.startswith("2 ids probably lost leading zeros: '1' → '001'")


def test_each_unknown_course_of_a_record_is_explained(database: Database) -> None:
    store_roster(database, [], ["LOGIC", "007"])
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("A", "M1", "logic", "7", "gone")))
    found = {cause.causes: cause.examples for cause in causes_of(database, Code.UNKNOWN_COURSE)}
    assert found[Cause.LETTER_CASE,][0].id == "logic"
    assert found[Cause.LEADING_ZEROS_LOST,][0].id == "7"


def test_only_the_first_refusals_are_examined(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(causes, "MAX_EXAMINED", 3)
    store_roster(database, ["001", "002", "003", "004"], [])
    refused = [pairs(str(number), "M1") for number in range(1, 5)]
    apply_chunk(database, Kind.ENROLLMENTS, chunk(*refused))
    (group,) = status(database).refusals
    assert (group.count, group.examined, group.likely_causes[0].ids) == (4, 3, 3)
    apply_chunk(database, Kind.ENROLLMENTS, chunk(*refused, batch_id="c"))
    both = batch_statuses(database, ["b", "c", "b"], {}, refusals=True)
    assert [found.refusals[0].examined for found in both] == [1, 1, 1]


def test_the_time_is_bounded(database: Database) -> None:
    ids = {str(number): 1 for number in range(2_000)}
    with database.reading() as connection:
        guesses, examined = causes.guess(
            [connection], causes.ROSTERS[Code.UNKNOWN_STUDENT], ids, time.monotonic()
        )
    assert (guesses, examined) == ({}, 0)


def test_a_batch_that_is_not_done_is_not_examined(database: Database) -> None:
    store_roster(database, ["001"], [])
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("1", "M1"), last=False))
    (group,) = status(database).refusals
    assert (group.likely_causes, group.examined) == ((), None)
