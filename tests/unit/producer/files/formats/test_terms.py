"""Classes of a package end with their last term."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from producer.contract.chunks import RefusedLine
from producer.files.describing import Choices
from producer.files.formats.packages import open_package
from producer.files.formats.registry import choice_of
from producer.publishing.chunking import SourceRecord
from producer.publishing.dating import BATCH_MOMENT
from support.packages import encoded, opened, read_file, read_package, zipped_package

SESSIONS = [
    "sourcedId,status,dateLastModified,title,type,startDate,endDate,parentSourcedId,schoolYear",
    "past,,,Fall,term,2020-08-01,2020-12-20,,2021",
    "earlier,active,,Spring,term,2020-01-01,2020-05-30,,2020",
    "now,,,Year,schoolYear,2020-08-01,2999-06-30,,2999",
    "gone,tobedeleted,,Year,schoolYear,2020-08-01,2999-06-30,,2999",
    "later,,,Next,term,2998-08-01,2999-06-30,,2999",
]
CLASSES = [
    "sourcedId,status,dateLastModified,title,classType,schoolSourcedId,termSourcedIds",
    "c-past,,,Algebra,scheduled,o-1,past",
    'c-both,,,Biology,scheduled,o-1,"earlier,past"',
    'c-long,,,Chemistry,scheduled,o-1," past , now "',
    'c-kept,,,Drama,scheduled,o-1,"past,gone"',
    "c-later,,,English,scheduled,o-1,later",
    "c-gone,,,French,scheduled,o-1,gone",
]
HEADER = "sourcedId,status,classSourcedId,schoolSourcedId,userSourcedId,role,beginDate,endDate"


def enrollments(*rows: str) -> list[str]:
    return [HEADER, *(f"e-{number},{row}" for number, row in enumerate(rows))]


def package(tmp_path: Path, files: Mapping[str, Sequence[str]], **form: str) -> Path:
    some = {"classes.csv": CLASSES, "academicSessions.csv": SESSIONS, **files}
    return zipped_package({k: v for k, v in some.items() if v}, tmp_path / "export.zip", **form)


def notices_of(path: Path) -> str:
    with opened(path) as read:
        return "\n".join(read.all_notices())


def test_a_line_without_an_end_ends_with_the_last_term_of_its_class(tmp_path: Path) -> None:
    names = ("past", "both", "long", "kept", "later", "gone", "unknown")
    lines = enrollments(*(f"active,c-{name},o-1,u-1,student,," for name in names))
    read = read_package(package(tmp_path, {"enrollments.csv": lines}))["enrollments"]
    ended = dict.fromkeys([("u-1", "c-past"), ("u-1", "c-both"), ("u-1", "c-kept")], "term ended")
    assert read.dropped == ended
    assert {course for _, course in read.enrolled} == {"c-long", "c-later", "c-gone", "c-unknown"}
    assert any("3 lines are read as drops: 3 'term ended'" in notice for notice in read.notices)


def test_an_end_and_a_status_of_the_line_count_before_the_term(tmp_path: Path) -> None:
    lines = enrollments(
        "active,c-past,o-1,u-1,student,,2999-01-01",
        "active,c-past,o-1,u-2,student,,2019-01-01",
        "tobedeleted,c-past,o-1,u-3,student,,",
        "active,c-past,o-1,u-4,teacher,,",
        "active,c-past,o-1,u-5,student,,in June",
        "active,c-past,o-1,u-6,student,2020-09-01,",
        "active,c-past,o-1,u-7,student,2021-09-01,",
        "active,c-long,o-1,u-8,student,,2020-10-01",
    )
    read = read_package(package(tmp_path, {"enrollments.csv": lines}))["enrollments"]
    assert {student for student, _ in read.enrolled} == {"u-1", "u-5", "u-7"}
    assert {student: why for (student, _), why in read.dropped.items()} == {
        "u-2": "ended",
        "u-3": "tobedeleted",
        "u-6": "term ended",
        "u-8": "ended",
    }
    assert any("lies before the begin" in notice for notice in read.notices)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["c-past", "c-both", "c-long", "c-later", "c-unknown", " c-past "]),
            st.integers(1, 4),
            st.sampled_from(["", "2999-01-01", "2019-01-01"]),
        ),
        max_size=40,
    ),
    moments=st.booleans(),
)
def test_the_order_and_the_number_of_lines_do_not_matter(
    tmp_path: Path, rows: list[tuple[str, int, str]], *, moments: bool
) -> None:
    """Each line is read as it would be alone, although known courses are read in a shorter way."""
    lines = enrollments(*(f"active,{c},o-1,u-{u},student,,{end}" for c, u, end in rows))
    lines = [f"{line},dateLastModified" if line == HEADER else f"{line}," for line in lines]
    path = package(tmp_path, {"enrollments.csv": lines})
    read = open_package(path, Choices(format=choice_of(None, moments_from_file=moments)))
    assert read is not None
    with read:
        source = next(s for s in read.sources if s.batch_name == "enrollments")
        records = [r.record for r in source.records() if isinstance(r, SourceRecord)]
    enrolled = [(r["student_id"], c) for r in records for c in r.get("course_ids", ())]
    dropped = [
        (r["student_id"], c, r["reason"]) for r in records for c in r.get("drop_course_ids", ())
    ]
    own_end = {"2019-01-01": "ended", "2999-01-01": ""}
    expected = [
        (f"u-{u}", c.strip(), own_end.get(end, "term ended" * (c.strip() in ("c-past", "c-both"))))
        for c, u, end in rows
    ]
    assert sorted(enrolled) == sorted(
        (student, course) for student, course, why in expected if not why
    )
    assert sorted(dropped) == sorted(row for row in expected if row[2])


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("line_end", ["\r", "\r\n"])
def test_terms_are_read_in_every_form(tmp_path: Path, encoding: str, line_end: str) -> None:
    lines = enrollments("active,c-past,o-1,u-1,student,,", "active,c-long,o-1,u-1,student,,")
    path = package(tmp_path, {"enrollments.csv": lines}, encoding=encoding, line_end=line_end)
    read = read_package(path)["enrollments"]
    assert read.dropped == {("u-1", "c-past"): "term ended"}
    assert set(read.enrolled) == {("u-1", "c-long")}


@pytest.mark.parametrize(
    ("file", "lines", "notice"),
    [
        ("academicSessions.csv", [], "has no file academicSessions.csv that can be read"),
        (
            "academicSessions.csv",
            ["sourcedId,status,title", "past,,Fall"],
            "academicsessions.csv in {path} is not read, because its header lacks columns",
        ),
        (
            "academicSessions.csv",
            [SESSIONS[0], "now,,,Year,schoolYear,2020-08-01,2999-06-30,,"],
            "6 classes name terms (first in line 2: 'past') that academicSessions.csv in {path}",
        ),
        (
            "academicSessions.csv",
            [SESSIONS[0], "past,,,Fall,term,2020-08-01,in June,,", *SESSIONS[2:]],
            "1 term has no end date that is certain (line 2: 'in June')",
        ),
        (
            "academicSessions.csv",
            [SESSIONS[0], "past,,,Fall,term,2020-08-01,1900-01-01,,", *SESSIONS[2:]],
            "1 term has no end date that is certain (line 2: '1900-01-01')",
        ),
        (
            "academicSessions.csv",
            [SESSIONS[0], "past,,,Fall,term,2020-08-01,,,", *SESSIONS[2:]],
            "1 term has no end date that is certain (line 2)",
        ),
        (
            "academicSessions.csv",
            [SESSIONS[0], "past,,,Fall", *SESSIONS[2:]],
            "1 line cannot be read (line 2)",
        ),
        (
            "classes.csv",
            ["sourcedId,title,classType", "c-past,Algebra,scheduled"],
            "classes.csv in {path} has no column termSourcedIds",
        ),
        (
            "classes.csv",
            [CLASSES[0], "c-past,,,Algebra,scheduled,o-1,"],
            "1 class names no term (line 2)",
        ),
    ],
)
def test_what_is_missing_ends_nothing_and_is_noticed(
    tmp_path: Path, file: str, lines: list[str], notice: str
) -> None:
    own = enrollments("active,c-past,o-1,u-1,student,,")
    path = package(tmp_path, {"enrollments.csv": own, file: lines})
    read = read_package(path)["enrollments"]
    assert set(read.enrolled) == {("u-1", "c-past")}
    assert read.dropped == {}
    assert notice.format(path=path) in notices_of(path)


def test_packages_without_terms_and_packages_of_changes_have_no_notice(tmp_path: Path) -> None:
    own = enrollments("active,c-past,o-1,u-1,student,,")
    without = ["sourcedId,title,classType", "c-past,Algebra,scheduled"]
    files = {"enrollments.csv": own, "classes.csv": without, "academicSessions.csv": []}
    path = package(tmp_path, files)
    assert " term" not in notices_of(path)
    delta = ["propertyName,value", "file.enrollments,delta", "file.classes,delta"]
    files = {"enrollments.csv": own, "manifest.csv": delta, "academicSessions.csv": SESSIONS[:1]}
    assert " term" not in notices_of(package(tmp_path, files))


def test_the_last_day_of_a_term_still_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = enrollments("active,c-past,o-1,u-1,student,,")
    today = package(tmp_path, {"enrollments.csv": lines})
    for zone, day, is_over in (
        ("UTC", "2020-12-20T23:59:59+00:00", False),
        ("UTC", "2020-12-21T00:00:00+00:00", True),
        ("America/New_York", "2020-12-21T04:59:00+00:00", False),
        ("America/New_York", "2020-12-21T05:00:00+00:00", True),
    ):
        monkeypatch.setenv("ENROLL_TIMEZONE", zone)
        moment = datetime.fromisoformat(day)
        token = BATCH_MOMENT.set(moment)
        try:
            read = read_package(today)["enrollments"]
        finally:
            BATCH_MOMENT.reset(token)
        assert bool(read.dropped) == is_over


def test_a_refused_line_of_a_class_that_is_over_comes_back_with_its_end(tmp_path: Path) -> None:
    lines = enrollments("active,c-past,o-1,,student,,")
    with opened(package(tmp_path, {"enrollments.csv": lines})) as read:
        source = next(s for s in read.sources if s.batch_name == "enrollments")
        (refused,) = source.records()
    assert isinstance(refused, RefusedLine)
    assert refused.cells is not None
    corrected = ["u-1" if not cell and at == 4 else cell for at, cell in enumerate(refused.cells)]
    alone = read_file(encoded([HEADER, ",".join(corrected)]), tmp_path)
    assert alone.dropped == {("u-1", "c-past"): "ended"}
    assert alone.enrolled == {}
