"""Keys in Redis have their fixed names, and a prefix keeps deployments apart."""

import ast
import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from hypothesis import given
from hypothesis import strategies as st
from kombu.transport import redis

from producer.contract.keys import MAX_PREFIX, PRIORITIES, SEPARATORS, Keys, Owned, check_key_prefix
from producer.contract.routing import Queue
from support.paths import ROOT

NEAR_OUR_NAMES = [
    "enrollment:",
    "enrollment.",
    "enrollments:",
    "celery-",
    "celery-task-",
    "lookups.",
]
PREFIXES = st.sampled_from(NEAR_OUR_NAMES) | st.builds(
    lambda name, end: name + end, st.text("abzABZ019:._/-", max_size=20), st.sampled_from(":._-")
)
IDS = st.text(min_size=1, max_size=20) | st.sampled_from(["enrollments", ":3", "request:x", "a.b"])


def all_keys(keys: Keys, name: str) -> set[str]:
    """Return one key of each kind, with an id that a client or worker chose."""
    lists = itertools.chain.from_iterable(keys.waiting(queue) for queue in Queue)
    made: list[Callable[[str], str]] = [
        *(keys.result, keys.request, keys.batch, keys.running, keys.intake),
        lambda name: keys.intake("taken", name, "enrollments", "7"),
        *(partial(keys.owner, what) for what in Owned),
    ]
    return {*lists, keys.attempts, keys.outage, *(make(name) for make in made)}


def test_without_a_prefix_every_key_has_its_documented_name() -> None:
    keys = Keys()
    assert keys.queue(Queue.ENROLLMENTS) == "enrollments"
    assert keys.result("t") == "celery-task-meta-t"
    assert (keys.request("r"), keys.batch("b")) == ("enrollment:request:r", "enrollment:batch:b")
    assert keys.owner(Owned.REQUEST, "r") == "enrollment:owner:request:r"
    assert keys.owner(Owned.BATCH, "b") == "enrollment:owner:batch:b"
    assert (keys.attempts, keys.running("w")) == (
        "enrollment.intake.attempts",
        "enrollment.intake.running.w",
    )
    assert {"batches", "batches\x06\x163", "batches:9"} < set(keys.waiting(Queue.BATCHES))


@given(PREFIXES, IDS)
def test_a_prefix_stands_before_the_name_of_every_key(prefix: str, name: str) -> None:
    assert all_keys(Keys(prefix), name) == {prefix + key for key in all_keys(Keys(), name)}


@given(st.just("") | PREFIXES, PREFIXES, IDS, IDS)
def test_two_deployments_never_share_a_key(one: str, more: str, name: str, other: str) -> None:
    """Not even if one prefix begins with the other."""
    assert all_keys(Keys(one), name).isdisjoint(all_keys(Keys(one + more), other))


@pytest.mark.parametrize(
    "prefix",
    [
        *("enroll", "a b:", "a*:", "a?:", "[a]:", "~a:", "%a:", "&a:", "+a:", "(a):", "a\\:", "ä:"),
        *("a:\n", "\x00:", "'a':", "$a:", "{a}:", "a/", "x" * MAX_PREFIX + ":"),
        *(
            "celery-task-meta-",
            "a:enrollment:request:",
            "enrollment.intake.taken.",
            "_kombu.binding.",
        ),
    ],
)
def test_an_invalid_prefix_is_refused_with_a_reason(prefix: str) -> None:
    with pytest.raises(ValueError, match=r"A key prefix (has at most 64|must not contain)"):
        Keys(prefix)


@pytest.mark.parametrize(
    "prefix", ["", "a:", "team-1/enroll.test_", "-", "x" * (MAX_PREFIX - 1) + ":"]
)
def test_a_valid_prefix_is_returned_unchanged(prefix: str) -> None:
    assert check_key_prefix(prefix) == prefix


@given(PREFIXES)
def test_celery_itself_names_the_result_in_the_same_way(prefix: str) -> None:
    options = {"global_keyprefix": prefix}
    with Celery(backend="redis://127.0.0.1:1/0", set_as_current=False) as app:
        app.conf.result_backend_transport_options = options
        assert app.backend.get_key_for_task("t").decode() == Keys(prefix).result("t")


def test_the_lists_by_priority_are_those_of_kombu() -> None:
    assert SEPARATORS[0] == redis.Channel.sep
    assert set(redis.PRIORITY_STEPS) <= {0, *PRIORITIES}


NAMES = (
    "celery-task-meta",
    "enrollment:",
    "enrollment.intake",
    "enrollment.outage",
    "_kombu",
    "\x06",
)


def named_by_hand(source: str) -> list[str]:
    """Return the strings of a module, other than docstrings, in which a key is named."""
    tree = ast.parse(source)
    documented: list[Any] = [
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    ]
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node not in documented
        and node.value.startswith(NAMES)
    ]


@pytest.mark.parametrize(
    "path",
    [
        path
        for package in ("producer", "worker")
        for path in sorted((ROOT / package).rglob("*.py"))
        if path.name != "keys.py"
    ],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_no_other_module_names_a_key(path: Path) -> None:
    assert named_by_hand(path.read_text()) == []


@pytest.mark.parametrize("source", ['f"celery-task-meta-{task_id}"', 'x = "enrollment:batch:"'])
def test_a_key_named_by_hand_is_noticed(source: str) -> None:
    assert named_by_hand(source)
