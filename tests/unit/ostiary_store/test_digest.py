"""Records of a real recorder, digested: what rows and chunks they become, and what is refused."""

from __future__ import annotations

import hashlib
import os
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ostiary_gateway.audit import layout, unpacking
from ostiary_gateway.audit.event import SessionOpened, SessionRecord
from ostiary_gateway.audit.recorder import FileRecorder
from ostiary_policy.decision import Action, Decision, Matched, RuleRef
from ostiary_store import digest as digesting
from ostiary_store.chain import GENESIS, chunk_link, digest, part_link
from ostiary_store.digest import Damaged, Digest, Unknown, request_text, start, verdict
from ostiary_store.model import MAX_TEXT, Batch, ChunkRow, EndedRow, PartRow, RecordRef

READS = RuleRef("prod", "agents", "reads", "sha256:1")
WATCH = RuleRef("prod", "agents", "watch", "sha256:1")
MASKS = RuleRef("prod", "pii", "mails", "sha256:1")
ALLOW = Decision(Action.ALLOW, READS, "", matched=(Matched(READS, "Allow", True, 0), Matched(MASKS, "Mask", True, 0)))
WATCHED = Decision(
    Action.ALLOW, READS, "", matched=(Matched(READS, "Allow", True, 0), Matched(WATCH, "Deny", False, 0))
)
DENY = Decision(Action.DENY, None, "No rule allows it.")


class Recorded:
    """What a gateway recorded so far, and what was digested of it."""

    def __init__(self, recorder: FileRecorder, path: Path) -> None:
        self.recorder = recorder
        self.path = path.with_suffix(".log")
        self.header = self.path.read_bytes()[:64]
        self.ref = RecordRef(self.header[16:32], self.header, "prod/app", "app-0")
        self.digest = Digest(self.ref, start(self.ref))

    def open(self, name: str) -> SessionRecord:
        opened = SessionOpened(
            name, time.time(), "prod/app", "Postgres", {"username": "planner"}, {"address": "::1"}, {"database": "app"},
            "Full",
        )  # fmt: skip
        return self.recorder.session_opened(opened)

    def data(self) -> bytes:
        """Behind what was digested."""
        return self.path.read_bytes()[self.digest.place.position :]

    async def batch(self) -> Batch:
        """What came since the last time."""
        await self.written()
        return self.digest.take(self.data())

    async def written(self) -> None:
        marker = self.open(f"marker-{os.urandom(4).hex()}")
        waiting = marker.begin(1, time.time(), "", {}, ALLOW, durable=True)
        assert waiting is not None
        await waiting


@pytest.fixture
async def recorded(tmp_path: Path) -> Recorded:
    path = tmp_path / "audit.db"
    return Recorded(await FileRecorder.open(path), path)


def ask(
    session: SessionRecord,
    number: int,
    text: str,
    decision: Decision = ALLOW,
    response: bytes = b"",
    outcome: str = "ok",
) -> None:
    session.begin(number, time.time(), text, {}, decision, durable=False)
    if response:
        session.response(number, response)
    session.end(number, time.time(), outcome, {}, 1, len(response))


def events(batch: Batch, name: str) -> list[unpacking.Found]:
    """Read back from the chunks of a session."""
    found = []
    for chunk in batch.chunks:
        if chunk.session == name:
            raw = zstandard.ZstdDecompressor().decompress(chunk.body)
            section = unpacking.Section._make((0, chunk.seq, chunk.events, len(raw), *[0] * 11))
            found += list(unpacking.events(raw, section))
    return found


