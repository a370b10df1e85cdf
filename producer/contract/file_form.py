"""Define how a file is written and was submitted, so that its refused lines can be sent again."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, StringConstraints

from producer.fields import MAX_MAPPED, Template, Text
from producer.schemas import ContractModel


class FileForm(ContractModel):
    """How a CSV file is written, so that its refused lines can be returned in the same form.

    The fields from `mapping` on say how they can be submitted again in the same way.
    """

    delimiter: Annotated[str, StringConstraints(pattern=r'^[^"\r\n\x00]$')] = Field(
        default=",", description="The character between two cells."
    )
    encoding: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,40}$")] = Field(
        default="utf-8", description="Python's name of its encoding."
    )
    bom: bool = Field(default=False, strict=True, description="If it has a byte order mark.")
    line_end: Annotated[str, StringConstraints(pattern=r"^(\r\n|\n|\r)$")] = Field(
        default="\n", description="What ends each of its lines."
    )
    names_delimiter: Annotated[bool, Field(strict=True)] = Field(
        default=False, description="True if its first line is Excel's `sep=` with the delimiter."
    )
    mapping: Annotated[Mapping[Text, Template], Field(max_length=MAX_MAPPED)] | None = Field(
        default=None,
        description="The template that each of our columns was mapped to; null if none was.",
    )
    drop: Annotated[bool, Field(strict=True)] = Field(
        default=False, description="True if every line was submitted as a drop."
    )
    format: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,40}$")] | None = Field(
        default=None,
        description="The format of another system that it has, or `plain` if it was submitted as"
        " one of ours whatever its header says; null if it has our own columns.",
    )
    sections_are_one: Annotated[bool, Field(strict=True)] = Field(
        default=False, description="True if several sections were submitted as one course."
    )
    moments_from_file: Annotated[bool, Field(strict=True)] = Field(
        default=False, description="True if each line counts when its file says it was changed."
    )
