"""A real browser for the pages, and what it reports while a page is used."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support.requirements import require_program

_REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
  reportViolation(`${event.effectiveDirective} forbids ${event.blockedURI || "?"}`));
"""


@contextmanager
def running_browser() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright; the test is skipped if it is not installed."""
    chromium = require_program("chromium", "chromium-browser")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


def violations_of(page: Any) -> list[str]:
    """Return a list that grows with each violation of the content security policy.

    Call it before the page is opened.
    """
    violations: list[str] = []

    def report(violation: str) -> None:
        violations.append(violation)

    page.expose_function("reportViolation", report)
    page.add_init_script(_REPORT_VIOLATIONS)
    return violations
