"""A port-forward on its way: relayed as it came, counted by connection, with a digest of each direction. Pure.

Sources: Kubernetes, k8s.io/apimachinery/pkg/util/portforward and k8s.io/client-go/tools/portforward: SPDY with two
streams a connection (`streamtype` data and error, `port`, `requestid`), by itself or inside WebSocket messages; the
kubelet's older WebSocket protocol, with two channels a port.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from . import spdy, websocket
from .carriers import Broken

MAX_LISTED: Final = 100
"""Connections that the record names one by one; of more it has the sums."""
MAX_OPEN: Final = 4096
"""Streams of one port-forward that may be open at the same time."""

_CLIENT, _SERVER = 0, 1


@dataclass(slots=True)
class _Connection:
    """One connection to a port. By direction: client's, server's."""

    port: str
    counts: list[int] = field(default_factory=lambda: [0, 0])
    digests: list[hashlib._Hash] = field(default_factory=lambda: [hashlib.sha256(), hashlib.sha256()])

    def passed(self, side: int, data: bytes) -> None:
        self.counts[side] += len(data)
        self.digests[side].update(data)

    def told(self) -> dict[str, object]:
        return {
            "port": self.port,
            "toUpstream": self.counts[_CLIENT], "toClient": self.counts[_SERVER],
            "sha256": {"toUpstream": self.digests[_CLIENT].hexdigest(), "toClient": self.digests[_SERVER].hexdigest()},
        }  # fmt: skip


class _Ledger:
    """What was forwarded."""

    def __init__(self) -> None:
        self.listed: list[_Connection] = []
        self.count = 0
        self.bytes = [0, 0]
        self.errors: list[str] = []

    def opened(self, port: str) -> _Connection:
        connection = _Connection(port)
        self.count += 1
        if len(self.listed) < MAX_LISTED:
            self.listed.append(connection)
        return connection

    def failed(self, data: bytes) -> None:
        if data and len(self.errors) < MAX_LISTED:
            self.errors.append(data[:1000].decode(errors="replace"))

    def told(self) -> dict[str, object]:
        detail: dict[str, object] = {
            "connections": self.count, "toUpstreamBytes": self.bytes[_CLIENT], "toClientBytes": self.bytes[_SERVER],
            "forwarded": [connection.told() for connection in self.listed],
        }  # fmt: skip
        if self.errors:
            detail["errors"] = self.errors
        return detail


class _SpdyForward:
    """The streams of a port-forward over SPDY."""

    def __init__(self, ledger: _Ledger) -> None:
        self._ledger = ledger
        self._readers = spdy.FrameReader(), spdy.FrameReader()
        self._open: dict[int, _Connection | None] = {}
        """None for error streams."""
        self._half: dict[int, int] = {}
        """Streams that ended in one direction, and in which."""
        self._last = 0
        self._errors: set[int] = set()
        """Error streams on which the server may still say something."""

    def feed(self, side: int, data: bytes, out: list[bytes] | None = None) -> None:
        """`out` gets the frames that are good, as they came."""
        for frame in self._readers[side].feed(data):
            if frame.kind == spdy.SYN_STREAM:
                self._opened(side, frame)
            elif frame.kind == spdy.DATA:
                self._data(side, frame)
            elif frame.kind == spdy.RST_STREAM:
                self._gone(frame.stream)
            if frame.fin and frame.kind != spdy.SYN_STREAM:
                self._ended(side, frame.stream)
            if out is not None:
                out.append(frame.raw)

    def _opened(self, side: int, frame: spdy.Frame) -> None:
        headers = frame.headers or {}
        if side == _SERVER or not frame.stream % 2 or frame.stream <= self._last:
            raise spdy.SpdyError(f"stream {frame.stream} is not a new one of a client")
        if len(self._open) >= MAX_OPEN:
            raise spdy.SpdyError(f"more than {MAX_OPEN} streams at the same time")
        kind, port = headers.get(b"streamtype"), headers.get(b"port", b"")
        if kind not in (b"data", b"error") or not port.isdigit() or len(port) > 5:
            raise spdy.SpdyError("a stream that is neither data nor error of a port")
        self._last = frame.stream
        if kind == b"data":
            self._open[frame.stream] = self._ledger.opened(port.decode())
        else:
            self._open[frame.stream] = None
            self._errors.add(frame.stream)
        if frame.fin:
            self._half[frame.stream] = side

    def _data(self, side: int, frame: spdy.Frame) -> None:
        if frame.stream not in self._open:
            if frame.stream > self._last:
                raise spdy.SpdyError(f"data on stream {frame.stream}, which nobody opened")
            return  # it was on its way when the stream was reset
        connection = self._open[frame.stream]
        if connection is not None:
            connection.passed(side, frame.payload)
            self._ledger.bytes[side] += len(frame.payload)
        elif side == _SERVER:
            self._ledger.failed(frame.payload)

    def _ended(self, side: int, stream: int) -> None:
        if side == _SERVER:
            self._errors.discard(stream)
        if self._half.setdefault(stream, side) != side:
            self._gone(stream)

    def _gone(self, stream: int) -> None:
        self._open.pop(stream, None)
        self._half.pop(stream, None)
        self._errors.discard(stream)

    def last_words(self, message: str) -> bytes:
        """The reason on every connection that is open, and the end of all; nothing in the middle of a frame."""
        if not self._readers[_SERVER].between_frames:
            return b""
        text = message.encode()
        said = [frame for stream in sorted(self._errors) for frame in spdy.data_frames(stream, text, fin=True)]
        return b"".join([*said, spdy.goaway(self._last)])


class _Forward(ABC):
    """What every port-forward's tunnel has."""

    due: float | None = None
    """Nothing is held back."""

    def __init__(self) -> None:
        self.to_client: list[bytes] = []
        self.to_server: list[bytes] = []
        self.over = ""
        self._ledger = _Ledger()
        self._ended_by = ""

    def tick(self) -> None:
        """Nothing is held back, so there is nothing to do."""
        assert self.due is None

    def from_client(self, data: bytes) -> None:
        self._feed(_CLIENT, data, self.to_server)

    def from_server(self, data: bytes) -> None:
        self._feed(_SERVER, data, self.to_client)

    def _feed(self, side: int, data: bytes, out: list[bytes]) -> None:
        if self.over:
            return
        try:
            self._passed(side, data, out)
        except Broken as problem:
            who = ("client", "server")[side]
            self.over = f"The {who} broke the protocol of the port-forward: {problem}."

    @abstractmethod
    def _passed(self, side: int, data: bytes, out: list[bytes]) -> None:
        """Bytes of one side, put into `out` for the other. Raises Broken."""

    @abstractmethod
    def _parting(self, message: str) -> bytes:
        """How the client is told that the gateway ends it; empty where the protocol has no words just now."""

    def ended(self, by: Literal["client", "server", "gateway"], message: str = "") -> None:
        """It is over. `message`: what the client is told, if the gateway ends it."""
        if self._ended_by:
            return
        self._ended_by = by
        if by == "gateway" and (parting := self._parting(message)):
            self.to_client.append(parting)

    def end_detail(self) -> dict[str, object]:
        """For the record: connections with their bytes and digests, and `outcome`."""
        return {**self._ledger.told(), "outcome": "lost" if self._ended_by == "gateway" else "ok"}

    @property
    def size(self) -> int:
        """Bytes that went to the client."""
        return self._ledger.bytes[_SERVER]


