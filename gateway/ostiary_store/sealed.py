"""What seals say, and the proof that a session's row came from the store service. Pure: bytes in, bytes out.

    row      sha256 over a session's row as lists show it, with the link of its last chunk or part
    proof    HMAC-SHA256 over that, with a key that only the store service has; ingest makes it, the sealer looks at it
    heads    JSON lines, one for each session or record that a seal is about; the seal names their sha256
    body     of the seal: JSON, small; names the seal before it

Heads may be dropped when all that they are about is expired; the chain of the seals stays whole.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Self

import orjson
import zstandard

from ostiary_store.model import Expiry, SealRow, SessionRow

FIRST: Final = 1
"""Number of the first seal."""
BEFORE_FIRST: Final = "0" * 64
"""What it names as the one before."""

_ROW: Final = b"ostiary.dev/store/v1/row\0"
_PROOF_KEY: Final = b"ostiary.dev/store/v1/proof\0"
_EXPIRED: Final = b"ostiary.dev/store/v1/expired\0"

MAX_HEADS: Final = 1 << 30
"""Bytes of the heads of one seal, decompressed; more was not written by a store service."""


def row_digest(row: SessionRow) -> bytes:
    """32 bytes over the columns of a session's row. `subject`, `client` and `detail` are not in it: databases write
    JSON in their own ways, and the open event has them."""
    retention = row.retention
    fields = [
        row.id, row.record.hex(), row.sid, row.opened, row.closed, row.state, row.connection, row.protocol,
        row.username, row.recording, row.requests, row.denied, row.asked, row.errors, row.rows, row.bytes, row.events,
        row.head.hex(), _seconds(retention.get("record")), _seconds(retention.get("responses")),
    ]  # fmt: skip
    return hashlib.sha256(_ROW + orjson.dumps(fields)).digest()


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


class Prover:
    """Makes and checks proofs. Its key comes from the key that signs (see signing.py), so that replicas share it."""

    def __init__(self, secret: bytes, former: Sequence[bytes] = ()) -> None:
        """former: secrets of keys that were in use before; what they proved counts."""
        self._key = hashlib.sha256(_PROOF_KEY + secret).digest()
        self._all = (self._key, *(hashlib.sha256(_PROOF_KEY + each).digest() for each in former))

    def prove(self, row: SessionRow) -> bytes:
        """The `proof` of a row as it is to be written."""
        return hmac.digest(self._key, row_digest(row), "sha256")

    def holds(self, row: SessionRow) -> bool:
        """Whether the store service wrote this row so."""
        digest = row_digest(row)
        return any(hmac.compare_digest(hmac.digest(key, digest, "sha256"), row.proof) for key in self._all)


@dataclass(frozen=True, slots=True)
class Head:
    """How a session stood when it was sealed."""

    session: str
    record: str
    """uuid of its record, in hex."""
    sid: int
    opened: float
    closed: float | None
    keep: float | None
    """Seconds that its Connection wants its record kept; None: as the store has it."""
    keep_responses: float | None
    seq: int
    """Of the event that would be next."""
    link: str
    row: str
    """row_digest, in hex."""

    @classmethod
    def of(cls, row: SessionRow) -> Self:
        return cls(
            row.id, row.record.hex(), row.sid, row.opened, row.closed, _seconds(row.retention.get("record")),
            _seconds(row.retention.get("responses")), row.events, row.head.hex(), row_digest(row).hex(),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RecordHead:
    """How far a record had been taken in, and whose keys sign it."""

    record: str
    gateway: str
    position: int
    number: int
    link: str
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Seal:
    """What a seal's body says."""

    number: int
    at: float
    key: str
    """Id of the key that signs."""
    public: str
    """The public half of it, in base64. It proves nothing by itself: who can replace all seals can replace it."""
    previous: str
    """Hash of the seal before it, in hex."""
    heads: int = 0
    """How many lines there are in its heads."""
    digest: str = ""
    """sha256 of these lines, in hex."""
    unproven: tuple[str, ...] = ()
    """Sessions whose rows were not written by the store service as they stand."""
    troubles: tuple[str, ...] = ()
    """What else the sealer saw that must not be, in words."""
    expired: tuple[Expiry, ...] = ()
    """What is to be removed, because its time is over. It is said before it is done."""
    dropped: int = 0
    """The heads of seals up to this number are dropped: all that they are about is expired."""
    before: int = 0
    """They are about sessions that were opened before this day only."""
    adopted: int = 0
    """So many sessions had no proof and were believed all the same, because somebody had told the service to: they were
    there before the store had a key."""

    def body(self) -> bytes:
        """JSON; keys that say nothing are left out."""
        fields: dict[str, object] = {
            "seal": self.number, "at": self.at, "key": self.key, "public": self.public, "previous": self.previous,
            "heads": self.heads, "digest": self.digest,
        }  # fmt: skip
        if self.unproven:
            fields["unproven"] = self.unproven
        if self.troubles:
            fields["troubles"] = self.troubles
        if self.expired:
            fields["expired"] = [expiry_fields(each) for each in self.expired]
        if self.dropped:
            fields |= {"dropped": self.dropped, "before": self.before}
        if self.adopted:
            fields["adopted"] = self.adopted
        return orjson.dumps(fields)


