"""A small PostgreSQL client that keeps every message, to compare conversations and to send what no driver would."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import socket
import ssl
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

PROTOCOL_3_0 = 196608
PROTOCOL_3_2 = 196610
SSL_REQUEST = struct.pack("!ii", 8, 80877103)
GSS_REQUEST = struct.pack("!ii", 8, 80877104)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the server: its type letter and its body without the length."""

    type: str
    body: bytes

    @property
    def fields(self) -> dict[str, str]:
        """Of ErrorResponse and NoticeResponse: field letter to text."""
        found: dict[str, str] = {}
        for part in self.body.rstrip(b"\0").split(b"\0"):
            if part:
                found[chr(part[0])] = part[1:].decode("utf-8", "replace")
        return found

    @property
    def text(self) -> str:
        return self.body.rstrip(b"\0").decode("utf-8", "replace")

    @property
    def cells(self) -> list[bytes | None]:
        """Of DataRow: the values."""
        count, at = struct.unpack_from("!h", self.body)[0], 2
        cells: list[bytes | None] = []
        for _ in range(count):
            (length,) = struct.unpack_from("!i", self.body, at)
            at += 4
            if length < 0:
                cells.append(None)
            else:
                cells.append(self.body[at : at + length])
                at += length
        return cells

    @property
    def columns(self) -> list[tuple[str, int, int, int, int, int, int]]:
        """Of RowDescription: name, table OID, attribute, type OID, length, modifier, format."""
        count, at = struct.unpack_from("!h", self.body)[0], 2
        columns: list[tuple[str, int, int, int, int, int, int]] = []
        for _ in range(count):
            end = self.body.index(b"\0", at)
            name = self.body[at:end].decode("utf-8", "replace")
            columns.append((name, *struct.unpack_from("!ihihih", self.body, end + 1)))
            at = end + 19
        return columns


class Closed(Exception):
    """The other end closed the connection. `messages` came before that."""

    def __init__(self, messages: list[Message]) -> None:
        super().__init__(f"connection closed after {[(m.type, m.body[:200]) for m in messages[-3:]]}")
        self.messages = messages


class Refused(Exception):
    """An ErrorResponse where a session was to begin."""

    def __init__(self, message: Message) -> None:
        super().__init__(str(message.fields))
        self.message = message


def frame(kind: str, body: bytes = b"") -> bytes:
    return kind.encode() + struct.pack("!i", len(body) + 4) + body


def startup(user: str, database: str, protocol: int = PROTOCOL_3_0, **settings: str) -> bytes:
    pairs = {"user": user, "database": database, **settings}
    body = struct.pack("!i", protocol)
    body += b"".join(key.encode() + b"\0" + value.encode() + b"\0" for key, value in pairs.items()) + b"\0"
    return struct.pack("!i", len(body) + 4) + body


def query(sql: str | bytes) -> bytes:
    return frame("Q", _bytes(sql) + b"\0")


def parse(sql: str | bytes, name: str = "", types: Iterable[int] = ()) -> bytes:
    oids = list(types)
    packed = struct.pack("!h", len(oids)) + b"".join(struct.pack("!I", oid) for oid in oids)
    return frame("P", name.encode() + b"\0" + _bytes(sql) + b"\0" + packed)


def bind(
    portal: str = "", statement: str = "", values: Iterable[bytes | None] = (), binary_results: bool = False
) -> bytes:
    body = portal.encode() + b"\0" + statement.encode() + b"\0" + struct.pack("!h", 0)
    cells = list(values)
    body += struct.pack("!h", len(cells))
    for cell in cells:
        body += struct.pack("!i", -1) if cell is None else struct.pack("!i", len(cell)) + cell
    return frame("B", body + (struct.pack("!hh", 1, 1) if binary_results else struct.pack("!h", 0)))


def describe(kind: str, name: str = "") -> bytes:
    return frame("D", kind.encode() + name.encode() + b"\0")


def execute(portal: str = "", rows: int = 0) -> bytes:
    return frame("E", portal.encode() + b"\0" + struct.pack("!i", rows))


def close(kind: str, name: str = "") -> bytes:
    return frame("C", kind.encode() + name.encode() + b"\0")


SYNC = frame("S")
FLUSH = frame("H")
TERMINATE = frame("X")


def _bytes(sql: str | bytes) -> bytes:
    return sql.encode() if isinstance(sql, str) else sql


