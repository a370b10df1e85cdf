"""Renew the pictures and the transcripts of README and docs: `make pictures`.

Everything comes from a real session. A transcript that is still true stays as it is.
"""

import io
import re
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from support.http import serving
from support.paths import ROOT
from support.registrar_files import write_files
from support.transcripts import Step, normal, play, reader, without_colors

PICTURES = ROOT / "docs" / "pictures"
RECORDED = (
    "enroll submit enrollments.csv --batch-id night-2026-09-01",
    "enroll errors night-2026-09-01 --csv refused.csv",
    "cat refused.csv",
    "enroll request S2 ALG-1",
)
"""The commands of the recording, as the pages show them."""

WIDTH = 92
TYPING_SECONDS = 1.5
"""Seconds between two commands of the recording."""


def renew_transcripts(folder: Path) -> list[tuple[Step, str]]:
    """Replace what is no longer true in the pages; return what is to be recorded, in colors."""
    session: list[tuple[Step, str]] = []

    def see(step: Step, printed: str) -> None:
        if step.command in RECORDED:
            session.append((step, printed))
        now = without_colors(printed)
        if normal(now) != normal(step.expected):
            page = ROOT / step.page
            text = page.read_text(encoding="utf-8")
            before, after = (f"$ {step.command}\n{output}" for output in (step.expected, now))
            page.write_text(text.replace(before, after, 1), encoding="utf-8")
            sys.stdout.write(f"{step.page}: {step.command}\n")

    with reader(folder) as made:
        play(made, see)
    return session


def draw_session(session: list[tuple[Step, str]]) -> str:
    """Draw the recording as an SVG in which each command appears with its output.

    A viewer without animation shows all of it from the beginning.
    """
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    begins = []
    for step, printed in session:
        begins.append(len(console.export_text(clear=False).splitlines()))
        console.print(Text(f"$ {step.command}", style="bold"))
        if printed:
            console.print(Text.from_ansi(printed.rstrip()), soft_wrap=True)
    # Without fonts from elsewhere.
    form = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    svg = console.export_svg(title="enroll", code_format=form, unique_id="session")
    return _animated(svg, begins)


def _animated(svg: str, begins: list[int]) -> str:
    def delayed(found: "re.Match[str]") -> str:
        line = int(found["line"])
        seconds = TYPING_SECONDS * sum(line >= begin for begin in begins)
        return f'{found[0]} style="animation-delay: {seconds:g}s"'

    svg = re.sub(r'clip-path="url\(#session-line-(?P<line>\d+)\)"', delayed, svg)
    style = """
    @media (prefers-reduced-motion: no-preference) {
        .session-matrix text { animation: appear .2s both }
        @keyframes appear { from { opacity: 0 } }
    }
    </style>"""
    return (
        "\n".join(line.rstrip() for line in svg.replace("</style>", style, 1).splitlines()) + "\n"
    )


PHOTOGRAPHS = ("send", "upload", "correct", "student")
"""The photographs of the page, each in `page-NAME.png`."""


def photograph_page(folder: Path, target: Path, chromium: str) -> None:
    """Photograph the page while a registrar sends three files with mistakes and corrects them."""
    with (
        reader(folder) as made,
        serving(made.environment, folder / "http.log") as (url, _),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1080, "height": 760}, color_scheme="light")
        shots = {name: target / f"page-{name}.png" for name in PHOTOGRAPHS}
        page.goto(url)
        page.set_input_files("#file", list(map(str, write_files(folder))))
        page.get_by_role("button", name="These columns are right").wait_for()
        page.screenshot(path=shots["send"])
        page.get_by_role("button", name="These columns are right").click()
        page.get_by_role("button", name="Check 3 files").click()
        page.locator("#send:enabled").wait_for()
        page.locator("#send").click()
        page.get_by_role("link", name="Show what was refused").nth(2).click()
        page.get_by_role("link", name="Correct the lines here").wait_for()
        page.screenshot(path=shots["upload"])
        page.get_by_role("link", name="Correct the lines here").click()
        page.get_by_label("course_id, line 4").fill("LOGIC-1")
        page.screenshot(path=shots["correct"])
        page.goto(f"{url}/#/students/00123")
        page.get_by_role("heading", name="Ada Example").wait_for()
        page.screenshot(path=shots["student"], full_page=True)
        browser.close()


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with tempfile.TemporaryDirectory(prefix="enroll-pictures-") as name:
        folder = Path(name)
        (folder / "session").mkdir()
        session = renew_transcripts(folder / "session")
        (PICTURES / "session.svg").write_text(draw_session(session), encoding="utf-8")
        if chromium is None:
            sys.exit("There is no Chromium, so the page was not photographed: apt install chromium")
        (folder / "page").mkdir()
        photograph_page(folder / "page", PICTURES, chromium)


if __name__ == "__main__":
    main()
