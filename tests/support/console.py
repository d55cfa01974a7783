"""A console on loopback over a store that was written by hand, and a browser that knows only what HTTP says."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from support.batches import ALLOW, DENY, NOON, Hand

from ostiary_console.app import application
from ostiary_console.guard import Guard
from ostiary_console.handling import Console
from ostiary_console.issuers import Issuer
from ostiary_console.limits import Attempts
from ostiary_console.links import Links
from ostiary_console.problems import Problem, changed, signed_out
from ostiary_console.rendering import Pages
from ostiary_console.seals import Seal
from ostiary_console.serving import listen
from ostiary_console.signed_in import Ended, Sessions, SignedIn
from ostiary_console.signing_in import Ways
from ostiary_console.world import Decidable, LiveNow, Manifest, Verb
from ostiary_store.model import ALL, Scope
from ostiary_store.sqlite.store import SqliteStore

KEY = b"k" * 32
HOST = "console.example.com"
_PAGES: list[Pages] = []

SPEC: dict[str, Any] = {
    "request": {"hash": "a" * 64, "summary": "delete from orders", "title": "delete from orders"},
    "connectionRef": {"name": "app"},
    "requester": {"username": "planner", "groups": ["agents"], "session": "01s"},
    "approval": {"groups": ["dba"], "minApprovals": 1},
    "policies": [{"namespace": "shop", "name": "agents", "rule": "big-writes", "revision": "1"}],
}


@dataclass(frozen=True, slots=True)
class Person:
    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""


@dataclass(slots=True)
class Pretended:
    """A world and an API server in which tokens are names, and each person sees what `scopes` says."""

    standalone: bool = False
    server: str = "https://api.example.com"
    scopes: dict[str, Scope] = field(default_factory=dict)
    terminators: set[str] = field(default_factory=set)
    items: list[Mapping[str, Any]] = field(default_factory=list)
    open: list[Mapping[str, Any]] = field(default_factory=list)
    unreachable: tuple[str, ...] = ()
    decided: list[tuple[str, ...]] = field(default_factory=list)
    ended: list[tuple[str, str, str]] = field(default_factory=list)
    refusal: Problem | None = None
    manifests: list[Manifest] = field(default_factory=list)
    wrong_tokens: set[str] = field(default_factory=set)

    async def who_is(self, token: str) -> Person:
        if not token.startswith("token-of-") or token in self.wrong_tokens:
            raise signed_out("The API server takes this token for nobody's.")
        return Person(token.removeprefix("token-of-"), ("dba",))

    async def scope(self, who: SignedIn) -> Scope:
        if who.token in self.wrong_tokens:
            raise signed_out("The API server does not take your token, or not any more.")
        return self.scopes.get(who.name, Scope(frozenset()))

    async def may(self, who: SignedIn, verb: Verb, connection: str) -> bool:
        return who.name in self.terminators

    async def approvals(self, who: SignedIn, *, closed: bool) -> Sequence[Decidable]:
        return [Decidable(each, True) for each in self.items]

    async def approval(self, who: SignedIn, namespace: str, name: str) -> Decidable:
        for each in self.items:
            metadata = each["approval"]["metadata"]
            if (metadata["namespace"], metadata["name"]) == (namespace, name):
                return Decidable(each, True)
        raise Problem(404, "Not found", "There is no such approval.")

    async def decide(
        self, who: SignedIn, namespace: str, name: str, verdict: str, reason: str, shown_hash: str
    ) -> None:
        found = await self.approval(who, namespace, name)
        if found.item["approval"]["spec"]["request"]["hash"] != shown_hash:
            raise changed("It is another question now than the one that you were shown.")
        if self.refusal is not None:
            raise self.refusal
        self.decided.append((who.name, namespace, name, verdict, reason))

    async def pending(self, who: SignedIn) -> int | None:
        return len(self.items)

    async def policies(self, who: SignedIn) -> Sequence[Manifest]:
        return [each for each in self.manifests if each["kind"] == "GatewayPolicy"]

    async def connections(self, who: SignedIn) -> Sequence[Manifest]:
        return [each for each in self.manifests if each["kind"] == "Connection"]

    async def live(self) -> LiveNow:
        return LiveNow(self.open, self.unreachable)

    async def end(self, who: SignedIn, connection: str, target: str, reason: str) -> str:
        self.ended.append((who.name, target, reason))
        return target

    async def close(self) -> None:
        pass


def question(name: str = "apr-1", namespace: str = "shop", **request: Any) -> dict[str, Any]:
    """An approval that waits."""
    spec = {**SPEC, "request": {**SPEC["request"], **request}}
    metadata = {"namespace": namespace, "name": name, "creationTimestamp": "2026-11-23T12:00:00Z"}
    return {"approval": {"metadata": metadata, "spec": spec}, "state": "Pending", "acting": {}}


def opened(session: str, connection: str = "shop/app", *running: str) -> dict[str, Any]:
    """A live session, as a gateway tells of it."""
    return {
        "session": session, "connection": connection, "protocol": "Postgres", "username": "planner",
        "onBehalfOf": "", "client": {"address": "10.0.0.1"}, "opened": NOON, "requests": 2, "gateway": "shop/app-db",
        "running": [{"request": each, "since": NOON, "text": "select pg_sleep(9)"} for each in running],
    }  # fmt: skip


@dataclass(slots=True)
class Desk:
    """A running console, and what it is made of."""

    console: Console
    world: Pretended
    store: SqliteStore
    hand: Hand
    port: int
    now: list[float]

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def write(self) -> None:
        """What the hand has written comes to the store."""
        await self.store.append(self.hand.batch())

    def browser(self) -> Browser:
        return Browser(self.base)

    async def as_(self, name: str) -> Browser:
        """Somebody who has signed in with a token."""
        browser = self.browser()
        answer = await browser.sign_in(f"token-of-{name}")
        assert answer.status == 303, await answer.text()
        return browser


class Browser:
    """Keeps cookies, follows nothing by itself, and says whence its requests come as browsers do."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.cookies: dict[str, str] = {}
        self.csrf = ""
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Browser:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, stream: bool = False, **more: Any
    ) -> aiohttp.ClientResponse:
        if self._session is None:
            self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())
        sent = {**({"Cookie": "; ".join(f"{k}={v}" for k, v in self.cookies.items())} if self.cookies else {})}
        sent.update(headers or {})
        answer = await self._session.request(
            method, self.base + path, headers={k: v for k, v in sent.items() if v}, allow_redirects=False, **more
        )
        for name, morsel in answer.cookies.items():
            if morsel["max-age"] == "0":
                self.cookies.pop(name, None)
            else:
                self.cookies[name] = morsel.value
        if not stream:
            text = (await answer.read()).decode("utf-8", "replace")
            if (found := re.search(r'name="csrf" value="([^"]+)"', text)) is not None:
                self.csrf = found[1]
        return answer

    async def get(self, path: str, **more: Any) -> aiohttp.ClientResponse:
        return await self.ask("GET", path, **more)

    async def text(self, path: str) -> str:
        answer = await self.get(path)
        assert answer.status == 200, (path, answer.status, await answer.text())
        return await answer.text()

    async def json(self, path: str) -> Any:
        return await (await self.get(f"/api/v1{path}")).json()

    async def post(
        self, path: str, fields: Mapping[str, str] | None = None, *, headers: Mapping[str, str] | None = None,
        csrf: str | None = None,
    ) -> aiohttp.ClientResponse:  # fmt: skip
        given = {"csrf": self.csrf if csrf is None else csrf, **(fields or {})}
        sent = {"Origin": self.base, "Sec-Fetch-Site": "same-origin", **(headers or {})}
        return await self.ask("POST", path, headers=sent, data={k: v for k, v in given.items() if v})

    async def sign_in(self, token: str, after: str = "/") -> aiohttp.ClientResponse:
        await self.get("/signin")
        return await self.post("/signin/token", {"token": token, "next": after})


