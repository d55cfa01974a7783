"""What carries the streams of exec and attach: channels of WebSocket messages, or streams of SPDY. Pure.

Sources: Kubernetes, k8s.io/streaming/pkg/httpstream/wsstream (channels, base64, the close signal of v5) and
k8s.io/apimachinery/pkg/util/remotecommand (the five subprotocols).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from . import spdy, websocket

STDIN: Final = 0
STDOUT: Final = 1
STDERR: Final = 2
ERROR: Final = 3
"""The server says here how it ended: a v1.Status from v4 on, else text."""
RESIZE: Final = 4
OTHER: Final = -1
"""What belongs to no channel: pings, settings, the opening of streams."""

_CLOSE_SIGNAL: Final = 255
_BY_TYPE: Final = {b"stdin": STDIN, b"stdout": STDOUT, b"stderr": STDERR, b"error": ERROR, b"resize": RESIZE}
_STATUS: Final = frozenset((b"v4.channel.k8s.io", b"v5.channel.k8s.io", b"v4.base64.channel.k8s.io"))

Broken = (websocket.WebSocketError, spdy.SpdyError)
"""What `client` and `server` of a Carrier raise when a peer breaks its protocol, behind what was good before it."""


@dataclass(slots=True)
class Piece:
    """Something of one channel, or a part of it."""

    channel: int
    data: bytes
    raw: bytes
    """As it came. It goes on exactly so unless `data` is to be another."""
    fin: bool = False
    """True if its sender ends the channel with it."""


class Carrier(Protocol):
    """Both directions of one connection after its upgrade."""

    has_status: bool
    """True if the last word on ERROR is a v1.Status."""

    def client(self, data: bytes) -> Iterator[Piece]: ...

    def server(self, data: bytes) -> Iterator[Piece]: ...

    def encode(self, channel: int, data: bytes, *, fin: bool) -> list[bytes]:
        """Data for the client on a channel of which something came already."""

    def last_words(self, status: bytes, message: str) -> list[bytes]:
        """Ends it for the client: `status` on ERROR unless it is empty, then the end of all. Nothing at all while a
        part of something else is on its way."""


class WebSocketChannels:
    """A message's first byte is its channel. In the base64 protocols that is a digit, and text follows."""

    def __init__(self, protocol: bytes) -> None:
        self.has_status = protocol in _STATUS
        self._base64 = b"base64." in protocol
        self._close_signal = protocol.startswith(b"v5.")
        # The API server's reader takes each frame for a message; a second reading of fragments must not be possible.
        self._readers = websocket.FrameReader(masked=True, fragments=False), websocket.FrameReader(masked=False)
        self._channels = [OTHER, OTHER]
        """Of the message that is under way, by direction."""
        self._odd = [b"", b""]
        """Base64 text that is no whole group of four yet."""

    def client(self, data: bytes) -> Iterator[Piece]:
        return (self._piece(0, frame) for frame in self._readers[0].feed(data))

    def server(self, data: bytes) -> Iterator[Piece]:
        return (self._piece(1, frame) for frame in self._readers[1].feed(data))

    def _piece(self, side: int, frame: websocket.Frame) -> Piece:
        if frame.opcode > websocket.BINARY:
            return Piece(OTHER, b"", frame.raw)
        payload = frame.payload
        if frame.first:
            self._odd[side] = b""
            if not payload:
                self._channels[side] = OTHER
                if not frame.last:
                    raise websocket.WebSocketError("a message whose first frame names no channel")
                return Piece(OTHER, b"", frame.raw)
            if self._close_signal and payload[0] == _CLOSE_SIGNAL:
                return self._closing(side, frame)
            channel = payload[0] - 48 if self._base64 else payload[0]
            if not STDIN <= channel <= RESIZE:
                raise websocket.WebSocketError(f"channel {payload[0]} is not defined")
            self._channels[side], payload = channel, payload[1:]
        if self._base64:
            payload = self._decoded(side, payload, frame.last)
        return Piece(self._channels[side], payload, frame.raw)

    def _closing(self, side: int, frame: websocket.Frame) -> Piece:
        if len(frame.payload) != 2 or not frame.last or frame.payload[1] > RESIZE:
            raise websocket.WebSocketError("a close signal that names no channel")
        return Piece(frame.payload[1], b"", frame.raw, True)

    def _decoded(self, side: int, text: bytes, last: bool) -> bytes:
        text = self._odd[side] + text
        whole = len(text) if last else len(text) // 4 * 4
        self._odd[side] = text[whole:]
        try:
            return base64.b64decode(text[:whole], validate=True)
        except binascii.Error as problem:
            raise websocket.WebSocketError(f"not base64: {problem}", websocket.BAD_DATA) from None

    def encode(self, channel: int, data: bytes, *, fin: bool) -> list[bytes]:
        out = []
        if data and self._base64:
            out.append(websocket.encode(websocket.TEXT, bytes((48 + channel,)) + base64.b64encode(data)))
        elif data:
            out.append(websocket.encode(websocket.BINARY, bytes((channel,)) + data))
        if fin and self._close_signal:
            out.append(websocket.encode(websocket.BINARY, bytes((_CLOSE_SIGNAL, channel))))
        return out

    def last_words(self, status: bytes, message: str) -> list[bytes]:
        if self._readers[1].closed or not self._readers[1].between_messages:
            return []
        # With another code than this one client-go would not read what stands on ERROR.
        close = websocket.close_frame(websocket.NORMAL, message)
        return [*self.encode(ERROR, status, fin=False), close]


