"""WebSocket frames as they pass: parsed, checked, and kept as they came. Pure.

Source: RFC 6455, sections 1.3 and 5. A gateway is neither end: it must know what each frame says and send on exactly
that frame, so frames come out both as their payload and as the bytes that they were. No extension is ever in force.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

CONTINUATION: Final = 0x0
TEXT: Final = 0x1
BINARY: Final = 0x2
CLOSE: Final = 0x8
PING: Final = 0x9
PONG: Final = 0xA

NORMAL: Final = 1000
PROTOCOL_ERROR: Final = 1002
BAD_DATA: Final = 1007
POLICY: Final = 1008
TOO_BIG: Final = 1009
"""Close codes, RFC 6455, section 7.4.1."""

MAX_FRAME: Final = 32 * 1024 * 1024
"""Bytes of one frame's payload: what the API server's own reader takes."""

HOLD: Final = 128 * 1024
"""Bytes of payload up to which a frame is passed on only once it is whole. A longer one goes on in pieces."""

MAX_REASON: Final = 123
"""Bytes of a close frame's reason."""

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_CONTROL: Final = 0x8
_OPCODES: Final = frozenset((CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))


class WebSocketError(Exception):
    """The peer broke the protocol. `code` is the close code that says how."""

    def __init__(self, message: str, code: int = PROTOCOL_ERROR) -> None:
        super().__init__(message)
        self.code = code


@dataclass(slots=True)
class Frame:
    """A frame, or a piece of a long one."""

    opcode: int
    """Of the message that it belongs to: never CONTINUATION."""
    payload: bytes
    """Without the mask."""
    raw: bytes
    """As it came, header and mask included."""
    first: bool
    """True if a message begins here."""
    last: bool
    """True if the message ends here."""


