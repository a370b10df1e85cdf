"""A mistake on the command line is reported at once, with what to write instead."""

from pathlib import Path

import pytest

from support.commands import USAGE, invoke_enroll

URL = "redis://127.0.0.1:1/0"
ABSENT = {"ENROLL_BROKER_URL": URL, "ENROLL_DATABASE_URL": None}
LONG = "x" * 129


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "students.csv").write_text("sis_id,name\nS1,Ada\n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["submit", "students.csv", "--batch-id", ""], "--batch-id: must be a string of 1 to 128"),
        (["submit", "students.csv", "--batch-id", LONG], "--batch-id: must be a string of 1 to"),
        (["submit", "--check", "students.csv", "--batch-id", ""], "--batch-id: must be a string"),
        (["request", "S1", "C1", "--request-id", ""], "request_id: must be a string of 1 to 128"),
        (["request", "", "C1"], "student_id: must be our key"),
        (["request", "S1", ""], "course_ids[0]: must be our key"),
        (["request", "S1", "--drop", ""], "drop_course_ids[0]: must be our key"),
        (["request", "S1"], "Name a course to enroll the student in, or one to --drop."),
        (["request", "S1", "C1", "--drop", "C1"], "drop_course_ids[0]: is also in course_ids"),
        (["request", "S1", "C1", "--reason", LONG * 2], "reason: must be a text of at most 255"),
        (["submit", "--drop", "students.csv"], "See --drop in `enroll submit --help`"),
        (["submit", "--drop", "--check", "students.csv"], "only enrollments can be dropped"),
        (["submit", "students.csv", "--dry-run", "--hold", "always"], "--hold: a dry run is never"),
        (["submit", "students.csv", "--hold", "5%"], "--hold: a percentage is one of the"),
        (["submit", "students.csv", "--snapshot", "s", "--hold", "5"], "--hold: '5' is not a rule"),
        (["submit", "students.csv", "--adopt"], "--adopt: only a snapshot can adopt"),
        (
            ["submit", "students.csv", "--snapshot", "a", "--data-set", "b"],
            "--data-set: a snapshot",
        ),
        (["submit", "students.csv", "--data-set", LONG], "--data-set: the name of a data set has"),
        (
            ["submit", "students.csv", "--snapshot", "a\nb"],
            "--snapshot: the name of a data set has",
        ),
        (["submit", "students.csv", "--snapshot", "s"], "snapshot: a snapshot needs enrollments"),
        (["submit", "students.csv", "--data-set", "s"], "data_set: only enrollments belong to"),
        (["submit", "--check", "students.csv", "--dry-run"], "so --dry-run has no effect"),
        (["submit", "--check", "students.csv", "--data-set", "s"], "so --data-set has no effect"),
        (["plan", ""], "plan_id: must be a string of 1 to 128 characters"),
        (["status", ""], "request_id: must be a string of 1 to 128 characters"),
        (["status", LONG], "request_id: must be a string of 1 to 128 characters"),
        (["wait", "a", ""], "request_ids[1]: must be a string of 1 to 128 characters"),
        (["errors", ""], "batch_id: must be a string of 1 to 128 characters"),
        (["student", ""], "student: must be our key"),
        (["student", "key:0"], "student: must be our key"),
        (["results", "key:2147483648"], "student: must be our key"),
        (["results", "S1", "--limit", "0"], "0 is not in the range 1<=x<=1000"),
        (["history", ""], "student: must be our key"),
        (["history", "S1", "key:0"], "course: must be our key"),
        (["history", "S1", "--before", "2026-09-01"], "must be a time with its time zone, for"),
        (["history", "S1", "--all", "--limit", "5"], "--limit and --all contradict each other"),
        (["who", "key:2147483648"], "course: must be our key"),
        (["who", "C1", "--at", "noon"], "'--at': must be a time with its time zone, for example"),
        (["wait", "a", "--timeout", "-1"], "-1.0 is not in the range x>=0"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_a_value_that_cannot_be_right_is_refused_before_the_broker_is_asked(
    arguments: list[str], expected: str
) -> None:
    done = invoke_enroll(*arguments, **ABSENT)
    assert done.exit_code == USAGE, done.output
    assert expected in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    "url",
    [f" {URL}", f"{URL} ", f"{URL}\n", f"{URL}\r", "redis://127.0.0.1 /0", "redis://:a b@h/0",
     f"{URL}\u200b", "redis://h\t:1/0", "sentinel://h:1/0?master_name=m ", "redis://h:0/0"],
)  # fmt: skip
@pytest.mark.parametrize("variable", ["ENROLL_BROKER_URL", "ENROLL_RESULT_BACKEND_URL"])
@pytest.mark.usefixtures("folder")
def test_a_url_that_can_never_work_is_refused_at_once(url: str, variable: str) -> None:
    done = invoke_enroll("submit", "students.csv", **{**ABSENT, variable: url})
    assert done.exit_code == USAGE, done.output
    hidden = "contains a space, a line end or an invisible character; remove it"
    assert (hidden in done.stderr) is (url != "redis://h:0/0")
    assert "Correct --broker (ENROLL_BROKER_URL)" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["sumbit", "students.csv"], "submit"),
        (["stauts"], "status"),
        (["dead-leters", "list"], "dead-letters"),
        (["dead-letters", "discrad", "1"], "discard"),
        (["database", "acept"], "accept"),
        (["submit", "students.csv", "--bach-id", "b"], "--batch-id"),
        (["prune", "--odler-than", "4d"], "--older-than"),
        (["--verison"], "--version"),
        (["submit", "--kind", "student", "students.csv"], "students"),
        (["submit", "--kind", "Enrolments", "students.csv"], "enrollments"),
        (["schema", "jsno"], "json"),
        (["completion", "bsh"], "bash"),
    ],
)
def test_a_misspelt_word_is_answered_with_the_one_that_was_meant(
    arguments: list[str], meant: str
) -> None:
    done = invoke_enroll(*arguments, **ABSENT)
    assert done.exit_code == USAGE
    assert "Did you mean" in done.stderr or "Did you mean one of" in done.stderr
    assert f"'{meant}'" in done.stderr.partition("id you mean")[2]


def test_a_word_that_resembles_nothing_gets_no_suggestion() -> None:
    assert "mean" not in invoke_enroll("xyzzy").stderr
    assert "mean" not in invoke_enroll("schema", "xyzzy").stderr


def test_a_missing_choice_is_named_in_one_line() -> None:
    assert "Missing argument '{json|asyncapi}'. Choose from json, asyncapi." in (
        invoke_enroll("schema").stderr
    )