async def test_a_request_becomes_a_row_and_its_session_one_chunk(recorded: Recorded) -> None:
    session = recorded.open("s1")
    ask(session, 1, "select 'Ünï'", response=b"row", decision=WATCHED)
    ask(session, 2, "drop database app", DENY, outcome="denied")
    session.closed(time.time(), "bye", 2)
    batch = await recorded.batch()
    [row] = [row for row in batch.opened if row.id == "s1"]
    assert (row.state, row.requests, row.denied, row.rows, row.bytes, row.username) == ("closed", 2, 1, 2, 3, "planner")
    assert (row.record, row.events) == (recorded.ref.uuid, 4)
    first, second = [each for each in batch.requests if each.session == "s1"]
    assert (first.id, first.text, first.action, first.policy, first.rule) == (
        "s1-1", "select 'Ünï'", "Allow", "prod/agents", "reads",
    )  # fmt: skip
    assert (first.outcome, first.rows, first.bytes, first.would_deny) == ("ok", 1, 3, True)
    assert (second.action, second.policy, second.rule, second.outcome) == ("Deny", "", "", "denied")
    [chunk] = [chunk for chunk in batch.chunks if chunk.session == "s1"]
    assert (chunk.seq, chunk.events, chunk.low, chunk.high, chunk.opened) == (0, 4, 1, 2, row.opened)
    assert chunk.link == row.head == link(GENESIS, chunk)
    assert [(each.seq, each.kind, each.good) for each in events(batch, "s1")] == [
        (0, layout.OPEN, True), (1, layout.REQUEST, True), (2, layout.REQUEST, True), (3, layout.CLOSE, True),
    ]  # fmt: skip
    assert set(batch.decisions) >= {bytes.fromhex(first.decision), bytes.fromhex(second.decision)}
    assert batch.end.position == recorded.path.stat().st_size


def link(before: bytes, row: ChunkRow | PartRow) -> bytes:
    assert row.body is not None
    assert row.digest == digest(row.body)
    if isinstance(row, ChunkRow):
        return chunk_link(
            before, row.session, row.seq, row.events, row.first_at, row.last_at, row.low, row.high, row.size, row.digest
        )
    return part_link(before, row.session, row.seq, row.number, row.offset, row.size, row.digest)


async def test_hours_are_counted_by_what_each_rule_did(recorded: Recorded) -> None:
    session = recorded.open("s1")
    for number in range(1, 4):
        ask(session, number, "select 1", WATCHED)
    ask(session, 4, "select 2")
    ask(session, 5, "drop", DENY)
    batch = await recorded.batch()
    counted = {
        (tally.action, tally.policy, tally.rule, tally.enforced): tally.requests
        for tally in batch.tallies
        if tally.connection == "prod/app"
    }
    # The marker is allowed too, with a mask.
    assert counted == {
        ("Allow", "prod/agents", "reads", True): 5, ("Deny", "prod/agents", "watch", False): 3,
        ("Mask", "prod/pii", "mails", True): 2, ("Deny", "", "", True): 1,
    }  # fmt: skip


async def test_a_request_that_ends_later_is_ended_later(recorded: Recorded) -> None:
    session = recorded.open("s1")
    begun = time.time()
    session.begin(7, begun, "select pg_sleep(9)", {}, ALLOW, durable=False)
    batch = await recorded.batch()
    [row] = [row for row in batch.requests if row.session == "s1"]
    assert (row.begun, row.ended, row.outcome) == (begun, None, "")
    session.end(7, begun + 1, "error", {}, 3, 4)
    batch = await recorded.batch()
    assert batch.ended == [EndedRow("s1", 7, begun, begun + 1, "error", 3, 4)]
    [changed] = [row for row in batch.sessions if row.id == "s1"]
    assert (changed.errors, changed.events) == (1, 3)


async def test_a_session_that_ends_takes_its_requests_along(recorded: Recorded) -> None:
    session = recorded.open("s1")
    session.begin(1, 5.0, "select 1", {}, ALLOW, durable=False)
    await recorded.batch()
    await recorded.recorder.close()
    batch = recorded.digest.take(recorded.data())
    assert [(row.session, row.number, row.outcome) for row in batch.ended if row.session == "s1"] == [("s1", 1, "lost")]
    [changed] = [row for row in batch.sessions if row.id == "s1"]
    assert (changed.state, changed.closed is not None) == ("lost", True)