class SpdyPortForward(_Forward):
    """Over SPDY/3.1, as kubectl up to 1.30 does."""

    def __init__(self) -> None:
        super().__init__()
        self._streams = _SpdyForward(self._ledger)

    def _passed(self, side: int, data: bytes, out: list[bytes]) -> None:
        self._streams.feed(side, data, out)

    def _parting(self, message: str) -> bytes:
        return self._streams.last_words(message)


class TunnelledPortForward(_Forward):
    """SPDY/3.1 inside WebSocket messages, as kubectl from 1.31 on does: `SPDY/3.1+portforward.k8s.io`."""

    def __init__(self) -> None:
        super().__init__()
        self._streams = _SpdyForward(self._ledger)
        self._readers = websocket.FrameReader(masked=True), websocket.FrameReader(masked=False)

    def _passed(self, side: int, data: bytes, out: list[bytes]) -> None:
        for frame in self._readers[side].feed(data):
            if frame.opcode == websocket.BINARY:
                self._streams.feed(side, frame.payload)
            elif frame.opcode == websocket.TEXT:
                raise websocket.WebSocketError("a text message in a tunnel of bytes")
            out.append(frame.raw)

    def _parting(self, message: str) -> bytes:
        reader = self._readers[_SERVER]
        if reader.closed or not reader.between_messages:
            return b""
        said = self._streams.last_words(message)
        framed = websocket.encode(websocket.BINARY, said) if said else b""
        return framed + websocket.close_frame(websocket.POLICY, message)


class ChannelPortForward(_Forward):
    """The kubelet's WebSocket protocol: channel 2n carries the data of the nth port, channel 2n + 1 its errors. Each
    begins with the port, two bytes, from the server."""

    def __init__(self, ports: Sequence[str], *, encoded: bool) -> None:
        super().__init__()
        self._readers = websocket.FrameReader(masked=True, fragments=False), websocket.FrameReader(masked=False)
        self._ports = [self._ledger.opened(port) for port in ports]
        self._encoded = encoded
        self._channels = [0, 0]

    def _passed(self, side: int, data: bytes, out: list[bytes]) -> None:
        for frame in self._readers[side].feed(data):
            payload = frame.payload
            if frame.opcode <= websocket.BINARY and (payload or not frame.first):
                if frame.first:
                    self._channels[side] = payload[0] - 48 if self._encoded else payload[0]
                    payload = payload[1:]
                self._channel(side, payload)
            out.append(frame.raw)

    def _channel(self, side: int, data: bytes) -> None:
        port, error = divmod(self._channels[side], 2)
        if not 0 <= port < len(self._ports):
            raise websocket.WebSocketError(f"channel {self._channels[side]} is not defined")
        if not error:
            self._ports[port].passed(side, data)
            self._ledger.bytes[side] += len(data)

    def _parting(self, message: str) -> bytes:
        reader = self._readers[_SERVER]
        if reader.closed or not reader.between_messages:
            return b""
        return websocket.close_frame(websocket.POLICY, message)
