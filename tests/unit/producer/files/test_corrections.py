"""The file of refused lines has the form of the submitted one, and can be submitted again."""

import csv
import io
import json
from codecs import BOM_UTF8
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer.contract.batches import RefusedRecord
from producer.contract.file_form import FileForm
from producer.files.formulas import guard, unguard
from producer.files.raw_bytes import encoded
from producer.files.reader import FileSource, open_source
from producer.files.refused_lines import write_csv
from producer.publishing.chunking import split_into_chunks
from producer.schemas import Code
from worker.batches.apply import read_chunk
from worker.batches.refusals import refusal_of_unread_line

HEADER = [" SIS_ID", "name", "=note"]
NOTE = "n" * 150
PLAIN = ["Zoë", "a,b", "x;y|z", "=1+1", "'=x", "-5", "@home", "Ångström 5", "t\tab"]
QUOTED = [*PLAIN, 'say "hi"', "two\nlines", '"']
FAULTS = ["short", "long", "no id", "stray quote", "NUL", "bad byte"]


class Form(NamedTuple):
    """How a test's file is written, and the option with which it is submitted."""

    delimiter: str
    encoding: str
    mark: bytes
    line_end: str
    sep: bool
    option: str | None
    bad: str

    def write(self, rows: list[list[str]]) -> list[bytes]:
        """Return the bytes of each row."""
        return [self.encode(self.line(row)) for row in rows]

    def line(self, row: list[str]) -> str:
        file = io.StringIO(newline="")
        line_end = "\n" if self.line_end == "\r" else self.line_end
        csv.writer(file, delimiter=self.delimiter, lineterminator=line_end).writerow(row)
        written = file.getvalue()
        return written.replace("\n", "\r") if self.line_end == "\r" else written

    def encode(self, written: str) -> bytes:
        return encoded(written, self.encoding)

    @property
    def beginning(self) -> bytes:
        sep = f"sep={self.delimiter}{self.line_end}" if self.sep else ""
        return self.mark + self.encode(sep)


def pairs_of(raw: bytes) -> str:
    return "".join(chr(0xFDD0 + (b >> 4)) + chr(0xFDE0 + (b & 15)) for b in raw)


ENCODINGS = [
    ("utf-8", b"", None, b"\xe9"),
    ("utf-8", BOM_UTF8, None, b"\xc3"),
    ("utf-16-le", b"\xff\xfe", None, b"\x00\xd8"),
    ("utf-16-be", b"\xfe\xff", None, b"\xdc\x00"),
    ("utf-16-le", b"", "utf-16-le", b"\x00\xdc"),
    ("cp1252", b"", "cp1252", b"\x81"),
]
forms = st.builds(
    lambda delimiter, line_end, sep, e: Form(
        delimiter, e[0], e[1], line_end, sep, e[2], pairs_of(e[3])
    ),
    st.sampled_from(",;\t|"),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.booleans(),
    st.sampled_from(ENCODINGS),
)


def spoil(form: Form, row: list[str], fault: str | None) -> bytes:
    """Return the bytes of a row with a fault."""
    sis_id, name, note = row
    stray = form.delimiter.join([sis_id, '"open', note]) + form.line_end
    written = {
        None: form.line(row),
        "short": form.line([sis_id, name]),
        "long": form.line([*row, "more"]),
        "no id": form.line(["NULL", name, note]),
        "stray quote": stray,
        "NUL": form.line([sis_id, name, "\0" + note]),
        "bad byte": form.line([sis_id, name, form.bad]),
    }
    return form.encode(written[fault])


class Submission(NamedTuple):
    """What a worker gets of a file: its records, and its refused lines."""

    source: FileSource
    records: list[Any]
    refused: list[RefusedRecord]

    def refused_file(self, *, guarded: bool) -> bytes:
        file = io.BytesIO()
        write_csv(file, self.source.columns, self.source.form, self.refused, guarded=guarded)
        return file.getvalue()


def submit(path: Path, option: str | None) -> Submission:
    source = open_source(path, None, {}, option)
    parts = split_into_chunks("b", source.records(), source.columns, source.kind, source.form)
    chunks = [read_chunk(source.kind, part.text)[0] for part in parts]
    assert {chunk.form or FileForm() for chunk in chunks} == {source.form}
    rows = [refusal_of_unread_line(line) for chunk in chunks for line in chunk.refused]
    refused = [
        RefusedRecord.model_validate(
            {**row, "id": 1, "record": None, "cells": json.loads(row["cells"])}
        )
        for row in rows
    ]
    records = [record for chunk in chunks for record in chunk.records_in_order]
    return Submission(source, records, sorted(refused, key=lambda refusal: refusal.line))