def parse_seal(body: bytes) -> Seal:
    """A seal's body read back. ValueError if it is none."""
    try:
        fields = orjson.loads(body)
        return Seal(
            int(fields["seal"]), float(fields["at"]), str(fields["key"]), str(fields["public"]),
            str(fields["previous"]), int(fields["heads"]), str(fields["digest"]),
            tuple(map(str, fields.get("unproven", ()))), tuple(map(str, fields.get("troubles", ()))),
            tuple(parse_expiry(each) for each in fields.get("expired", ())), int(fields.get("dropped", 0)),
            int(fields.get("before", 0)), int(fields.get("adopted", 0)),
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a seal: {error}") from error


# The heads of a seal


def pack_heads(heads: Iterable[Head | RecordHead]) -> tuple[int, str, bytes]:
    """How many, the digest that the seal names, and the bytes to store (zstd)."""
    lines = [_line(head) for head in heads]
    raw = b"".join(lines)
    return len(lines), hashlib.sha256(raw).hexdigest(), zstandard.ZstdCompressor(level=3).compress(raw) if raw else b""


def _line(head: Head | RecordHead) -> bytes:
    if isinstance(head, Head):
        fields: list[object] = [
            "S", head.session, head.record, head.sid, head.opened, head.closed, head.keep, head.keep_responses,
            head.seq, head.link, head.row,
        ]  # fmt: skip
    else:
        fields = ["R", head.record, head.gateway, head.position, head.number, head.link, head.keys]
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)


def raw_heads(stored: bytes) -> bytes:
    """The lines. ValueError if they cannot be decompressed."""
    if not stored:
        return b""
    try:
        if not 0 <= zstandard.frame_content_size(stored) <= MAX_HEADS:
            raise ValueError("the heads are larger than any that were written")
        return zstandard.ZstdDecompressor().decompress(stored)
    except zstandard.ZstdError as error:
        raise ValueError(str(error)) from error


def heads_digest(raw: bytes) -> str:
    """What a seal names: of the lines."""
    return hashlib.sha256(raw).hexdigest()


def parse_heads(raw: bytes) -> Iterator[Head | RecordHead]:
    """The lines read back. ValueError if they are none."""
    try:
        for line in raw.splitlines():
            fields = orjson.loads(line)
            if fields[0] == "S":
                yield Head(*fields[1:])
            else:
                record, gateway, position, number, link, keys = fields[1:]
                yield RecordHead(record, gateway, position, number, link, tuple(keys))
    except (TypeError, ValueError, LookupError) as error:
        raise ValueError(f"not the heads of a seal: {error}") from error


# What is expired


class ExpiryDigest:
    """sha256 over the sessions that expire together: feed it their ids and heads (SessionRow.head) in the order of
    their ids, as bytes compare."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256(_EXPIRED)
        self.sessions = 0

    def add(self, session: str, head: bytes) -> None:
        self._hash.update(session.encode() + b"\0" + head)
        self.sessions += 1

    def digest(self) -> bytes:
        return self._hash.digest()


def expiry_fields(expiry: Expiry) -> dict[str, object]:
    """As JSON has it."""
    return {
        "kind": expiry.kind, "day": expiry.day, "sessions": expiry.sessions, "digest": expiry.digest.hex(),
        "at": expiry.at, "record": _finite(expiry.record), "responses": _finite(expiry.responses),
        "closed": expiry.closed,
    }  # fmt: skip


def parse_expiry(fields: Mapping[str, Any]) -> Expiry:
    """KeyError, TypeError or ValueError if it is none."""
    kind: Literal["record", "responses"] = "record" if fields["kind"] == "record" else "responses"
    return Expiry(
        kind, int(fields["day"]), int(fields["sessions"]), bytes.fromhex(fields["digest"]), float(fields["at"]),
        _or_ever(fields["record"]), _or_ever(fields["responses"]), float(fields["closed"]),
    )  # fmt: skip


def _finite(seconds: float) -> float | None:
    """None: for ever."""
    return seconds if math.isfinite(seconds) else None


def _or_ever(seconds: float | None) -> float:
    return math.inf if seconds is None else float(seconds)


def seal_of(row: SealRow) -> Seal:
    """What a stored seal says. ValueError if its body is none, or its number is another."""
    seal = parse_seal(row.body)
    if seal.number != row.number:
        raise ValueError(f"it says that it is seal {seal.number}")
    return seal
