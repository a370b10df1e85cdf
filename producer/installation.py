"""Say how to install a part of this package that is missing, in words that work here."""

import json
import shlex
from importlib.metadata import PackageNotFoundError, distribution
from urllib.parse import unquote, urlsplit

PACKAGE = "enrollment-worker"


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra, as the end of a sentence.

    pip remembers the checkout or the wheel that a package came from. Without it, both are named:
    no public index has this package.
    """
    options, source = _source()
    if source is not None:
        return f"pip install {options}{shlex.quote(f'{source}[{extra}]')}"
    return (
        f"pip install '.[{extra}]' in a checkout, or pip install 'THE_WHEEL.whl[{extra}]' with the"
        " path of the wheel"
    )


def _source() -> tuple[str, str | None]:
    """Return the options and the path with which this package was installed, if they are known."""
    try:
        recorded = json.loads(distribution(PACKAGE).read_text("direct_url.json") or "{}")
        address = urlsplit(recorded["url"])
    except (PackageNotFoundError, OSError, ValueError, LookupError, TypeError):
        return "", None
    if address.scheme != "file":
        return "", None
    options = "-e " if (recorded.get("dir_info") or {}).get("editable") else ""
    return options, unquote(address.path)
