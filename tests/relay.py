"""A TCP relay between a client and a server: it can fall silent, and it can speak TLS."""

import asyncio
import contextlib
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Self

SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""How a client of PostgreSQL asks for TLS, in the clear."""


class Relay:
    """Listens on a free port of loopback while its context is open, in a thread of its own.

    `target` is a host and a port, or the path of a socket. With `tls` what comes is decrypted,
    with `postgres` after PostgreSQL's own request for it; who asks for no TLS is turned away.
    """

    def __init__(
        self,
        target: tuple[str, int] | str,
        tls: ssl.SSLContext | None = None,
        *,
        postgres: bool = False,
    ) -> None:
        self.port = 0
        self.connections = 0
        self._target = target
        self._tls = tls
        self._postgres = postgres
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._listening = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listening.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def fall_silent(self) -> None:
        """Forward nothing any more, and keep every connection open."""
        self._loop.call_soon_threadsafe(self._flowing.clear)

    def _run(self) -> None:
        serving = self._loop.create_task(self._serve())
        self._loop.run_forever()
        serving.cancel()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self._loop.close()

    async def _serve(self) -> None:
        tls = None if self._postgres else self._tls
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        async with server:
            await server.serve_forever()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError, asyncio.CancelledError):
            if self._postgres and self._tls:
                if await reader.readexactly(8) != SSL_REQUEST:
                    writer.close()
                    return
                writer.write(b"S")
                await writer.start_tls(self._tls)
            self.connections += 1
            from_server, to_server = (
                await asyncio.open_unix_connection(self._target)
                if isinstance(self._target, str)
                else await asyncio.open_connection(*self._target)
            )
            await asyncio.gather(self._pump(reader, to_server), self._pump(from_server, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.CancelledError):
            while data := await reader.read(65_536):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()
        writer.close()


def make_certificates(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """An authority of the test's own, and what a server at 127.0.0.1 needs that it vouches for."""
    names = ("ca.pem", "ca.key", "cert.pem", "cert.key")
    authority, own_key, certificate, key = (str(folder / name) for name in names)
    new = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt"]
    new += ["ec_paramgen_curve:prime256v1", "-days", "2"]
    own = ["-subj", "/CN=Test authority", "-keyout", own_key, "-out", authority]
    server = ["-subj", "/CN=server", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    server += ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", certificate]
    signed = ["-CA", authority, "-CAkey", own_key]
    for arguments in (own, [*server, *signed]):
        subprocess.run([*new, *arguments], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return Path(authority), context
