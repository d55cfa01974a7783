"""Protobuf bodies, as far as a gateway must know them: the envelope and the fields of a precondition, no types.

Source: k8s.io/apimachinery, pkg/runtime/generated.proto (Unknown, TypeMeta) and serializer/protobuf; the encoding is
protobuf's own. A message may be extended by fields at its end: of a number or a string the last one counts, and
messages merge. Whatever could be read in two ways is refused before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from ostiary_gateway.protocols.kubernetes.messages import WireError, bad_request

MAGIC: Final = b"k8s\0"

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True, slots=True)
class Envelope:
    """runtime.Unknown: an object with what it is."""

    api_version: str
    kind: str
    raw: bytes
    """The object itself, in its own message type."""


def parse_envelope(body: bytes) -> Envelope:
    """Raises WireError (400; 415 if what is inside is compressed, or no protobuf)."""
    if not body.startswith(MAGIC):
        raise _bad("it does not begin with k8s and a NUL")
    fields = _singular(body[len(MAGIC) :], {1: LENGTH, 2: LENGTH, 3: LENGTH, 4: LENGTH})
    if fields.get(3) or fields.get(4, b"") not in (b"", b"application/vnd.kubernetes.protobuf"):
        raise WireError(415, "UnsupportedMediaType", "the protobuf body has an encoding inside: send it plain")
    kind = _singular(_bytes(fields.get(1, b"")), {1: LENGTH, 2: LENGTH})
    return Envelope(_string(kind.get(1, b"")), _string(kind.get(2, b"")), _bytes(fields.get(2, b"")))


def write_envelope(envelope: Envelope) -> bytes:
    kind = string_field(1, envelope.api_version) + string_field(2, envelope.kind)
    return (
        MAGIC + message_field(1, kind) + message_field(2, envelope.raw) + message_field(3, b"") + message_field(4, b"")
    )


def append_to_protobuf(body: bytes, fields: bytes) -> bytes:
    """The same object with these fields (of the object's own message) at its end. Raises WireError."""
    envelope = parse_envelope(body)
    # A message that is cut would swallow what is appended.
    for _ in fields_of(envelope.raw):
        pass
    return write_envelope(Envelope(envelope.api_version, envelope.kind, envelope.raw + fields))


def resource_version_fields(resource_version: str) -> bytes:
    """metadata.resourceVersion, for an object: ObjectMeta is the field 1 of each kind, and its resourceVersion 6."""
    return message_field(1, string_field(6, resource_version))


def preconditions_fields(uid: str, resource_version: str) -> bytes:
    """preconditions, for DeleteOptions."""
    return message_field(2, string_field(1, uid) + string_field(2, resource_version))


def dry_run_fields() -> bytes:
    """dryRun: ["All"], for DeleteOptions."""
    return string_field(5, "All")


def message_field(number: int, message: bytes) -> bytes:
    return _varint(number << 3 | LENGTH) + _varint(len(message)) + message


def string_field(number: int, text: str) -> bytes:
    return message_field(number, text.encode())


def fields_of(message: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Number, wire type and value of each field, in their order. Raises WireError (400) if it is no message."""
    position, end = 0, len(message)
    while position < end:
        key, position = _read_varint(message, position)
        number, wire_type = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            raise _bad("a field has no number")
        if wire_type == VARINT:
            value, position = _read_varint(message, position)
            yield number, wire_type, value
            continue
        if wire_type == LENGTH:
            size, position = _read_varint(message, position)
        elif wire_type in (FIXED64, FIXED32):
            size = 8 if wire_type == FIXED64 else 4
        else:
            raise _bad("a field has a wire type that is not used")
        if size > end - position:
            raise _bad("it is cut short")
        yield number, wire_type, message[position : position + size]
        position += size


def delete_options_of(raw: bytes) -> dict[str, object]:
    """metav1.DeleteOptions as JSON has it. Raises WireError, for fields that are not known, too."""
    found: dict[str, object] = {}
    dry_run: list[str] = []
    for number, wire_type, value in fields_of(raw):
        if number == 5 and wire_type == LENGTH:
            dry_run.append(_string(_bytes(value)))
            continue
        name, parsed = _delete_option(number, wire_type, value)
        if name in found:
            raise _bad(f"{name} comes twice")
        found[name] = parsed
    if dry_run:
        found["dryRun"] = dry_run
    return found


def _delete_option(number: int, wire_type: int, value: int | bytes) -> tuple[str, object]:
    match number, wire_type:
        case 1, 0:
            return "gracePeriodSeconds", _signed(value)
        case 2, 2:
            fields = _singular(_bytes(value), {1: LENGTH, 2: LENGTH})
            names = {1: "uid", 2: "resourceVersion"}
            return "preconditions", {names[key]: _string(text) for key, text in fields.items()}
        case 3, 0:
            return "orphanDependents", bool(value)
        case 4, 2:
            return "propagationPolicy", _string(_bytes(value))
        case 6, 0:
            return "ignoreStoreReadErrorWithClusterBreakingPotential", bool(value)
        case _:
            raise _bad(f"DeleteOptions with a field {number} that is not known")


def _singular(message: bytes, expected: dict[int, int]) -> dict[int, bytes]:
    """The fields of a message, of which each may come once."""
    found: dict[int, bytes] = {}
    for number, wire_type, value in fields_of(message):
        if expected.get(number) != wire_type or number in found:
            raise _bad(f"field {number} comes twice, or is not known")
        found[number] = _bytes(value)
    return found


def _bad(message: str) -> WireError:
    return bad_request(f"the body cannot be read as Kubernetes protobuf: {message}")


def _bytes(value: int | bytes) -> bytes:
    assert isinstance(value, bytes)
    return value


def _signed(value: int | bytes) -> int:
    assert isinstance(value, int)
    return value - (1 << 64) if value >= 1 << 63 else value


def _string(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise _bad("a string is not UTF-8") from None


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    """The number and the position behind it."""
    value = shift = 0
    while True:
        if position >= len(message):
            raise _bad("it is cut short")
        octet = message[position]
        position += 1
        value |= (octet & 0x7F) << shift
        if octet < 0x80:
            break
        shift += 7
        if shift > 63:
            raise _bad("a number has more than 64 bits")
    if value >= 1 << 64:
        raise _bad("a number has more than 64 bits")
    return value, position
