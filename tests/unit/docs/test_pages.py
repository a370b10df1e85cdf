"""README and docs agree with each other, and with the code that they describe."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name

import billiard
import celery
import click
import pytest

from producer.cli import enroll
from producer.contract.batches import Cause
from producer.contract.exit_codes import ExitCode
from producer.schemas import CODE_MEANINGS, Code
from producer.web.problems import STATUS_OF_CODE, STATUS_OF_FAULT
from producer.web.settings import HttpSettings
from support.paths import ROOT
from support.transcripts import DOCUMENTS
from worker.settings import PREFIX, Settings


def rows(name: str) -> list[list[str]]:
    """Return the cells of all tables of a page, by row."""
    return rows_of(DOCUMENTS[name])


def rows_of(text: str) -> list[list[str]]:
    lines = re.findall(r"^\| (.*) \|$", text, flags=re.MULTILINE)
    return [[cell.strip() for cell in line.split(" | ")] for line in lines]


def test_every_code_is_explained() -> None:
    codes, _, causes = DOCUMENTS["docs/codes.md"].partition("\n## Likely causes\n")
    documented = {row[0].strip("`"): row[-1] for row in rows_of(codes) if row[0].startswith("`")}
    assert documented == {code.value: str(STATUS_OF_CODE[code]) for code in Code}
    documented_causes = {row[0].strip("`") for row in rows_of(causes) if row[0].startswith("`")}
    assert documented_causes == set(Cause)
    assert set(CODE_MEANINGS) == set(Code)


def codes_of_problems() -> set[str]:
    """Return the codes with which the HTTP front refuses calls, as its modules write them."""
    codes = {str(code) for _, code in STATUS_OF_FAULT.values()} | {"internal_error"}
    for path in (ROOT / "producer" / "web").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Refused":
                code = node.args[1]
                if isinstance(code, ast.Constant):
                    codes.add(str(code.value))
    return codes


def test_every_problem_of_the_http_front_is_explained_with_its_status() -> None:
    section = DOCUMENTS["docs/http.md"].partition("\n## Problems and call ids\n")[2]
    explained = [row for row in rows_of(section.partition("\n## ")[0]) if len(row) == 3]
    cells = {code: row[0] for row in explained for code in re.findall(r"`(\w+)`", row[1])}
    assert codes_of_problems() - set(cells) == set()
    known = [*STATUS_OF_FAULT.values(), *((s, c) for c, s in STATUS_OF_CODE.items() if c in cells)]
    assert [code for status, code in known if f"`{status}`" not in cells[code]] == []


def test_every_exit_code_is_explained() -> None:
    table = DOCUMENTS["docs/command-line.md"].partition("| Exit code |")[2].partition("\n\n")[0]
    assert [row[0] for row in rows_of(table)[1:]] == [str(code.value) for code in ExitCode]


def test_every_setting_is_explained_with_its_default() -> None:
    documented = {
        row[0].strip("`"): row[-1] for row in rows("docs/settings.md") if PREFIX in row[0]
    }
    for model in (Settings, HttpSettings):
        for name, field in model.model_fields.items():
            default = documented[PREFIX + name.upper()]
            if isinstance(field.default, bool):
                assert default == str(field.default).lower()
            elif isinstance(field.default, int | float | str):
                assert default == (f"{field.default}" or "empty")


UNITS = {"KiB": 2**10, "MiB": 2**20, "days": 86_400}


@pytest.mark.parametrize(
    "row", [r for r in rows("docs/limits.md") if r[-1].startswith("`")], ids=lambda row: row[-1]
)
def test_a_limit_on_a_page_equals_the_one_in_the_code(row: list[str]) -> None:
    module, _, name = row[-1].strip("`").rpartition(".")
    number, unit = re.findall(r"([\d,]*\d) ?(\w*)", row[1].rpartition(" to ")[-1])[0]
    documented = int(number.replace(",", "")) * UNITS.get(unit, 1)
    assert documented == getattr(import_module(module), name)


def anchors(name: str) -> set[str]:
    without_code = re.sub(r"^```.*?^```", "", DOCUMENTS[name], flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", without_code, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", DOCUMENTS[name]):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        found = ((ROOT / name).parent / path).resolve() if path else ROOT / name
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(str(found.relative_to(ROOT))), target


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_every_row_of_a_table_is_one_line(name: str) -> None:
    text = re.sub(r"^ *```.*?^ *```", "", DOCUMENTS[name], flags=re.MULTILINE | re.DOTALL)
    lines = [line.strip() for line in text.splitlines()]
    assert [s for s in lines if "|" in (s[:1], s[-1:]) and not (s[0] == s[-1] == "|")] == []


def test_every_page_is_in_the_index() -> None:
    index = set(re.findall(r"\]\(([^)]+)\)", DOCUMENTS["docs/README.md"]))
    pages = {name.removeprefix("docs/") for name in DOCUMENTS if name.startswith("docs/")}
    assert {page for page in pages if not page.startswith("notes/")} - index == {"README.md"}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_path_and_object_that_a_page_names_exists(name: str) -> None:
    for path in re.findall(
        r"`((?:producer|worker|migrations|tests|docs)/[\w/.-]*)`", DOCUMENTS[name]
    ):
        assert (ROOT / path).exists(), path
    for dotted in re.findall(r"`((?:producer|worker)(?:\.\w+)+)`", DOCUMENTS[name]):
        assert resolve_name(dotted), dotted


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_that_a_page_names_exists(name: str) -> None:
    known = enroll.list_commands(click.Context(enroll))
    named = re.findall(r"(?:`|^\$ |^)enroll ([a-z][a-z-]*)", DOCUMENTS[name], flags=re.MULTILINE)
    assert set(named) <= set(known)


def test_every_package_and_module_is_in_the_architecture() -> None:
    table = DOCUMENTS["docs/architecture.md"].partition("\n## The packages\n")[2]
    named = set(re.findall(r"`((?:producer|worker)/\w+(?:/|\.py))`", table.partition("\n## ")[0]))
    modules = {p for root in ("producer", "worker") for p in (ROOT / root).glob("*.py")}
    packages = {p.parent for root in ("producer", "worker") for p in (ROOT / root).glob("*/*.py")}
    there = {str(p.relative_to(ROOT)) for p in modules if p.name != "__init__.py"}
    there |= {f"{p.relative_to(ROOT)}/" for p in packages}
    assert named == there


def options_of(command: click.Command) -> Iterator[str]:
    """Yield the long options of a command and of its own commands."""
    for parameter in command.params:
        yield from (name for name in parameter.opts if name.startswith("--"))
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from options_of(command.get_command(context, name) or command)


def test_every_option_of_a_command_is_on_a_page() -> None:
    named = set(re.findall(r"--[a-z][a-z-]*", "\n".join(DOCUMENTS.values())))
    assert set(options_of(enroll)) - named == set()


def test_no_name_is_explained_in_two_tables() -> None:
    """Only one page has a row about each code, metric, variable or field."""
    pages: dict[str, set[str]] = {}
    for name in DOCUMENTS:
        for row in rows(name):
            if re.fullmatch(r"`[\w./-]+`", row[0]):
                pages.setdefault(row[0], set()).add(name)
    # It is a code, and a reason of dead letters.
    assert {name for name, found in pages.items() if len(found) > 1} == {"`not_processed`"}


def test_every_log_message_that_a_page_names_is_logged() -> None:
    _, logs, _, faults, _ = re.split(
        r"^## (?:Logs|Metrics|What a fault looks like|Traces)$",
        DOCUMENTS["docs/operations/watching.md"],
        flags=re.MULTILINE,
    )
    signs = re.findall(r"^\| `([^`]+)` \|", logs, flags=re.MULTILINE)
    for line in re.findall(r"^\| .*\|$", faults, flags=re.MULTILINE):
        signs += re.findall(r"`([^`]+)`", line.split(" | ")[-1])
    folders = [ROOT / "worker", *(Path(str(made.__file__)).parent for made in (celery, billiard))]
    assert len(signs) > len(faults.splitlines()) // 2
    assert missing_in(folders, signs) == []


@pytest.mark.parametrize("name", ["docs/submitting.md", "docs/registrars.md"])
def test_a_message_that_a_page_explains_is_one_of_ours(name: str) -> None:
    table = DOCUMENTS[name].partition("\n| You see |")[2]
    messages = [m for line in table.splitlines() for m in re.findall(r"`([^`]+)`", first(line))]
    assert messages
    assert missing_in([ROOT / "producer", ROOT / "worker"], messages) == []


def first(line: str) -> str:
    """Return the first cell of a line of a table."""
    return line.split(" | ", maxsplit=1)[0]


def _sources(folder: Path) -> list[Path]:
    """Return the files in a folder that hold messages: what the page says is in its scripts."""
    return [*folder.rglob("*.py"), *folder.rglob("*.js")]


def missing_in(folders: list[Path], messages: list[str]) -> list[str]:
    """Return the messages whose longest literal part is not in the code of these folders."""
    code = "".join(path.read_text("utf-8") for f in folders for path in _sources(f))
    joined = re.sub(r'"\s*\n\s*f?"', "", code)
    return [text for text in messages if max(text.split("…"), key=len) not in joined]


def test_the_names_in_contributing_are_in_the_files_beside_them() -> None:
    """In CONTRIBUTING, the names after a path occur in that file."""
    wrong = []
    for line in DOCUMENTS["CONTRIBUTING.md"].splitlines():
        for path, rest in re.findall(r"`([\w/.]+\.(?:py|html|js|md))`((?:(?!`[\w/]+/).)*)", line):
            text = (ROOT / path).read_text(encoding="utf-8")
            wrong += [f"{path}: {n}" for n in re.findall(r"`(\w+)`", rest) if n not in text]
    assert wrong == []
