# cython: annotation_typing=False
"""The frames of the PostgreSQL frontend/backend protocol: reading and building them, nothing of what they mean.

Source: PostgreSQL documentation, "Message Formats". A message is one type byte, a length (Int32, network order,
counting itself but not the type byte) and a body; startup packets have no type byte.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from struct import Struct, error
from typing import Final

INT16: Final = Struct("!h")
INT32: Final = Struct("!i")
UINT32: Final = Struct("!I")

PROTOCOL_3_0: Final = 196608
PROTOCOL_3_2: Final = 196610
CANCEL_REQUEST: Final = 80877102
SSL_REQUEST: Final = 80877103
GSSENC_REQUEST: Final = 80877104

MAX_STARTUP: Final = 10_000
"""Bytes; PostgreSQL's own MAX_STARTUP_PACKET_LENGTH."""
MAX_MESSAGE: Final = 0x3FFFFFFF
"""Bytes; PostgreSQL's own PQ_LARGE_MESSAGE_LIMIT (MaxAllocSize)."""
MAX_NAME: Final = 63
"""Bytes; PostgreSQL tells names of statements and portals apart by no more (NAMEDATALEN - 1)."""
MAX_DIGITS: Final = 20
"""Of a row count, which is 64 bits."""
MAX_SMALL: Final = 30_000
"""Bytes; for messages without a statement or data (PostgreSQL's PQ_SMALL_MESSAGE_LIMIT is 10,000)."""


class ProtocolViolation(Exception):
    """The peer sent what the protocol does not allow. The session cannot go on; the message says what was wrong."""


class FatalError(Exception):
    """The session must end. `code` is an SQLSTATE; the message goes to the client and to the record."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


def frame(kind: bytes, body: bytes | bytearray = b"") -> bytes:
    """One message with its header."""
    return kind + INT32.pack(len(body) + 4) + body


def cstring(text: str) -> bytes:
    """A NUL-terminated UTF-8 string."""
    return text.encode() + b"\0"


def checked_name(name: bytes, kind: str) -> bytes:
    """The name of a prepared statement or a portal, as far as PostgreSQL reads it.

    It cuts names in the encoding of the database; where that matters the name is a ProtocolViolation.
    """
    if len(name) > MAX_NAME // 2:
        if not name.isascii():
            raise ProtocolViolation(f"{kind}: a name of more than {MAX_NAME // 2} bytes that is not ASCII")
        return name[:MAX_NAME]
    return name


class Reader:
    """Takes the fields of one message's body in order; every step outside the body is a ProtocolViolation."""

    __slots__ = ("body", "kind", "position")

    def __init__(self, body: bytes | memoryview, kind: str) -> None:
        self.body = bytes(body)
        self.kind = kind
        self.position = 0

    def string(self) -> bytes:
        end = self.body.find(b"\0", self.position)
        if end < 0:
            raise ProtocolViolation(f"{self.kind}: a string has no end")
        value = self.body[self.position : end]
        self.position = end + 1
        return value

    def name(self) -> bytes:
        """The name of a prepared statement or a portal: see `checked_name`."""
        return checked_name(self.string(), self.kind)

    def int16(self) -> int:
        return int(self._take(INT16))

    def int32(self) -> int:
        return int(self._take(INT32))

    def uint32(self) -> int:
        return int(self._take(UINT32))

    def _take(self, layout: Struct) -> int:
        try:
            (value,) = layout.unpack_from(self.body, self.position)
        except error:
            raise ProtocolViolation(f"{self.kind}: it ends in the middle of a number") from None
        self.position += layout.size
        return int(value)

    def count(self) -> int:
        value = self.int16() & 0xFFFF
        return value

    def take(self, length: int) -> bytes:
        if length < 0 or self.position + length > len(self.body):
            raise ProtocolViolation(f"{self.kind}: a value is longer than the message")
        value = self.body[self.position : self.position + length]
        self.position += length
        return value

    def skip(self, length: int) -> None:
        if length < 0 or self.position + length > len(self.body):
            raise ProtocolViolation(f"{self.kind}: a value is longer than the message")
        self.position += length

    def rest(self) -> bytes:
        value = self.body[self.position :]
        self.position = len(self.body)
        return value

    def end(self) -> None:
        if self.position != len(self.body):
            raise ProtocolViolation(f"{self.kind}: {len(self.body) - self.position} bytes too many")


