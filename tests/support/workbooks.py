"""Write small Excel workbooks cell by cell, as programs store them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

from support.source_files import zipped

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
RELATIONS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006"
XML = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
DATE, MOMENT, DURATION = 1, 2, 3
"""Styles of cells: a date, a date with a time, hours above 24."""
_STYLES = (
    f'{XML}<styleSheet xmlns="{MAIN}"><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/>'
    '<xf numFmtId="22"/><xf numFmtId="46"/></cellXfs></styleSheet>'
)


class Cell(NamedTuple):
    """A stored value, the type of the cell, its style and its formula."""

    value: str
    type: str = "n"
    style: int = 0
    formula: str = ""


Value = str | int | float | bool | Cell | None
Rows = Sequence[Sequence[Value]] | Mapping[int, Sequence[Value]]


def workbook(
    sheets: Mapping[str, Rows],
    *,
    hidden: Sequence[str] = (),
    more: Sequence[tuple[str, str]] = (),
) -> bytes:
    """Return a workbook; the rows of a sheet are numbered from 1, or by the keys of a mapping."""
    listed = "".join(
        f'<sheet name="{escape(name)}" sheetId="{n}" r:id="r{n}"'
        f' state="{"hidden" if name in hidden else "visible"}"/>'
        for n, name in enumerate(sheets, 1)
    )
    targets = "".join(
        f'<Relationship Id="r{n}" Type="{RELATIONS}/worksheet" Target="worksheets/sheet{n}.xml"/>'
        for n in range(1, len(sheets) + 1)
    )
    overrides = "".join(
        f'<Override PartName="/xl/worksheets/sheet{n}.xml" ContentType="application/'
        'vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/>'
        for n in range(1, len(sheets) + 1)
    )
    styles = f'<Relationship Id="s" Type="{RELATIONS}/styles" Target="styles.xml"/>'
    written = {
        "[Content_Types].xml": f'{XML}<Types xmlns="{PACKAGE}/content-types"><Default Extension='
        '"rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default'
        f' Extension="xml" ContentType="application/xml"/>{overrides}</Types>',
        "_rels/.rels": f'{XML}<Relationships xmlns="{PACKAGE}/relationships"><Relationship Id="r1"'
        f' Type="{RELATIONS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'{XML}<workbook xmlns="{MAIN}" xmlns:r="{RELATIONS}"><sheets>{listed}'
        "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": f'{XML}<Relationships xmlns="{PACKAGE}/relationships">'
        f"{targets}{styles}</Relationships>",
        "xl/styles.xml": _STYLES,
    }
    for n, rows in enumerate(sheets.values(), 1):
        written[f"xl/worksheets/sheet{n}.xml"] = _sheet(rows)
    return zipped(*written.items(), *more)


def _sheet(rows: Rows) -> str:
    numbered = rows.items() if isinstance(rows, Mapping) else enumerate(rows, 1)
    written = "".join(f'<row r="{number}">{_cells(number, row)}</row>' for number, row in numbered)
    return f'{XML}<worksheet xmlns="{MAIN}"><sheetData>{written}</sheetData></worksheet>'


def _cells(number: int, row: Sequence[Value]) -> str:
    return "".join(_cell(number, column, value) for column, value in enumerate(row))


def _cell(row: int, column: int, value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        value = Cell(str(int(value)), "b")
    elif isinstance(value, int | float):
        value = Cell(str(value))
    elif isinstance(value, str):
        value = Cell(value, "inlineStr")
    formula = f"<f>{escape(value.formula)}</f>" if value.formula else ""
    stored = (
        f'<is><t xml:space="preserve">{escape(value.value)}</t></is>'
        if value.type == "inlineStr"
        else f"<v>{escape(value.value)}</v>"
    )
    place = f"{chr(ord('A') + column)}{row}"
    kind = f' t="{value.type}"' if value.type else ""
    return f'<c r="{place}"{kind} s="{value.style}">{formula}{stored}</c>'
