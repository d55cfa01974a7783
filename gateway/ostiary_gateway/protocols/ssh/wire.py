"""What SSH's connection protocol is written in: the types of RFC 4251 and the messages of RFC 4254. Pure, bounded.

A payload is one packet after decryption, its message number first. Whatever is read is read to its end: bytes that
belong to nothing make the packet invalid, so that nothing undecided hides in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

GLOBAL_REQUEST: Final = 80
REQUEST_SUCCESS: Final = 81
REQUEST_FAILURE: Final = 82
CHANNEL_OPEN: Final = 90
CHANNEL_OPEN_CONFIRMATION: Final = 91
CHANNEL_OPEN_FAILURE: Final = 92
CHANNEL_WINDOW_ADJUST: Final = 93
CHANNEL_DATA: Final = 94
CHANNEL_EXTENDED_DATA: Final = 95
CHANNEL_EOF: Final = 96
CHANNEL_CLOSE: Final = 97
CHANNEL_REQUEST: Final = 98
CHANNEL_SUCCESS: Final = 99
CHANNEL_FAILURE: Final = 100

STDERR: Final = 1
"""SSH_EXTENDED_DATA_STDERR."""

PROHIBITED: Final = 1
CONNECT_FAILED: Final = 2
UNKNOWN_TYPE: Final = 3
SHORTAGE: Final = 4
"""Why a channel is not opened (RFC 4254, 5.1)."""

MAX_WINDOW: Final = 0xFFFF_FFFF
DATA_HEAD: Final = 9
"""Bytes before the data of CHANNEL_DATA."""
EXTENDED_HEAD: Final = 13

MAX_ADDRESS: Final = 1024
MAX_PATH: Final = 4096
"""Bytes of names and paths in requests for forwards; no system has longer ones."""
MAX_TERMINAL: Final = 128
MAX_MODES: Final = 4096
"""Bytes of a terminal's name, and of its modes."""

Bytes = bytes | bytearray | memoryview


class WireError(Exception):
    """A peer does not keep to the protocol. The message says how; the connection cannot go on."""


class Sink(Protocol):
    """Where packets go: a leg, or a list in a test."""

    def send(self, payload: bytes) -> None:
        """One packet."""

    def send_data(self, channel: int, data: bytes | memoryview) -> None:
        """CHANNEL_DATA for the peer's channel of this number."""


