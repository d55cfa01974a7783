"""Who is signed in: kept in an encrypted cookie, so that every replica knows, with an end that cannot be put off.

Signing out is remembered: here at once, and through the store in the other replicas within seconds.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Protocol

from aiohttp import web

from ostiary_console.seals import Seal
from ostiary_gateway.logging import get_logger
from ostiary_store.model import StoreError

log = get_logger(__name__)

Method = Literal["link", "token", "oidc"]

CHUNK: Final = 3_800
"""Characters of one cookie: browsers keep 4,096 with its name and attributes."""
CHUNKS: Final = 4
SEEN: Final = 60.0
"""Seconds after which a cookie is written anew, so that it does not end for idleness."""
LOOKED: Final = 5.0
"""Seconds for which the store is believed that somebody has not signed out elsewhere."""
MOST: Final = 10_000
_PURPOSE: Final = "session"


@dataclass(frozen=True, slots=True)
class SignedIn:
    """A person, proven, and until when. Times are seconds since the epoch."""

    id: str
    name: str
    groups: tuple[str, ...]
    method: Method
    since: float
    seen: float
    until: float
    """Whatever is done, it ends then."""
    csrf: str = field(repr=False)
    uid: str = ""
    token: str = field(default="", repr=False)
    """Bearer token with which the person goes to the API server; empty: none is needed, or impersonation is used."""
    token_ends: float | None = None
    refresh: str = field(default="", repr=False)
    provider: str = ""
    impersonate: bool = False
    """The console goes to the API server in the person's name, with its own ServiceAccount."""
    cookie: bool = True
    """False: a program that sends its token with each request."""


def signed_in(name: str, groups: tuple[str, ...], method: Method, *, lasts: float, now: float) -> SignedIn:
    """Somebody who has just come in."""
    return SignedIn(secrets.token_urlsafe(18), name, groups, method, now, now, now + lasts, secrets.token_urlsafe(24))


class Memory(Protocol):
    """The part of a Store that keeps who has signed out."""

    async def cursor(self, name: str) -> Mapping[str, int]: ...

    async def set_cursor(self, name: str, cursor: Mapping[str, int]) -> None: ...


class Ended:
    """Sessions that were signed out of before their end."""

    def __init__(self, memory: Memory | None, clock: Callable[[], float] = time.time) -> None:
        self._memory = memory
        self._clock = clock
        self._ended: OrderedDict[str, float] = OrderedDict()
        self._looked: OrderedDict[str, float] = OrderedDict()

    async def end(self, signed: SignedIn) -> None:
        """From now on it is over, wherever its cookie may be."""
        self._ended[signed.id] = signed.until
        while len(self._ended) > MOST:
            self._ended.popitem(last=False)
        if self._memory is None:
            return
        try:
            await self._memory.set_cursor(_name(signed.id), {"until": int(signed.until) + 1})
        except StoreError as problem:
            log.warning("other replicas do not hear of a sign-out: the store cannot be written", problem=str(problem))

    async def has(self, signed: SignedIn) -> bool:
        """Whether it is over. Where the store cannot be asked, what is known here counts."""
        if signed.id in self._ended:
            return True
        now = self._clock()
        if self._memory is None or now - self._looked.get(signed.id, 0.0) < LOOKED:
            return False
        try:
            found = await self._memory.cursor(_name(signed.id))
        except StoreError:
            return False
        if found:
            self._ended[signed.id] = signed.until
            return True
        self._looked[signed.id] = now
        self._looked.move_to_end(signed.id)
        while len(self._looked) > MOST:
            self._looked.popitem(last=False)
        return False


def _name(session: str) -> str:
    return f"console/signed-out/{session}"


class Sessions:
    """Reads and writes the cookies. `secure`: they are for HTTPS only, which they are but on loopback."""

    def __init__(
        self, seal: Seal, ended: Ended, *, secure: bool, idle: float, absolute: float, mark: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.seal = seal
        self.ended = ended
        self.secure = secure
        self.absolute = absolute
        self._idle = idle
        self._clock = clock
        # __Host-: no other host of the domain can set it, and it goes nowhere else. Cookies know no ports, so that
        # consoles on one machine need names of their own.
        self._name = ("__Host-ostiary" if secure else "ostiary") + mark
        self._renewed: OrderedDict[str, SignedIn] = OrderedDict()

    async def read(self, request: web.BaseRequest) -> SignedIn | None:
        """Who sends this; None for nobody."""
        text = "".join(request.cookies.get(name, "") for name in self._names())
        fields = self.seal.open(_PURPOSE, text) if text else None
        signed = _signed(fields) if fields is not None else None
        now = self._clock()
        if signed is None or now >= signed.until or now - signed.seen >= self._idle or await self.ended.has(signed):
            return None
        renewed = self._renewed.get(signed.id)
        if renewed is not None and (renewed.token_ends or 0) > (signed.token_ends or 0):
            # Another request of the same browser has brought new tokens, and this one came with the old cookie.
            return replace(renewed, seen=max(signed.seen, renewed.seen))
        return signed

    def stale(self, signed: SignedIn) -> bool:
        """Whether the cookie should be written anew."""
        return signed.cookie and self._clock() - signed.seen >= SEEN

    def renewed(self, signed: SignedIn) -> None:
        """It has new tokens: requests that are under way with the old cookie find them."""
        self._renewed[signed.id] = signed
        self._renewed.move_to_end(signed.id)
        while len(self._renewed) > MOST:
            self._renewed.popitem(last=False)

    def write(self, response: web.StreamResponse, signed: SignedIn) -> None:
        """ValueError if the person's tokens are too long for cookies."""
        text = self.seal.seal(_PURPOSE, _fields(replace(signed, seen=self._clock())))
        pieces = [text[start : start + CHUNK] for start in range(0, len(text), CHUNK)]
        if len(pieces) > CHUNKS:
            raise ValueError("the tokens are too long")
        for index, name in enumerate(self._names()):
            if index < len(pieces):
                self.put(response, name, pieces[index])
            elif index <= 1:
                self.drop(response, name)

    def clear(self, response: web.StreamResponse) -> None:
        for name in self._names():
            self.drop(response, name)

    def put(self, response: web.StreamResponse, name: str, value: str, lasts: int | None = None) -> None:
        """A cookie of ours. It ends with the browser's session, or after `lasts` seconds."""
        response.set_cookie(
            name, value, path="/", httponly=True, secure=self.secure, samesite="Lax", max_age=lasts
        )  # fmt: skip

    def drop(self, response: web.StreamResponse, name: str) -> None:
        response.set_cookie(name, "", path="/", httponly=True, secure=self.secure, samesite="Lax", max_age=0)

    def named(self, what: str) -> str:
        """The name of another cookie of the console."""
        return f"{self._name}-{what}"

    def _names(self) -> list[str]:
        return [self._name, *(f"{self._name}-{number}" for number in range(1, CHUNKS))]


def _fields(signed: SignedIn) -> dict[str, object]:
    return {name: getattr(signed, name) for name in SignedIn.__slots__ if name != "cookie"}


def _signed(fields: Mapping[str, object]) -> SignedIn | None:
    try:
        given: dict[str, Any] = {**fields}
        made = SignedIn(**given)
        return replace(made, groups=tuple(map(str, made.groups)))
    except TypeError:
        return None  # of another version of the console
