"""Serve the web pages, and the scripts and styles that they load."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from fastapi import FastAPI, Request, Response

PAGES: Mapping[str, str] = {"/": "page", "/docs": "docs"}
"""The folder of each page, by the path of its route; the page itself is its `index.html`."""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'"
)
"""What a page may load and do: only files and data of this service, and nothing inline."""

_PAGE = "index.html"
_MEDIA_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript"}
_FOLDER = Path(__file__).parent
_REFERENCE = re.compile(r'(?<=")/assets/([\w.-]+)(?=")')


def add_pages(app: FastAPI) -> None:
    """Add a route for each page, and one for each script and style in its folder.

    A page refers to a file of its folder as `/assets/NAME`. What is served refers to
    `/assets/DIGEST/NAME`, with one digest of the whole folder, so that the modules of a page can
    import each other by their names, and a page never gets the script of another version, neither
    from a cache nor from an instance of another version behind the same address. Therefore these
    files may be cached forever, while a page is revalidated each time.

    Raises FileNotFoundError if a page refers to a file that is not installed.
    """
    for path, folder in PAGES.items():
        _add_page(app, path, _FOLDER / folder)


def _add_page(app: FastAPI, path: str, folder: Path) -> None:
    files = {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()}
    page = files.pop(_PAGE).decode()
    prefix = f"/assets/{_digest_of_files(files)}"
    forever = {"Cache-Control": "public, max-age=31536000, immutable"}
    for name, content in files.items():
        _add_file(app, f"{prefix}/{name}", name, content, forever)

    def with_digest(reference: re.Match[str]) -> str:
        name = reference[1]
        if name not in files:
            raise FileNotFoundError(f"{folder.name}/{_PAGE} refers to {name}, which is missing")
        return f"{prefix}/{name}"

    text = _REFERENCE.sub(with_digest, page)
    headers = {"Cache-Control": "no-cache", "Content-Security-Policy": CONTENT_SECURITY_POLICY}
    _add_file(app, path, _PAGE, text.encode(), headers)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _digest_of_files(files: Mapping[str, bytes]) -> str:
    return _digest("\n".join(f"{name} {_digest(files[name])}" for name in files).encode())


def _add_file(
    app: FastAPI, path: str, name: str, content: bytes, headers: Mapping[str, str]
) -> None:
    """Add a route that responds with `content`, or 304 to a client that has it already."""
    tag = f'"{_digest(content)}"'
    all_headers = {**headers, "ETag": tag}
    media_type = _MEDIA_TYPES[Path(name).suffix]

    async def respond(request: Request) -> Response:
        # A proxy that compresses makes the tag a weak one.
        known = request.headers.get("if-none-match", "").replace("W/", "")
        if tag in (each.strip() for each in known.split(",")):
            return Response(status_code=304, headers=all_headers)
        return Response(content, headers=all_headers, media_type=media_type)

    app.add_route(path, respond, include_in_schema=False)
