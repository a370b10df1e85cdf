"""`GET /batches/{id}/errors/lines`: the refused lines, with all that a correction needs."""

import csv
import io
from collections.abc import Iterator
from typing import Any

import pytest

from producer.files.mistakes import rule_of
from producer.web import refused_lines
from support.front import MemoryFront

HEADER = "who,module,term,note\n"
MAPS = ["student_id={who}", "course_id={module}-{term}"]
LINES = HEADER + "S1,A,1,x\nS9,B,2,y\nS1,B,,z\nS1,A\nS1,C,3,w\n"


@pytest.fixture
def front() -> MemoryFront:
    front = MemoryFront()
    front.client.submit_batch("students", [{"sis_id": "S1"}])
    front.client.submit_batch("courses", [{"sis_id": "A-1"}])
    return front


def submit(front: MemoryFront, content: str, **params: Any) -> str:
    sent = front.call("POST", "/batches", content=content, params=params)
    assert sent.status_code == 202, sent.text
    return str(sent.json()["batch_id"])


def page(front: MemoryFront, batch_id: str, **params: Any) -> Any:
    response = front.call("GET", f"/batches/{batch_id}/errors/lines", params=params)
    assert response.status_code == 200, response.text
    return response.json()


def pages(front: MemoryFront, batch_id: str, **params: Any) -> Iterator[Any]:
    shown = page(front, batch_id, **params)
    yield shown
    while shown["next"]:
        shown = page(front, batch_id, after=shown["next"], **params)
        yield shown


def as_csv(shown: Any) -> str:
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(shown["columns"])
    writer.writerows({line["line"]: line["cells"] for line in shown["lines"]}.values())
    return file.getvalue()


def test_each_refusal_has_the_cells_of_its_line_and_names_the_wrong_column(
    front: MemoryFront,
) -> None:
    shown = page(front, submit(front, LINES, map=MAPS))
    assert shown["columns"] == ["who", "module", "term", "note"]
    assert shown["mapping"] == {"student_id": "{who}", "course_id": "{module}-{term}"}
    assert (shown["drop"], shown["next"]) == (False, None)
    found = [(line["line"], line["code"], line["field"], line["cells"]) for line in shown["lines"]]
    assert found == [
        (3, "unknown_student", "student_id", ["S9", "B", "2", "y"]),
        (4, "invalid_request", "course_id", ["S1", "B", "", "z"]),
        (5, "invalid_request", None, ["S1", "A"]),
        (6, "unknown_course", "course_id", ["S1", "C", "3", "w"]),
    ]
    assert [line["student_id"] for line in shown["lines"]] == ["S9", None, None, "S1"]
    rules = [line["rule"] for line in shown["lines"]]
    assert rules[0] == "the student is not in the roster"
    assert rules[3] == "the course is not in the roster"


def test_corrected_cells_are_submitted_again_with_the_mapping(front: MemoryFront) -> None:
    shown = page(front, submit(front, LINES, map=MAPS))
    corrected = as_csv(shown).replace("S9,B,2", "S1,A,1").replace("S1,B,,", "S1,A,1,")
    corrected = corrected.replace("S1,C,3", "S1,A,1").replace("S1,A\r", "S1,A,1,\r")
    again = submit(
        front, corrected, map=[f"{name}={text}" for name, text in shown["mapping"].items()]
    )
    books = front.client.batch(again).books
    assert (books.received, books.rejected) == (4, 0)


def test_lines_of_a_file_of_drops_are_dropped_again(front: MemoryFront) -> None:
    front.client.enroll({"student_id": "S1", "course_ids": ["A-1"]})
    batch_id = submit(front, "student_id,course_id\nS9,A-1\n", drop=True)
    shown = page(front, batch_id)
    assert (shown["drop"], shown["mapping"]) == (True, None)
    again = submit(front, as_csv(shown).replace("S9", "S1"), drop=shown["drop"])
    assert front.client.batch(again).books.dropped == 1
    # The file of refused lines says itself that its lines are drops.
    front.client.enroll({"student_id": "S1", "course_ids": ["A-1"]})
    for form in ("submission", "spreadsheet"):
        errors = f"/batches/{batch_id}/errors"
        headers, params = {"Accept": "text/csv"}, {"form": form}
        file = front.call("GET", errors, headers=headers, params=params).text
        first = submit(front, file)
        file = front.call("GET", f"/batches/{first}/errors", headers=headers, params=params).text
        again = submit(front, file.replace("S9", "S1"))
        books = front.client.batch(again).books
        assert books.dropped + books.not_enrolled == 1, form


