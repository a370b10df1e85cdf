"""What the page recognizes in the headers of other systems."""

import json
import subprocess
from typing import Any

import pytest

from producer.files.columns import COLUMNS
from producer.files.describing import Choices
from producer.files.preview import preview_file
from producer.schemas import Kind
from support.paths import ROOT
from support.requirements import require_program

MODULE = ROOT / "producer" / "web" / "page" / "columns.js"


def evaluate(expression: str, value: Any) -> Any:
    """Evaluate an expression over the module (`page`) and a value (`value`)."""
    script = (
        f"import * as page from {json.dumps(MODULE.as_uri())};"
        f"const value = {json.dumps(value)};"
        f"console.log(JSON.stringify({expression} ?? null));"
    )
    command = [require_program("node"), "--input-type=module", "--no-warnings", "-"]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("header", "kind", "maps"),
    [
        (
            "Student Number,Section,Status",
            "enrollments",
            {"student_id": "{Student Number}", "course_id": "{Section}"},
        ),
        (
            "Matrikelnr.;Kursnummer;Grund",
            "enrollments",
            {"student_id": "{Matrikelnr.}", "course_id": "{Kursnummer}", "reason": "{Grund}"},
        ),
        (
            "N° étudiant;Code cours",
            "enrollments",
            {"student_id": "{N° étudiant}", "course_id": "{Code cours}"},
        ),
        (
            "Matrícula;Asignatura;Motivo",
            "enrollments",
            {"student_id": "{Matrícula}", "course_id": "{Asignatura}", "reason": "{Motivo}"},
        ),
        ("student_id,Module Code", "enrollments", {"course_id": "{Module Code}"}),
        (
            "Matric No,First Name,Surname,E-Mail",
            "students",
            {"sis_id": "{Matric No}", "name": "{First Name} {Surname}"},
        ),
        ("ID;Vorname;Nachname", "students", {"sis_id": "{ID}", "name": "{Vorname} {Nachname}"}),
        (
            "Course Code,Course Title",
            "courses",
            {"sis_id": "{Course Code}", "title": "{Course Title}"},
        ),
        ("sis_id,name,email", "students", {}),
        ("student_key,course_key", "enrollments", {}),
        ("Section,Section,student_id", "enrollments", {}),
        ("a,b", None, {}),
    ],
)
def test_a_header_of_another_system_is_recognized_and_the_service_reads_it(
    header: str, kind: str | None, maps: dict[str, str]
) -> None:
    delimiter = ";" if ";" in header else ","
    columns = header.split(delimiter)
    assert evaluate("page.likelyKind(value)", columns) == kind
    if kind is None:
        return
    suggested = evaluate(f"page.suggestions(value, {json.dumps(kind)})", columns)
    assert suggested == maps
    if maps:
        text = f"{header}\n{delimiter.join('1' for _ in columns)}\n"
        choices = Choices(Kind(kind), suggested, None, False)
        assert preview_file("It", text.encode(), choices, goes_on=False).readable


def test_the_page_offers_all_columns_of_the_service() -> None:
    ours = evaluate("page.FIELDS", None)
    for kind, columns in COLUMNS.items():
        offered = [name for each in ours[kind] for name in (each["name"], *each["also"])]
        assert sorted(offered) == sorted(columns)


@pytest.mark.parametrize("header", ["id,name", "ID;Full name", "course_id,name", "Kursnummer,Name"])
def test_a_list_of_students_or_of_courses_is_not_guessed(header: str) -> None:
    columns = header.replace(";", ",").split(",")
    assert evaluate("page.likelyKind(value)", columns) is None
    assert evaluate("page.suggestions(value, 'courses')", columns) == {
        "sis_id": f"{{{columns[0]}}}",
        "title": f"{{{columns[1]}}}",
    }


@pytest.mark.parametrize("header", ["id,name,email", "Matrikelnummer,Name", "id,student name"])
def test_a_name_beside_a_sign_of_students_is_that_of_a_student(header: str) -> None:
    assert evaluate("page.likelyKind(value)", header.split(",")) == "students"
