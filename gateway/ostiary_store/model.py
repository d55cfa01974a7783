"""What a store holds and what is asked of it: rows, queries and pages. Plain data, no I/O.

Times are seconds since the epoch, as everywhere in the record. Sequences (`seq`) number the events of a session.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

Link = bytes
"""Raw bytes of a hash or an id. A name of its own, where a field is called `bytes`."""

MAX_TEXT: Final = 32_768
"""Characters of a request's text that a search row holds; the record in its chunk is whole."""


class Place(NamedTuple):
    """How far a record has been taken in: bytes of its file, the number of the next block, the link of the last one,
    and the number of its last seal (see ostiary_gateway.audit.layout)."""

    position: int
    number: int
    link: bytes
    seal: int


@dataclass(frozen=True, slots=True)
class RecordRef:
    """One file that one gateway process appends to. `uuid` is the id in its header, `header` the 64 bytes."""

    uuid: bytes
    header: bytes
    gateway: str
    """`namespace/name` of the gateway; of a standalone one the host's name."""
    instance: str
    """Pod, or host and worker."""
    address: str = ""
    """host:port where its live sessions can be asked for and ended; empty if nowhere."""
    keys: tuple[str, ...] = ()
    """Public keys that sign its seals, as in audit.pub."""


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One session, as lists and pages show it. The fields up to `bytes` are those of audit.reader.Session."""

    id: str
    opened: float
    closed: float | None
    state: str
    """open, closed or lost."""
    connection: str
    protocol: str
    username: str
    recording: str
    requests: int = 0
    denied: int = 0
    asked: int = 0
    errors: int = 0
    rows: int = 0
    bytes: int = 0
    events: int = 0
    """The seq of the next one."""
    head: Link = b""
    """Link of its last chunk or part (32 bytes)."""
    record: Link = b""
    """uuid of the record it came from."""
    sid: int = 0
    """Its number in that record."""
    subject: Mapping[str, object] = field(default_factory=dict)
    client: Mapping[str, object] = field(default_factory=dict)
    detail: Mapping[str, object] = field(default_factory=dict)
    retention: Mapping[str, object] = field(default_factory=dict)
    """Of its Connection: `record` and `responses`, in seconds; empty: as the store has it."""
    proof: Link = b""
    """That the store service wrote this row so: sealed.Prover.prove of it, made by Ingest with every change."""


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One request, as a search finds it. Derived from the chunks, and verified against them."""

    session: str
    number: int
    begun: float
    ended: float | None
    connection: str
    protocol: str
    username: str
    text: str
    """At most MAX_TEXT characters; U+0000 as U+FFFD."""
    action: str
    """Allow, Deny or RequireApproval."""
    policy: str
    """`namespace/name` of the GatewayPolicy whose rule decided; empty if none did."""
    rule: str
    decision: str
    """Id of the decision, in hex."""
    would_deny: bool
    """A rule in `enforcement: Audit` would not have let it through."""
    outcome: str
    """ok, error, denied, skipped, lost; empty while it runs."""
    rows: int = 0
    bytes: int = 0

    @property
    def id(self) -> str:
        """As people see it."""
        return f"{self.session}-{self.number}"


@dataclass(frozen=True, slots=True)
class EndedRow:
    """The end of a request whose begin came in an earlier batch."""

    session: str
    number: int
    begun: float
    ended: float
    outcome: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ChunkRow:
    """A stretch of one session's events, exactly as they lay in the record (layout.EVENT …), compressed with zstd.

    digest = sha256(body as stored); link = chain.chunk_link(link of the row before in this session, head, digest).
    Parts of long responses are rows of the same chain.
    """

    session: str
    opened: float
    """Of the session: with it the rows are partitioned and dropped."""
    seq: int
    events: int
    first_at: float
    last_at: float
    low: int
    """Lowest and highest number of a request in it; 0 if there is none."""
    high: int
    size: int
    """Bytes decompressed."""
    body: bytes
    digest: bytes
    link: bytes


@dataclass(frozen=True, slots=True)
class PartRow:
    """A piece of a long response: a zstd frame of its own, so that reading can begin at any of them."""

    session: str
    opened: float
    seq: int
    number: int
    offset: int
    """In the response, in bytes, decompressed."""
    size: int
    body: bytes | None
    """None: it lies in the bucket, under `key`, or its retention is over."""
    key: str
    digest: bytes
    link: bytes


@dataclass(frozen=True, slots=True)
class Tally:
    """Requests of one hour that were decided alike."""

    hour: int
    """Seconds since the epoch, a multiple of 3600."""
    connection: str
    username: str
    action: str
    policy: str
    rule: str
    enforced: bool
    """False: what an Audit rule would have done."""
    requests: int


@dataclass(frozen=True, slots=True)
class SealRow:
    """A signed statement: of these sessions, these are the heads; and which statement came before it.

    body and heads are made and read by ostiary_store.sealed; the body names the digest of the heads and the hash of the
    seal before it. Numbers begin with 1.
    """

    number: int
    at: float
    key: str
    body: bytes
    """What is signed: small JSON."""
    signature: bytes
    heads: bytes = b""
    """zstd; empty if there are none, or they were dropped because all that they are about is expired."""

    @property
    def hash(self) -> bytes:
        """What is signed, and what the next one names: chain.seal_hash(body)."""
        from ostiary_store.chain import seal_hash

        return seal_hash(self.body)