class Reader:
    """Goes over one payload. Every read raises WireError where the bytes are not there."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def u32(self) -> int:
        at = self.at
        if at + 4 > len(self.data):
            raise WireError("a packet ends inside a number")
        self.at = at + 4
        return int.from_bytes(self.data[at : at + 4], "big")

    def boolean(self) -> bool:
        at = self.at
        if at >= len(self.data):
            raise WireError("a packet ends before a boolean")
        self.at = at + 1
        return self.data[at] != 0

    def string(self, limit: int = MAX_WINDOW) -> bytes:
        """One string, of at most so many bytes."""
        size = self.u32()
        if size > limit:
            raise WireError("a string is too long for what it is")
        at = self.at
        if at + size > len(self.data):
            raise WireError("a packet ends inside a string")
        self.at = at + size
        return self.data[at : at + size]

    def rest(self) -> bytes:
        at, self.at = self.at, len(self.data)
        return self.data[at:]

    def end(self) -> None:
        """Nothing may be left."""
        if self.at != len(self.data):
            raise WireError("a packet goes on behind its end")


def u32(value: int) -> bytes:
    return value.to_bytes(4, "big")


def string(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value


@dataclass(frozen=True, slots=True)
class Open:
    """CHANNEL_OPEN."""

    kind: bytes
    sender: int
    window: int
    limit: int
    """Bytes of the largest packet that the opener takes."""
    more: bytes
    """What belongs to the kind."""


@dataclass(frozen=True, slots=True)
class Confirmation:
    """CHANNEL_OPEN_CONFIRMATION."""

    recipient: int
    sender: int
    window: int
    limit: int


@dataclass(frozen=True, slots=True)
class Failure:
    """CHANNEL_OPEN_FAILURE."""

    recipient: int
    code: int
    message: bytes
    language: bytes


@dataclass(frozen=True, slots=True)
class ChannelRequest:
    """CHANNEL_REQUEST. `more` is what belongs to the kind."""

    recipient: int
    kind: bytes
    wants: bool
    """Whether a reply is wanted."""
    more: bytes


@dataclass(frozen=True, slots=True)
class GlobalRequest:
    """GLOBAL_REQUEST."""

    kind: bytes
    wants: bool
    more: bytes


def read_open(payload: bytes) -> Open:
    reader = Reader(payload, 1)
    return Open(reader.string(), reader.u32(), reader.u32(), reader.u32(), reader.rest())


def read_confirmation(payload: bytes) -> Confirmation:
    reader = Reader(payload, 1)
    found = Confirmation(reader.u32(), reader.u32(), reader.u32(), reader.u32())
    reader.end()
    return found


def read_failure(payload: bytes) -> Failure:
    reader = Reader(payload, 1)
    found = Failure(reader.u32(), reader.u32(), reader.string(), reader.string())
    reader.end()
    return found


def read_request(payload: bytes) -> ChannelRequest:
    reader = Reader(payload, 1)
    return ChannelRequest(reader.u32(), reader.string(), reader.boolean(), reader.rest())


def read_global(payload: bytes) -> GlobalRequest:
    reader = Reader(payload, 1)
    return GlobalRequest(reader.string(), reader.boolean(), reader.rest())


def recipient_of(payload: bytes, size: int = 0) -> int:
    """The channel that a packet is for. `size`: how long the whole packet must be, if that is known."""
    if len(payload) < 5 or (size and len(payload) != size):
        raise WireError("a packet has not the size of its kind")
    return int.from_bytes(payload[1:5], "big")


def read_adjust(payload: bytes) -> int:
    """How many bytes more a WINDOW_ADJUST gives."""
    return int.from_bytes(payload[5:9], "big")


def open_channel(kind: bytes, sender: int, window: int, limit: int, more: bytes = b"") -> bytes:
    return b"".join((b"\x5a", string(kind), u32(sender), u32(window), u32(limit), more))


def confirmation(recipient: int, sender: int, window: int, limit: int) -> bytes:
    return b"".join((b"\x5b", u32(recipient), u32(sender), u32(window), u32(limit)))


def open_failure(recipient: int, code: int, message: bytes, language: bytes = b"") -> bytes:
    return b"".join((b"\x5c", u32(recipient), u32(code), string(message), string(language)))


def adjust(recipient: int, count: int) -> bytes:
    return b"\x5d" + u32(recipient) + u32(count)


def data(recipient: int, content: Bytes) -> bytes:
    return b"".join((b"\x5e", u32(recipient), u32(len(content)), content))


def extended(recipient: int, code: int, content: Bytes) -> bytes:
    return b"".join((b"\x5f", u32(recipient), u32(code), u32(len(content)), content))


def eof(recipient: int) -> bytes:
    return b"\x60" + u32(recipient)


def close(recipient: int) -> bytes:
    return b"\x61" + u32(recipient)


def request(recipient: int, kind: bytes, wants: bool, more: bytes = b"") -> bytes:
    return b"".join((b"\x62", u32(recipient), string(kind), b"\x01" if wants else b"\x00", more))


def success(recipient: int) -> bytes:
    return b"\x63" + u32(recipient)


def failure(recipient: int) -> bytes:
    return b"\x64" + u32(recipient)


def global_request(kind: bytes, wants: bool, more: bytes = b"") -> bytes:
    return b"".join((b"\x50", string(kind), b"\x01" if wants else b"\x00", more))


def request_success(more: bytes = b"") -> bytes:
    return b"\x51" + more


def request_failure() -> bytes:
    return b"\x52"


def exit_status(recipient: int, status: int) -> bytes:
    return request(recipient, b"exit-status", False, u32(status))


def exit_signal(recipient: int, name: bytes, message: bytes) -> bytes:
    return request(recipient, b"exit-signal", False, b"".join((string(name), b"\x00", string(message), string(b""))))


# -- what belongs to the kinds of requests and channels


@dataclass(frozen=True, slots=True)
class Terminal:
    """pty-req: the size in characters, and all of it as it came."""

    name: bytes
    columns: int
    rows: int
    raw: bytes


def read_terminal(more: bytes) -> Terminal:
    reader = Reader(more)
    name, columns, rows = reader.string(MAX_TERMINAL), reader.u32(), reader.u32()
    reader.u32()
    reader.u32()
    reader.string(MAX_MODES)
    reader.end()
    return Terminal(name, columns, rows, more)


def read_size(more: bytes) -> tuple[int, int]:
    """Columns and rows of a window-change."""
    if len(more) != 16:
        raise WireError("a window-change has not its size")
    return int.from_bytes(more[:4], "big"), int.from_bytes(more[4:8], "big")


def read_strings(more: bytes, count: int, limit: int = MAX_WINDOW) -> list[bytes]:
    """So many strings, none of them longer, and nothing else."""
    reader = Reader(more)
    found = [reader.string(limit) for _ in range(count)]
    reader.end()
    return found


@dataclass(frozen=True, slots=True)
class X11:
    """x11-req. The cookie is a secret of the agent."""

    single: bool


def read_x11(more: bytes) -> X11:
    reader = Reader(more)
    single = reader.boolean()
    reader.string(MAX_ADDRESS)
    reader.string(MAX_ADDRESS)
    reader.u32()
    reader.end()
    return X11(single)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a forward leads, and where it came from. `path`: of a unix socket; then there is no host."""

    host: bytes = b""
    port: int = 0
    path: bytes = b""
    origin: bytes = b""
    origin_port: int = 0


