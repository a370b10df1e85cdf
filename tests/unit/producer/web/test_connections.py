"""What one connection sends or does not read ends that connection, and harms no other."""

import asyncio
import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from producer.web import connections
from producer.web.connections import MAX_HEAD, BoundedProtocol
from support.stopwatch import Stopwatch
from support.waiting import wait_for

SECONDS = 0.5
FEW = b"GET / HTTP/1.1\r\nHost: localhost\r\n"
MEBIBYTE = 1 << 20


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the size of the body; under /slow only later, under /large with much more.

    Under /endless, answer later than any test waits.
    """
    if scope["type"] != "http":
        return
    if scope["path"] in ("/slow", "/endless"):
        seconds = SLOW_SECONDS if scope["path"] == "/slow" else ENDLESS_SECONDS
        await answer_slowly(receive, send, seconds)
        return
    if scope["path"] == "/large":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 32 * MEBIBYTE})
        return
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    body = str(size).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


SLOW_SECONDS = 1.0
ENDLESS_SECONDS = 60.0
disconnected = threading.Event()


async def answer_slowly(receive: Any, send: Any, seconds: float) -> None:
    """Answer after a while, unless the caller goes away before."""
    await receive()
    try:
        async with asyncio.timeout(seconds):
            await receive()
    except TimeoutError:
        headers = [(b"content-length", b"4")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"slow"})
    else:
        disconnected.set()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server wait only for a moment, for a test of what it does then."""
    monkeypatch.setattr(connections, "HEAD_SECONDS", SECONDS)
    monkeypatch.setattr(connections, "READ_SECONDS", SECONDS)


@pytest.fixture
def server() -> Iterator[uvicorn.Server]:
    """A server with this protocol."""
    disconnected.clear()
    config = uvicorn.Config(
        application, port=0, http=BoundedProtocol, log_config=None, lifespan="off"
    )
    made = uvicorn.Server(config)
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=asyncio.run, args=(made.serve([listening]),))
    thread.start()
    wait_for(lambda: made.started)
    yield made
    made.should_exit = True
    thread.join()


@pytest.fixture
def port(server: uvicorn.Server) -> int:
    """The free port on which the server listens."""
    number: int = server.servers[0].sockets[0].getsockname()[1]
    return number