@dataclass(frozen=True, slots=True)
class Expiry:
    """Sessions of one day that expire together: they have ended, their last row is sealed, and their time is over.

    record: they go with all they have. responses: the bodies of their parts go (PartRow.body and what lies in the
    bucket); digests and links stay. The sealer signs it before anything is removed.
    """

    kind: Literal["record", "responses"]
    day: int
    """On which they were opened: seconds since the epoch, a multiple of 86400 (UTC)."""
    sessions: int
    digest: bytes
    """sealed.ExpiryDigest over their ids and heads, in the order of their ids (as bytes compare, collation "C")."""
    at: float
    """The time that it was worked out for. A session's time is over if closed + its retention, else the default below,
    is not after this."""
    record: float
    """Seconds that records are kept where their Connection does not say."""
    responses: float
    closed: float
    """When the last of them ended."""


@dataclass(slots=True)
class Batch:
    """What some blocks of one record add to the store; written in one transaction, or not at all."""

    record: RecordRef
    start: Place
    """Where the record must stand in the store for this batch to be the next one."""
    end: Place
    opened: list[SessionRow] = field(default_factory=list)
    """New ones, as they are behind this batch."""
    sessions: list[SessionRow] = field(default_factory=list)
    """Those of before that have changed, as they are now."""
    requests: list[RequestRow] = field(default_factory=list)
    """New ones. Where the end is not in this batch, `outcome` is empty, and `open_requests` has it until it ends."""
    ended: list[EndedRow] = field(default_factory=list)
    chunks: list[ChunkRow] = field(default_factory=list)
    parts: list[PartRow] = field(default_factory=list)
    decisions: dict[bytes, bytes] = field(default_factory=dict)
    """By id (16 bytes): JSON."""
    tallies: list[Tally] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a viewer may see. None: everything. Every query has one, so that none can be forgotten."""

    connections: frozenset[str] | None = None
    """`namespace/name`, or `namespace/*`."""


ALL: Final = Scope()


@dataclass(frozen=True, slots=True)
class SessionQuery:
    """Sessions that fit every filter given, newest first."""

    connection: str | None = None
    username: str | None = None
    protocol: str | None = None
    since: float | None = None
    until: float | None = None
    decision: str | None = None
    """Allow, Deny, RequireApproval: sessions with at least one request so decided."""
    state: str | None = None
    gateway: bool = False
    """Also the gateways' own sessions."""
    limit: int = 50
    after: str = ""
    """`next` of the page before."""


@dataclass(frozen=True, slots=True)
class RequestQuery:
    """Requests that fit every filter given, newest first.

    text: words, all of which must occur (case does not matter); "in quotes": as they stand; -word: must not occur;
    word*: begins so.
    """

    text: str = ""
    connection: str | None = None
    username: str | None = None
    protocol: str | None = None
    action: str | None = None
    policy: str | None = None
    rule: str | None = None
    outcome: str | None = None
    would_deny: bool | None = None
    session: str | None = None
    since: float | None = None
    until: float | None = None
    limit: int = 50
    after: str = ""
    deadline: float = 0.25
    """Seconds after which the search says how far it came instead of going on."""


@dataclass(frozen=True, slots=True)
class SessionPage:
    sessions: Sequence[SessionRow]
    next: str
    """Empty: there are no more."""


@dataclass(frozen=True, slots=True)
class RequestPage:
    requests: Sequence[RequestRow]
    next: str
    searched_to: float | None = None
    """None: all that fits before it was looked through. Else the deadline came, and this is how far back it got; `next`
    goes on from there, also where `requests` is empty."""


@dataclass(frozen=True, slots=True)
class Facets:
    """Requests by value. With a text they are counted among the newest matches only, and `counted` says how many these
    were; without one they come from the hourly tallies and are all."""

    connections: Mapping[str, int]
    usernames: Mapping[str, int]
    actions: Mapping[str, int]
    rules: Mapping[str, int]
    """`namespace/policy/rule`."""
    counted: int
    complete: bool


@dataclass(frozen=True, slots=True)
class RuleHits:
    """What a rule has done in a time."""

    policy: str
    rule: str
    action: str
    enforced: bool
    requests: int
    last: float


@dataclass(frozen=True, slots=True)
class Slice:
    """Some consecutive events of a session: the chunks and the heads of the parts that hold them."""

    session: SessionRow
    chunks: Sequence[ChunkRow]
    parts: Sequence[PartRow]
    """Without bodies; `Store.part` brings one."""


class StoreError(Exception):
    """The store cannot be asked just now, or refuses. The message says what to do."""


class Moved(StoreError):
    """The record stands elsewhere in the store than this batch begins: another process has taken some in. `place` says
    where it stands."""

    def __init__(self, place: Place) -> None:
        super().__init__(f"the record stands at byte {place.position} in the store")
        self.place = place


class AnotherGateway(StoreError):
    """The record is known, and that of a gateway of another name: it is not taken in under this one."""
