"""Every statement of the corpus has the same result through an allow-all gateway as directly, in both protocols."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from support.gateway import Gateway
from support.servers import Server
from support.wire import Closed, Message, Wire

CORPUS = Path(__file__).parents[1] / "corpus"
FIRST_USER_OID = 16384

REFUSED: dict[str, str] = {
    "client_encoding": "statements are decided as UTF-8, so the encoding may not change",
    "standard_conforming_strings": "statements are decided with it on, so it may not change",
}
"""Settings that the gateway does not let go, and why. A statement that changes one is refused, not compared."""

Transcript = list[tuple[str, object]]


def statements() -> dict[str, list[str]]:
    """The statements by file: one a line; lines that begin with `--` are comments."""
    return {
        path.name: [line for line in path.read_text("utf-8").splitlines() if line.strip() and not line.startswith("--")]
        for path in sorted(CORPUS.glob("*.sql"))
        if path.name != "setup.sql"
    }


ALL = statements()


def test_the_corpus_is_large() -> None:
    assert sum(map(len, ALL.values())) >= 500


@pytest.mark.parametrize("protocol", ["simple", "extended"])
@pytest.mark.parametrize("file", ALL)
def test_the_same_result_as_directly(pg18: Server, gateway18: Gateway, file: str, protocol: str) -> None:
    def directly() -> Wire:
        return Wire.login(pg18.host, pg18.port, user=pg18.user, password=pg18.password, database=pg18.database)

    first, again, through = (run(pg18, login, ALL[file], protocol) for login in (directly, directly, gateway18.login))
    different: list[str] = []
    varying = 0
    for text, one, two, seen in zip(ALL[file], first, again, through, strict=True):
        if one != two:
            # Times, process ids, random values: then the shape must be the same.
            varying += 1
            one, seen = shape(one), shape(seen)
        if one != seen and not refused(text, seen):
            different.append(f"{text}\n    directly: {tell(one, seen)}\n    through:  {tell(seen, one)}")
    assert not different, f"{len(different)} of {len(first)} differ:\n" + "\n".join(different[:25])
    assert varying <= len(first) // 8, "too many statements vary by themselves to say anything"


def run(server: Server, login: Callable[[], Wire], texts: list[str], protocol: str) -> list[Transcript]:
    """What a fresh database answers to the statements, one after the other in one session."""
    server.recreate(server.database)
    server.sql((CORPUS / "setup.sql").read_text("utf-8"))
    wire = login()
    oids: dict[int, int] = {}
    transcripts: list[Transcript] = []
    for text in texts:
        try:
            messages = wire.simple(text) if protocol == "simple" else wire.extended(text)
        except Closed as closed:
            messages = [*closed.messages, Message("closed", b"")]
            wire.close()
            wire = login()
        transcripts.append([plain(message, oids) for message in messages])
    wire.close()
    return transcripts


def plain(message: Message, oids: dict[int, int]) -> tuple[str, object]:
    """A message without what differs from database to database: OIDs of own objects, process ids."""

    def stable(oid: int) -> int:
        return oid if oid < FIRST_USER_OID else oids.setdefault(oid, FIRST_USER_OID + len(oids))

    if message.type == "T":
        return "T", [(name, stable(table), a, stable(kind), *rest) for name, table, a, kind, *rest in message.columns]
    if message.type == "t":
        (count,) = struct.unpack_from("!h", message.body)
        return "t", [stable(oid) for oid in struct.unpack_from(f"!{count}I", message.body, 2)]
    if message.type in "EN":
        return message.type, message.fields
    if message.type == "A":
        return "A", message.body[4:]
    if message.type == "D":
        return "D", message.cells
    return message.type, message.body


def shape(transcript: Transcript) -> Transcript:
    """The order of messages and what describes columns, without values; runs of rows count as one."""
    found: Transcript = []
    for kind, what in transcript:
        if kind in "dD" and found and found[-1][0] == kind:
            continue
        if kind == "E" and isinstance(what, dict):
            found.append((kind, what["C"]))
        else:
            found.append((kind, what if kind in "TtZ12n" else ""))
    return found


def refused(text: str, seen: Transcript) -> bool:
    """The gateway refused to change a setting that it must not let go, and says so."""
    words = text.lower()
    if not any(name in words for name in REFUSED):
        return False
    return any(kind == "E" and isinstance(what, dict) and what["C"] == "42501" for kind, what in seen)


def tell(one: Transcript, other: Transcript) -> str:
    """The first message in which they differ, and how many there are."""
    for number, message in enumerate(one):
        if number >= len(other) or other[number] != message:
            return f"message {number + 1} of {len(one)}: {str(message)[:400]}"
    return f"{len(one)} messages and no more"