class SpdyStreams:
    """The client opens a stream for each channel and names it with the header `streamtype`."""

    def __init__(self, protocol: bytes) -> None:
        self.has_status = protocol in _STATUS
        self._readers = spdy.FrameReader(), spdy.FrameReader()
        self._channels: dict[int, int] = {}
        self._ids: dict[int, int] = {}
        self._ended: set[int] = set()
        """Streams on which the server has said everything."""
        self._going = False

    def client(self, data: bytes) -> Iterator[Piece]:
        return (self._from_client(frame) for frame in self._readers[0].feed(data))

    def _from_client(self, frame: spdy.Frame) -> Piece:
        if frame.kind == spdy.SYN_STREAM:
            kind = (frame.headers or {}).get(b"streamtype", b"")
            channel = _BY_TYPE.get(kind)
            if channel is None or channel in self._ids:
                raise spdy.SpdyError(f"a stream of type {kind.decode(errors='replace')[:40]!r}, unknown or there twice")
            if not frame.stream % 2 or frame.stream <= max(self._channels, default=0):
                raise spdy.SpdyError(f"stream {frame.stream} is not a new one of a client")
            self._channels[frame.stream], self._ids[channel] = channel, frame.stream
            return Piece(OTHER, b"", frame.raw)
        if frame.kind == spdy.DATA:
            return Piece(self._channel(frame), frame.payload, frame.raw, frame.fin)
        return Piece(OTHER, b"", frame.raw)

    def server(self, data: bytes) -> Iterator[Piece]:
        return (self._from_server(frame) for frame in self._readers[1].feed(data))

    def _from_server(self, frame: spdy.Frame) -> Piece:
        if frame.kind == spdy.SYN_STREAM:
            raise spdy.SpdyError("a stream that the server opens")
        if frame.kind == spdy.GOAWAY:
            self._going = True
        if frame.kind != spdy.DATA:
            if frame.fin or frame.kind == spdy.RST_STREAM:
                self._ended.add(frame.stream)
            return Piece(OTHER, b"", frame.raw)
        channel = self._channel(frame)
        if frame.fin:
            self._ended.add(frame.stream)
        return Piece(channel, frame.payload, frame.raw, frame.fin)

    def _channel(self, frame: spdy.Frame) -> int:
        try:
            return self._channels[frame.stream]
        except KeyError:
            raise spdy.SpdyError(f"data on stream {frame.stream}, which nobody opened") from None

    def encode(self, channel: int, data: bytes, *, fin: bool) -> list[bytes]:
        return spdy.data_frames(self._ids[channel], data, fin=fin)

    def last_words(self, status: bytes, message: str) -> list[bytes]:
        if self._going or not self._readers[1].between_frames:
            return []
        out: list[bytes] = []
        for channel, stream in self._ids.items():
            if channel in (STDOUT, STDERR, ERROR) and stream not in self._ended:
                out += spdy.data_frames(stream, status if channel == ERROR else b"", fin=True)
        return [*out, spdy.goaway(max(self._channels, default=0))]