def text_of(raw: bytes, kind: str) -> str:
    """Strict UTF-8, which the gateway pins as client_encoding."""
    try:
        return raw.decode()
    except UnicodeDecodeError as problem:
        raise ProtocolViolation(f"{kind}: invalid UTF-8 at byte {problem.start}") from None


@dataclass(frozen=True, slots=True)
class Startup:
    """StartupMessage: the protocol's version (Int32) and the parameters."""

    version: int
    parameters: dict[str, str]

    @property
    def minor(self) -> int:
        return self.version & 0xFFFF


@dataclass(frozen=True, slots=True)
class Cancel:
    """CancelRequest: process id and secret key (4 bytes in 3.0, up to 256 in 3.2)."""

    process: int
    key: bytes


@dataclass(frozen=True, slots=True)
class EncryptionRequest:
    """SSLRequest or GSSENCRequest."""

    gss: bool


def parse_startup(body: bytes) -> Startup | Cancel | EncryptionRequest:
    """A packet without type byte, its length already taken off."""
    reader = Reader(body, "StartupMessage")
    code = reader.uint32()
    if code == CANCEL_REQUEST:
        process, key = reader.uint32(), reader.rest()
        if not 4 <= len(key) <= 256:
            raise ProtocolViolation(f"CancelRequest: a key of {len(key)} bytes")
        return Cancel(process, key)
    if code in (SSL_REQUEST, GSSENC_REQUEST):
        reader.end()
        return EncryptionRequest(gss=code == GSSENC_REQUEST)
    if code >> 16 != 3:
        raise ProtocolViolation(f"protocol {code >> 16}.{code & 0xFFFF} is not spoken here, only 3.0 and 3.2")
    parameters: dict[str, str] = {}
    while name := reader.string():
        key_text = text_of(name, "StartupMessage")
        if key_text in parameters:
            raise ProtocolViolation(f"StartupMessage: parameter {key_text!r} twice")
        parameters[key_text] = text_of(reader.string(), "StartupMessage")
    reader.end()
    return Startup(code, parameters)


def startup_message(version: int, parameters: dict[str, str]) -> bytes:
    body = UINT32.pack(version) + b"".join(cstring(k) + cstring(v) for k, v in parameters.items()) + b"\0"
    return INT32.pack(len(body) + 4) + body


def cancel_request(process: int, key: bytes) -> bytes:
    body = UINT32.pack(CANCEL_REQUEST) + UINT32.pack(process) + key
    return INT32.pack(len(body) + 4) + body


SSL_REQUEST_PACKET: Final = INT32.pack(8) + UINT32.pack(SSL_REQUEST)


class Parse:
    """Parse ('P'): statement name, text, declared parameter types (OIDs; 0 is unspecified)."""

    __slots__ = ("name", "text", "types")

    def __init__(self, name: bytes, text: bytes, types: tuple[int, ...]) -> None:
        self.name = name
        self.text = text
        self.types = types

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Parse):
            return NotImplemented
        return (self.name, self.text, self.types) == (other.name, other.text, other.types)

    __hash__ = None  # type: ignore[assignment]


def parse_parse(body: bytes) -> Parse:
    middle = body.find(b"\0")
    end = body.find(b"\0", middle + 1) if middle >= 0 else -1
    if end < 0:
        raise ProtocolViolation("Parse: a string has no end")
    name = checked_name(body[:middle], "Parse")
    if len(body) == end + 3 and body[end + 1] == 0 and body[end + 2] == 0:
        return Parse(name, body[middle + 1 : end], ())
    reader = Reader(body, "Parse")
    reader.position = end + 1
    types: list[int] = []
    for _ in range(reader.count()):
        types.append(reader.uint32())  # noqa: PERF401 - compiled as a C function, which has no closures
    reader.end()
    return Parse(name, body[middle + 1 : end], tuple(types))


def parse_message(name: bytes, text: bytes, types: Sequence[int] = ()) -> bytes:
    return frame(
        b"P", name + b"\0" + text + b"\0" + INT16.pack(len(types)) + b"".join(UINT32.pack(oid) for oid in types)
    )


