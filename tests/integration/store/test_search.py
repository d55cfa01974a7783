"""The search over requests: words, filters, pages, facets, and the time that it takes."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest
from support.batches import ALLOW, ASK, DENY, MASKED, NOON, NOTED, Hand

from ostiary_store.model import ALL, RequestPage, RequestQuery
from ostiary_store.store import Store

TEXTS = {
    1: "SELECT * FROM public.customers WHERE email = 'ann@example.com'",
    2: "DROP TABLE audit_log",
    3: "select count(*) from customers",
    4: "GET /api/v1/namespaces/shop/pods/web-0",
    5: "sudo systemctl restart nginx.service",
    6: "update customers set card_number = NULL where id = 7",
    7: "select 'Größe', 'ΑΒΓ', 'naïve'",
    8: "drop index customers_by_email",
    9: "",
}


@pytest.fixture
async def nine(store: Store, hand: Hand) -> Store:
    """One request a second, with these texts."""
    hand.open("s1")
    for number, text in TEXTS.items():
        hand.whole("s1", number, text, at=NOON + number)
    await store.append(hand.batch())
    return store


async def found(store: Store, text: str) -> list[int]:
    page = await store.requests(RequestQuery(text=text, deadline=10), ALL)
    assert page.next == ""
    assert page.searched_to is None
    return [row.number for row in page.requests]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", [9, 8, 7, 6, 5, 4, 3, 2, 1]),
        ("   ", [9, 8, 7, 6, 5, 4, 3, 2, 1]),
        ("customers", [8, 6, 3, 1]),
        ("CUSTOMERS", [8, 6, 3, 1]),
        ("customers select", [3, 1]),
        ("select customers", [3, 1]),
        ("customer", []),
        ("customer*", [8, 6, 3, 1]),
        ("cust* drop", [8]),
        ("customers -select", [8, 6]),
        ("-customers", [9, 7, 5, 4, 2]),
        ("-customers -drop", [9, 7, 5, 4]),
        ('"drop table"', [2]),
        ('"table drop"', []),
        ('"DROP TABLE"', [2]),
        ('-"drop table" drop', [8]),
        ("drop table", [2]),
        ("audit_log", [2]),
        ("log", [2]),
        ("card_number", [6]),
        ("number", [6]),
        ("ann@example.com", [1]),
        ("example", [1]),
        ("/api/v1/namespaces/shop/pods", [4]),
        ("web-0", [4]),
        ("nginx.service", [5]),
        ("systemctl nginx", [5]),
        ("größe", [7]),
        ("GRÖSSE", []),
        ("αβγ", [7]),
        ("count(*)", [3]),
        ("7", [6]),
        ("nothing", []),
        ('"', [9, 8, 7, 6, 5, 4, 3, 2, 1]),
    ],
)
async def test_words(nine: Store, text: str, numbers: list[int]) -> None:
    assert await found(nine, text) == numbers


@pytest.mark.parametrize(
    "text",
    [
        "'", "*", "-", "--", '"" ""', "AND", "OR", "NOT", "NEAR(a b)", "a:b", "^a", "(", "a*b*", "{a}", "\\", "%", "\0",
        "a\0b", "select & | !", "<->", "\udcff", "x" * 5000, "- -a", 'a" b', "\N{GRINNING FACE}", "text:drop", "rowid",
        "ſ", "İ", "a " * 3000,
    ],
)  # fmt: skip
async def test_no_search_fails(nine: Store, text: str) -> None:
    await nine.requests(RequestQuery(text=text, deadline=10), ALL)
    await nine.facets(RequestQuery(text=text, deadline=10), ALL)


@pytest.fixture
async def mixed(store: Store, hand: Hand) -> Store:
    """Sessions of two users through two Connections."""
    hand.open("s1", username="planner", connection="shop/app")
    hand.open("s2", username="executor", connection="shop/cluster", protocol="Kubernetes")
    hand.whole("s1", 1, "select 1", ALLOW, at=NOON + 1)
    hand.whole("s1", 2, "drop table x", DENY, outcome="denied", at=NOON + 2)
    hand.whole("s2", 1, "get pods", NOTED, at=NOON + 3)
    hand.whole("s2", 2, "delete pods", ASK, outcome="error", at=NOON + 4)
    hand.begin("s1", 3, "select slow", MASKED, at=NOON + 5)
    await store.append(hand.batch())
    return store


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        (RequestQuery(connection="shop/app"), "s1-3 s1-2 s1-1"),
        (RequestQuery(username="executor"), "s2-2 s2-1"),
        (RequestQuery(protocol="Kubernetes"), "s2-2 s2-1"),
        (RequestQuery(action="Deny"), "s1-2"),
        (RequestQuery(action="Allow"), "s1-3 s2-1 s1-1"),
        (RequestQuery(action="RequireApproval"), "s2-2"),
        (RequestQuery(policy="shop/agents", rule="reads"), "s1-3 s2-1 s1-1"),
        (RequestQuery(rule="no-drop"), "s1-2"),
        (RequestQuery(rule="nothing"), ""),
        (RequestQuery(outcome="ok"), "s2-1 s1-1"),
        (RequestQuery(outcome="error"), "s2-2"),
        (RequestQuery(outcome=""), "s1-3"),
        (RequestQuery(would_deny=True), "s2-1"),
        (RequestQuery(would_deny=False), "s1-3 s2-2 s1-2 s1-1"),
        (RequestQuery(session="s1"), "s1-3 s1-2 s1-1"),
        (RequestQuery(session="s"), ""),
        (RequestQuery(session="nothing"), ""),
        (RequestQuery(since=NOON + 3), "s1-3 s2-2 s2-1"),
        (RequestQuery(until=NOON + 3), "s1-2 s1-1"),
        (RequestQuery(since=NOON + 2, until=NOON + 4), "s2-1 s1-2"),
        (RequestQuery(text="pods", action="Allow"), "s2-1"),
        (RequestQuery(text="select", session="s1"), "s1-3 s1-1"),
        (RequestQuery(text="select", since=NOON + 2), "s1-3"),
        (RequestQuery(connection="shop/app", action="Deny", username="planner", outcome="denied"), "s1-2"),
        (RequestQuery(limit=1), "s1-3"),
    ],
)
async def test_filters(mixed: Store, query: RequestQuery, ids: str) -> None:
    assert " ".join(row.id for row in (await mixed.requests(query, ALL)).requests) == ids


async def test_facets_of_everything_come_from_the_hours(mixed: Store) -> None:
    facets = await mixed.facets(RequestQuery(), ALL)
    assert facets.connections == {"shop/app": 3, "shop/cluster": 2}
    assert facets.usernames == {"planner": 3, "executor": 2}
    assert facets.actions == {"Allow": 3, "Deny": 1, "RequireApproval": 1}
    assert facets.rules == {"shop/agents/reads": 3, "shop/agents/no-drop": 1, "shop/agents/big-writes": 1}
    assert (facets.counted, facets.complete) == (5, True)
    denied = await mixed.facets(RequestQuery(action="Deny", since=NOON, until=NOON + 60), ALL)
    assert (denied.connections, denied.counted) == ({"shop/app": 1}, 1)
    assert (await mixed.facets(RequestQuery(since=NOON + 3600), ALL)).counted == 0


async def test_facets_of_a_search_are_counted_among_what_it_finds(mixed: Store) -> None:
    facets = await mixed.facets(RequestQuery(text="pods"), ALL)
    assert (facets.connections, facets.counted) == ({"shop/cluster": 2}, 2)
    assert facets.actions == {"Allow": 1, "RequireApproval": 1}
    assert (await mixed.facets(RequestQuery(outcome="error"), ALL)).counted == 1
    assert (await mixed.facets(RequestQuery(session="s1"), ALL)).actions == {"Allow": 2, "Deny": 1}


async def test_what_rules_have_done(mixed: Store) -> None:
    hits = {(hit.policy, hit.rule, hit.action, hit.enforced): hit for hit in await mixed.rule_hits(NOON, ALL)}
    assert {key: hit.requests for key, hit in hits.items() if key[1]} == {
        ("shop/agents", "reads", "Allow", True): 3,
        ("shop/agents", "no-drop", "Deny", True): 1,
        ("shop/agents", "big-writes", "RequireApproval", True): 1,
        ("shop/agents", "emails", "Mask", True): 1,
        ("shop/trial", "no-select", "Deny", False): 1,
    }
    for hit in hits.values():
        assert NOON <= hit.last <= NOON + 3600
    assert not await mixed.rule_hits(NOON + 3600, ALL)


async def pages(store: Store, query: RequestQuery) -> list[str]:
    """All of a search, page by page."""
    seen: list[str] = []
    while True:
        page = await store.requests(query, ALL)
        seen += [row.id for row in page.requests]
        if not page.next:
            return seen
        assert page.next != query.after, "no progress"
        query = replace(query, after=page.next)


@pytest.mark.parametrize("text", ["", "select", "-nothing"])
async def test_pages_stay_while_requests_come(store: Store, hand: Hand, text: str) -> None:
    hand.open("s1")
    for number in range(1, 31):
        hand.whole("s1", number, f"select {number}", at=NOON + number)
    await store.append(hand.batch())
    query = RequestQuery(text=text, limit=7, deadline=10)
    seen: list[str] = []
    at = 30
    while True:
        page = await store.requests(query, ALL)
        seen += [row.id for row in page.requests]
        at += 1
        hand.whole("s1", at, f"select {at}", at=NOON + at)
        await store.append(hand.batch())
        if not page.next:
            break
        query = replace(query, after=page.next)
    assert seen == [f"s1-{number}" for number in range(30, 0, -1)]


@pytest.mark.parametrize(
    "query", [RequestQuery(), RequestQuery(text="select"), RequestQuery(text="odd"), RequestQuery(session="s1"),
              RequestQuery(session="s1", text="odd"), RequestQuery(action="Deny"), RequestQuery(connection="shop/app")]
)  # fmt: skip
async def test_a_search_that_has_no_time_goes_on_where_it_stopped(
    store: Store, hand: Hand, query: RequestQuery
) -> None:
    hand.open("s1")
    for number in range(1, 1001):
        hand.whole("s1", number, f"select {number} {'odd' if number % 2 else 'even'}", DENY if number % 7 else ALLOW)
    await store.append(hand.batch())
    whole = await pages(store, replace(query, limit=500, deadline=30))
    assert whole == sorted(whole, key=lambda name: -int(name.rpartition("-")[2]))
    assert await pages(store, replace(query, limit=500, deadline=0.0)) == whole
    assert await pages(store, replace(query, limit=7, deadline=0.002)) == whole


async def test_a_search_keeps_its_deadline_and_nobody_waits_for_it(store: Store, hand: Hand) -> None:
    hand.open("s1")
    for start in range(0, 30_000, 5000):
        for number in range(start + 1, start + 5001):
            hand.whole("s1", number, "select a b")
        await store.append(hand.batch())
    late = 0.0

    async def look() -> None:
        nonlocal late
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.005)
            late = max(late, time.perf_counter() - before - 0.005)

    looking = asyncio.create_task(look())
    query = RequestQuery(text='"b a"', deadline=0.05)
    began = time.perf_counter()
    first = await store.requests(query, ALL)
    took = time.perf_counter() - began
    looking.cancel()
    assert took < 1
    assert late < 0.2
    assert not first.requests
    if first.next:
        assert first.searched_to is not None
        assert NOON <= first.searched_to <= NOON + 1e5
    assert await pages(store, query) == []


async def test_searches_beside_each_other_and_beside_writing(store: Store, hand: Hand) -> None:
    hand.open("s1")
    for number in range(1, 500):
        hand.whole("s1", number, f"select w{number % 10}")
    await store.append(hand.batch())

    async def ask(number: int) -> RequestPage:
        return await store.requests(RequestQuery(text=f"w{number}", limit=100, deadline=10), ALL)

    async def write() -> None:
        for number in range(500, 520):
            hand.whole("s1", number, "insert")
            await store.append(hand.batch())

    *found, _ = await asyncio.gather(*map(ask, range(10)), write())
    for number, page in enumerate(found):
        assert page is not None
        assert {row.text for row in page.requests} == {f"select w{number}"}
