"""What axe-core says about a page that is open in a browser, in each form in which it is read."""

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

WIDE, NARROW = 1280, 375
"""The widths of a screen on a desk and of one in a hand."""

_AXE = files("axe_playwright_python") / "axe.min.js"
_RUN = """
async (only) => (await axe.run(document, {resultTypes: ["violations"], ...only})).violations.map(
  ({id, help, nodes}) => `${id}: ${help}: ${nodes.map((node) => node.html).join(" ")}`)
"""


_COLORS = {"runOnly": {"type": "tag", "values": ["cat.color"]}}
"""The rules whose findings depend on the color scheme."""


def findings_of(page: Any, *, colors_only: bool = False) -> list[str]:
    """Return the findings of axe-core about the state in which a page is, each with its elements.

    The script is evaluated by the browser's debugger, so the page's policy does not forbid it.
    """
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate(_AXE.read_text(encoding="utf-8"))
    findings: list[str] = page.evaluate(_RUN, _COLORS if colors_only else {})
    return findings


def findings_in_every_form(page: Any, schemes: Sequence[str] = ("light",)) -> list[str]:
    """Return what axe-core finds on a wide and on a narrow screen, and what either cuts off.

    Only colors are examined again in the second of the color `schemes`. At the end, the page has
    its own width and the first scheme.
    """
    own = page.viewport_size
    findings = []
    for width in sorted((WIDE, NARROW), key=lambda each: each == own["width"]):
        page.set_viewport_size(own | {"width": width})
        for scheme in reversed(schemes):
            page.emulate_media(color_scheme=scheme)
            is_first = scheme == schemes[0]
            findings += [
                f"{width} {scheme}: {finding}"
                for finding in findings_of(page, colors_only=not is_first)
            ]
        if (needed := page.evaluate("document.documentElement.scrollWidth")) > width:
            findings.append(f"{width}: {needed} pixels would be needed")
    page.set_viewport_size(own)
    return findings
