"""An agent that sends packets of its own over SSH: asyncssh logs in, and what comes after is made by hand."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest import mock

import asyncssh
from asyncssh import connection
from asyncssh.packet import SSHPacket

WINDOW = 2**21
PACKET = 32768

GLOBAL, SUCCESS, FAILURE = 80, 81, 82
OPEN, OPENED, REFUSED, ADJUST, DATA, EXTENDED, EOF, CLOSE, REQUEST, DONE, FAILED = range(90, 101)
NAMES = {
    GLOBAL: "global", SUCCESS: "ok", FAILURE: "no", OPEN: "open", OPENED: "opened", REFUSED: "refused",
    ADJUST: "adjust", DATA: "data", EXTENDED: "err", EOF: "eof", CLOSE: "close", REQUEST: "request", DONE: "done",
    FAILED: "failed",
}  # fmt: skip


def text(value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack(">I", len(data)) + data


def number(value: int) -> bytes:
    return struct.pack(">I", value & 0xFFFFFFFF)


def flag(value: bool) -> bytes:
    return b"\1" if value else b"\0"


class _Any(dict[int, Any]):
    """Every channel that a message may be about."""

    def __init__(self, owner: _Raw) -> None:
        self.owner = owner

    def __missing__(self, number: int) -> _Raw:
        return self.owner

    def __contains__(self, number: object) -> bool:
        return True


class _Raw(connection.SSHClientConnection):
    """Everything that belongs to RFC 4254 is left to the test."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.inbox: asyncio.Queue[bytes] = asyncio.Queue()
        self._channels: Any = _Any(self)

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> Any:
        if pkttype >= GLOBAL:
            self.inbox.put_nowait(packet.get_full_payload())
            packet.get_remaining_payload()
            return True
        return super().process_packet(pkttype, pktid, packet)

    def _cleanup(self, exc: Exception | None) -> None:
        self.inbox.put_nowait(b"")
        super()._cleanup(exc)


class RawAgent:
    """One connection. `heard`: what has come, as `name channel rest`, in the order in which it came."""

    def __init__(self, transport: _Raw) -> None:
        self.transport = transport
        self.heard: list[tuple[str, int, bytes]] = []
        self.gone = False
        self._next = 0

    def send(self, kind: int, *parts: bytes) -> None:
        self.transport.send_packet(kind, b"".join(parts))

    def global_request(self, name: str, *parts: bytes, reply: bool = True) -> None:
        self.send(GLOBAL, text(name), flag(reply), *parts)

    def request(self, channel: int, name: str, *parts: bytes, reply: bool = True) -> None:
        self.send(REQUEST, number(channel), text(name), flag(reply), *parts)

    def exec(self, channel: int, command: str | bytes) -> None:
        self.request(channel, "exec", text(command))

    def data(self, channel: int, data: bytes) -> None:
        self.send(DATA, number(channel), text(data))

    def begin(self, kind: str = "session", *parts: bytes, window: int = WINDOW, packet: int = PACKET) -> int:
        """Asks for a channel, and waits for nothing. The agent's own number of it."""
        mine, self._next = self._next, self._next + 1
        self.send(OPEN, text(kind), number(mine), number(window), number(packet), *parts)
        return mine

    async def open(self, kind: str = "session", *parts: bytes, window: int = WINDOW) -> int:
        """A channel. The peer's number of it."""
        mine = self.begin(kind, *parts, window=window)
        name, channel, rest = await self.until("opened", "refused")
        assert name == "opened", rest
        assert channel == mine
        return int(struct.unpack_from(">I", rest)[0])

    async def hear(self, patience: float = 10.0) -> tuple[str, int, bytes]:
        """The next message. Its channel is the agent's own number; -1 if it is about none."""
        payload = await asyncio.wait_for(self.transport.inbox.get(), patience)
        if not payload:
            self.gone = True
            raise ConnectionResetError("the peer is gone")
        name = NAMES.get(payload[0], str(payload[0]))
        channel = struct.unpack_from(">I", payload, 1)[0] if payload[0] > OPEN else -1
        heard = (name, channel, payload[5 if payload[0] > OPEN else 1 :])
        self.heard.append(heard)
        return heard

    async def until(self, *names: str, patience: float = 10.0) -> tuple[str, int, bytes]:
        """The next message of one of these names; what comes before it is kept in `heard`."""
        while True:
            heard = await self.hear(patience)
            if heard[0] in names:
                return heard

    async def silence(self, seconds: float = 0.3) -> list[tuple[str, int, bytes]]:
        """What comes in this time."""
        found: list[tuple[str, int, bytes]] = []
        try:
            async with asyncio.timeout(seconds):
                while True:
                    found.append(await self.hear(seconds + 1))
        except (TimeoutError, ConnectionResetError):
            return found

    async def closed(self, patience: float = 10.0) -> bool:
        """Whether the peer ends the connection within this time."""
        try:
            async with asyncio.timeout(patience):
                while True:
                    await self.hear(patience + 1)
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    def output(self, kind: str = "data") -> bytes:
        """All that was heard on stdout (`data`) or stderr (`err`)."""
        skip = 4 if kind == "data" else 8
        return b"".join(rest[skip:] for name, _, rest in self.heard if name == kind)

    def status(self) -> int | None:
        """The exit status, if there was one."""
        for name, _, rest in self.heard:
            if name == "request" and rest[4:].startswith(b"exit-status"):
                return int(struct.unpack(">I", rest[-4:])[0])
        return None


@asynccontextmanager
async def raw_agent(host: str, port: int, user: str, **login: Any) -> AsyncIterator[RawAgent]:
    """A connection that is logged in (`password=…` or `client_keys=…`)."""
    options: dict[str, Any] = {
        "known_hosts": None, "config": None, "agent_path": None, "username": user, "client_keys": None, **login,
    }  # fmt: skip
    with mock.patch.object(connection, "SSHClientConnection", _Raw):
        made: Any = await asyncssh.connect(host, port, **options)
    try:
        yield RawAgent(made)
    finally:
        made.abort()
        await made.wait_closed()
