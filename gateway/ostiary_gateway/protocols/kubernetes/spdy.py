"""SPDY/3.1 frames as they pass: parsed, checked, and kept as they came. Pure.

Source: SPDY Protocol Draft 3.1, sections 2.2 and 2.6; what Kubernetes' servers take of it. They neither keep nor honour
flow control windows, so WINDOW_UPDATE frames pass and nothing waits for them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

SYN_STREAM: Final = 1
SYN_REPLY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PING: Final = 6
GOAWAY: Final = 7
HEADERS: Final = 8
WINDOW_UPDATE: Final = 9
DATA: Final = 0
"""The type of data frames, which have none of their own on the wire."""

FIN: Final = 0x01

HOLD: Final = 128 * 1024
"""Bytes of data up to which a frame is passed on only once it is whole. A longer one goes on in pieces, as it comes."""

MAX_CONTROL: Final = 32 * 1024
"""Bytes of a control frame's body."""
MAX_HEADERS: Final = 64 * 1024
"""Bytes of a header block, decompressed."""
MAX_PIECE: Final = 32 * 1024
"""Bytes in one data frame of the gateway's own."""

_VERSION: Final = 3
_SIZES: Final = {RST_STREAM: 8, PING: 4, GOAWAY: 8, WINDOW_UPDATE: 8}
_BLOCKS: Final = {SYN_STREAM: 10, SYN_REPLY: 4, HEADERS: 4}
"""Where the header block begins in the body of a frame that has one."""
_KNOWN: Final = frozenset((*_SIZES, *_BLOCKS, SETTINGS))


def _dictionary() -> bytes:
    """Section 2.6.10.1: names with their lengths, then text."""
    names = (
        "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age "
        "allow authorization cache-control connection content-base content-encoding content-language content-length "
        "content-location content-md5 content-range content-type date etag expect expires from host if-match "
        "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
        "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
        "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie "
        "keep-alive origin"
    )
    words = [name.replace("_", " ") for name in names.split(" ")]
    codes = (
        "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505"
        "203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized"
        "403 Forbidden404 Not Found500 Internal Server Error501 Not Implemented503 Service Unavailable"
    )
    dates = "Jan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMT"
    values = (
        "chunked,text/html,image/png,image/jpg,image/gif,application/xml,application/xhtml+xml,text/plain,"
        "text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset=iso-8859-1,utf-,*,enq=0."
    )
    listed = b"".join(len(word).to_bytes(4, "big") + word.encode() for word in words)
    return listed + (codes + dates + values).encode()


DICTIONARY: Final = _dictionary()
"""What both ends begin to compress header blocks with."""


class SpdyError(Exception):
    """The peer broke the protocol."""


@dataclass(slots=True)
class Frame:
    """A frame, or a piece of a long data frame."""

    kind: int
    stream: int
    """0 where a frame concerns the connection."""
    raw: bytes
    """As it came."""
    payload: bytes = b""
    """Of a data frame."""
    fin: bool = False
    """True if the sender sends nothing more on this stream."""
    headers: dict[bytes, bytes] | None = None
    """Of SYN_STREAM, SYN_REPLY and HEADERS. Names are in lower case; several values stand with NUL between them."""
    status: int = 0
    """Of RST_STREAM and GOAWAY."""