async def test_long_responses_are_rows_between_chunks_in_one_chain(recorded: Recorded) -> None:
    session = recorded.open("s1")
    response = os.urandom(300_000) + bytes(200_000)
    session.begin(1, time.time(), "select big", {}, ALLOW, durable=False)
    for at in range(0, len(response), 50_000):
        session.response(1, response[at : at + 50_000])
    session.end(1, time.time(), "ok", {}, 1, len(response))
    batch = await recorded.batch()
    rows: list[ChunkRow | PartRow] = [*batch.chunks, *batch.parts]
    pieces = sorted((row for row in rows if row.session == "s1"), key=lambda row: row.seq)
    before = GENESIS
    for piece in pieces:
        assert piece.link == link(before, piece)
        before = piece.link
    [row] = [row for row in batch.opened if row.id == "s1"]
    assert row.head == before
    parts = [piece for piece in pieces if isinstance(piece, PartRow)]
    assert len(parts) > 2
    unpacked = b""
    for part in parts:
        assert part.body is not None
        assert (part.number, part.offset) == (1, len(unpacked))
        unpacked += zstandard.ZstdDecompressor().decompress(part.body)
        assert part.offset + part.size == len(unpacked)
    assert response.startswith(unpacked)


async def test_a_chunk_is_not_much_larger_than_it_should_be(recorded: Recorded) -> None:
    session = recorded.open("s1")
    for number in range(1, 400):
        ask(session, number, "select 1", response=os.urandom(2000))
        if number % 20 == 0:
            await recorded.written()
    batch = await recorded.batch()
    sizes = [chunk.size for chunk in batch.chunks if chunk.session == "s1"]
    assert len(sizes) > 2
    assert max(sizes) < 2 * digesting.CHUNK
    assert sum(len(events(batch, "s1")) for _ in range(1)) == 400


async def test_somebody_else_goes_on_where_the_store_stands(recorded: Recorded) -> None:
    session = recorded.open("s1")
    ask(session, 1, "select 1")
    session.begin(2, 9.0, "select 2", {}, ALLOW, durable=False)
    first = await recorded.batch()
    session.end(2, 10.0, "ok", {}, 0, 0)
    ask(session, 3, "select 3")
    await recorded.written()
    data = recorded.data()
    other = Digest(recorded.ref, first.end, first.opened, [("s1", 2, 9.0)])
    with pytest.raises(Unknown) as unknown:
        other.take(data)
    known = {ident: verdict(ident, orjson.loads(first.decisions[ident])) for ident in unknown.value.ids}
    other = Digest(recorded.ref, first.end, first.opened, [("s1", 2, 9.0)], known)
    assert other.take(data) == recorded.digest.take(data)


async def test_in_whatever_pieces_it_comes(recorded: Recorded) -> None:
    session = recorded.open("s1")
    for number in range(1, 50):
        ask(session, number, f"select {number}")
        if number % 5 == 0:
            await recorded.written()
    whole = await recorded.batch()
    data = recorded.path.read_bytes()
    other = Digest(recorded.ref, start(recorded.ref))
    requests = []
    while other.place != whole.end:
        size = 1000
        # Half a block is left for the next time.
        while (batch := other.take(data[other.place.position : other.place.position + size])).end == batch.start:
            size *= 2
        requests += batch.requests
    assert [row.id for row in requests if row.session == "s1"] == [f"s1-{number}" for number in range(1, 50)]


Change = Callable[[bytearray], None]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.__setitem__(0, 0), "there is no block"),
        (lambda data: data.__setitem__(200, data[200] ^ 1), "not what its link says"),
        (lambda data: data.__setitem__(slice(16, 24), struct.pack("<Q", 7)), "does not follow"),
        (lambda data: data.__setitem__(slice(40, 72), bytes(32)), "does not follow"),
    ],
)
async def test_what_was_changed_is_refused(recorded: Recorded, change: Change, words: str) -> None:
    session = recorded.open("s1")
    ask(session, 1, "select 1")
    await recorded.written()
    data = bytearray(recorded.data())
    change(data)
    with pytest.raises(Damaged, match=words):
        recorded.digest.take(bytes(data))


