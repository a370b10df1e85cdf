"""Define an option or argument with fixed values that suggests the nearest one to a misspelt."""

import difflib
from typing import Any

import click


class Choice(click.Choice[str]):
    """One of a few fixed values."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Return the message about a wrong value, with the value that was probably meant."""
        message = super().get_invalid_choice_message(value, ctx)
        nearest = difflib.get_close_matches(str(value).lower(), self.choices, n=1)
        return f"{message} Did you mean {nearest[0]!r}?" if nearest else message

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None) -> str:  # noqa: ARG002 - click's form
        """Return what to choose from, in one line."""
        return f"Choose from {', '.join(self.choices)}."
