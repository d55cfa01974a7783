"""Whatever a server answers, in whatever pieces: the client sees the same, or the session ends with a reason."""

from __future__ import annotations

from support.fuzzing import Target
from support.sessions import Session
from support.wire import SYNC, bind, close, describe, execute, parse, query

from ostiary_gateway.protocols.postgres.wire import FatalError, ProtocolViolation
from ostiary_policy.masking import DetectorMask, MaskPlan, Strategy

SCRIPTS = [
    query("select 1"),
    query("select 1; select many") + query("copy t to stdout"),
    parse("select 1") + bind() + describe("P") + execute() + SYNC,
    parse("select 1", "s") + describe("S", "s") + SYNC + bind("p", "s", binary_results=True) + execute("p", 2) + SYNC,
    query("set search_path = other") + query("select 1"),
    query("drop table t") + query("select 1"),
    parse("drop table t") + bind() + execute() + SYNC + close("S", "s") + SYNC,
    query("copy t from stdin") + b"d\0\0\0\x061\n" + b"c\0\0\0\4",
    b"",
    query("copy t to stdout with (format csv, header, quote '''')") + query("copy t to stdout with (format binary)"),
    parse("select 1") + bind(binary_results=True) + execute() + SYNC + query("begin") + query("commit"),
]
"""What the client has asked; the first byte of an input chooses."""
STRATEGIES = (Strategy("Redact"), Strategy("Partial", keep_last=4), Strategy("Null"))


Seen = tuple[bytes, str, bool]
"""What the client sees; why the session ended, if it did; whether more was asked of the server meanwhile."""


def seen_by_client(script: bytes, plan: MaskPlan, stream: bytes, size: int) -> Seen:
    session = Session(denied=frozenset({"drop table t"}), plan=plan)
    session.client(script)
    seen, more = bytearray(), False
    try:
        for start in range(0, len(stream), size):
            shown, sent = session.server(stream[start : start + size])
            seen += shown
            more = more or bool(sent)
    except (ProtocolViolation, FatalError) as problem:
        return bytes(seen) + b"".join(session.backend.to_client), str(problem) or "?", more
    return bytes(seen), "", more


def run(data: bytes) -> Seen | None:
    if len(data) < 2:
        return None
    choice, stream = data[0], data[1:]
    script = SCRIPTS[choice % len(SCRIPTS)]
    masks = tuple(DetectorMask(name, STRATEGIES[choice // 32 % 3]) for name in ("CreditCard", "Email"))
    plan = MaskPlan(detectors=masks) if choice // 16 % 2 else MaskPlan()
    seen = whole, ended, _ = seen_by_client(script, plan, stream, len(stream))
    for size in (1, 7):
        pieces, ended_too, more = seen_by_client(script, plan, stream, size)
        if more:
            continue  # what came in one piece came before it was asked for
        assert bool(ended_too) == bool(ended), f"{ended!r} in one piece, {ended_too!r} in pieces of {size}"
        assert pieces == whole or (ended and pieces.startswith(whole)), f"in pieces of {size}: {pieces!r}"
    return seen


TARGET = Target("hostile_server", run)


def test_the_corpus_and_its_mutations() -> None:
    TARGET.replay(3000)
