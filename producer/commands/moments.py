"""Define the type of an option that is a moment."""

from datetime import datetime
from typing import Any

import click

from producer.fields import read_moment


class MomentText(click.ParamType[datetime]):
    """A time with its time zone, as in ISO 8601 or as our commands print it."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the moment in UTC."""
        text = f"{value.removesuffix(' UTC')}Z" if str(value).endswith(" UTC") else value
        try:
            return read_moment(text)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)
