"""Client messages as hypothesis strategies: pipelines that are whole, broken off, wrong, or all of it."""

from __future__ import annotations

from hypothesis import strategies as st
from support.wire import FLUSH, SYNC, bind, close, describe, execute, frame, parse, query

Unit = list[bytes]
"""Messages that belong together."""

NAMES = st.sampled_from(["", "", "s", "q"])
PORTALS = st.sampled_from(["", "", "p", "c"])

SIMPLE = [
    "select 1", "select many", "select secret", "select empty", "select fail()", "select notice()", "selec 1", "", ";",
    "select 1/0", "set search_path = other; select 1/0",
    "begin", "commit", "rollback", "insert into t values (1)", "select 1; select many",
    "select 1; select fail(); insert into t values (1)", "begin; select 1", "select 1; commit",
    "set search_path = other", "set local search_path = third", "set search_path = other; select 1",
    "prepare q as select many", "prepare s as insert into t values (1)", "execute q", "execute s", "deallocate q",
    "deallocate all", "declare c cursor for select many", "fetch 2 from c", "close c", "copy t to stdout",
    "drop table t", "select 1; drop table t",
]  # fmt: skip
ONE = [text for text in SIMPLE if "; " not in text] + ["select nope"]
DENIED = frozenset({"drop table t"})
DATA = st.sampled_from([b"1\n", b"1\n2\n", b"", b"bad\n", b"3\n" * 40])


@st.composite
def copies(draw: st.DrawFn) -> Unit:
    """COPY FROM STDIN with its data: nothing else may stand inside."""
    data = [frame("d", each) for each in draw(st.lists(DATA, max_size=3))]
    end = draw(st.sampled_from([frame("c"), frame("f", b"no\0")]))
    text = "copy t from stdin"
    match draw(st.integers(0, 3)):
        case 0:
            return [query(text), *data, end]
        case 1:
            return [query(f"select 1; {text}; select many"), *data, end]
        case 2:
            return [query(f"{text}; {text}"), *data, frame("c"), *data, end]
    early = [SYNC] if draw(st.booleans()) else []
    # Names of its own: whoever executed it again would send no data.
    return [close("S", "in"), parse(text, "in"), bind("in", "in"), execute("in"), *early, *data, end, SYNC]


@st.composite
def singles(draw: st.DrawFn) -> Unit:
    """One message, whatever came before."""
    kind = draw(st.sampled_from("QQPPPBBBDDEEEECSSH"))
    match kind:
        case "Q":
            return [query(draw(st.sampled_from(SIMPLE)))]
        case "P":
            return [parse(draw(st.sampled_from(ONE)), draw(NAMES))]
        case "B":
            values = [b"x"] if draw(st.integers(0, 9)) == 9 else []
            return [bind(draw(PORTALS), draw(NAMES), values, draw(st.booleans()))]
        case "D":
            which = draw(st.sampled_from("SP"))
            return [describe(which, draw(NAMES if which == "S" else PORTALS))]
        case "E":
            return [execute(draw(PORTALS), draw(st.sampled_from([0, 0, 1, 2, 9, -1])))]
        case "C":
            which = draw(st.sampled_from("SP"))
            return [close(which, draw(NAMES if which == "S" else PORTALS))]
        case "S":
            return [SYNC]
        case _:
            return [FLUSH]


@st.composite
def exchanges(draw: st.DrawFn) -> Unit:
    """Parse, Bind, Describe, Execute, Sync, as a driver does."""
    name, portal = draw(NAMES), draw(PORTALS)
    unit = [parse(draw(st.sampled_from(ONE)), name)]
    if draw(st.booleans()):
        unit.append(describe("S", name))
    unit.append(bind(portal, name, binary_results=draw(st.booleans())))
    if draw(st.booleans()):
        unit.append(describe("P", portal))
    unit.append(execute(portal, draw(st.sampled_from([0, 0, 2]))))
    if draw(st.integers(0, 3)):
        unit.append(SYNC)
    return unit


SCRIPTS = st.lists(singles() | exchanges() | copies(), min_size=1, max_size=12)
"""Sessions: units one after the other."""


def numbered(script: list[Unit]) -> list[bytes]:
    """The messages, each text with a comment of its own, and an end that closes every cycle."""
    found: list[bytes] = []
    for number, message in enumerate(each for unit in script for each in unit):
        if message[:1] == b"Q":
            message = query(message[5:-1] + b" /*%d*/" % number)
        elif message[:1] == b"P":
            name, text, _ = message[5:].split(b"\0", 2)
            message = parse(text + b" /*%d*/" % number, name.decode())
        found.append(message)
    return [*found, SYNC, query("rollback /*end*/"), SYNC]