class Forging:
    """Blocks whose links are right, whatever they hold."""

    def __init__(self) -> None:
        header = layout.FILE.pack(layout.MAGIC, bytes(16))
        self.ref = RecordRef(bytes(16), header, "prod/app", "app-0")
        self.place = start(self.ref)

    def block(
        self, raw: bytes, *, kind: int = layout.EVENTS, codec: int = layout.RAW, size: int | None = None
    ) -> bytes:
        place = self.place
        head = layout.BLOCK.pack(
            layout.BLOCK_MAGIC,
            kind,
            codec,
            0,
            len(raw) if size is None else size,
            len(raw),
            place.number,
            5.0,
            place.link,
        )
        linked = hashlib.sha256(head + raw).digest()
        self.place = place._replace(
            position=place.position + len(head + raw + linked), number=place.number + 1, link=linked
        )
        return head + raw + linked


def section(sid: int, seq: int, *bodies: bytes) -> bytes:
    """A block's body with the events of one session."""
    packed = b"".join(layout.EVENT.pack(len(body), 0) + body for body in bodies)
    return layout.COUNT.pack(1) + layout.SECTION.pack(sid, seq, len(bodies), len(packed), 0, 0, 0, 0, *[0] * 6) + packed


def opened(**fields: object) -> bytes:
    told = {"kind": "open", "at": 5.0, "session": "s1", "connection": "prod/app", "protocol": "Postgres", **fields}
    return bytes((layout.OPEN,)) + orjson.dumps(told)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"\1", b"\xff" * 40, section(1, 0, b"\2"), section(1, 1, opened()), section(1, 0, opened(at="x")),
        section(1, 0, opened(at=1e300)), section(1, 0, opened(at=-1)), section(1, 0, opened(session="")),
        section(1, 0, opened(session="x" * 300)), section(1, 0, opened(session="../x")),
        section(1, 0, opened(session="x\r\nSet-Cookie: a=b")), section(1, 0, opened(connection="bank/ledger")),
        section(1, 0, opened(connection="production/app")), layout.COUNT.pack(100_001) + bytes(104 * 100_001),
        section(2**63, 0, opened()), section(1, 0, b"\1[]"),
        section(1, 0, b"\1\xff"), section(1, 0, opened(), b"\4" + bytes(20)), section(1, 0, opened(), b"\2"),
        section(1, 0, opened(), b"\x0a" + bytes(40)),
        section(1, 0, opened(), layout.BEGUN.pack(2, 1, float("nan"), bytes(16), 0)),
        section(1, 0, opened(), layout.ENDED.pack(3, 1, float("inf"), 0, 0, 0, 0, 0, 0, 0)),
        section(1, 0, opened(), bytes((layout.CLOSE,)) + b'{"at": null}'),
    ],
)  # fmt: skip
def test_nonsense_with_right_links_is_refused_in_words(raw: bytes) -> None:
    forging = Forging()
    with pytest.raises((Damaged, Unknown)) as refused:
        Digest(forging.ref, forging.place).take(forging.block(raw))
    assert str(refused.value)


def test_a_gateway_speaks_for_connections_of_its_own_namespace_only() -> None:
    forging = Forging()
    with pytest.raises(Damaged, match="'bank/ledger', and the gateway is in the namespace prod"):
        Digest(forging.ref, forging.place).take(forging.block(section(1, 0, opened(connection="bank/ledger"))))
    for gateway, connection in (("prod/app", "prod/other"), ("prod/app", ""), ("a-machine", "default/db")):
        forging = Forging()
        taken = Digest(replace(forging.ref, gateway=gateway), forging.place)
        assert taken.take(forging.block(section(1, 0, opened(connection=connection)))).opened[0].id == "s1"


def test_a_bomb_does_not_go_off() -> None:
    forging = Forging()
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 30))
    with pytest.raises(Damaged, match="another size"):
        Digest(forging.ref, forging.place).take(forging.block(bomb, codec=layout.ZSTD, size=100))
    forging = Forging()
    with pytest.raises(Damaged, match="there is no block"):
        Digest(forging.ref, forging.place).take(forging.block(bomb, codec=layout.ZSTD, size=1 << 30))


