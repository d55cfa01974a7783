"""Servers that break off: one that says what a test tells it to, and one that is real until it hears a marker."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

Script = Callable[[socket.socket], None]

MARKER = "sabotage"


def reset(connection: socket.socket) -> None:
    """Close with RST, as a crashed host would."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def say(*data: bytes, then: Script = reset, after: float = 0.2) -> Script:
    """A script: send these bytes, wait until they have arrived, and break off."""

    def script(connection: socket.socket) -> None:
        for part in data:
            connection.sendall(part)
        time.sleep(after)
        then(connection)

    return script


def read_message(connection: socket.socket) -> tuple[str, bytes]:
    """A typed message: its letter and its body. Raises EOFError."""
    head = _exactly(connection, 5)
    return chr(head[0]), _exactly(connection, struct.unpack_from("!i", head, 1)[0] - 4)


def read_startup(connection: socket.socket) -> bytes:
    """The body of the first startup packet that is no request for encryption (those are answered with N)."""
    while True:
        (length,) = struct.unpack("!i", _exactly(connection, 4))
        body = _exactly(connection, length - 4)
        if struct.unpack_from("!i", body)[0] in (80877103, 80877104):
            connection.sendall(b"N")
            continue
        return body


def _exactly(connection: socket.socket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count:
        data = connection.recv(count - len(found))
        if not data:
            raise EOFError
        found += data
    return bytes(found)


@dataclass(slots=True)
class Listener:
    """Accepts connections on a random port of loopback, and gives each to `handle` in a thread."""

    handle: Script
    connections: int = 0
    _listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0), backlog=64))
    _open: list[socket.socket] = field(default_factory=list)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._start(self._accept)

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def close(self) -> None:
        # Closing alone would leave the accept in the other thread waiting.
        self._listener.shutdown(socket.SHUT_RDWR)
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            connection.settimeout(60)
            self._open.append(connection)
            self._start(self._guarded, connection)

    def _guarded(self, connection: socket.socket) -> None:
        try:
            self.handle(connection)
        except (OSError, EOFError):
            pass
        finally:
            connection.close()


@dataclass(slots=True)
class Saboteur:
    """A proxy before a real server. When the client's bytes hold MARKER, `script` answers instead of the server."""

    host: str
    port_behind: int
    script: Script = reset
    heard: list[bytes] = field(default_factory=list)
    """What came from the client in every connection, for asserting that something was never forwarded."""
    listener: Listener | None = None

    def __enter__(self) -> Saboteur:
        self.listener = Listener(self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.listener is not None
        self.listener.close()

    @property
    def port(self) -> int:
        assert self.listener is not None
        return self.listener.port

    def _handle(self, client: socket.socket) -> None:
        with socket.create_connection((self.host, self.port_behind)) as server:
            back = threading.Thread(target=_copy, args=(server, client), daemon=True)
            back.start()
            try:
                while data := client.recv(1 << 16):
                    self.heard.append(data)
                    if MARKER.encode() in data:
                        self.script(client)
                        return
                    server.sendall(data)
            finally:
                try:
                    server.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                back.join(10)


def _copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