@asynccontextmanager
async def console_desk(
    folder: Path, *, secure: bool = False, attempts: Attempts | None = None, issuers: Sequence[Issuer] = ()
) -> AsyncIterator[Desk]:
    """Until the block ends. `ann` sees everything, `bob` only shop/app, others nothing."""
    if not _PAGES:
        _PAGES.append(Pages())
    now = [0.0]

    def clock() -> float:
        return time.time() + now[0]

    async with AsyncExitStack() as stack:
        store = await SqliteStore.open(folder / "store.db")
        stack.push_async_callback(store.close)
        world = Pretended(scopes={"ann": ALL, "bob": Scope(frozenset({"shop/app"}))}, terminators={"ann"})
        sessions = Sessions(
            Seal([KEY]), Ended(store, clock), secure=secure, idle=600, absolute=3600, clock=clock
        )  # fmt: skip
        ways = Ways(sessions, cluster=world, tokens=True, local="root", issuers=issuers, clock=clock)
        guard = Guard({HOST, "127.0.0.1"}, secure=secure)
        console = Console(store, world, _PAGES[0], guard, sessions, ways, links=Links(), clock=clock)
        console.attempts = attempts or Attempts(1000, 1000)
        port = await listen(stack, application(console), "127.0.0.1", 0)
        hand = Hand()
        await store.record(hand.ref)
        yield Desk(console, world, store, hand, port, now)


__all__ = ["ALLOW", "DENY", "HOST", "NOON", "Browser", "Desk", "console_desk", "opened", "question"]