def read_tcp(more: bytes) -> Endpoint:
    """direct-tcpip and forwarded-tcpip."""
    reader = Reader(more)
    found = Endpoint(reader.string(MAX_ADDRESS), _port(reader), b"", reader.string(MAX_ADDRESS), reader.u32())
    reader.end()
    return found


def read_streamlocal(more: bytes, *, direct: bool) -> Endpoint:
    """direct-streamlocal@openssh.com and forwarded-streamlocal@openssh.com: a path, and what is reserved."""
    reader = Reader(more)
    path = reader.string(MAX_PATH)
    reader.string(MAX_ADDRESS)
    if direct:
        reader.u32()
    reader.end()
    return Endpoint(path=path)


def read_listen(more: bytes) -> Endpoint:
    """tcpip-forward and cancel-tcpip-forward."""
    reader = Reader(more)
    found = Endpoint(reader.string(MAX_ADDRESS), _port(reader))
    reader.end()
    return found


def _port(reader: Reader) -> int:
    """Servers that take it for 16 bits would connect to another one than was decided."""
    port = reader.u32()
    if port > 0xFFFF:
        raise WireError("a port is beyond 65535")
    return port


def read_origin(more: bytes) -> Endpoint:
    """An x11 channel: who connected."""
    reader = Reader(more)
    found = Endpoint(origin=reader.string(MAX_ADDRESS), origin_port=reader.u32())
    reader.end()
    return found


def is_text(value: Sequence[int]) -> bool:
    """Whether bytes are printable ASCII, as names of requests and channels must be (RFC 4250, 4.6.1)."""
    return len(value) <= 256 and all(32 < each < 127 for each in value)


def is_variable(value: bytes) -> bool:
    """Whether bytes are the name of a variable of the environment that every shell takes for one."""
    return len(value) <= 256 and value.isascii() and value.decode().isidentifier()
