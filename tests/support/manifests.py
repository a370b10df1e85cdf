"""Read the manifests of docs/operations: every workload, container, service and unit in them."""

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml

from support.paths import ROOT

FOLDER = ROOT / "docs" / "operations"
UNITS = sorted(FOLDER.glob("*.service"))

_EXACT = re.compile(r"[\w./-]+:(?P<version>\d+(\.\d+)+)[\w.-]*(@sha256:[0-9a-f]{64})?")
_PARTS_OF_A_VERSION = defaultdict(lambda: 3, postgres=2)


class Pod(NamedTuple):
    """A template of pods, of whatever kind of workload."""

    name: str
    labels: dict[str, str]
    spec: dict[str, Any]

    def containers(self) -> list[dict[str, Any]]:
        """Return all containers, those that run before the others included."""
        return [*self.spec["containers"], *self.spec.get("initContainers", ())]

    def secrets(self) -> set[str]:
        """Return the names of the Secrets that reach the pod, in whatever way."""
        return {name for name in _secrets_in(self.spec) if name}


def _secrets_in(value: Any) -> Iterator[str | None]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("secretRef", "secretKeyRef", "secret"):
                yield inner.get("name") or inner.get("secretName")
            yield from _secrets_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _secrets_in(inner)


def kubernetes() -> list[dict[str, Any]]:
    """Return the objects of kubernetes.yaml."""
    return list(yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text()))


def pods(objects: list[dict[str, Any]]) -> list[Pod]:
    """Return every template of pods in the objects, whatever their kind."""
    return [pod for each in objects for pod in _pods_in(each, each)]


def _pods_in(value: Any, workload: dict[str, Any]) -> Iterator[Pod]:
    if isinstance(value, dict):
        spec = value.get("spec")
        if isinstance(spec, dict) and "containers" in spec:
            labels = value.get("metadata", {}).get("labels", {})
            yield Pod(f"{workload['kind']} {workload['metadata']['name']}", labels, spec)
        for inner in value.values():
            yield from _pods_in(inner, workload)


def compose() -> dict[str, Any]:
    """Return the content of compose.yaml, with its anchors resolved."""
    content: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    return content


def is_exact(image: str) -> bool:
    """Return whether an image is pinned to an exact version or to a digest."""
    match = _EXACT.fullmatch(image)
    if match is None:
        return False
    parts = _PARTS_OF_A_VERSION[image.partition(":")[0]]
    return "@" in image or match["version"].count(".") + 1 >= parts


def unit(text: str) -> dict[str, list[str]]:
    """Return the settings of the section Service; a setting may occur more than once."""
    settings: defaultdict[str, list[str]] = defaultdict(list)
    section = text.partition("[Service]\n")[2].partition("\n[")[0]
    for line in section.splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.partition("=")
            settings[key].append(value)
    return settings
