"""A TLS relay before an API server that keeps what a gateway sends: nothing else can show what reached it."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from support.api_gateway import Plane
from support.certificates import make_authority


@dataclass(frozen=True, slots=True)
class Heard:
    """One request as it came, by a reader that knows lines and one Content-Length."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def __str__(self) -> str:
        return f"{self.method} {self.target}"

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]


class Overheard:
    """`plane` is the API server behind this relay."""

    def __init__(self, plane: Plane, directory: Path) -> None:
        authority = make_authority(directory)
        self._behind = plane
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(authority.server.certificate, authority.server.key)
        self._onwards = ssl.create_default_context(cadata=plane.authorities)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._conversations: list[bytearray] = []
        port = self._listening.getsockname()[1]
        self.plane = replace(plane, server=f"https://127.0.0.1:{port}", authorities=authority.ca.read_text())

    def requests(self) -> list[Heard]:
        """All that came so far, connection by connection. Fails on anything that is not a whole request."""
        return [heard for said in list(self._conversations) for heard in _requests(bytes(said))]

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                plain, _ = self._listening.accept()
                threading.Thread(target=self._relay, args=(plain,), daemon=True).start()

    def stop(self) -> None:
        self._listening.close()

    def _relay(self, plain: socket.socket) -> None:
        with suppress(OSError):
            server = socket.create_connection((self._behind.host, self._behind.port))
            with (
                self._context.wrap_socket(plain, server_side=True) as gateway,
                self._onwards.wrap_socket(server, server_hostname=self._behind.host) as api,
            ):
                said = bytearray()
                self._conversations.append(said)
                back = threading.Thread(target=_pump, args=(api, gateway, bytearray()), daemon=True)
                back.start()
                _pump(gateway, api, said)


def _pump(source: ssl.SSLSocket, sink: ssl.SSLSocket, kept: bytearray) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            kept += data
            sink.sendall(data)
    for each in (source, sink):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def _requests(said: bytes) -> Iterator[Heard]:
    while said:
        top, end, said = said.partition(b"\r\n\r\n")
        assert end, f"not a whole head: {top!r}"
        first, *lines = top.decode("ascii").split("\r\n")
        method, target, version = first.split(" ")
        assert version == "HTTP/1.1"
        headers = tuple((name, value) for name, _, value in (line.partition(": ") for line in lines))
        heard = Heard(method, target, headers, b"")
        assert not heard.values("transfer-encoding")
        (length,) = heard.values("content-length") or ["0"]
        body, said = said[: int(length)], said[int(length) :]
        assert len(body) == int(length), "not a whole body"
        yield replace(heard, body=body)


@contextmanager
def overheard(plane: Plane, directory: Path) -> Iterator[Overheard]:
    made = Overheard(plane, directory)
    threading.Thread(target=made.serve, daemon=True).start()
    try:
        yield made
    finally:
        made.stop()
