"""Make text from outside safe for terminals, logs and error messages."""


def first_line(error: BaseException) -> str:
    """An error in one short line; it may quote all of the message."""
    lines = str(error).strip().splitlines()
    return ascii(lines[0])[1:-1][:200] if lines else type(error).__name__


def _shown(value: object) -> str:
    return ascii(value)[:100]


def printable(text: str, keep: str = "") -> str:
    """Text without control characters, but for those to keep."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text
    )
