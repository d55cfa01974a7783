"""Small servers and clients of TCP and of Unix sockets, for what is forwarded."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def upper(address: tuple[str, int] | str = ("127.0.0.1", 0)) -> Iterator[int]:
    """A server that waits for the client's end of data, and then answers with all of it in capitals. Its port."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(200)
        threading.Thread(target=_serve, args=(listener,), daemon=True).start()
        yield 0 if isinstance(address, str) else listener.getsockname()[1]
        # The thread stays in accept() of a closed socket unless it is woken.
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
    if isinstance(address, str):
        Path(address).unlink(missing_ok=True)


def ask(address: tuple[str, int] | str | socket.socket, data: bytes) -> bytes:
    """Send all, say that this is the end, and read to the end."""
    with connect(address) as client:
        sender = threading.Thread(target=_send, args=(client, data))
        sender.start()
        found = read_all(client)
        sender.join()
        return found


def connect(address: tuple[str, int] | str | socket.socket) -> socket.socket:
    if isinstance(address, socket.socket):
        return address
    client = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    client.settimeout(60)
    try:
        client.connect(address)
    except OSError:
        client.close()
        raise
    return client


def through_socks(port: int, host: str, target: int) -> tuple[int, socket.socket]:
    """A connection by SOCKS5: the proxy's answer (0: it is made), and the socket."""
    client = connect(("127.0.0.1", port))
    client.sendall(b"\x05\x01\x00")
    assert _exactly(client, 2) == b"\x05\x00"
    name = host.encode()
    client.sendall(b"\x05\x01\x00\x03" + bytes([len(name)]) + name + struct.pack(">H", target))
    answer = _exactly(client, 10)
    return (answer[1] if answer else 255), client


def read_all(client: socket.socket) -> bytes:
    parts = []
    with suppress(ConnectionResetError):
        while part := client.recv(65536):
            parts.append(part)
    return b"".join(parts)


def _exactly(client: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        part = client.recv(count - len(found))
        if not part:
            return b""
        found += part
    return found


def _send(client: socket.socket, data: bytes) -> None:
    with suppress(OSError):
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)


def _serve(listener: socket.socket) -> None:
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_answer, args=(client,), daemon=True).start()


def _answer(client: socket.socket) -> None:
    with client, suppress(OSError):
        client.sendall(read_all(client).upper())
