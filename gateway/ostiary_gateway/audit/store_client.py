"""The store as a gateway reaches it: announces a record and hands blocks over, on one connection that is kept.

It blocks, and belongs to the shipper's thread: the event loop of the gateway has no part in it.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from ostiary_gateway.audit.index import Place
from ostiary_gateway.audit.shipping import Announcement, parse_place

TIMEOUT: Final = 30.0
"""Seconds for each piece of an answer: the store answers when the batch is on its disk."""
CONNECT: Final = 5.0
REREAD: Final = 60.0
"""Seconds after which the token's file is read again; the kubelet renews it long before it expires."""
MAX_ANSWER: Final = 64 * 1024
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class StoreAway(Exception):
    """Try again later. `after`: seconds that the store asks for, or 0."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class Elsewhere(Exception):
    """The record stands at another place in the store."""

    def __init__(self, place: Place) -> None:
        super().__init__(f"the store has the record up to byte {place.position}")
        self.place = place


class Unannounced(Exception):
    """The store does not know whose record this is: it has started anew."""


@dataclass(frozen=True, slots=True)
class ShipTo:
    """Where records go. Files are read again as they change. Raises ValueError if that cannot be."""

    url: str
    ca: Path | None = None
    """PEM; without it the system's authorities."""
    token: Path | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("https", "http") or not parts.hostname or parts.username or parts.query:
            raise ValueError(f"{self.url!r} is no URL of a store, like https://ostiary-store.ostiary.svc:8443")
        if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
            raise ValueError(f"{self.url!r}: without TLS a store must be on this machine; records and tokens go there")


class StoreClient:
    """One connection, made when it is needed. `stop` may be called by any thread and ends what is under way."""

    def __init__(self, to: ShipTo) -> None:
        self._to = to
        parts = urlsplit(to.url)
        self._tls = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port or (443 if self._tls else 80)
        self._prefix = parts.path.rstrip("/")
        self._connection: http.client.HTTPConnection | None = None
        self._token = ""
        self._token_read = 0.0
        self._stopped = False

    def announce(self, announcement: Announcement) -> Place:
        """Where the record stands in the store. Raises StoreAway."""
        path = f"/v1/records/{announcement.uuid.hex()}"
        status, body, after = self._ask("PUT", path, announcement.dump(), "application/json")
        if status == 200:
            return self._place(body)
        raise self._refusal(status, body, after)

    def hand_over(self, uuid: bytes, position: int, blocks: bytes | memoryview) -> Place:
        """Whole blocks that stand at `position`; where the record stands then. StoreAway, Elsewhere or Unannounced."""
        path = f"/v1/records/{uuid.hex()}/blocks?position={position}"
        status, body, after = self._ask("POST", path, blocks, "application/octet-stream")
        if status == 200:
            return self._place(body)
        if status == 409:
            raise Elsewhere(self._place(body))
        if status == 404:
            raise Unannounced
        raise self._refusal(status, body, after)

    def stop(self) -> None:
        """What is under way ends with StoreAway, and nothing begins any more."""
        self._stopped = True
        connection = self._connection
        sock = connection.sock if connection is not None else None
        if sock is not None:
            try:
                sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                return

    def close(self) -> None:
        """The connection; the next request makes another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, method: str, path: str, body: bytes | memoryview, kind: str) -> tuple[int, bytes, float]:
        for again in (True, False):
            kept = self._connection is not None
            try:
                status, answer, after = self._once(method, path, body, kind)
            except (http.client.HTTPException, OSError, ValueError) as problem:
                self.close()
                # A connection that was kept may have been closed meanwhile. What the store has, it does not take twice.
                if kept and again and not self._stopped and not isinstance(problem, TimeoutError):
                    continue
                raise StoreAway(f"{self._to.url} cannot be reached: {_words(problem)}") from None
            if status == 401 and again and self._token_is_another():
                continue
            return status, answer, after
        raise AssertionError

    def _once(self, method: str, path: str, body: bytes | memoryview, kind: str) -> tuple[int, bytes, float]:
        if self._stopped:
            raise ConnectionAbortedError("the gateway stops")
        connection = self._connection or self._connected()
        headers = {"Content-Type": kind, "Content-Length": str(len(body))}
        if token := self._bearer():
            headers["Authorization"] = f"Bearer {token}"
        connection.request(method, self._prefix + path, body, headers)
        response = connection.getresponse()
        answer = response.read(MAX_ANSWER)
        if response.will_close or not response.isclosed():
            self.close()
        after = response.getheader("Retry-After", "")
        return response.status, answer, float(after) if after.isdecimal() and len(after) < 5 else 0.0

    def _connected(self) -> http.client.HTTPConnection:
        if self._tls:
            context = self._context()
            made: http.client.HTTPConnection = http.client.HTTPSConnection(
                self._host, self._port, timeout=CONNECT, context=context
            )
        else:
            made = http.client.HTTPConnection(self._host, self._port, timeout=CONNECT)
        made.connect()
        made.sock.settimeout(TIMEOUT)
        self._connection = made
        return made

    def _context(self) -> ssl.SSLContext:
        ca = self._to.ca
        try:
            context = ssl.create_default_context(cafile=str(ca) if ca is not None else None)
        except (OSError, ssl.SSLError) as problem:
            raise ValueError(f"the authorities in {ca} cannot be used: {_words(problem)}") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        return context

    def _bearer(self) -> str:
        if self._to.token is None:
            return ""
        now = time.monotonic()
        if not self._token or now - self._token_read >= REREAD:
            try:
                self._token = self._to.token.read_text("ascii").strip()
            except (OSError, UnicodeDecodeError) as problem:
                if not self._token:
                    raise ValueError(f"the token {self._to.token} cannot be read: {_words(problem)}") from None
            self._token_read = now
        return self._token

    def _token_is_another(self) -> bool:
        old, self._token_read = self._token, -REREAD
        try:
            return self._bearer() != old
        except ValueError:
            return False

    def _place(self, body: bytes) -> Place:
        try:
            return parse_place(body)
        except ValueError as problem:
            raise StoreAway(f"{self._to.url} is no store: its answer cannot be read: {problem}") from None

    def _refusal(self, status: int, body: bytes, after: float) -> StoreAway:
        said = " ".join(body[:500].decode("utf-8", "replace").split())
        return StoreAway(f"the store answers {status}" + (f": {said}" if said else ""), after)


def _words(problem: Exception) -> str:
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {problem.verify_message}. Is --ship-ca its authority?"
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    return str(problem) or type(problem).__name__
