"""Check files for `enroll submit --check`: read them to their ends, and submit nothing."""

from collections import deque
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from producer.commands import display
from producer.commands.output_files import Output
from producer.commands.session import Session
from producer.commands.terminal import one_line
from producer.contract.exit_codes import ExitCode
from producer.contract.file_forms import FileForm
from producer.files.check import FileCheck, SourceChecker
from producer.files.formats.packages import AnySource
from producer.files.refused_lines import write_csv
from producer.schemas import Kind

_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
_LINE_ENDS = {"\n": "LF", "\r\n": "CRLF", "\r": "CR"}
_NOTHING_SUBMITTED = "Nothing was submitted."
_NOT_CHECKED = (
    "Whether the roster has these students and courses is checked when the file is submitted."
)


def check_sources(
    session: Session,
    sources: Sequence[AnySource],
    refused_file: Output | None,
    spreadsheet: Output | None,
) -> int:
    """Read every source, print what was found, and return the exit code. Raises UnreadableFile.

    All lines that would be refused are written to `refused_file`, if there is one, or so that no
    cell runs as a formula to `spreadsheet`.
    """
    output = refused_file or spreadsheet
    refused = 0
    for source in sources:
        checker = SourceChecker(source)
        if output is None:
            deque(checker.refusals(), maxlen=0)
        else:
            with output.opened() as file:
                lines = checker.refusals()
                guarded = output is spreadsheet
                write_csv(file, source.columns, source.form, lines, guarded=guarded)
        result = checker.result()
        session.show_with_notices(result, _layout(result), source.notices)
        refused += result.lines.refused
    if not session.as_json:
        has_enrollments = any(source.kind is Kind.ENROLLMENTS for source in sources)
        session.err.print(_NOTHING_SUBMITTED, *[_NOT_CHECKED] * has_enrollments)
    return ExitCode.REFUSED if refused else ExitCode.DONE


def _layout(check: FileCheck) -> RenderableType:
    parts: list[RenderableType] = [one_line(("File ", "bold"), check.file), _reading(check)]
    if check.first_rows:
        names = list(dict.fromkeys(name for row in check.first_rows for name in row))
        rows = [[_shown(row.get(name)) for name in names] for row in check.first_rows]
        parts += [Text(), Text("First rows", style="bold"), display.table(names, rows)]
    counts = check.lines.model_dump()
    total = counts.pop("total")
    lines = [(f"  {name}", f"{count:,}") for name, count in counts.items()]
    parts += [Text(), display.table(["", "count"], [("lines", f"{total:,}"), *lines])]
    if check.refused:
        parts += [Text(), Text("Lines that would be refused", style="bold")]
        parts += [one_line(f"line {line.line}: {line.message}") for line in check.refused]
        more = check.lines.refused - len(check.refused)
        if more:
            parts.append(Text(f"and {more:,} more; --refused FILE writes all of them to a file"))
    return Group(*parts)


def _reading(check: FileCheck) -> RenderableType:
    rows = [("kind", check.content), ("read as", _form(check.form))]
    if check.columns is not None:
        rows.append(("header", ", ".join(check.columns)))
    rows += [(f"  {name}", f"from {source}") for name, source in (check.mapping or {}).items()]
    rows.append(("rows", f"{check.rows:,} would be submitted"))
    return display.table(["", ""], rows, headings=False)


def _form(form: FileForm | None) -> str:
    if form is None:
        return "JSON Lines"
    between = _DELIMITERS.get(form.delimiter, form.delimiter)
    mark = " with a byte order mark" if form.bom else ""
    return f"CSV with {between}, {form.encoding}{mark}, lines end with {_LINE_ENDS[form.line_end]}"


def _shown(value: object) -> str:
    return "" if value is None else str(value)[:60]
