"""What a reader does on the page: choose files, check them, send them, and read what came of it."""

import re
from pathlib import Path
from typing import Any

FINISHED = re.compile(r"Finished\.")


def choose(page: Any, *files: Path) -> None:
    """Choose files, and wait until the page has described each of them."""
    page.set_input_files("#file", [str(file) for file in files])
    for file in files:
        card_of(page, file.name).and_(page.locator("[aria-busy=false]")).wait_for()


def card_of(page: Any, name: str) -> Any:
    """Return the card of a chosen file."""
    return page.get_by_role("article", name=name, exact=True)


def choose_column(page: Any, name: str, label: str, column: str) -> None:
    """Choose which column of a file is one of ours, by its label."""
    card_of(page, name).get_by_label(label).select_option(label=column)


def check(page: Any) -> None:
    """Check all chosen files, and wait until they can be sent."""
    page.get_by_role("button", name=re.compile("^Check ")).click()
    page.locator("#send:enabled").wait_for()


def send(page: Any, batches: int | None = None) -> None:
    """Check and send all chosen files, and wait until their batches are processed.

    Each file is a batch, unless the number of `batches` is given.
    """
    check(page)
    sent = batches or page.locator("article.card").count()
    page.get_by_role("button", name=re.compile("^Send ")).click()
    page.get_by_text(FINISHED).nth(sent - 1).wait_for()


def counts_of(page: Any) -> str:
    """Return the sentence with the counts of the upload that is shown."""
    sentence: str = page.locator(".counts").inner_text()
    return sentence


def show_student(page: Any, url: str, sis_id: str) -> Any:
    """Show a student; return the part of the page that is about the student."""
    page.goto(f"{url}/#/students/{sis_id}")
    page.get_by_role("heading", name="What happened").wait_for()
    return page.locator("main")


def heard_by(page: Any) -> list[str]:
    """Return a list that grows with what the page writes to the console, and with its errors."""
    messages: list[str] = []
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    return messages
