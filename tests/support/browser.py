"""A real browser for the pages, and what it reports while a page is used."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support.requirements import require_program

_REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) =>
  reportViolation(`${event.effectiveDirective} forbids ${event.blockedURI || "?"}`));
"""


PATIENCE = 60_000
"""Milliseconds for which a test waits for something on a page: a busy machine takes long."""

_KEPT = "http://127.0.0.1/"
"""All pages under test are of this site; their ports do not matter."""


class Browser:
    """A browser whose pages share one process, because each other start takes a second."""

    def __init__(self, started: Any) -> None:
        self._started = started
        self._context = started.new_context()
        self._kept = self._context.new_page()
        self._kept.route(_KEPT, lambda route: route.fulfill(body=""))
        self._kept.goto(_KEPT)

    def new_page(self, *, width: int = 1280, height: int = 800, scheme: str = "light") -> Any:
        """Open a page that finds nothing stored; close the pages of earlier calls."""
        for page in self._context.pages:
            if page is not self._kept:
                page.close()
        self._context.clear_cookies()
        session = self._context.new_cdp_session(self._kept)
        everything = {"origin": "*", "storageTypes": "all"}
        session.send("Storage.clearDataForOrigin", everything)
        session.detach()
        page = self._context.new_page()
        page.set_default_timeout(PATIENCE)
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        return page

    def new_context(self, **options: Any) -> Any:
        """Open a window of its own, for a test with several readers or with other settings."""
        return self._started.new_context(**options)


@contextmanager
def running_browser() -> Iterator[Any]:
    """Debian's Chromium, driven by Playwright; the test is skipped if it is not installed."""
    chromium = require_program("chromium", "chromium-browser")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--process-per-site"]
        started = playwright.chromium.launch(
            executable_path=chromium, args=options, timeout=2 * PATIENCE
        )
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