@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
def test_pages_hold_every_refusal_once_and_whole(front: MemoryFront, limit: int) -> None:
    batch_id = submit(front, LINES, map=MAPS)
    everything = page(front, batch_id)["lines"]
    found = [line for shown in pages(front, batch_id, limit=limit) for line in shown["lines"]]
    assert found == everything
    for code in ("unknown_course", "invalid_request", "request_id_reused"):
        found = [
            line
            for shown in pages(front, batch_id, limit=limit, code=code)
            for line in shown["lines"]
        ]
        assert found == [line for line in everything if line["code"] == code]


def test_lines_of_one_rule_or_one_message_are_found_beyond_the_examined_ones(
    front: MemoryFront, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refused_lines, "EXAMINED", 2)
    monkeypatch.setattr(refused_lines, "PAGE", 2)
    batch_id = submit(front, LINES, map=MAPS)
    everything = page(front, batch_id)["lines"]
    for name in ("rule", "message"):
        for wanted in {line[name] for line in everything}:
            shown = list(pages(front, batch_id, message=wanted))
            assert [line for one in shown for line in one["lines"]] == [
                line for line in everything if line[name] == wanted
            ]
            assert len(shown) > 1
    assert rule_of(everything[0]["message"], None) == everything[0]["rule"]


@pytest.mark.parametrize("params", [{}, {"message": "nothing like this"}])
def test_a_page_of_long_lines_ends_early(
    front: MemoryFront, monkeypatch: pytest.MonkeyPatch, params: dict[str, str]
) -> None:
    rows = "".join(f"S{n},B,2,{'y' * 1000}\n" for n in range(20, 30))
    batch_id = submit(front, HEADER + rows, map=MAPS)
    count = len(page(front, batch_id, limit=1000)["lines"])
    monkeypatch.setattr(refused_lines, "MAX_PAGE_TEXT", 3500)
    shown = list(pages(front, batch_id, limit=1000, **params))
    assert max(len(each["lines"]) for each in shown) <= 4
    assert len(shown) > count / 4
    assert sum(len(each["lines"]) for each in shown) == (0 if params else count)


def test_json_lines_have_their_records_and_no_columns(front: MemoryFront) -> None:
    record = '{"student_id": "S1", "course_ids": ["X", "Y"], "atomic": false}\n'
    shown = page(front, submit(front, record + "{not JSON\n", kind="enrollments"))
    assert (shown["columns"], shown["mapping"], shown["drop"]) == (None, None, False)
    *both, second = shown["lines"]
    assert [line["message"] for line in both] == [f"no course has the SIS id '{c}'" for c in "XY"]
    for line in both:  # Only the first refusal is stored with the record.
        assert (line["record"]["course_ids"], line["cells"]) == (["X", "Y"], None)
    assert (second["record"], second["cells"]) == (None, ["{not JSON"])


def test_a_caller_without_lookup_sees_only_its_own_lines() -> None:
    front = MemoryFront({"sis": "submit", "other": "submit"})
    sent = front.call("POST", "/batches", "sis", content=HEADER.replace("who", "student_id"))
    assert sent.status_code == 422
    sent = front.call("POST", "/batches", "sis", content="student_id,course_id\nS1,C1\n")
    path = f"/batches/{sent.json()['batch_id']}/errors/lines"
    assert len(front.call("GET", path, "sis").json()["lines"]) == 1
    assert front.call("GET", path, "other").status_code == 404


@pytest.mark.parametrize(
    ("params", "code"),
    [({"after": "!"}, "bad_cursor"), ({"code": "bad"}, "invalid_request"), ({"limit": 0}, "inv")],
)
def test_a_wrong_parameter_is_refused(
    front: MemoryFront, params: dict[str, Any], code: str
) -> None:
    batch_id = submit(front, LINES, map=MAPS)
    response = front.call("GET", f"/batches/{batch_id}/errors/lines", params=params)
    assert response.status_code == 422
    assert response.json()["code"].startswith(code)
