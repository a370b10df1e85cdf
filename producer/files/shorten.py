"""Show a piece of a file in a message."""


def shorten(text: str, most: int = 120) -> str:
    """Return text as it is shown in a message: quoted, escaped, and cut after `most` characters."""
    text = text.strip()
    return repr(text if len(text) <= most else f"{text[:most]}…")
