"""Every refused line names the id that was probably meant, in bounded work."""

import pytest

from producer.schemas import Kind
from support.chunks import apply_chunk, chunk, pairs
from support.databases import store_roster
from worker.batches import meant_ids
from worker.batches.meant_ids import add_meant_ids
from worker.database.engine import Database
from worker.refused_lines.lookups import refused_records


def meant(database: Database) -> list[dict[str, str]]:
    """Return what was meant by the ids of each refused line."""
    page = refused_records(database, "b", (0, 0), 100, whole=True)
    return [dict(refusal.meant) for refusal in add_meant_ids(database, page)]


def test_each_line_has_the_id_that_was_meant_and_not_only_the_first_ones(
    database: Database,
) -> None:
    store_roster(database, [f"00{number}" for number in range(1001, 1010)], ["M1"])
    refused = [pairs(str(number), "M1") for number in range(1001, 1010)]
    apply_chunk(database, Kind.ENROLLMENTS, chunk(*refused))
    assert meant(database) == [{str(number): f"00{number}"} for number in range(1001, 1010)]


def test_courses_to_enroll_in_and_to_drop_are_looked_for_among_courses(database: Database) -> None:
    store_roster(database, ["0101", "S1"], ["0101", "M1"])
    drop = {"student_id": "S1", "drop_course_ids": ["101.0"]}
    apply_chunk(
        database,
        Kind.ENROLLMENTS,
        chunk(pairs("S1", "101"), drop, pairs("101", "101"), pairs("S1", "NOPE")),
    )
    assert meant(database) == [{"101": "0101"}, {"101.0": "0101"}, {"101": "0101"}, {}]


def test_an_id_that_may_mean_several_or_came_later_has_none(database: Database) -> None:
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("7", "M1"), pairs("LATE", "M1")))
    store_roster(database, ["07", "007", "LATE"], ["M1"])
    assert meant(database) == [{}, {}]


def test_a_page_is_returned_although_there_is_no_time_to_examine_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_roster(database, ["007"], ["M1"])
    apply_chunk(database, Kind.ENROLLMENTS, chunk(pairs("7", "M1")))
    assert meant(database) == [{"7": "007"}]
    monkeypatch.setattr(meant_ids, "MAX_SECONDS", -1.0)
    assert meant(database) == [{}]
