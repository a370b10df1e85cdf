"""Rosters: added, changed, and left alone. On both databases."""

import threading

from producer.schemas import Kind
from support.chunks import apply_chunk, books, chunk, status
from worker.database.engine import Database
from worker.enrollment import lookups


def test_a_roster_is_added_changed_and_left_alone(database: Database) -> None:
    first = chunk(
        {"sis_id": "C", "name": "Cleo"},
        {"sis_id": "C", "email": "c@example.edu"},
        {"sis_id": "D"},
        batch_id="one",
    )
    apply_chunk(database, Kind.STUDENTS, first)
    assert books(database, "one") == {"received": 3, "upserted": 2, "unchanged": 1}
    second = chunk(
        {"sis_id": "C"}, {"sis_id": "D", "name": "Dan"}, {"sis_id": "A"}, {}, batch_id="two"
    )
    apply_chunk(database, Kind.STUDENTS, second)
    assert books(database, "two") == {
        "received": 4,
        "upserted": 1,
        "unchanged": 2,
        "rejected": 1,
    }
    cleo, dan = lookups.students(database, ["C", "D"])
    assert cleo is not None
    assert dan is not None
    assert (cleo.name, cleo.email, dan.name) == ("Cleo", "c@example.edu", "Dan")


def test_a_student_in_two_chunks_at_once_is_added_once(database: Database) -> None:
    records = [{"sis_id": f"S{n:04}"} for n in range(2000)]
    start = threading.Barrier(3)

    def deliver(number: int) -> None:
        start.wait()
        mine = chunk(*records, number=number, last=number == 2, batch_id="same")
        apply_chunk(database, Kind.STUDENTS, mine)

    threads = [threading.Thread(target=deliver, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert books(database, "same") == {"received": 6000, "upserted": 2000, "unchanged": 4000}


def test_an_unchanged_roster_uses_up_no_keys(database: Database) -> None:
    for number in range(3):
        same = chunk({"sis_id": "A"}, {"sis_id": "B"}, number=number, last=False, batch_id="again")
        apply_chunk(database, Kind.STUDENTS, same)
    apply_chunk(database, Kind.STUDENTS, chunk({"sis_id": "C"}, batch_id="new"))
    (new,) = lookups.students(database, ["C"])
    assert new is not None
    assert new.id == 3


def test_a_roster_record_that_looks_like_a_request_is_one_refusal(database: Database) -> None:
    odd = {"sis_id": "Z", "course_ids": ["M1", "M2"]}
    sent = chunk(odd, {"sis_id": "Y"}, lines=[4, 4, 5], batch_id="odd")
    apply_chunk(database, Kind.STUDENTS, sent)
    assert books(database, "odd") == {"received": 3, "upserted": 1, "rejected": 2}
    assert [group.first_lines for group in status(database, "odd").refusals] == [(4,)]
