"""A TCP relay between a client and a server: it can fall silent, and it can speak TLS."""

import select
import socket
import ssl
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""The unencrypted message with which a client of PostgreSQL asks for TLS."""


class Relay:
    """Listens on a free port of loopback while its context is open.

    `target` is a host and a port, or the path of a socket. With `tls`, traffic is decrypted; with
    `postgres`, after PostgreSQL's own request for TLS. A client that does not use TLS is refused.
    """

    def __init__(
        self,
        target: tuple[str, int] | str,
        tls: ssl.SSLContext | None = None,
        *,
        postgres: bool = False,
    ) -> None:
        self.connections = 0
        self._target = target
        self._tls = tls
        self._postgres = postgres
        self._silent = threading.Event()
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._listen)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(20)
        self._listener.close()

    def fall_silent(self) -> None:
        """Stop forwarding, and leave every connection open."""
        self._silent.set()

    def lead_to(self, target: tuple[str, int] | str) -> None:
        """Connect clients that come from now on to another server."""
        self._target = target

    def _listen(self) -> None:
        while not self._over.is_set():
            if select.select([self._listener], [], [], 0.1)[0]:
                accepted, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(accepted,))
                self._threads.append(thread)
                thread.start()

    def _serve(self, accepted: socket.socket) -> None:
        accepted.settimeout(5)
        with suppress(OSError), accepted, self._decrypted(accepted) as client, self._dial() as far:
            self.connections += 1
            while not self._over.is_set():
                self._carry(client, far)

    def _decrypted(self, accepted: socket.socket) -> socket.socket:
        """Raises OSError if the client does not ask for TLS, or does not trust our certificate."""
        if self._tls is None:
            return accepted
        if self._postgres:
            if accepted.recv(8) != SSL_REQUEST:
                raise ConnectionRefusedError
            accepted.sendall(b"S")
        return self._tls.wrap_socket(accepted, server_side=True)

    def _dial(self) -> socket.socket:
        family = socket.AF_UNIX if isinstance(self._target, str) else socket.AF_INET
        far = socket.socket(family)
        far.settimeout(5)
        far.connect(self._target)
        return far

    def _carry(self, client: socket.socket, far: socket.socket) -> None:
        """Forward the available data in both directions. Raises OSError if one side has closed."""
        if self._silent.is_set():
            time.sleep(0.05)
            return
        decrypted = isinstance(client, ssl.SSLSocket) and client.pending()
        ready = [client] if decrypted else select.select([client, far], [], [], 0.1)[0]
        for source in ready:
            data = source.recv(65_536)
            if not data:
                raise ConnectionResetError
            (far if source is client else client).sendall(data)


def make_certificates(
    folder: Path, names: str = "IP:127.0.0.1,DNS:localhost"
) -> tuple[Path, ssl.SSLContext]:
    """Return a test authority's certificate, and the TLS context of a server that it signed."""
    files = ("ca.pem", "ca.key", "cert.pem", "cert.key")
    authority, own_key, certificate, key = (str(folder / name) for name in files)
    new = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt"]
    new += ["ec_paramgen_curve:prime256v1", "-days", "2"]
    own = [
        "-subj",
        "/CN=Test authority",
        "-addext",
        "keyUsage=critical,keyCertSign",
        "-keyout",
        own_key,
        "-out",
        authority,
    ]
    server = ["-subj", "/CN=server", "-addext", f"subjectAltName={names}"]
    server += ["-addext", "basicConstraints=critical,CA:FALSE", "-keyout", key, "-out", certificate]
    signed = ["-CA", authority, "-CAkey", own_key]
    for arguments in (own, [*server, *signed]):
        subprocess.run([*new, *arguments], check=True, capture_output=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    return Path(authority), context
