"""Streams of the Kubernetes API in tests: conversations that kubectl really had, and both ends of new ones."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ostiary_gateway.protocols.kubernetes import spdy
from ostiary_gateway.protocols.kubernetes.questions import Ask
from ostiary_gateway.protocols.kubernetes.request_info import request_info
from ostiary_gateway.protocols.kubernetes.streams import Tunnel, open_tunnel
from ostiary_gateway.protocols.kubernetes.wire import RequestHead, RequestReader, ResponseHead, ResponseReader
from ostiary_policy.masking import MaskPlan

CAPTURED = Path(__file__).parents[1] / "unit/ostiary_gateway/protocols/kubernetes/captured"
"""Taken between kubectl 1.36 and an API server, `>` what kubectl sent, `<` what came."""

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

Step = tuple[str, bytes]


class Clock:
    """Time as the test says."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


@dataclass
class Conversation:
    """A captured one: the request, the 101, and what was said then."""

    ask: Ask
    answer: ResponseHead
    steps: list[Step]


def captured(name: str) -> Conversation:
    steps = []
    for line in (CAPTURED / f"{name}.txt").read_text().splitlines():
        side, _, data = line.partition(" ")
        steps.append((side, bytes.fromhex(data)))
    (_, request), (_, answer), *rest = steps
    [asked] = RequestReader(max_body=1024).feed(request)
    reader = ResponseReader(asked.head.method, upgrade=True)
    head = next(event for event in reader.feed(answer) if isinstance(event, ResponseHead))
    return Conversation(ask_for(asked.head), head, [step for step in rest if step[1]])


def ask_for(head: RequestHead) -> Ask:
    from ostiary_gateway.protocols.kubernetes.wire import Request

    info = request_info(head.method, head.target)
    return Ask(Request(head), info, "connect", f"{head.method} {head.target.decode()}", {})


def upgrade(target: str, *, websocket: tuple[str, ...] = (), spdy: tuple[str, ...] = ()) -> Ask:
    """A request for a stream, by the one or the other way."""
    head: list[tuple[bytes, bytes]] = [(b"host", b"gateway.example"), (b"connection", b"Upgrade")]
    if spdy:
        head += [(b"upgrade", b"SPDY/3.1"), *((b"x-stream-protocol-version", each.encode()) for each in spdy)]
        return ask_for(RequestHead("POST", target.encode(), head, True, b"spdy/3.1"))
    head += [(b"upgrade", b"websocket"), (b"sec-websocket-version", b"13"), (b"sec-websocket-key", KEY)]
    head += [(b"sec-websocket-protocol", each.encode()) for each in websocket]
    return ask_for(RequestHead("GET", target.encode(), head, True, b"websocket"))


def switched(protocol: str, *, spdy: bool = False) -> ResponseHead:
    """The API server's 101."""
    headers = [(b"connection", b"Upgrade"), (b"upgrade", b"SPDY/3.1" if spdy else b"websocket")]
    if not spdy:
        headers.append((b"sec-websocket-accept", ACCEPT))
    if protocol:
        name = b"x-stream-protocol-version" if spdy else b"sec-websocket-protocol"
        headers.append((name, protocol.encode()))
    return ResponseHead(101, b"Switching Protocols", headers, 0)


@dataclass
class Opened:
    """A tunnel with both its ends in hand."""

    tunnel: Tunnel
    clock: Clock = field(default_factory=Clock)
    recorded: bytearray = field(default_factory=bytearray)

    def client(self, data: bytes) -> bytes:
        """What the server gets of it."""
        self.tunnel.from_client(data)
        return taken(self.tunnel.to_server)

    def server(self, data: bytes) -> bytes:
        """What the client gets of it."""
        self.tunnel.from_server(data)
        return taken(self.tunnel.to_client)

    def shown(self) -> bytes:
        return taken(self.tunnel.to_client)


def opened(ask: Ask, answer: ResponseHead, plan: MaskPlan | None = None) -> Opened:
    clock, recorded = Clock(), bytearray()
    tunnel = open_tunnel(ask, plan or MaskPlan(), recorded.extend, now=clock)
    tunnel.accepted(answer)
    return Opened(tunnel, clock, recorded)


def taken(parts: list[bytes]) -> bytes:
    data = b"".join(parts)
    parts.clear()
    return data


def cut(steps: list[Step], size: int) -> Iterator[Step]:
    """The same, in pieces of this many bytes."""
    for side, data in steps:
        for at in range(0, len(data), size):
            yield side, data[at : at + size]


def replayed(found: Opened, steps: Iterator[Step] | list[Step], each: Callable[[], None] = lambda: None) -> list[Step]:
    """What each side got."""
    got = []
    for side, data in steps:
        got.append((side, found.client(data) if side == ">" else found.server(data)))
        each()
    return got


class SpdySender:
    """One end that speaks SPDY, with its own compression."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(zdict=spdy.DICTIONARY)

    def block(self, headers: dict[str, str] | list[tuple[str, str]]) -> bytes:
        pairs = list(headers.items()) if isinstance(headers, dict) else headers
        plain = len(pairs).to_bytes(4, "big")
        for pair in pairs:
            for text in pair:
                plain += len(text.encode()).to_bytes(4, "big") + text.encode()
        return self.compressed(plain)

    def compressed(self, plain: bytes) -> bytes:
        return self._deflate.compress(plain) + self._deflate.flush(zlib.Z_SYNC_FLUSH)

    def open(self, stream: int, headers: dict[str, str], *, flags: int = 0) -> bytes:
        return control(spdy.SYN_STREAM, stream.to_bytes(4, "big") + bytes(6) + self.block(headers), flags)

    def reply(self, stream: int, headers: dict[str, str] | None = None) -> bytes:
        return control(spdy.SYN_REPLY, stream.to_bytes(4, "big") + self.block(headers or {}))


def control(kind: int, body: bytes, flags: int = 0, version: int = 3) -> bytes:
    """A control frame."""
    head = (0x8000 | version).to_bytes(2, "big") + kind.to_bytes(2, "big") + bytes((flags,))
    return head + len(body).to_bytes(3, "big") + body
