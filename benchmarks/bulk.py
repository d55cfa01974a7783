"""A million rows, about 135 MB as text, by SELECT and by COPY: with few cards, with many, with what looks like them."""

from __future__ import annotations

import time

from support.servers import Server
from support.wire import Wire, frame, query
from targets import Target

ROWS = 1_000_000
CARDS = 1000
"""Different ones."""
ISSUERS = ("4111", "4556", "5105", "5500", "3782", "6011")

TABLES = {
    "few": "1 % of rows with a card",
    "every": "every row with a card",
    "like": "numbers that only look like cards",
}
"""Table to what is in its rows. The last has snowflake ids: 18 and 19 digits, as a number and in texts."""


def prepare(server: Server) -> None:
    """Make the tables."""
    cards = ",".join(f"({number}, '{card(number)}')" for number in range(CARDS))
    server.sql(f"create table cards as select * from (values {cards}) as made (n, card); analyze cards")
    rest = "((g % 100000) / 100.0)::numeric(10, 2) as amount, timestamptz '2026-01-01' + g * interval '1 second' as at"
    plain = "'The order of customer ' || g || ' is to be delivered on Monday before noon, by bicycle'"
    paid = "'The order of customer ' || g || ' was paid with ' || card || ' on Monday before noon'"
    flakes = (
        "'Message ' || 1400000000000000000 + g * 155189248::bigint || ' answers '"
        " || 812345678901234567 + g * 88080384::bigint || ' in the channel ' || g"
    )
    join = f"from generate_series(1, {ROWS}) as g join cards on n = g % {CARDS}"
    server.sql(
        f"create unlogged table few as select g as id, case when g % 100 = 0 then {paid} else {plain} end as note, "
        f"{rest} {join};"
        f"create unlogged table every as select g as id, {paid} as note, {rest} {join};"
        f"create unlogged table like_cards as select 1400000000000000000 + g * 155189248::bigint as id, "
        f"{flakes} as note, {rest} {join};"
        "alter table like_cards rename to \"like\";"
        "create unlogged table filled (like few);"
        "vacuum analyze few, every, \"like\"; checkpoint"
    )  # fmt: skip


def card(number: int) -> str:
    """A card number that its issuer could have given out."""
    digits = f"{ISSUERS[number % len(ISSUERS)]}{number * 7919 % 10**10:010d}"
    digits = digits if digits.startswith("3782") else f"{digits}{number % 10}"
    total = 0
    for place, digit in enumerate(reversed(digits)):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    digits += str(-total % 10)
    return digits if number % 2 else " ".join(digits[at : at + 4] for at in range(0, len(digits), 4))


def statement(table: str, way: str) -> str:
    """`way` is SELECT or COPY."""
    return f'select * from "{table}"' if way == "SELECT" else f'copy "{table}" to stdout'


def read(target: Target, sql: str) -> tuple[int, float, float]:
    """Ask, and read to the end without looking at it. Bytes that came, seconds, processor seconds in between."""
    wire = target.login()
    before, begun = target.cpu().total, time.perf_counter()
    size = drain(wire, sql)
    spent = time.perf_counter() - begun
    used = target.cpu().total - before
    wire.close()
    return size, spent, used


def drain(wire: Wire, sql: str) -> int:
    """Bytes of the answer."""
    wire.send(query(sql))
    size, tail, first = 0, b"", b""
    while not tail.endswith(b"Z\0\0\0\5I"):
        data = wire.socket.recv(1 << 20)
        assert data, "the connection was closed"
        first = first or data
        size += len(data)
        tail = (tail + data[-6:])[-6:]
    if first[:1] == b"E" or size < ROWS:
        raise SystemExit(f"{sql}: {first[:500]!r}")
    return size


def fill(target: Target, lines: bytes) -> tuple[int, float, float]:
    """COPY FROM STDIN into the table `filled`; as `read`."""
    wire = target.login()
    before, begun = target.cpu().total, time.perf_counter()
    wire.send(query("copy filled from stdin"))
    wire.until("G")
    for start in range(0, len(lines), 65536):
        wire.send(frame("d", lines[start : start + 65536]))
    wire.send(frame("c"))
    tags = [message.text for message in wire.until() if message.type == "C"]
    assert tags == [f"COPY {ROWS}"], tags
    spent = time.perf_counter() - begun
    used = target.cpu().total - before
    wire.close()
    return len(lines), spent, used
