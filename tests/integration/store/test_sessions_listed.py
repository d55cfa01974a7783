"""Lists of sessions: filters, pages, ids that begin alike, and what a viewer may see."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace

import pytest
from support.batches import ASK, DENY, NOON, Hand, names

from ostiary_store.model import ALL, RequestQuery, Scope, SessionPage, SessionQuery
from ostiary_store.store import Store

Change = Callable[[SessionQuery], SessionQuery]


@pytest.fixture
async def seven(store: Store, hand: Hand) -> Store:
    """Sessions a to g, one a minute."""
    told: list[tuple[str, dict[str, str]]] = [
        ("a", {}),
        ("b", {"username": "executor"}),
        ("c", {"connection": "shop/cluster", "protocol": "Kubernetes"}),
        ("d", {"connection": "billing/app"}),
        ("e", {"connection": "billing/ledger", "username": "executor"}),
        ("f", {"connection": "shopping/app"}),
        ("g", {"connection": "", "protocol": "Gateway", "username": ""}),
    ]
    for number, (name, more) in enumerate(told):
        hand.open(name, at=NOON + 60 * number, **more)  # type: ignore[arg-type]
        hand.whole(name, 1, f"select {name}", at=NOON + 60 * number + 1)
    hand.whole("b", 2, "drop", DENY, outcome="denied")
    hand.whole("d", 2, "delete", ASK, outcome="denied")
    hand.close("a")
    hand.close("b", lost=True)
    await store.append(hand.batch())
    return store


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (SessionQuery(), "fedcba"),
        (SessionQuery(gateway=True), "gfedcba"),
        (SessionQuery(connection="shop/app"), "ba"),
        (SessionQuery(connection="shop/nothing"), ""),
        (SessionQuery(username="executor"), "eb"),
        (SessionQuery(username="executor", connection="shop/app"), "b"),
        (SessionQuery(protocol="Kubernetes"), "c"),
        (SessionQuery(since=NOON + 120), "fedc"),
        (SessionQuery(until=NOON + 120), "ba"),
        (SessionQuery(since=NOON + 60, until=NOON + 180), "cb"),
        (SessionQuery(decision="Deny"), "b"),
        (SessionQuery(decision="RequireApproval"), "d"),
        (SessionQuery(decision="Allow"), "fedcba"),
        (SessionQuery(state="open"), "fedc"),
        (SessionQuery(state="closed"), "a"),
        (SessionQuery(state="lost"), "b"),
        (SessionQuery(limit=2), "fe"),
    ],
)
async def test_filters(seven: Store, query: SessionQuery, found: str) -> None:
    assert "".join(names((await seven.sessions(query, ALL)).sessions)) == found


@pytest.mark.parametrize(
    ("allowed", "found"),
    [
        (["shop/app"], "ba"),
        (["shop/*"], "cba"),
        (["shop/*", "billing/ledger"], "ecba"),
        (["billing/*"], "ed"),
        (["nothing/*", "shop/nothing"], ""),
        ([], ""),
        (["*"], ""),
        (["shop%/*"], ""),
        (["sho_/*"], ""),
    ],
)
async def test_a_viewer_sees_what_he_may(seven: Store, allowed: list[str], found: str) -> None:
    scope = Scope(frozenset(allowed))
    assert "".join(names((await seven.sessions(SessionQuery(gateway=True), scope)).sessions)) == found
    seen = await seven.requests(RequestQuery(limit=50), scope)
    assert "".join(sorted({row.session for row in seen.requests}, reverse=True)) == found
    for name in "abcdefg":
        if name in found:
            assert (await seven.session(name, scope)).id == name
            assert (await seven.request(f"{name}-1", scope)).session == name
        else:
            for asked in (seven.session(name, scope), seven.request(f"{name}-1", scope)):
                with pytest.raises(LookupError):
                    await asked
    facets = await seven.facets(RequestQuery(), scope)
    assert set(facets.connections) == {(await seven.session(name, ALL)).connection for name in found}
    tallies = await seven.tallies(0, 1e10, scope)
    assert {tally.connection for tally in tallies} == set(facets.connections)
    assert sum(hits.requests for hits in await seven.rule_hits(0, scope)) == sum(t.requests for t in tallies)


async def test_a_word_that_only_others_may_see_is_not_found(seven: Store) -> None:
    assert (await seven.requests(RequestQuery(text="drop"), ALL)).requests
    scope = Scope(frozenset({"billing/*"}))
    found = await seven.requests(RequestQuery(text="drop"), scope)
    assert not found.requests
    assert (await seven.facets(RequestQuery(text="drop"), scope)).counted == 0
    assert not (await seven.requests(RequestQuery(session="b"), scope)).requests


async def test_pages_of_any_length_are_the_same_list(seven: Store) -> None:
    for limit in range(1, 8):
        pages: list[str] = []
        query = SessionQuery(limit=limit, gateway=True)
        while True:
            page = await seven.sessions(query, ALL)
            pages += names(page.sessions)
            if not page.next:
                break
            assert len(page.sessions) == limit
            query = replace(query, after=page.next)
        assert "".join(pages) == "gfedcba"


async def test_pages_stay_while_sessions_come(seven: Store, hand: Hand) -> None:
    query = SessionQuery(limit=2)
    first = await seven.sessions(query, ALL)
    hand.open("h", at=NOON + 3600)
    hand.open("older", at=NOON - 3600)
    await seven.append(hand.batch())
    second = await seven.sessions(replace(query, after=first.next), ALL)
    third = await seven.sessions(replace(query, after=second.next), ALL)
    fourth = await seven.sessions(replace(query, after=third.next), ALL)
    assert [names(page.sessions) for page in (first, second, third, fourth)] == [
        ["f", "e"], ["d", "c"], ["b", "a"], ["older"],
    ]  # fmt: skip
    assert fourth.next == ""


async def test_sessions_of_the_same_moment_come_once_each(store: Store, hand: Hand) -> None:
    for number in range(25):
        hand.open(f"s{number}", at=NOON)
    await store.append(hand.batch())
    seen: list[str] = []
    page = SessionPage([], "")
    while page.next or not seen:
        page = await store.sessions(SessionQuery(limit=4, after=page.next), ALL)
        seen += names(page.sessions)
    assert sorted(seen) == sorted(f"s{number}" for number in range(25))


async def test_ids_that_begin_alike(store: Store, hand: Hand) -> None:
    for name in ("abc", "abcd", "abd", "b_1", "bx1", "gateway-1-2"):
        hand.open(name, connection="secret/app" if name == "abd" else "shop/app")
        hand.whole(name, 1)
    await store.append(hand.batch())
    assert (await store.session("abc", ALL)).id == "abc"
    assert (await store.session("abcd", ALL)).id == "abcd"
    assert (await store.session("b_", ALL)).id == "b_1"
    assert (await store.session("gat", ALL)).id == "gateway-1-2"
    assert (await store.request("gateway-1-2-1", ALL)).id == "gateway-1-2-1"
    with pytest.raises(LookupError, match="several"):
        await store.session("ab", ALL)
    with pytest.raises(LookupError, match="several"):
        await store.session("b", ALL)
    # Who does not see the other one is not told that there are two.
    with pytest.raises(LookupError, match="several"):
        await store.session("ab", Scope(frozenset({"shop/app"})))
    assert (await store.session("ab", Scope(frozenset({"secret/*"})))).id == "abd"


@pytest.mark.parametrize(
    "name", ["", "z", "%", "_", "abc'", "a\0b", "\\", "x" * 10_000, "\udcff", "\N{GRINNING FACE}", "s1-1"]
)
async def test_there_is_no_such_session(store: Store, hand: Hand, name: str) -> None:
    hand.open("s1")
    hand.open("s2")
    await store.append(hand.batch())
    with pytest.raises(LookupError):
        await store.session(name, ALL)
    with pytest.raises(LookupError):
        await store.request(name, ALL)


@pytest.mark.parametrize(
    "name", ["s1", "s1-", "s1-2", "s1-x", "s1--1", "-1", "s1-" + "9" * 30, "s1-\N{SUPERSCRIPT TWO}"]
)
async def test_there_is_no_such_request(store: Store, hand: Hand, name: str) -> None:
    hand.open("s1")
    hand.whole("s1", 1)
    await store.append(hand.batch())
    with pytest.raises(LookupError):
        await store.request(name, ALL)


@pytest.mark.parametrize("after", ["x", "1", "1 2 3", "\0", "-1 s1", "\udcff", "nan s1", "9" * 40])
async def test_a_page_that_nobody_gave_is_refused_or_empty(seven: Store, after: str) -> None:
    for asked in (seven.sessions(SessionQuery(after=after), ALL), seven.requests(RequestQuery(after=after), ALL)):
        with contextlib.suppress(ValueError):
            await asked


async def test_a_decision_that_there_is_not_is_refused(seven: Store) -> None:
    with pytest.raises(ValueError, match="Perhaps"):
        await seven.sessions(SessionQuery(decision="Perhaps"), ALL)
