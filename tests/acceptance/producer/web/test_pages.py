"""What keeps foreign scripts out of the pages, over HTTP and in a real browser."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from producer.client import EnrollmentClient
from producer.web import pages
from producer.web.pages import PAGES
from support.browser import violations_of
from support.http import NO_TLS, serving
from support.page import card_of, choose, send, show_student
from support.rosters import enter_roster
from support.waiting import wait_for
from support.workers import Deployment

pytestmark = pytest.mark.one_database
get = partial(httpx.get, verify=NO_TLS)


@pytest.fixture(scope="module")
def url(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(deployment.environment, tmp_path_factory.mktemp("http") / "log") as (served, _):
        yield served


class Markup(HTMLParser):
    """Find what a page loads, and what it holds inline."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.inline: list[str] = []
        self._open = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self._open = tag
        if tag == "script" and values.get("src"):
            self.scripts.append(values["src"] or "")
        elif tag == "link":
            self.styles.append(values["href"] or "")
        elif tag in ("script", "style", "base", "iframe", "object", "embed"):
            self.inline.append(tag)
        for name, value in values.items():
            is_code = (value or "").strip().lower().startswith("javascript:")
            if name == "style" or name.startswith("on") or is_code:
                self.inline.append(f"{tag} {name}")

    def handle_data(self, data: str) -> None:
        if self._open == "script" and data.strip():
            self.inline.append("the text of a script")

    def handle_endtag(self, _: str) -> None:
        self._open = ""


def test_what_is_inline_is_found() -> None:
    text = """<base href="x"><style>p {}</style><script>1</script><p style="a"><b onclick="b()">
        <a href=" JavaScript:c()"></a><script src="/s.js">2</script><link href="/s.css">"""
    found = Markup(text)
    assert found.inline == [
        *("base", "style", "script", "the text of a script", "p style", "b onclick", "a href"),
        "the text of a script",
    ]
    assert (found.scripts, found.styles) == (["/s.js"], ["/s.css"])


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_nothing_inline_and_what_it_loads_is_served(url: str, path: str) -> None:
    page = get(url + path)
    markup = Markup(page.text)
    assert markup.inline == []
    assert markup.scripts
    assert markup.styles
    for kind, references in (("text/javascript", markup.scripts), ("text/css", markup.styles)):
        for reference in references:
            loaded = get(url + reference)
            assert loaded.status_code == 200
            assert loaded.headers["content-type"] == f"{kind}; charset=utf-8"
            assert loaded.headers["x-content-type-options"] == "nosniff"
            assert "immutable" in loaded.headers["cache-control"]
            assert "://" not in loaded.text
            # A page with the script of another version must not get this one.
            other = re.sub(r"/[0-9a-f]{16}/", f"/{'0' * 16}/", reference)
            assert other != reference
            assert get(url + other).status_code == 404


@pytest.mark.parametrize("path", PAGES)
def test_a_page_names_in_a_header_what_it_may_load(url: str, path: str) -> None:
    headers = get(url + path).headers
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["x-content-type-options"] == "nosniff"
    directives = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    nothing = ("default-src", "object-src", "base-uri", "form-action", "frame-ancestors")
    assert {name: directives.pop(name) for name in nothing} == dict.fromkeys(nothing, "'none'")
    assert directives.pop("require-trusted-types-for") == "'script'"
    assert directives == dict.fromkeys(("script-src", "style-src", "connect-src"), "'self'")


def test_every_html_response_has_the_policy(url: str) -> None:
    """FastAPI has pages of its own, which load scripts from elsewhere; none of them is served."""
    ours = {path: get(url + path).headers for path in PAGES}
    assert all("content-security-policy" in headers for headers in ours.values())
    others = ("/redoc", "/docs/oauth2-redirect", "/nothing", "/docs/", "/assets/", "/index.html")
    for path in others:
        response = get(url + path, headers={"Accept": "text/html"})
        assert "html" not in response.headers.get("content-type", "")


@pytest.mark.parametrize("path", PAGES)
def test_modules_import_each_other_under_the_digest_of_their_folder(url: str, path: str) -> None:
    (script,) = Markup(get(url + path).text).scripts
    folder, _, name = script.rpartition("/")
    waiting, seen = {name}, set[str]()
    while waiting:
        name = waiting.pop()
        seen.add(name)
        module = get(f"{url}{folder}/{name}")
        assert module.status_code == 200, name
        imports = re.findall(r'(?:from |import\()"\./([\w.]+)"', module.text)
        waiting |= set(imports) - seen
    installed = Path(pages.__file__).parent / PAGES[path]
    assert seen == {file.name for file in installed.glob("*.js")}


