"""Files without drops, reasons and actions make the chunks that earlier versions made.

A chunk is recognized by its bytes when a batch is resumed: after an upgrade, other bytes would be
taken for other records.
"""

import io

import pytest

from producer.contract.chunks import fingerprint_of
from producer.files.reader import open_stream
from producer.publishing.chunking import split_into_chunks

FILES = {
    "pairs": ("student_id,course_id\nS1,C1\nS1,C2\nS2,C1\n", -6431219040194138790),
    "keys and a note": (
        "student_key;course_key;note\n1;2;a\n1;3;b\n2;3;c\n",
        -2592886857405368698,
    ),
    "students": (
        "sis_id,name,email,as_of\nS1,Ada,,2026-09-01T08:00:00Z\nS2,Ben,b@example.edu,\n",
        7903234090517824351,
    ),
    "JSON Lines": (
        (
            '{"student_id": "S1", "course_ids": ["C1"]}\n'
            '{"student_id": "S2", "course_ids": ["C1", 2], "atomic": true}\n'
        ),
        509010973422801988,
    ),
    "JSON Lines that become columns": (
        (
            '{"student_id": "S1", "course_ids": ["C1"]}\n'
            '{"student_id": "S2", "course_ids": ["C1", 2]}\n'
        ),
        -863041170425071545,
    ),
    "JSON Lines with ids": (
        '{"student_id": "S1", "course_ids": ["C1"], "request_id": "r1"}\n',
        -3514087118641980222,
    ),
    "no lines": ("student_id,course_id\n", -8417166966634689082),
}


@pytest.mark.parametrize(("content", "fingerprint"), FILES.values(), ids=FILES)
def test_the_chunk_of_a_file_has_not_changed(content: str, fingerprint: int) -> None:
    layout, lines = open_stream("a file", io.BytesIO(content.encode()))
    options = (layout.columns, layout.kind, layout.form)
    (part,) = split_into_chunks("b", lines, *options, ordered=layout.ordered)
    assert fingerprint_of(part.text) == fingerprint
