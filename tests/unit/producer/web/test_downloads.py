"""The refused lines of a batch as a file, in two forms that can be submitted again."""

import csv
import io
import json
from typing import Any

import httpx
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from producer.files.formulas import unguard
from support.front import MemoryFront

CSV = {"Accept": "text/csv"}
JSON_LINES = {"Accept": "application/jsonl"}
FORMS = ("submission", "spreadsheet")


class Front(MemoryFront):
    """A front whose worker is in memory, with an empty roster: every line is refused."""

    def submit(self, content: bytes, **params: Any) -> str:
        """Submit a file, and return the path of its batch."""
        response = self.call("POST", "/batches", content=content, params=params)
        assert response.status_code == 202, response.text
        url: str = response.json()["url"]
        return url

    def refused(self, url: str) -> list[tuple[str, str, Any]]:
        """Return why which record was refused, in the order of the lines."""
        refusals = self.client.refusals(url.rpartition("/")[2])
        return [(refusal.code, refusal.message, refusal.record) for refusal in refusals]

    def download(self, url: str, form: str | None = None) -> httpx.Response:
        params = {} if form is None else {"form": form}
        response: httpx.Response = self.call("GET", f"{url}/errors", headers=CSV, params=params)
        assert response.status_code == 200
        return response


TEXT = "=+-@\uff1d\uff0b'\" ;|,\t=a1é"
ids = st.text(st.sampled_from(TEXT), min_size=1, max_size=6).filter(lambda text: text.strip() != "")
notes = st.one_of(
    st.text(st.sampled_from(TEXT), max_size=8),
    st.sampled_from(["=1\n+2", "a\n\n@b", "'\n'", "\u3000\uff1dx", "''=1", "refused_line"]),
    # A line of a cell that could be a row, if lines of the file did not begin with a number.
    st.integers(1, 9).flatmap(lambda n: st.sampled_from(",;|\t").map(lambda d: f"a\n{d * n}\nb")),
    st.integers(1, 9).flatmap(lambda n: st.sampled_from(",;|\t").map(lambda d: f"a\n{d * n}")),
)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.tuples(ids, notes, ids), min_size=1, max_size=8),
    delimiter=st.sampled_from(",;\t|"),
    details=st.booleans(),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    drop=st.booleans(),
)
def test_each_form_submitted_again_has_the_same_records(
    rows: list[tuple[str, str, str]], delimiter: str, details: bool, encoding: str, drop: bool
) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(["Student ID", "reason" if details else "=note", "course-id"])
    writer.writerows(rows)
    content = text.getvalue().encode(encoding)
    front = Front()
    first = front.submit(content, drop=drop)
    refused = front.refused(first)
    assume(all(record is not None for _, _, record in refused))  # Each line was read as a row.
    for form in FORMS:
        again = front.submit(front.download(first, form).content)
        assert front.refused(again) == refused
        # The refused lines of the refused lines are the same file.
        for other in FORMS:
            third = front.submit(front.download(again, other).content)
            assert front.refused(third) == refused


@pytest.mark.parametrize(
    ("params", "guarded", "name"),
    [
        ({}, False, "refused.csv"),
        ({"form": "submission"}, False, "refused.csv"),
        ({"form": "spreadsheet"}, True, "refused-spreadsheet.csv"),
    ],
)
def test_the_form_is_chosen_by_a_parameter(
    params: dict[str, str], guarded: bool, name: str
) -> None:
    front = Front()
    url = front.submit(b"student_id;course_id;note\n=1+1;C1;x\nS2;C2;\n")
    response = front.download(url, **params)
    rows = list(csv.reader(io.StringIO(response.content.decode("utf-8-sig")), delimiter=";"))
    cells = [row[4 if guarded else 3 :] for row in rows[1:]]
    assert cells[0][0] == ("'=1+1" if guarded else "=1+1")
    assert list(map(unguard, cells[0])) == ["=1+1", "C1", "x"]
    assert ("refused_guarded" in rows[0]) is guarded
    assert response.headers["content-disposition"] == f'attachment; filename="{name}"'
    assert response.headers["content-type"] == "text/csv; charset=utf-8"


def test_a_form_that_does_not_exist_is_a_problem() -> None:
    front = Front()
    url = front.submit(b"student_id,course_id\nS1,C1\n")
    response = front.call("GET", f"{url}/errors", headers=CSV, params={"form": "table"})
    assert (response.status_code, response.json()["field"]) == (422, "form")


def test_without_a_type_the_refusals_are_shown_by_cause() -> None:
    front = Front()
    url = front.submit(b"student_id,course_id\nS1,C1\n")
    groups = front.call("GET", f"{url}/errors").json()
    assert [group["code"] for group in groups] == ["unknown_student"]


def test_the_refused_records_of_json_lines_are_submitted_again() -> None:
    front = Front()
    records = [
        {"student_id": "=1", "course_ids": ["C1", "-2"], "reason": "=x"},
        {"student_id": 4711, "drop_course_ids": ["C1"]},
    ]
    lines = [json.dumps(record).encode() for record in records]
    first = front.submit(b"\n".join([lines[0], b"not json", lines[1]]))
    response = front.call("GET", f"{first}/errors", headers=JSON_LINES)
    assert response.headers["content-type"] == "application/jsonl"
    assert response.headers["content-disposition"] == 'attachment; filename="refused.jsonl"'
    assert len(response.content.splitlines()) == 3
    assert front.refused(front.submit(response.content)) == front.refused(first)


@pytest.mark.parametrize("form", FORMS)
def test_many_refused_lines_come_in_pages(form: str) -> None:
    front = Front()
    lines = [f"S{number},=C{number}" for number in range(1_700)]
    first = front.submit("\n".join(["student_id,course_id", *lines]).encode())
    again = front.submit(front.download(first, form).content)
    assert front.refused(again) == front.refused(first)
    assert len(front.refused(first)) == 1_700


def test_no_refused_lines_are_an_empty_file() -> None:
    front = Front()
    url = front.submit(b"sis_id,name\nS1,Ada\n")
    assert front.call("GET", f"{url}/errors", headers=JSON_LINES).content == b""
    assert front.download(url).text.startswith("refused_line,")