@dataclass(slots=True)
class Wire:
    """One connection. Blocking, with a timeout on everything, so that a hang is a failure."""

    socket: socket.socket
    buffer: bytearray = field(default_factory=bytearray)
    parameters: dict[str, str] = field(default_factory=dict)
    key: tuple[int, bytes] = (0, b"")
    peer_certificate: bytes | None = None

    @classmethod
    def open(cls, host: str, port: int, timeout: float = 20) -> Wire:
        """A connection on which nothing was said yet."""
        connection = socket.create_connection((host, port), timeout)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = cls(connection)
        OPENED.append(wire)
        return wire

    @classmethod
    def login(
        cls,
        host: str,
        port: int,
        *,
        user: str,
        password: str,
        database: str,
        timeout: float = 20,
        tls: ssl.SSLContext | None = None,
        protocol: int = PROTOCOL_3_0,
        **settings: str,
    ) -> Wire:
        """A session, ready for a query. Raises Refused."""
        wire = cls.open(host, port, timeout)
        if tls is not None:
            wire.start_tls(tls, host)
        wire.send(startup(user, database, protocol, **settings))
        wire.authenticate(user, password)
        return wire

    def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        self.socket.sendall(SSL_REQUEST)
        answer = self.socket.recv(1)
        if answer != b"S":
            raise AssertionError(f"no TLS: {answer!r}")
        secured = context.wrap_socket(self.socket, server_hostname=host)
        self.peer_certificate = secured.getpeercert(binary_form=True)
        self.socket = secured

    def authenticate(self, user: str, password: str) -> None:
        scram: _Scram | None = None
        while True:
            message = self.receive()
            if message.type == "E":
                self.socket.close()
                raise Refused(message)
            if message.type == "R":
                (code,) = struct.unpack_from("!i", message.body)
                if code == 3:
                    self.send(frame("p", password.encode() + b"\0"))
                elif code == 10:
                    scram = _Scram(password)
                    first = scram.first()
                    self.send(frame("p", b"SCRAM-SHA-256\0" + struct.pack("!i", len(first)) + first))
                elif code == 11 and scram is not None:
                    self.send(frame("p", scram.final(message.body[4:])))
                elif code not in (0, 12):
                    raise AssertionError(f"authentication {code} is not known here")
            elif message.type == "S":
                name, value = message.body.decode().split("\0")[:2]
                self.parameters[name] = value
            elif message.type == "K":
                self.key = (struct.unpack_from("!i", message.body)[0], message.body[4:])
            elif message.type == "Z":
                return

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def receive(self) -> Message:
        """The next message. Raises Closed, TimeoutError."""
        while len(self.buffer) < 5 or len(self.buffer) < 1 + struct.unpack_from("!i", self.buffer, 1)[0]:
            try:
                data = self.socket.recv(1 << 18)
            except (ConnectionResetError, ssl.SSLEOFError):
                data = b""
            if not data:
                raise Closed([])
            self.buffer += data
        (length,) = struct.unpack_from("!i", self.buffer, 1)
        message = Message(chr(self.buffer[0]), bytes(self.buffer[5 : 1 + length]))
        del self.buffer[: 1 + length]
        return message

    def until(self, stop: str = "Z", count: int = 1) -> list[Message]:
        """Messages up to and with the `count`-th of a type in `stop`. Raises Closed with what came before."""
        messages: list[Message] = []
        while count:
            try:
                messages.append(self.receive())
            except Closed:
                raise Closed(messages) from None
            count -= messages[-1].type in stop
        return messages

    def simple(self, sql: str | bytes) -> list[Message]:
        """The whole answer to a Query. COPY is answered: nothing is copied in."""
        self.send(query(sql))
        messages: list[Message] = []
        while not messages or messages[-1].type != "Z":
            messages += self.until("ZG")
            if messages[-1].type == "G":
                self.send(frame("c"))
        return messages

    def extended(self, sql: str | bytes, values: Iterable[bytes | None] = (), binary: bool = False) -> list[Message]:
        """The whole answer to Parse, Describe, Bind, Describe, Execute, Sync."""
        self.send(parse(sql) + describe("S") + bind(values=values, binary_results=binary) + describe("P"))
        self.send(execute() + SYNC)
        messages: list[Message] = []
        while not messages or messages[-1].type != "Z":
            messages += self.until("ZG")
            if messages[-1].type == "G":
                self.send(frame("c") + SYNC)
                messages += self.until("Z", 1)
        return messages

    def rows(self, sql: str) -> list[list[str | None]]:
        """The rows of a query in text. An error is an AssertionError."""
        messages = self.simple(sql)
        for message in messages:
            if message.type == "E":
                raise AssertionError(f"{sql}: {message.fields}")
        return [[None if c is None else c.decode() for c in m.cells] for m in messages if m.type == "D"]

    def cancel_request(self) -> bytes:
        pid, secret = self.key
        return struct.pack("!iii", 12 + len(secret), 80877102, pid) + secret

    def close(self) -> None:
        self.socket.close()


def errors(messages: Iterable[Message]) -> Iterator[dict[str, str]]:
    return (m.fields for m in messages if m.type == "E")


class _Scram:
    """SCRAM-SHA-256 without channel binding, the client's side (RFC 5802, RFC 7677)."""

    def __init__(self, password: str) -> None:
        self._password = password
        self._nonce = base64.b64encode(os.urandom(18)).decode()
        self._bare = f"n=,r={self._nonce}"

    def first(self) -> bytes:
        return b"n,," + self._bare.encode()

    def final(self, challenge: bytes) -> bytes:
        parts = dict(item.split("=", 1) for item in challenge.decode().split(","))
        salted = hashlib.pbkdf2_hmac("sha256", self._password.encode(), base64.b64decode(parts["s"]), int(parts["i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        without_proof = f"c=biws,r={parts['r']}"
        signed = f"{self._bare},{challenge.decode()},{without_proof}".encode()
        signature = hmac.digest(hashlib.sha256(key).digest(), signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(key, signature, strict=True))
        return f"{without_proof},p={base64.b64encode(proof).decode()}".encode()


OPENED: list[Wire] = []
"""Every connection that was made here; a fixture closes those that a failing test left open."""


def close_all() -> None:
    while OPENED:
        OPENED.pop().close()