class FrameReader:
    """One direction of a connection, from the first byte after the handshake."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._inflate = zlib.decompressobj(zdict=DICTIONARY)
        self._left = 0
        """Bytes of a long data frame that are still to come."""
        self._stream = 0
        self._fin = False

    @property
    def between_frames(self) -> bool:
        """True if everything up to here was passed on as whole frames, so that one of the gateway's own may follow."""
        return not self._left

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete, and pieces of long ones. Raises SpdyError behind the good ones."""
        buffer = self._buffer
        buffer += data
        position = 0
        try:
            while True:
                if self._left:
                    size = min(self._left, len(buffer) - position)
                    if not size:
                        break
                    piece = bytes(buffer[position : position + size])
                    self._left -= size
                    position += size
                    yield Frame(DATA, self._stream, piece, piece, self._fin and not self._left)
                    continue
                if len(buffer) - position < 8:
                    break
                length = int.from_bytes(buffer[position + 5 : position + 8], "big")
                take = self._control if buffer[position] & 0x80 else self._data
                found = take(buffer, position, length)
                if found is None:
                    break
                position += len(found.raw)
                yield found
        finally:
            del buffer[:position]

    def _data(self, buffer: bytearray, start: int, length: int) -> Frame | None:
        stream, flags = int.from_bytes(buffer[start : start + 4], "big"), buffer[start + 4]
        if not stream:
            raise SpdyError("data on stream 0")
        if flags & ~FIN:
            raise SpdyError(f"flags {flags:#x} on data")
        have = len(buffer) - start - 8
        if length <= HOLD and have < length:
            return None
        size = min(length, have)
        raw = bytes(buffer[start : start + 8 + size])
        self._left, self._stream, self._fin = length - size, stream, bool(flags & FIN)
        return Frame(DATA, stream, raw, raw[8:], self._fin and not self._left)

    def _control(self, buffer: bytearray, start: int, length: int) -> Frame | None:
        version = int.from_bytes(buffer[start : start + 2], "big") & 0x7FFF
        kind, flags = int.from_bytes(buffer[start + 2 : start + 4], "big"), buffer[start + 4]
        if version != _VERSION:
            raise SpdyError(f"version {version}; only 3 is spoken")
        if kind not in _KNOWN:
            raise SpdyError(f"a control frame of type {kind}")
        if length > MAX_CONTROL:
            raise SpdyError(f"a control frame of {length} bytes; the most are {MAX_CONTROL}")
        if length != _SIZES.get(kind, length) or length < _BLOCKS.get(kind, 4):
            raise SpdyError(f"a control frame of type {kind} with {length} bytes")
        if len(buffer) - start < 8 + length:
            return None
        raw = bytes(buffer[start : start + 8 + length])
        return self._parsed(kind, flags, raw)

    def _parsed(self, kind: int, flags: int, raw: bytes) -> Frame:
        first = int.from_bytes(raw[8:12], "big") & 0x7FFFFFFF
        if kind in _BLOCKS:
            if not first:
                raise SpdyError("headers on stream 0")
            headers = header_block(self._inflated(raw[8 + _BLOCKS[kind] :]))
            return Frame(kind, first, raw, b"", bool(flags & FIN), headers)
        if kind == SETTINGS:
            if len(raw) != 12 + 8 * int.from_bytes(raw[8:12], "big"):
                raise SpdyError("settings that are not as many as they say")
            return Frame(kind, 0, raw)
        if kind in (RST_STREAM, GOAWAY):
            return Frame(kind, first if kind == RST_STREAM else 0, raw, status=int.from_bytes(raw[12:16], "big"))
        return Frame(kind, first if kind == WINDOW_UPDATE else 0, raw)

    def _inflated(self, block: bytes) -> bytes:
        try:
            plain = self._inflate.decompress(block, MAX_HEADERS)
        except zlib.error as problem:
            raise SpdyError(f"a header block that cannot be decompressed: {problem}") from None
        if self._inflate.unconsumed_tail:
            raise SpdyError(f"a header block of more than {MAX_HEADERS} bytes")
        if self._inflate.eof or self._inflate.unused_data:
            raise SpdyError("the compression of header blocks has ended")
        return plain


def header_block(plain: bytes) -> dict[bytes, bytes]:
    """Section 2.6.10. Raises SpdyError for what a reader could take in two ways."""
    headers: dict[bytes, bytes] = {}
    count, position = int.from_bytes(plain[:4], "big"), 4
    for _ in range(count):
        name, position = _text(plain, position)
        value, position = _text(plain, position)
        if not name or name != name.lower() or name in headers:
            raise SpdyError("a header name that is empty, not in lower case, or there twice")
        headers[name] = value
    if len(plain) < 4 or position != len(plain):
        raise SpdyError("a header block that is longer or shorter than what it holds")
    return headers


def _text(plain: bytes, position: int) -> tuple[bytes, int]:
    begin = position + 4
    end = begin + int.from_bytes(plain[position:begin], "big")
    if end > len(plain):
        raise SpdyError("a header that ends outside of its block")
    return plain[begin:end], end


def data_frames(stream: int, data: bytes, *, fin: bool = False) -> list[bytes]:
    """Data as frames; with `fin` the last of them ends the stream in this direction."""
    pieces = [data[at : at + MAX_PIECE] for at in range(0, len(data), MAX_PIECE)]
    if fin and not pieces:
        pieces = [b""]
    last = len(pieces) - 1
    return [
        stream.to_bytes(4, "big")
        + bytes((FIN if fin and index == last else 0,))
        + len(piece).to_bytes(3, "big")
        + piece
        for index, piece in enumerate(pieces)
    ]


def goaway(last: int) -> bytes:
    """No stream after `last` was taken; those before are at their end."""
    return b"\x80\x03\x00\x07\x00\x00\x00\x08" + last.to_bytes(4, "big") + bytes(4)