class Bind:
    """Bind ('B'): portal, statement, the parameters' formats and values (None is NULL), the results' formats."""

    __slots__ = ("formats", "portal", "result_formats", "statement", "values")

    def __init__(
        self, portal: bytes, statement: bytes, formats: tuple[int, ...], values: tuple[bytes | None, ...],
        result_formats: tuple[int, ...],
    ) -> None:  # fmt: skip
        self.portal = portal
        self.statement = statement
        self.formats = formats
        self.values = values
        self.result_formats = result_formats


def parse_bind(body: bytes) -> Bind:
    p = body
    size = len(body)
    middle = body.find(b"\0")
    at = body.find(b"\0", middle + 1) + 1 if middle >= 0 else 0
    if at <= 0:
        raise ProtocolViolation("Bind: a string has no end")
    portal = checked_name(body[:middle], "Bind")
    statement = checked_name(body[middle + 1 : at - 1], "Bind")
    formats, at = _int16s(body, at)
    values: list[bytes | None] = []
    if at + 2 > size:
        raise ProtocolViolation("Bind: it ends in the middle of a number")
    count = (p[at] << 8) | p[at + 1]
    at += 2
    for _ in range(count):
        if at + 4 > size:
            raise ProtocolViolation("Bind: it ends in the middle of a number")
        length = p[at]
        length = (length << 8) | p[at + 1]
        length = (length << 8) | p[at + 2]
        length = (length << 8) | p[at + 3]
        at += 4
        if length == 0xFFFFFFFF:
            values.append(None)
            continue
        if length > size - at:
            raise ProtocolViolation("Bind: a value is longer than the message")
        values.append(body[at : at + length])
        at += length
    results, at = _int16s(body, at)
    if at != size:
        raise ProtocolViolation(f"Bind: {size - at} bytes too many")
    return Bind(portal, statement, formats, tuple(values), results)


def _int16s(body: bytes, at: int) -> tuple[tuple[int, ...], int]:
    """A count and so many Int16, from `at` on; and where they end."""
    p = body
    size = len(body)
    if at + 2 > size:
        raise ProtocolViolation("Bind: it ends in the middle of a number")
    count = (p[at] << 8) | p[at + 1]
    at += 2
    if not count:
        return (), at
    if count * 2 > size - at:
        raise ProtocolViolation("Bind: it ends in the middle of a number")
    found: list[int] = []
    for _ in range(count):
        value = (p[at] << 8) | p[at + 1]
        found.append(value - 0x10000 if value & 0x8000 else value)
        at += 2
    return tuple(found), at


def bind_message(
    portal: bytes,
    statement: bytes,
    values: Sequence[bytes | None] = (),
    formats: Sequence[int] = (),
    result_formats: Sequence[int] = (),
) -> bytes:
    parts = [portal, b"\0", statement, b"\0", INT16.pack(len(formats)), *(INT16.pack(f) for f in formats)]
    parts.append(INT16.pack(len(values)))
    parts += [INT32.pack(-1) if value is None else INT32.pack(len(value)) + value for value in values]
    parts.append(INT16.pack(len(result_formats)))
    parts += [INT16.pack(f) for f in result_formats]
    return frame(b"B", b"".join(parts))


def parse_target(body: bytes, kind: str) -> tuple[bytes, bytes]:
    """Describe ('D') and Close ('C'): `S` or `P`, and the name."""
    which = body[:1]
    if which not in (b"S", b"P"):
        if not body:
            raise ProtocolViolation(f"{kind}: a value is longer than the message")
        raise ProtocolViolation(f"{kind}: {which!r} is neither a statement nor a portal")
    end = body.find(b"\0", 1)
    if end < 0:
        raise ProtocolViolation(f"{kind}: a string has no end")
    if end != len(body) - 1:
        raise ProtocolViolation(f"{kind}: {len(body) - end - 1} bytes too many")
    return which, checked_name(body[1:end], kind)


def parse_execute(body: bytes) -> tuple[bytes, int]:
    """Execute ('E'): portal and the most rows to return (0: all)."""
    end = body.find(b"\0")
    if end < 0:
        raise ProtocolViolation("Execute: a string has no end")
    if len(body) < end + 5:
        raise ProtocolViolation("Execute: it ends in the middle of a number")
    if len(body) > end + 5:
        raise ProtocolViolation(f"Execute: {len(body) - end - 5} bytes too many")
    return checked_name(body[:end], "Execute"), int(INT32.unpack_from(body, end + 1)[0])


