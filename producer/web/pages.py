"""Serve the web pages, and the scripts and styles that they load."""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from fastapi import FastAPI, Request, Response

PAGES: Mapping[str, str] = {"/": "page.html", "/docs": "docs.html"}
"""The file of each page, by the path of its route."""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " require-trusted-types-for 'script'"
)
"""What a page may load and do: only files and data of this service, and nothing inline."""

_MEDIA_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript"}
_FOLDER = Path(__file__).parent
_REFERENCE = re.compile(r'(?<=")/assets/([\w.-]+)(?=")')


def add_pages(app: FastAPI) -> None:
    """Add a route for each page, and one for each script and style that a page refers to.

    Pages refer to a file as `/assets/NAME`. What is served refers to `/assets/DIGEST/NAME`, so that
    a page never gets the script of another version, neither from a cache nor from an instance of
    another version behind the same address. Therefore these files may be cached forever, while a
    page is revalidated each time.

    Raises FileNotFoundError if a page refers to a file that is not installed.
    """
    assets: dict[str, str] = {}

    def with_digest(reference: re.Match[str]) -> str:
        name = reference[1]
        if name not in assets:
            content = (_FOLDER / name).read_bytes()
            assets[name] = f"/assets/{_digest(content)}/{name}"
            forever = {"Cache-Control": "public, max-age=31536000, immutable"}
            _add_file(app, assets[name], name, content, forever)
        return assets[name]

    for path, name in PAGES.items():
        text = _REFERENCE.sub(with_digest, (_FOLDER / name).read_text(encoding="utf-8"))
        headers = {
            "Cache-Control": "no-cache",
            "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        }
        _add_file(app, path, name, text.encode(), headers)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


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