@pytest.mark.parametrize("path", PAGES)
def test_a_browser_asks_each_time_whether_its_copy_of_a_page_is_current(
    url: str, path: str
) -> None:
    first = get(url + path)
    assert first.headers["cache-control"] == "no-cache"
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}'):
        again = get(url + path, headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert "content-security-policy" in again.headers
    assert get(url + path, headers={"If-None-Match": '"other"'}).content == first.content
    head = httpx.head(url + path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == first.headers["content-length"]


@pytest.mark.xdist_group("browser")
def test_a_page_in_use_violates_no_policy(
    url: str, browser: Any, deployment: Deployment, tmp_path: Path
) -> None:
    with EnrollmentClient(deployment.broker_url, timeout=20) as client:
        enter_roster(client, ["CSP1"], ["CSP-C"])
    file = tmp_path / "file.csv"
    file.write_text("matric,course_id\nCSP1,CSP-C\nCSP1,<img src=x onerror=alert(1)>\n")
    page = browser.new_page()
    violations = violations_of(page)
    page.goto(url)
    choose(page, file)
    assert "<img src=x onerror=alert(1)>" in card_of(page, "file.csv").inner_text()
    page.get_by_role("button", name="These columns are right").click()
    send(page)
    refused = page.get_by_role("table", name="Refused lines")
    refused.wait_for()
    assert "<img src=x onerror=alert(1)>" in refused.inner_text()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download for a text editor").click()
    assert download.value.suggested_filename == "refused.csv"
    show_student(page, url, "CSP1")
    padding = "getComputedStyle(document.querySelector('section')).paddingTop"
    assert page.evaluate(padding) == "20px"
    page.goto(f"{url}/docs")
    page.get_by_text("POST /students/enroll").wait_for()
    assert page.evaluate("getComputedStyle(document.querySelector('summary')).cursor") == "pointer"
    assert violations == []
    page.close()


INJECTED = """
<script>window.ran = "an inline script"</script>
<script src="data:text/javascript,window.ran='a script in its address'"></script>
<script src="http://127.0.0.1:PORT/foreign.js"></script>
<style>body { background: red }</style>
<img src="data:," onerror="window.ran = 'a handler'">
<iframe srcdoc="<script>parent.ran = 'a frame'</script>"></iframe>
<a href="javascript:window.ran = 'an address'" id="link">here</a>
<base href="http://127.0.0.1:PORT/">
<form action="http://127.0.0.1:PORT/steal"><button id="send">Send</button></form>
</body>
"""


@contextmanager
def foreign_server() -> Iterator[tuple[int, list[str]]]:
    """A server of another origin: its port, and the requests that it gets."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server.server_port, requests
        server.shutdown()
        thread.join()


@pytest.mark.xdist_group("browser")
@pytest.mark.parametrize("path", PAGES)
def test_injected_markup_runs_nothing_and_sends_nothing(url: str, browser: Any, path: str) -> None:
    page = browser.new_page()
    violations = violations_of(page)
    with foreign_server() as (port, requests):

        def inject(route: Any) -> None:
            response = route.fetch()
            text = response.text()
            assert "</body>" in text
            body = text.replace("</body>", INJECTED.replace("PORT", str(port)))
            route.fulfill(response=response, body=body)  # with the headers of the service

        page.route(url + path, inject)
        page.goto(url + path)
        for name in ("link", "send"):
            page.evaluate(f"document.getElementById('{name}').click()")
        with pytest.raises(Exception, match="TrustedHTML"):
            page.evaluate("document.body.innerHTML = '<b>markup</b>'")
        assert page.evaluate("window.ran") is None
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert background != "rgb(255, 0, 0)"
        expected = {
            *("script-src-elem", "script-src-attr", "style-src-elem", "base-uri", "form-action"),
            *("img-src", "require-trusted-types-for"),
        }

        def directives() -> set[str]:
            page.evaluate("0")  # Playwright reports violations while it is called.
            return {violation.split()[0] for violation in violations}

        wait_for(lambda: directives() >= expected)
        assert directives() == expected
        assert requests == []
    page.close()


@pytest.mark.xdist_group("browser")
def test_the_page_is_not_shown_in_a_frame(url: str, browser: Any) -> None:
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    frame = f"<iframe src='{url}/' onload='document.title = &quot;loaded&quot;'></iframe>"
    page.route(f"{url}/frame", lambda route: route.fulfill(body=frame, content_type="text/html"))
    page.goto(f"{url}/frame")
    page.wait_for_function("document.title === 'loaded'")
    (framed,) = page.frames[1:]
    assert framed.query_selector("#main") is None
    assert any("frame-ancestors 'none'" in text for text in said), said
    page.close()
