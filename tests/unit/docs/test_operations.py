"""The files for operators agree with each other, and with the metrics of the worker."""

import json
import re
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from producer.contract.keys import Keys
from support.commands import run_program
from support.paths import ROOT
from support.requirements import require_program
from worker.monitoring import exporter, metrics
from worker.settings import PREFIX, Settings

FOLDER = ROOT / "docs" / "operations"
ALERTS = yaml.safe_load((FOLDER / "alerts.yaml").read_text())
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((FOLDER / "grafana-dashboard.json").read_text())
SHOWN = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
EXPRESSIONS = [rule["expr"] for rule in RULES] + SHOWN


@pytest.fixture(scope="module")
def exported() -> set[str]:
    """The names of all series that a worker can have."""
    registry = CollectorRegistry()
    registry.register(exporter._Worker({}))  # noqa: SLF001 - what it would serve
    registry.register(exporter._Broker("redis://localhost:1/0", Keys()))  # noqa: SLF001
    found = {family.name for family in registry.collect() if family.type != "info"}
    found.add("enrollment_worker_info")
    for counted in vars(metrics.Metrics()).values():
        for family in counted.collect():
            suffixes = SUFFIXES[family.type]
            found |= {family.name + suffix for suffix in suffixes}
    return found


SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_metric_in_an_expression_is_exported(expression: str, exported: set[str]) -> None:
    assert metrics_in(expression)
    assert metrics_in(expression) <= exported


def metrics_in(expression: str) -> set[str]:
    return set(re.findall(r"enrollment_\w+", expression))


def test_every_exported_metric_is_explained(exported: set[str]) -> None:
    page = (FOLDER / "watching.md").read_text()
    documented = set(re.findall(r"^\| `(enrollment_\w+)`", page, flags=re.MULTILINE))
    assert documented == {re.sub(r"_(bucket|sum|count)$", "", name) for name in exported}


def anchors(text: str) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_an_alert_links_to_its_section(rule: dict[str, Any]) -> None:
    page, _, section = rule["annotations"]["runbook"].partition("#")
    text = (FOLDER / page).read_text()
    assert section in anchors(text)
    assert f"`{rule['alert']}`" in text


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_panel_shows_what_an_alert_is_about(rule: dict[str, Any]) -> None:
    assert metrics_in(rule["expr"]) <= metrics_in(" ".join(SHOWN))


def test_panels_have_unique_ids_descriptions_and_units() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(
        panel["description"] and panel["fieldConfig"]["defaults"]["unit"] for panel in panels
    )


@pytest.mark.parametrize("path", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_every_variable_in_a_file_exists(path: Any) -> None:
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    page = (ROOT / "docs" / "settings.md").read_text()
    for name in re.findall(rf"\b{PREFIX}[A-Z_]+[A-Z]\b", path.read_text()):
        assert name in known or f"`{name}`" in page


@pytest.mark.parametrize("name", ["compose.yaml", "kubernetes.yaml"])
def test_an_example_deployment_is_valid_yaml(name: str) -> None:
    assert all(yaml.safe_load_all((FOLDER / name).read_text()))


@pytest.mark.parametrize(
    "command", [("check", "rules", "alerts.yaml"), ("test", "rules", "alerts.test.yaml")]
)
def test_prometheus_accepts_the_rules(command: tuple[str, ...]) -> None:
    done = run_program(require_program("promtool"), *command, cwd=FOLDER)
    assert done.returncode == 0, done.stdout + done.stderr
