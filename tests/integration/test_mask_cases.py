"""Every way of tests/corpus/masks.yaml under every strategy: nothing masked can be read in the bytes that come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import asyncpg
import pytest
from support.gateway import Gateway, policy, secret
from support.mask_cases import CARD, EMAIL, NAME, PAN, TABLES, Case, cases, told
from support.servers import Server
from support.wire import Message, Wire, close_all

DATABASE = "mask_cases"
STRATEGIES: dict[str, dict[str, object]] = {
    "Redact": {"type": "Redact"},
    "Partial": {"type": "Partial", "keepLast": 4},
    "Pseudonym": {"type": "Pseudonym", "keyRef": {"name": "mask", "key": "hmac"}},
    "Null": {"type": "Null"},
}
KEY = secret("mask", hmac="a-key-of-enough-bytes-for-tests")


def direct(server: Server) -> Wire:
    return Wire.login(server.host, server.port, user=server.user, password=server.password, database=DATABASE)


@pytest.fixture(scope="module")
def database(pg18: Server) -> Server:
    pg18.recreate(DATABASE)
    session = direct(pg18)
    assert not [m.fields for m in session.simple(TABLES) if m.type == "E"]
    session.close()
    return pg18


@pytest.fixture(scope="module", params=STRATEGIES)
def gateway(request: pytest.FixtureRequest, database: Server, start_gateway: Callable[..., Gateway]) -> Gateway:
    strategy = STRATEGIES[request.param]
    targets = ({"column": "public.people.name"}, {"detector": "CreditCard"}, {"detector": "Email"})
    masking = [target | {"strategy": strategy} for target in targets]
    rules = [
        {"name": "all", "action": "Allow", "expression": "true"},
        {"name": "pii", "action": "Mask", "expression": "true", "masking": masking},
    ]
    return start_gateway(database, policy("masks", rules), KEY, database=DATABASE)


@pytest.fixture
def agent(gateway: Gateway) -> Iterator[Wire]:
    yield Wire.login(gateway.host, gateway.port, user=gateway.user, password=gateway.password, database=DATABASE)
    close_all()


def raw(messages: list[Message]) -> bytes:
    return b"\n".join(message.body for message in messages)


def test_without_a_mask_the_cases_tell_all(database: Server) -> None:
    """A case that would tell nothing anyway would prove nothing."""
    session = direct(database)
    quiet = []
    for case in cases():
        in_a_block = case.sql.startswith(("BEGIN", "LISTEN"))  # one of its own, or none: NOTIFY needs a COMMIT
        messages = session.simple(case.sql if in_a_block else f"BEGIN; {case.sql}") + session.simple("ROLLBACK")
        if not told(raw(messages)):
            quiet.append(case.sql)
    session.close()
    assert quiet == []


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.sql[:60])
def test_nothing_is_told(agent: Wire, case: Case) -> None:
    ways = {"simple": lambda: agent.simple(case.sql)}
    if case.single:
        ways["extended, text"] = lambda: agent.extended(case.sql)
        ways["extended, binary"] = lambda: agent.extended(case.sql, binary=True)
    for way, send in ways.items():
        assert told(raw(send())) == [], way


async def test_a_driver_that_reads_binary_can_read_what_is_masked(gateway: Gateway) -> None:
    connection = await asyncpg.connect(
        host=gateway.host, port=gateway.port, user=gateway.user, password=gateway.password, database=DATABASE, ssl=False
    )
    try:
        statement = await connection.prepare("SELECT * FROM people WHERE id = $1")
        (row,) = await statement.fetch(1)
        assert row["id"] == 1
        assert (row["pan"], row["num"], row["raw"]) == (None, None, None)
        async with connection.transaction():
            async for again in connection.cursor("SELECT name, email, card, tags, doc FROM people"):
                assert told(repr(again).encode()) == []
        assert told(repr(row).encode()) == []
    finally:
        await asyncio.wait_for(connection.close(), 5)


def test_equal_values_have_equal_pseudonyms(agent: Wire) -> None:
    (row,) = agent.rows("SELECT a.email, b.email, a.email = b.email FROM people a, people b WHERE (a.id, b.id) = (1,2)")
    assert row[0] == row[1]
    assert row[2] == "t"
    assert not {NAME, EMAIL, CARD, PAN} & set(row)
