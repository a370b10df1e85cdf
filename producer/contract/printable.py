"""Make text from outside safe to print: what a terminal would obey or hide becomes an escape."""


def printable(text: str, keep: str = "") -> str:
    """Return text with its control characters escaped, except those in `keep`."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text
    )
