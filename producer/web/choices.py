"""Collect what a caller says about an uploaded file, in the parameters that its routes share."""

from typing import Annotated

from fastapi import Depends, Query, Request

from producer.files.describing import Choices
from producer.files.formats.registry import choice_of
from producer.web.parameters import (
    AllDrops,
    BatchKind,
    ColumnMaps,
    FormatName,
    SheetName,
    TextEncoding,
    column_templates,
)
from producer.web.unknown_parameters import check_parameters

_SectionsAreOne = Annotated[
    bool,
    Query(
        description="With `true`, columns may be mapped so that several sections of another system"
        " become one course, and students are dropped from it.",
    ),
]
_MomentsFromFile = Annotated[
    bool,
    Query(
        description="With `true`, each line counts when it was last changed, as OneRoster files say"
        " in `dateLastModified`.",
    ),
]


async def _choices(
    request: Request,
    kind: BatchKind = None,
    maps: ColumnMaps = None,
    encoding: TextEncoding = None,
    format_name: FormatName = None,
    sheet: SheetName = None,
    *,
    drop: AllDrops = False,
    sections_are_one: _SectionsAreOne = False,
    moments_from_file: _MomentsFromFile = False,
) -> Choices:
    """Return what the parameters say.

    Raises UnreadableFile, and Refused for a mapping or a parameter that is not understood.
    """
    check_parameters(request)
    choice = choice_of(
        format_name, sections_are_one=sections_are_one, moments_from_file=moments_from_file
    )
    return Choices(kind, column_templates(maps), encoding, drop, choice, sheet)


FileChoices = Annotated[Choices, Depends(_choices)]
"""What the caller says about the file."""