def execute_message(portal: bytes, limit: int = 0) -> bytes:
    return frame(b"E", portal + b"\0" + INT32.pack(limit))


def describe_message(which: bytes, name: bytes) -> bytes:
    return frame(b"D", which + name + b"\0")


def close_message(which: bytes, name: bytes) -> bytes:
    return frame(b"C", which + name + b"\0")


def query_message(text: bytes) -> bytes:
    return frame(b"Q", text + b"\0")


SYNC: Final = frame(b"S")
FLUSH: Final = frame(b"H")
TERMINATE: Final = frame(b"X")


def parse_notice(body: bytes) -> dict[str, str]:
    """ErrorResponse ('E') and NoticeResponse ('N'): field code to value (undecodable bytes are escaped)."""
    fields: dict[str, str] = {}
    reader = Reader(body, "ErrorResponse")
    while (code := reader.take(1)) != b"\0":
        fields[code.decode("latin-1")] = reader.string().decode(errors="backslashreplace")
    return fields


def notice_body(fields: Iterable[tuple[str, str]]) -> bytes:
    return b"".join(code.encode() + cstring(value.replace("\0", "")) for code, value in fields if value) + b"\0"


def error_response(
    code: str, message: str, *, severity: str = "ERROR", detail: str = "", hint: str = ""
) -> bytes:
    """An ErrorResponse of the gateway's own. `code` is an SQLSTATE."""
    fields = [("S", severity), ("V", severity), ("C", code), ("M", message), ("D", detail), ("H", hint)]
    return frame(b"E", notice_body([*fields, ("R", "ostiary")]))


def notice_response(message: str, *, detail: str = "", hint: str = "") -> bytes:
    fields = [("S", "NOTICE"), ("V", "NOTICE"), ("C", "00000"), ("M", message), ("D", detail), ("H", hint)]
    return frame(b"N", notice_body(fields))


def parameter_status(name: str, value: str) -> bytes:
    return frame(b"S", cstring(name) + cstring(value))


def parse_parameter_status(body: bytes) -> tuple[str, str]:
    reader = Reader(body, "ParameterStatus")
    return reader.string().decode(errors="replace"), reader.string().decode(errors="replace")


def backend_key_data(process: int, key: bytes) -> bytes:
    return frame(b"K", UINT32.pack(process) + key)


def negotiate_protocol_version(minor: int, unknown: Sequence[str]) -> bytes:
    """NegotiateProtocolVersion ('v'): the newest version that is spoken here, and the options not known."""
    body = UINT32.pack(PROTOCOL_3_0 + minor) + INT32.pack(len(unknown)) + b"".join(cstring(n) for n in unknown)
    return frame(b"v", body)


AUTHENTICATION_OK: Final = frame(b"R", INT32.pack(0))
AUTHENTICATION_CLEARTEXT: Final = frame(b"R", INT32.pack(3))


def ready_for_query(status: bytes) -> bytes:
    return frame(b"Z", status)


def bodies(data: bytes, start: int, end: int) -> Iterator[bytes]:
    """The bodies of the whole messages from `start` to `end`."""
    while start < end:
        length: int = UINT32.unpack_from(data, start + 1)[0]
        yield data[start + 5 : start + 1 + length]
        start += 1 + length


def parse_data_row(body: bytes) -> tuple[bytes | None, ...]:
    """DataRow ('D'): the columns' values; None is NULL."""
    reader = Reader(body, "DataRow")
    values: list[bytes | None] = []
    for _ in range(reader.count()):
        length = reader.int32()
        values.append(None if length == -1 else reader.take(length))
    reader.end()
    return tuple(values)


def parse_parameter_description(body: bytes) -> tuple[int, ...]:
    """ParameterDescription ('t'): the parameters' types."""
    reader = Reader(body, "ParameterDescription")
    types = tuple(reader.uint32() for _ in range(reader.count()))
    reader.end()
    return types


def rows_of_tag(tag: bytes) -> tuple[str, int]:
    """CommandComplete's tag, NUL taken off: the command and its row count (0 where it has none)."""
    words = tag.split(b" ")
    count = int(words[-1]) if words[-1].isdigit() and len(words[-1]) <= MAX_DIGITS else 0
    return words[0].decode(errors="replace"), count
