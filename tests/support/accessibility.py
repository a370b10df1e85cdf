"""What axe-core says about a page that is open in a browser."""

from importlib.resources import files
from typing import Any

_AXE = files("axe_playwright_python") / "axe.min.js"
_RUN = """
async () => (await axe.run(document, {resultTypes: ["violations"]})).violations.map(
  ({id, help, nodes}) => `${id}: ${help}: ${nodes.map((node) => node.html).join(" ")}`)
"""


def findings_of(page: Any) -> list[str]:
    """Return the findings of axe-core about the state in which a page is, each with its elements.

    The script is evaluated by the browser's debugger, so the page's policy does not forbid it.
    """
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate(_AXE.read_text(encoding="utf-8"))
    findings: list[str] = page.evaluate(_RUN)
    return findings
