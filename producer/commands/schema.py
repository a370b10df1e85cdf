"""Define `enroll schema`, which prints the contract for other languages and their tools."""

import json

import click

from producer.commands.choices import Choice
from producer.contract.exit_codes import exit_codes

EXAMPLES = """
\b
Examples:
  enroll schema json > schemas.json
  enroll schema asyncapi > asyncapi.json
"""


@click.command(epilog=exit_codes() + EXAMPLES)
@click.argument("form", type=Choice(["json", "asyncapi"]))
def schema(form: str) -> None:
    """Print the contract for other languages.

    The formats are JSON Schemas of every message and result, and AsyncAPI 3.0.
    """
    from producer.contract import asyncapi  # noqa: PLC0415 - the help is faster without it

    document = asyncapi.asyncapi() if form == "asyncapi" else asyncapi.json_schemas()
    click.echo(json.dumps(document, indent=2))
