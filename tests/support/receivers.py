"""A receiver of webhooks as a real HTTP server: it keeps what came, verifies by itself, and can be difficult."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER_SECRET = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()


@dataclass(frozen=True)
class Came:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def id(self) -> str:
        return self.headers.get("webhook-id", "")


def verify(came: Came, secret: str = SECRET, *, now: float | None = None) -> None:
    """The algorithm of Standard Webhooks, as its specification tells receivers to do it. AssertionError."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    at = int(came.headers["webhook-timestamp"])
    assert abs((now if now is not None else time.time()) - at) < 300, "outside of the tolerance"
    content = came.headers["webhook-id"].encode() + b"." + str(at).encode() + b"." + came.body
    wanted = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest())
    versions = [part.split(",", 1) for part in came.headers["webhook-signature"].split(" ")]
    assert any(
        version == "v1" and hmac.compare_digest(signature.encode(), wanted) for version, signature in versions
    ), "no signature is of this secret"


@dataclass
class Receiver:
    """`answers`: what it does with the next requests: a status, (status, headers), "slow", "hang" or "reset"; then
    `usual`."""

    url: str = ""
    port: int = 0
    usual: object = 200
    answers: list[object] = field(default_factory=list)
    came: list[Came] = field(default_factory=list)
    taken: list[Came] = field(default_factory=list)
    """Those that were answered with 2xx."""
    stop: threading.Event = field(default_factory=threading.Event)

    def about(self, namespace: str) -> list[Came]:
        """Those taken that name it: an operator tells of the whole cluster."""
        return [came for came in self.taken if namespace.encode() in came.body]

    def wait(self, number: int, seconds: float = 30.0) -> list[Came]:
        """As soon as so many were taken."""
        end = time.monotonic() + seconds
        while len(self.taken) < number:
            assert time.monotonic() < end, f"{len(self.taken)} of {number} came; all: {[each.id for each in self.came]}"
            time.sleep(0.02)
        return self.taken


@contextmanager
def receiver(usual: object = 200, *answers: object, port: int = 0) -> Iterator[Receiver]:
    """It listens on loopback for as long as the block lasts."""
    found = Receiver(usual=usual, answers=list(answers))

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            came = Came(self.path, {name.lower(): value for name, value in self.headers.items()}, body, time.time())
            found.came.append(came)
            answer = found.answers.pop(0) if found.answers else found.usual
            if answer == "hang":
                found.stop.wait(20)
                self.close_connection = True
                return
            if answer == "slow":
                found.stop.wait(0.5)
                answer = 200
            if answer == "reset":
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.connection.close()
                self.close_connection = True
                return
            status, headers, said = answer if isinstance(answer, tuple) else (answer, {}, b"ok")
            assert isinstance(status, int)
            if 200 <= status < 300:
                found.taken.append(came)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        def finish(self) -> None:
            try:
                super().finish()
            except OSError:
                pass

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
    found.port = server.server_address[1]
    found.url = f"http://127.0.0.1:{found.port}/hook"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        found.stop.set()
        server.shutdown()
        server.server_close()
        thread.join(5)