def answer_to(port: int, *pieces: bytes, pause: float = 0.0) -> bytes:
    """Send pieces with a pause between them; return what comes until the connection is closed."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause)
        received = bytearray()
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(65_536):
                received += piece
        return bytes(received)


CLOSE = b"Connection: close\r\n\r\n"


def test_an_ordinary_call_is_answered_also_in_pieces(port: int) -> None:
    assert answer_to(port, FEW, CLOSE).endswith(b"0")
    assert answer_to(port, FEW[:5], FEW[5:], CLOSE, pause=0.02).endswith(b"0")


@pytest.mark.parametrize("size", [MAX_HEAD // 2, MAX_HEAD - 500])
def test_large_headers_within_the_bound_are_read(port: int, size: int) -> None:
    assert b" 200 " in answer_to(port, FEW, b"X: ", b"x" * size, b"\r\n", CLOSE)


@pytest.mark.parametrize(
    "pieces",
    [
        [b"GET /", *[b"x" * MEBIBYTE] * 3],
        [FEW, b"X: ", *[b"x" * MEBIBYTE] * 3],
        [FEW, *[b"x" * MEBIBYTE] * 3],
        [FEW, *[b"X-Header: 1\r\n" * 10_000] * 10],
    ],
    ids=["path", "value", "name", "many"],
)
def test_a_head_that_goes_on_and_on_is_refused(port: int, pieces: list[bytes]) -> None:
    answer = answer_to(port, *pieces)
    # The rest of what was sent may let the kernel reset the connection before the response is read.
    assert answer == b"" or answer.startswith((b"HTTP/1.1 431 ", b"HTTP/1.1 400 "))
    assert b" 200 " in answer_to(port, FEW, CLOSE)


def test_what_follows_a_body_is_bounded_too(port: int) -> None:
    chunked = b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    trailers = [b"1\r\nx\r\n0\r\n", b"X: ", *[b"x" * MEBIBYTE] * 3]
    assert b" 200 " not in answer_to(port, chunked, *trailers)


def test_a_large_body_is_no_head(port: int) -> None:
    body = b"x" * 3 * MEBIBYTE
    head = f"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n".encode()
    assert answer_to(port, head, CLOSE, body).endswith(str(len(body)).encode())


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("pieces", [[], [b"G"], [FEW], [FEW[:20], b"x", b"y"]])
def test_a_slow_head_is_refused(port: int, pieces: list[bytes]) -> None:
    watch = Stopwatch(os.getpid())
    answer = answer_to(port, *pieces, pause=SECONDS / 4)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - watch.started + 0.05 >= SECONDS
    assert watch.seconds() < SECONDS + 5


@pytest.mark.usefixtures("hasty")
def test_the_second_head_of_a_connection_has_a_deadline_of_its_own(port: int) -> None:
    answer = answer_to(port, FEW + b"\r\n", FEW, pause=SECONDS * 0.7)
    first, second = answer.split(b"HTTP/1.1 ")[1:]
    assert first.startswith(b"200 ")
    assert second.startswith(b"408 ")


SLOW = b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "ahead",
    [FEW + b"\r\n", FEW[:20], b"no HTTP", (FEW + b"\r\n") * 1_000],
    ids=["call", "part", "garbage", "many"],
)
def test_what_is_sent_ahead_is_not_answered_and_spoils_no_response(port: int, ahead: bytes) -> None:
    for pieces in ([SLOW + ahead], [SLOW, ahead]):
        answer = answer_to(port, *pieces, pause=SECONDS / 10)
        assert answer.endswith(b"slow")
        assert answer.count(b"HTTP/1.1 ") == 1
    assert b" 200 " in answer_to(port, FEW, CLOSE)


def test_an_empty_line_after_a_call_is_no_call(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(SLOW + b"\r\n")
        answer = bytearray()
        while not answer.endswith(b"slow"):
            answer += connection.recv(65_536)
        connection.sendall(FEW + CLOSE)
        while piece := connection.recv(65_536):
            answer += piece
    assert answer.count(b"HTTP/1.1 200 ") == 2


def test_a_flood_of_calls_sent_ahead_ends_the_connection(port: int) -> None:
    endless = SLOW.replace(b"/slow", b"/endless")
    # The connection ends before the first call is answered: it would be too late for the test.
    assert answer_to(port, endless, *[(FEW + b"\r\n") * 10_000] * 10) == b""


@pytest.mark.parametrize("ahead", [b"", FEW, FEW + b"\r\n"], ids=["nothing", "part", "call"])
def test_a_call_learns_that_its_caller_went_away_whatever_was_sent_ahead(
    port: int, ahead: bytes
) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(SLOW.replace(b"/slow", b"/endless") + ahead)
        time.sleep(SECONDS / 10)
    assert disconnected.wait(ENDLESS_SECONDS / 2)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("head", [b"", CLOSE[:-2]], ids=["open", "closed"])
def test_a_response_that_nobody_reads_ends_the_connection(
    server: uvicorn.Server, port: int, head: bytes
) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.settimeout(20)
        connection.connect(("127.0.0.1", port))
        wait_for(lambda: len(server.server_state.connections) == 1)
        connection.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n")
        wait_for(lambda: not server.server_state.connections)
        received = 0
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(MEBIBYTE):
                received += len(piece)
    assert received < 32 * MEBIBYTE


def test_a_large_response_that_is_read_arrives_whole(port: int) -> None:
    answer = answer_to(port, b"GET /large HTTP/1.1\r\nHost: localhost\r\n", CLOSE)
    assert answer.count(b"x") >= 32 * MEBIBYTE


def test_a_call_that_asks_for_another_protocol_is_an_ordinary_call(port: int) -> None:
    key = b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    for protocol in (b"websocket", b"h2c"):
        upgrade = b"Connection: Upgrade\r\nUpgrade: " + protocol + b"\r\n"
        assert answer_to(port, FEW, upgrade, key, b"\r\n").startswith(b"HTTP/1.1 200 ")
