"""Ids that clients choose do no harm in a terminal, nor in a command that a person copies."""

import re
import shlex
import subprocess

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.commands.plan import plan
from producer.contract.printable import shell_argument, shell_word
from support.paths import ROOT

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@pytest.mark.parametrize("text", ["night-2026", "undo:night", "night:enrollments", "sis@fall,1"])
def test_an_ordinary_id_stands_in_a_command_as_it_is(text: str) -> None:
    assert shell_word(text) == text


@given(st.lists(TEXTS, min_size=20, max_size=40))
def test_a_shell_reads_every_id_as_the_one_word_that_it_is(texts: list[str]) -> None:
    texts += ["x; touch /tmp/x", "$(id)", "it's", " a ", "a\x1b[2J\\'b", "\u202efdp.exe", "\u0085"]
    words = [shell_word(text) for text in texts]
    assert all(word.isprintable() for word in words)
    command = f"printf '%s\\0' {' '.join(words)}"
    done = subprocess.run(
        ["/bin/bash", "-c", command], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}
    )
    assert done.stdout.decode().split("\0")[:-1] == texts


@pytest.mark.parametrize("text", ["-x", "--csv", "--", "-", "- a", "night", "a -- b"])
def test_a_command_reads_every_id_as_its_argument(text: str) -> None:
    line = f"--csv drops.csv {shell_argument(text)}"
    arguments = plan.make_parser(click.Context(plan)).parse_args(shlex.split(line))[0]
    assert (arguments["plan_id"], arguments["csv_file"]) == (text, "drops.csv")


def test_every_command_in_a_message_quotes_the_ids_in_it() -> None:
    command = re.compile(
        r"enroll (?:plan|approve|discard|status|undo|wait|data-sets create)"
        r"(?: --[a-z-]+)* \{(?!\}|shell_argument\(|word\})"
        r"|--(?:snapshot|data-set) \{(?!\}|shell_word\(|word\}|name\})"
    )
    paths = [path for part in ("producer", "worker") for path in (ROOT / part).rglob("*.py")]
    of_clients = [path for path in paths if not path.name.startswith("demo")]
    assert len(of_clients) > 300
    assert [path for path in of_clients if command.search(path.read_text())] == []
