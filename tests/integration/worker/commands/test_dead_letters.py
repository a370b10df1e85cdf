"""`enroll dead-letters`: listed, shown, retried and discarded, on the database itself."""

import json
import re

from support.commands import INTERRUPTED, USAGE, start_enroll
from support.databases import count_rows, url_of
from support.operator import REMAINS, ask, keep_requests, run
from support.workers import worker_environment
from worker.database.engine import Database
from worker.dead_letters.letters import dead_letter, keep
from worker.messaging.quarantine import keep_message
from worker.models import DeadLetter, EnrollmentResult, LetterForm, LetterReason, StudentCourse

HOSTILE = "a\x1b[2J\x07\u202ebidi\x9b31m [red]markup[/red] \\ ü\n"


def test_a_dead_letter_is_shown_whole_without_control_characters(database: Database) -> None:
    keep_message(database, HOSTILE.encode(), "batches", f"not JSON: {HOSTILE}")
    keep_message(database, HOSTILE.encode(), "batches", f"not JSON: {HOSTILE}")
    keep_message(database, b"\xff\xfe\x00", "lookups", "not JSON")
    text = "".join(c for c in HOSTILE if c not in "\x1b\x07")
    keep_message(database, text.encode(), "batches", "no object")
    (first, second, third) = [letter["id"] for letter in ask(database, "dead-letters", "list")]
    for command in (["list"], ["show", str(first)], ["show", str(third)]):
        out, err = run(database, "dead-letters", *command)
        assert not any(c in out + err for c in "\x1b\x07\u202e\x9b")
        assert "[red]markup[/red]" in out
    assert "\\u202ebidi\\x9b31m [red]markup[/red] \\ ü" in out  # The content of the third.
    out, _ = run(database, "dead-letters", "show", str(first))
    assert "deliveries  2\n" in out
    assert "queue batches: not JSON: a\\x1b[2J\\x07" in out
    assert "Content in base64" in out
    (whole,) = ask(database, "dead-letters", "show", str(third))
    assert whole["content"] == text
    (whole,) = ask(database, "dead-letters", "show", str(second))
    assert (whole["content_base64"], whole["bytes"]) == ("//4A", 3)
    assert whole["reason"] == "malformed"


def test_many_dead_letters_are_listed_a_page_at_a_time(database: Database) -> None:
    out, err = run(database, "dead-letters", "list")
    assert (out, err) == ("", "There are no dead letters.\n")
    kept = keep_requests(database, *(f"r{n}" for n in range(5)))
    out, err = run(database, "dead-letters", "list", "--limit", "2")
    assert "r1" in out
    assert "r2" not in out
    assert err == f"There are more: enroll dead-letters list --after {kept[1]}\n"
    page = ask(database, "dead-letters", "list", "--limit", "3", "--after", str(kept[1]))
    assert [letter["id"] for letter in page] == kept[2:]
    assert page[0]["detail"].endswith("ValueError: it failed")


def test_a_retried_letter_is_removed_and_one_that_fails_again_stays(
    database: Database, roster: None
) -> None:
    good, refused = keep_requests(database, "r1", "r2")
    keep_message(database, b"never a message", "batches", "not JSON")
    printed = ask(database, "dead-letters", "retry", str(good), "999999", expect=REMAINS)
    assert printed[0] == {"id": good, "retried": True, "outcome": "enrolled"}
    assert printed[1]["why"].startswith("there is no dead letter 999999;")
    out, _ = run(database, "dead-letters", "retry", "--all", expect=REMAINS)
    assert out.splitlines()[0] == f"{refused}: enrolled"
    assert "retry failed: it still cannot be understood: the message is not JSON" in out
    assert (count_rows(database, StudentCourse), count_rows(database, DeadLetter)) == (1, 1)
    assert count_rows(database, EnrollmentResult) == 2


def test_all_means_every_letter_stored_at_the_start(database: Database, roster: None) -> None:
    letters = [
        dead_letter(LetterForm.MESSAGE, b"%d" % n, LetterReason.MALFORMED, "because")
        for n in range(1100)
    ]
    keep(database, *letters)
    out, _ = run(database, "dead-letters", "retry", "--all", expect=REMAINS)
    assert len(out.splitlines()) == 1100


def test_a_discarded_letter_is_removed(database: Database) -> None:
    first, second = keep_requests(database, "r1", "r2")
    printed = ask(
        database, "dead-letters", "discard", str(first), str(first), "--yes", expect=REMAINS
    )
    assert printed == [{"id": first, "discarded": True}, {"id": first, "discarded": False}]
    assert [letter["id"] for letter in ask(database, "dead-letters", "list")] == [second]
    run(database, "dead-letters", "show", str(first), expect=REMAINS)


def test_an_operator_sees_what_would_be_deleted_before_it_is(database: Database) -> None:
    kept = keep_requests(database, *(f"r{n}" for n in range(25)))
    ids = [str(number) for number in (*kept, 2**62)]
    for typed, code in ((None, USAGE), ("n\n", REMAINS), ("", INTERRUPTED)):
        out, err = run(database, "dead-letters", "discard", *ids, expect=code, typed=typed)
        assert out == ""
        assert count_rows(database, DeadLetter) == len(kept)
        assert ("deletes dead letters for good, with their content: 25\n" in err) is bool(
            typed is not None
        )
    assert re.search(r"  1: not_processed, \d+ bytes, last [\d-]+ [\d:]+ UTC, of r0\n", err)
    assert "  and 5 more\n" in err
    out, _ = run(database, "dead-letters", "discard", *ids, expect=REMAINS, typed="y\n")
    assert out.splitlines()[0] == f"{kept[0]}: discarded"
    assert count_rows(database, DeadLetter) == 0


def test_only_one_of_two_operators_retries_a_letter(
    database: Database, roster: None, shared_valkey: str
) -> None:
    kept = keep_requests(database, *(f"r{n}" for n in range(12)))
    command = ["dead-letters", "retry", *map(str, kept), "--json"]
    environment = worker_environment(shared_valkey, url_of(database))
    operators = [start_enroll(environment, *command) for _ in range(3)]
    printed = [json.loads(line) for one in operators for line in one.communicate()[0].splitlines()]
    done = [one for one in printed if one["retried"]]
    assert sorted(one["id"] for one in done) == kept
    assert {one["outcome"] for one in done} == {"enrolled"}
    others = {one["why"] for one in printed if not one["retried"]}
    assert all(why.startswith("there is no dead letter") for why in others), others
    assert len(printed) == 3 * len(kept)
    assert count_rows(database, EnrollmentResult) == len(kept)
    assert count_rows(database, DeadLetter) == 0