@pytest.mark.parametrize("body", [b"", bytes(31), bytes(32), bytes(32) + b"nonsense"])
def test_a_part_that_is_none_is_refused(body: bytes) -> None:
    forging = Forging()
    with pytest.raises(Damaged):
        Digest(forging.ref, forging.place).take(forging.block(body, kind=layout.PART, codec=layout.ZSTD, size=5))


def test_counters_beyond_what_databases_hold_stop_there() -> None:
    forging = Forging()
    whole = layout.WHOLE.pack(4, 2**64 - 1, 5.0, 6.0, bytes(16), 2, 2**64 - 1, 2**64 - 1, 0, 0, 0, 3, 0, 0)
    body = section(1, 0, opened(subject={"username": "a\0b"}), whole + b"ok" + b"a\0\xff")
    known = {bytes(16): verdict(bytes(16), {})}
    batch = Digest(forging.ref, forging.place, verdicts=known).take(forging.block(body))
    [row] = batch.requests
    assert (row.number, row.rows, row.bytes) == (2**63 - 1, 2**63 - 1, 2**63 - 1)
    assert (row.text, row.username) == (
        "a\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}",
        "a\N{REPLACEMENT CHARACTER}b",
    )


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_no_bytes_break_it(raw: bytes) -> None:
    forging = Forging()
    first = forging.block(section(1, 0, opened()))
    digesting_ = Digest(forging.ref, forging.place, verdicts={})
    digesting_.place = start(forging.ref)
    with pytest.raises((Damaged, Unknown)):
        digesting_.take(first + forging.block(section(1, 1, raw) if raw else b""))
        raise Unknown(frozenset())


def test_a_decision_says_whose_request_it_was_and_what_it_counts_for() -> None:
    body = {
        "action": "Allow", "rule": {"namespace": "n", "policy": "p", "rule": "r"},
        "matched": [
            {"namespace": "n", "policy": "p", "rule": "r", "action": "Allow", "enforced": True},
            {"namespace": "n", "policy": "q", "rule": "x", "action": "RequireApproval", "enforced": False},
            {"namespace": "n", "policy": "q", "rule": "x", "action": "RequireApproval", "enforced": False},
            {"namespace": "n", "policy": "m", "rule": "y", "action": "Mask", "enforced": True}, "nonsense",
        ],
    }  # fmt: skip
    found = verdict(b"\1" * 16, body)
    assert found == (
        "01" * 16, "Allow", "n/p", "r", True,
        (("Allow", "n/p", "r", True), ("RequireApproval", "n/q", "x", False), ("Mask", "n/m", "y", True)),
    )  # fmt: skip
    assert verdict(b"", {"action": 3, "rule": [], "matched": {}}).hits == (("", "", "", True),)


def test_a_text_is_cut_to_whole_characters() -> None:
    assert request_text("ü".encode() * MAX_TEXT * 2) == "ü" * MAX_TEXT
    assert request_text("\N{GRINNING FACE}".encode() * MAX_TEXT * 2) == "\N{GRINNING FACE}" * MAX_TEXT
    assert request_text(b"x" * MAX_TEXT) == "x" * MAX_TEXT
    assert request_text(b"a\xed\xa0\x80b") == "a" + "\N{REPLACEMENT CHARACTER}" * 3 + "b"


async def test_the_row_of_a_session_says_what_its_connection_keeps() -> None:
    forging = Forging()
    kept = {"record": 3600.0, "responses": 60.0}
    batch = Digest(forging.ref, forging.place).take(forging.block(section(1, 0, opened(retention=kept))))
    assert batch.opened[0].retention == kept
    assert replace(batch.opened[0], retention={}).subject == {}


def test_a_session_that_begins_twice_is_refused_and_named() -> None:
    forging = Forging()
    blocks = [forging.block(section(number, 0, opened())) for number in (1, 2)]
    with pytest.raises(Damaged, match="session s1 begins twice"):
        Digest(forging.ref, start(forging.ref)).take(b"".join(blocks))
    digest = Digest(forging.ref, start(forging.ref))
    assert digest.take(blocks[0]).opened[0].id == "s1"
    with pytest.raises(Damaged, match="session s1 begins twice"):
        digest.take(blocks[1])
