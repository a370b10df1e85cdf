"""The file of refused lines has the form of the submitted one; this form is stored with the batch.

On both databases, through the reader, the chunks and the worker's tables.
"""

import csv
import io
from pathlib import Path

import pytest

from producer.contract.batches import BatchStatus
from producer.contract.chunks import RefusedLine
from producer.files.reader import open_source
from producer.files.refused_lines import write_csv
from producer.publishing.chunking import split_into_chunks
from producer.schemas import Kind
from support.chunks import apply_chunk, chunk, status
from worker.batches import apply
from worker.database.engine import Database
from worker.refused_lines.lookups import refused_records


def submit(database: Database, path: Path, batch_id: str) -> None:
    source = open_source(path, None, {})
    entries = source.records()
    for part in split_into_chunks(batch_id, entries, source.columns, source.kind, source.form):
        apply.apply_chunk(database, Kind.STUDENTS, part.text)


def refused_file(database: Database, found: BatchStatus, *, guarded: bool) -> bytes:
    file = io.BytesIO()
    refusals = refused_records(database, found.batch_id, (0, 0), 1_000)
    write_csv(file, found.columns, found.form, refusals, guarded=guarded)
    return file.getvalue()


def rows_of(file: bytes) -> list[list[str]]:
    written = file.decode("utf-8-sig", "surrogateescape")
    return list(csv.reader(io.StringIO(written, newline=""), delimiter=";"))


@pytest.mark.parametrize("guarded", [False, True])
def test_what_is_not_corrected_is_refused_again_and_returned_in_the_same_form(
    database: Database, tmp_path: Path, guarded: bool
) -> None:
    content = b"\xef\xbb\xbfsis_id;name;note\r\nS1;=1+1\r\n;-2;'=x\r\nS3;\xe9;z\r\nS4;a;b;c\r\n"
    path = tmp_path / "upload.csv"
    path.write_bytes(content)
    submit(database, path, "first")
    files = []
    for batch_id in ("first", "second", "third"):
        found = status(database, batch_id)
        files.append(refused_file(database, found, guarded=guarded))
        path.write_bytes(files[-1])
        submit(database, path, {"first": "second", "second": "third"}.get(batch_id, "last"))
    # The lines have other numbers from the second file on.
    assert files[1] == files[2]
    own, again = ([row[4 if guarded else 3 :] for row in rows_of(file)] for file in files[:2])
    assert own == again
    if not guarded:
        assert own[1:] == [
            line.split(";") for line in ("S1;=1+1", ";-2;'=x", "S3;\udce9;z", "S4;a;b;c")
        ]
    else:
        assert own[1:3] == [["S1", "'=1+1"], ["", "'-2", "''=x"]]


def test_a_batch_without_a_form_is_written_with_commas_in_utf_8(database: Database) -> None:
    line = RefusedLine(line=2, message="m", cells=("x",))
    apply_chunk(database, Kind.STUDENTS, chunk(columns=("sis_id",), refused=(line,)))
    assert refused_file(database, status(database), guarded=False).splitlines() == [
        b"refused_line,refused_code,refused_message,sis_id",
        b"2,invalid_request,m,x",
    ]