class FrameReader:
    """One direction of a connection, from the first byte after the handshake.

    masked: True for what a client sends, which must be masked; False for a server, whose frames must not be.
    fragments: False refuses messages of several frames.
    """

    def __init__(self, *, masked: bool, fragments: bool = True) -> None:
        self._masked = masked
        self._fragments = fragments
        self._buffer = bytearray()
        self._message = 0
        """Opcode of the message that is not complete; 0: none is under way."""
        self._left = 0
        """Bytes of a long frame's payload that are still to come."""
        self._fin = False
        self._first = False
        self._mask = b""
        self._at = 0
        """Position in the payload of the long frame, for the mask."""
        self.closed = False
        """True once a close frame has passed: nothing may follow."""

    @property
    def between_messages(self) -> bool:
        """True if all that was passed on were whole messages, so that one of the gateway's own may follow."""
        return not (self._left or self._message)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete, and pieces of long ones. Raises WebSocketError behind the good ones."""
        buffer = self._buffer
        buffer += data
        position = 0
        try:
            while True:
                if self._left:
                    size = min(self._left, len(buffer) - position)
                    if not size:
                        break
                    position += size
                    yield self._piece(bytes(buffer[position - size : position]), b"")
                    continue
                found = self._frame(buffer, position)
                if found is None:
                    break
                position += len(found.raw)
                yield found
        finally:
            del buffer[:position]

    def _frame(self, buffer: bytearray, start: int) -> Frame | None:
        """One frame, or the beginning of a long one; None if more must come."""
        have = len(buffer) - start
        if have < 2:
            return None
        if self.closed:
            raise WebSocketError("a frame after the close frame")
        first, second = buffer[start], buffer[start + 1]
        opcode, fin, length = first & 0x0F, bool(first & 0x80), second & 0x7F
        self._check(opcode, fin, first, second)
        header = 2
        if length == 126:
            header = 4
            if have < header:
                return None
            length = int.from_bytes(buffer[start + 2 : start + 4], "big")
            if length < 126:
                raise WebSocketError("a length that is not encoded in its shortest form")
        elif length == 127:
            header = 10
            if have < header:
                return None
            length = int.from_bytes(buffer[start + 2 : start + 10], "big")
            if length < 65536:
                raise WebSocketError("a length that is not encoded in its shortest form")
            if length > MAX_FRAME:
                raise WebSocketError(f"a frame of {length} bytes; the most are {MAX_FRAME}", TOO_BIG)
        if self._masked:
            if have < header + 4:
                return None
            self._mask = bytes(buffer[start + header : start + header + 4])
            header += 4
        if have < header + (length if length <= HOLD else 1):
            return None
        if not opcode & _CONTROL:
            self._first = opcode != CONTINUATION
            if self._first:
                self._message = opcode
            self._fin = fin
            size = min(length, have - header)
            self._left, self._at = length, 0
            raw = bytes(buffer[start : start + header + size])
            return self._piece(raw[header:], raw[:header])
        raw = bytes(buffer[start : start + header + length])
        payload = unmasked(raw[header:], self._mask) if self._masked else raw[header:]
        if opcode == CLOSE:
            if length == 1:
                raise WebSocketError("a close frame with half a code")
            self.closed = True
        return Frame(opcode, payload, raw, True, True)

    def _check(self, opcode: int, fin: bool, first: int, second: int) -> None:
        if first & 0x70:
            raise WebSocketError("a reserved bit is set, and no extension was agreed on")
        if opcode not in _OPCODES:
            raise WebSocketError(f"opcode {opcode} is not defined")
        if bool(second & 0x80) is not self._masked:
            raise WebSocketError("a client's frame without a mask" if self._masked else "a server's frame with a mask")
        if opcode & _CONTROL:
            if not fin or second & 0x7F > 125:
                raise WebSocketError("a control frame that is fragmented, or longer than 125 bytes")
        elif opcode == CONTINUATION:
            if not self._message:
                raise WebSocketError("a continuation of nothing")
        elif self._message:
            raise WebSocketError("a message inside another message")
        if not self._fragments and not opcode & _CONTROL and not fin:
            raise WebSocketError("a message of several frames; send each message as one frame")

    def _piece(self, payload: bytes, header: bytes) -> Frame:
        raw = header + payload if header else payload
        plain = unmasked(payload, self._mask, self._at) if self._masked else payload
        self._left -= len(payload)
        self._at += len(payload)
        last = self._fin and not self._left
        frame = Frame(self._message, plain, raw, self._first, last)
        self._first = False
        if last:
            self._message = 0
        return frame


def unmasked(data: bytes, mask: bytes, offset: int = 0) -> bytes:
    """Payload with the mask taken off, or put on. `offset`: of the data in its frame's payload."""
    size = len(data)
    turned = mask[offset % 4 :] + mask[: offset % 4]
    key = int.from_bytes((turned * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(data, "little") ^ key).to_bytes(size, "little")


def encode(opcode: int, payload: bytes, *, mask: bytes = b"") -> bytes:
    """One whole message as one frame. `mask`: four bytes where a client sends it."""
    size = len(payload)
    marked = 0x80 if mask else 0
    if size < 126:
        header = bytes((0x80 | opcode, marked | size))
    elif size < 65536:
        header = bytes((0x80 | opcode, marked | 126)) + size.to_bytes(2, "big")
    else:
        header = bytes((0x80 | opcode, marked | 127)) + size.to_bytes(8, "big")
    return header + mask + (unmasked(payload, mask) if mask else payload)


def close_frame(code: int, reason: str) -> bytes:
    """A server's close frame. A long reason is cut."""
    text = reason.encode()[:MAX_REASON].decode(errors="ignore").encode()
    return encode(CLOSE, code.to_bytes(2, "big") + text)


def accept_value(key: bytes) -> bytes:
    """What Sec-WebSocket-Accept must say to a Sec-WebSocket-Key, RFC 6455, section 4.2.2."""
    return base64.b64encode(hashlib.sha1(key.strip() + _GUID, usedforsecurity=False).digest())
