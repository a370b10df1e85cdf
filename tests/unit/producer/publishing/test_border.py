"""A worker accepts every chunk that is published for a file, whatever the file holds."""

import json
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer.contract.chunks import RefusedLine
from producer.errors import UnreadableFile
from producer.fields import MAX_CHUNK_BYTES, MAX_MESSAGE
from producer.files.reader import open_source
from producer.publishing.chunking import split_into_chunks
from worker.batches.apply import read_chunk
from worker.batches.refusals import refusal_of_unread_line

HEADERS = [
    "student_sis_id,course_sis_id,note",
    "student_sis_id,course_sis_id",
    "student_id,course_id,note",
    "student_id,course_id,action,reason,as_of",
    "sis_id,name,email",
    "sis_id,title,note",
]
NOISE = st.text(
    st.one_of(
        st.sampled_from('",;\t|\r\n\0\x1a\x1b\x85\u2028\ufeff\ufdd0\ufde0\ufffe\U0001f600é'),
        st.characters(codec="utf-8"),
    ),
    max_size=12,
).map(lambda text: text.encode("utf-8", "surrogatepass"))
BYTES = st.binary(max_size=8)
GIANT = st.builds(
    lambda piece, times: piece * times,
    st.sampled_from(
        [b"x", b"\xe9", b"\xc3\xa9", b"\\", b'""', b"\xf0\x9f\x98\x80", b"\x01", b",", b"x,"]
    ),
    st.sampled_from([300, 70_000, 250_000, MAX_CHUNK_BYTES]),
)
CELLS = st.one_of(st.sampled_from([b"S1", b"C1", b"7", b""]), NOISE, BYTES)
LINES = st.one_of(
    st.lists(CELLS, min_size=1, max_size=5).map(b",".join),
    st.builds(lambda start, giant: b"S1,C1," + start + giant, CELLS, GIANT),
    GIANT,
)
NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    ["student_id", "course_ids", "drop_course_ids", "atomic", "request_id", "sis_id", "name"]
)
RECORDS = st.one_of(
    st.dictionaries(FIELDS, JSON, max_size=4),
    st.builds(lambda ids: {"student_id": "S", "course_ids": ids}, st.lists(JSON, max_size=4)),
    JSON,
)
border = settings(
    max_examples=80,
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large
    ],
)  # fmt: skip


def check_chunks(path: Path, encoding: str | None = None) -> None:
    """Send a file through the reader, the chunks and the worker's own check of a chunk."""
    try:
        source = open_source(path, None, {}, encoding)
    except UnreadableFile:
        return  # Nothing is published.
    lines: Counter[int] = Counter()
    before = 0
    entries = source.records()
    for part in split_into_chunks("b", entries, source.columns, source.kind, source.form):
        assert len(json.dumps(part.text)) * 4 // 3 + 10_000 < MAX_MESSAGE
        chunk, _ = read_chunk(source.kind, part.text)
        assert chunk.tally() == part.tally
        assert chunk.before.rows == before
        before += part.tally.rows
        lines.update(chunk.lines or ())
        lines.update(line.line for line in chunk.refused)
        for line in chunk.refused:
            stored = refusal_of_unread_line(line)
            assert "\0" not in json.loads(stored["cells"] or '""')
            json.dumps(stored, ensure_ascii=False).encode()  # Every database can store it.


@border
@given(
    header=st.sampled_from(HEADERS) | st.builds("{0},{0}".format, st.sampled_from(HEADERS)),
    more=NOISE | BYTES | GIANT,
    lines=st.lists(LINES, max_size=8),
    end=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    encoding=st.sampled_from([None, None, "cp1252", "utf-16-le", "shift_jis", "utf-7"]),
)
def test_no_chunk_of_a_csv_file_is_refused_whole(
    tmp_path: Path,
    header: str,
    more: bytes,
    lines: list[bytes],
    end: bytes,
    encoding: str | None,
) -> None:
    path = tmp_path / "upload.csv"
    path.write_bytes(end.join([header.encode() + b"," + more, *lines, b""]))
    check_chunks(path, encoding)


@border
@given(records=st.lists(RECORDS | st.just("\ud800"), max_size=8), noise=st.lists(NOISE, max_size=2))
def test_no_chunk_of_json_lines_is_refused_whole(
    tmp_path: Path, records: list[object], noise: list[bytes]
) -> None:
    path = tmp_path / "upload.jsonl"
    first = [{"student_id": "S", "course_ids": ["C"]}]
    path.write_bytes(
        b"\n".join([*(json.dumps(record).encode() for record in (*first, *records)), *noise])
    )
    check_chunks(path)


def test_cells_that_are_too_large_are_left_out_and_the_reason_stays() -> None:
    line = RefusedLine(line=3, message="the reason", cells=("x" * MAX_CHUNK_BYTES,))
    (part,) = split_into_chunks("b", [line])
    assert json.loads(part.text)["refused"] == [{"line": 3, "message": "the reason"}]