def corrected(
    form: Form, content: bytes, right: dict[int, list[str]], faults: dict[int, str], added: int
) -> list[list[str]]:
    """Return the rows of a file of refused lines, with the faulty cell of each corrected.

    All other cells stay as they are, so they must stand where they stood.
    """
    decoded = content.decode(form.encoding, "replace")
    if form.line_end == "\r":
        decoded = decoded.replace("\r", "\n")
    rows = list(csv.reader(io.StringIO(decoded, newline=""), delimiter=form.delimiter))
    for row in rows[1:]:
        first, cells = row[:added], row[added:]
        if added > 3 and first[3]:
            cells = list(map(unguard, cells))
        line = int(first[0])
        want, fault = right[line], faults[line]
        if fault == "no id":
            cells[0] = want[0]
        elif fault == "stray quote":
            assert cells[1] == '"open'
            cells[1] = want[1]
        elif fault in ("NUL", "bad byte"):
            cells[2] = want[2]
        elif fault == "short":
            cells.append(want[2])
        else:
            assert cells.pop() == "more"
        assert cells == want, (fault, row)
        row[:] = first + (list(map(guard, cells)) if added > 3 else cells)
        if added > 3:
            row[3] = "yes" if row[added:] != cells else ""
    return rows


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    form=forms,
    faults=st.lists(st.sampled_from([None, "blank", *FAULTS]), min_size=1, max_size=8),
    names=st.lists(st.sampled_from(QUOTED), min_size=1, max_size=4),
    guarded=st.booleans(),
)
def test_a_corrected_file_of_refused_lines_is_applied_whole(
    tmp_path: Path,
    form: Form,
    faults: list[str | None],
    names: list[str],
    guarded: bool,
) -> None:
    if "stray quote" in faults:  # A quote of another line could close it.
        names = [name for name in names if name in PLAIN] or ["Ada"]
    content = form.beginning + form.write([HEADER])[0]
    right: dict[int, list[str]] = {}
    wrong: dict[int, str] = {}
    for number, fault in enumerate(faults):
        if fault == "blank":
            content += form.encode(form.delimiter * 2 + form.line_end)
            continue
        # A row of several lines must be complete, so a faulty one has no line ends or quotes.
        choices = names if fault is None else PLAIN
        row = [f"S{number}", choices[number % len(choices)], NOTE]
        line = content.decode(form.encoding, "replace").count(form.line_end[-1]) + 1
        right[line] = row
        if fault is not None:
            wrong[line] = fault
        content += spoil(form, row, fault)
    path = tmp_path / "upload.csv"
    path.write_bytes(content)
    first = submit(path, form.option)
    assert [refusal.line for refusal in first.refused] == [*wrong]
    assert len(first.records) + len(wrong) == len(right)

    refused = first.refused_file(guarded=guarded)
    mark = form.mark or (BOM_UTF8 if guarded and form.encoding == "utf-8" else b"")
    beginning = mark + form.beginning.removeprefix(form.mark)
    assert refused.startswith(beginning)
    assert "bad byte" not in wrong.values() or form.encode(form.bad) in refused
    added = 4 if guarded else 3
    rows = corrected(form, refused.removeprefix(beginning), right, wrong, added)
    path.write_bytes(beginning + b"".join(form.write(rows)))
    second = submit(path, form.option)
    assert not second.refused
    end = "\r\n" if form.line_end == "\r\n" else "\n"
    records = [*first.records, *second.records]
    assert {record.sis_id: (record.name or "").replace(end, "\n") for record in records} == {
        row[0]: row[1] for row in right.values()
    }


@pytest.mark.parametrize("name", ["martian", "rot13", "hex", "undefined", "idna", "punycode"])
def test_an_encoding_in_which_no_file_can_be_written_becomes_utf_8(name: str) -> None:
    """A chunk of another client may name any."""
    refusal = RefusedRecord(
        id=1, line=2, code=Code.INVALID_REQUEST, message="m", cells=("Zoë", "x" * 70)
    )
    file = io.BytesIO()
    write_csv(file, ["a", "b"], FileForm(encoding=name), [refusal])
    assert "Zoë" in file.getvalue().decode()


def test_a_delimiter_that_the_encoding_lacks_is_written_as_an_escape() -> None:
    file = io.BytesIO()
    form = FileForm(encoding="ascii", delimiter="\u00a7", names_delimiter=True)
    assert write_csv(file, ["a"], form, []) == 0
    assert file.getvalue().startswith(b"sep=\\xa7\nrefused_line\\xa7")
