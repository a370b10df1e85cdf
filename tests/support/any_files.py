"""Draw any file with any mistakes, as it is stored, and what its submitter says about it."""

from typing import NamedTuple

from hypothesis import strategies as st

from producer.files.describing import Choices
from producer.schemas import Kind

NO_CHOICE = Choices()

HEADERS = [
    ["student_id", "course_id"],
    ["Student ID", "note", "Course-ID"],
    ["student_key", "course_key", "action", "reason", "as_of"],
    ["student_sis_id", "course_sis_id", "refused_guarded", "x"],
    ["sis_id", "name", "email"],
    ["sis_id", "title", "as_of"],
    ["sis_id"],
    ["who", "what"],
]
CELLS = st.sampled_from(
    [
        *("S1", "S2", "7", "003", "", " a ", "NULL", "Zoë", "x" * 256, "drop", "enroll", "yes"),
        *("'=1", "2026-01-01T00:00:00Z", "2026-01-01", '"two\nlines"', '"a,b;c|d"', '"say ""no"""'),
        *('"', '5" pipe', '"open', "\0", "\x1a", "\ufffd\ufffd", '"x', 'y"'),
    ]
)
LINES = st.one_of(
    st.sampled_from(
        ["", ",", ";;", "sis_id,name,email", "student_id,course_id", "course_id", "\t"]
    ),
    st.none(),
)
RECORDS = [
    '{"student_id": "S1", "course_ids": ["C1", "C2"]}',
    '{"student_id": 4711, "drop_course_ids": ["C1"], "course_ids": [7]}',
    '{"student_id": "S1", "course_ids": [], "line": "x"}',
    '{"sis_id": "S1", "name": "NULL"}',
    '{"sis_id": "NULL", "title": "T", "as_of": "2026"}',
    *('{"sis_id": "S1"}', "{}", "[]", "7", "null", '"x"', "{'a': 1}", '{"a":', "", " ", "\ufffd"),
    '{"sis_id": "S1", "name": ' + "9" * 400 + "}",
]


class Upload(NamedTuple):
    """A file as it is stored, and what the submitter says about it."""

    text: str
    encoding: str
    line_end: str
    choices: Choices

    @property
    def content(self) -> bytes:
        """The bytes of the file; two signs for undecodable characters become a byte that is."""
        mark = "" if self.choices.encoding else "\ufeff" * self.encoding.startswith("utf-")
        text = (mark + self.text).replace("\n", self.line_end)
        parts = text.split("\ufffd\ufffd")
        bad = b"\x81" if not self.encoding.startswith("utf-16") else b"\x00\xdc"
        return bad.join(part.encode(self.encoding, "replace") for part in parts)


@st.composite
def tables(draw: st.DrawFn) -> str:
    header = draw(st.sampled_from(HEADERS))
    delimiter = draw(st.sampled_from(",;\t|"))
    lines = [delimiter.join(header)]
    for _ in range(draw(st.integers(0, 12))):
        line = draw(LINES)
        if line is None:
            width = draw(st.sampled_from([len(header)] * 6 + [1, len(header) + 1]))
            line = delimiter.join(draw(st.lists(CELLS, min_size=width, max_size=width)))
        lines.append(line)
    above = draw(st.sampled_from(["", "", "\n", f"sep={delimiter}\n", "A title\n"]))
    return above + "\n".join(lines) + draw(st.sampled_from(["", "\n"]))


uploads = st.builds(
    Upload,
    tables() | st.lists(st.sampled_from(RECORDS), max_size=12).map("\n".join),
    st.sampled_from(["utf-8", "utf-8", "utf-16-le", "utf-16-be", "cp1252"]),
    st.sampled_from(["\n", "\r\n"]),
    st.builds(
        Choices,
        st.sampled_from([None, None, None, *Kind]),
        st.sampled_from([{}, {}, {"student_id": "{who}", "course_id": "{who}-{what}"}]),
        st.none(),
        st.sampled_from([False, False, True]),
        st.just(NO_CHOICE.format),
        st.none(),
    ),
).map(
    lambda upload: (
        upload._replace(choices=upload.choices._replace(encoding="cp1252"))
        if upload.encoding == "cp1252"
        else upload
    )
)
