"""The ways in: a link on this machine, a token of the cluster, an OIDC issuer; and the way out."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from aiohttp import web

from ostiary_console import handling
from ostiary_console.guard import safe_path
from ostiary_console.handling import console_of, form, html, parameter, plain_frame, redirect
from ostiary_console.issuers import Attempt, Issuer, IssuerAway, SigninRefused, Tokens
from ostiary_console.problems import Problem, away, forbidden, signed_out, too_many
from ostiary_console.signed_in import Sessions, SignedIn, signed_in
from ostiary_console.views import Provider, Rendered, SigninPage
from ostiary_gateway.identity.jose import BadToken, parse_token
from ostiary_gateway.logging import get_logger

log = get_logger(__name__)

ATTEMPT: Final = 600.0
"""Seconds in which one must be back from the issuer."""
KNOWN: Final = 10.0
"""Seconds that a program's token is taken again without a question, as the API server itself does."""
MOST: Final = 1024
EARLY: Final = 60.0
"""Seconds before the end of a token at which a new one is asked for."""
_COOKIE: Final = "signin"


class Tellers(Protocol):
    """Who says whose token it is (see ApiServer.who_is)."""

    server: str

    async def who_is(self, token: str) -> Teller: ...


class Teller(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def groups(self) -> tuple[str, ...]: ...
    @property
    def uid(self) -> str: ...


@dataclass(frozen=True, slots=True)
class _Known:
    who: SignedIn
    until: float


class Ways:
    """`cluster`: takes its tokens, if `tokens`. `issuers` by their names. `local`: who comes by a link."""

    def __init__(
        self, sessions: Sessions, *, cluster: Tellers | None = None, tokens: bool = False,
        issuers: Sequence[Issuer] = (), local: str = "", clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.sessions = sessions
        self.cluster = cluster if tokens else None
        self.issuers = {issuer.name: issuer for issuer in issuers}
        self.local = local
        self._clock = clock
        self._known: OrderedDict[bytes, _Known] = OrderedDict()
        self._renewing: dict[str, asyncio.Task[SignedIn]] = {}

    async def who(self, request: web.Request) -> SignedIn | None:
        """Who sends the request: by its token, or by its cookie. Raises Problem for a token that is not taken."""
        header = request.headers.get("Authorization")
        if header is not None:
            return await self._by_header(request, header)
        found = await self.sessions.read(request)
        return None if found is None else await self._fresh(found)

    async def _by_header(self, request: web.Request, header: str) -> SignedIn:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or self.cluster is None:
            raise signed_out("This console takes no Authorization header of that kind.")
        token = token.strip()
        digest = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        known = self._known.get(digest)
        if known is not None and self._clock() < known.until:
            return known.who
        who = replace(await self._by_token(request, token), cookie=False, id=digest.hex())
        self._known[digest] = _Known(who, min(self._clock() + KNOWN, who.until))
        self._known.move_to_end(digest)
        while len(self._known) > MOST:
            self._known.popitem(last=False)
        return who

    async def _by_token(self, request: web.Request, token: str) -> SignedIn:
        """Raises Problem."""
        if self.cluster is None:
            raise forbidden("This console takes no tokens.")
        _take_attempt(request)
        person = await self.cluster.who_is(token)
        _was_no_guess(request)
        now = self._clock()
        ends = _end_of(token)
        lasts = min(self.sessions.absolute, ends - now) if ends is not None else self.sessions.absolute
        if lasts <= 0:
            raise signed_out("The token has expired.")
        made = signed_in(person.name, person.groups, "token", lasts=lasts, now=now)
        return replace(made, uid=person.uid, token=token, token_ends=ends)

    # -- the form of those who are not in yet

    def form_token(self, request: web.Request) -> str:
        """What the forms of the sign-in page must bring; empty if the browser has no sign-in page open."""
        return str(self._attempt(request).get("csrf", ""))

    def _attempt(self, request: web.Request) -> Mapping[str, object]:
        found = self.sessions.seal.open(_COOKIE, request.cookies.get(self.sessions.named(_COOKIE), "")) or {}
        at = found.get("at")
        return found if isinstance(at, (int, float)) and 0 <= self._clock() - at < ATTEMPT else {}

    def _keep(self, response: web.StreamResponse, fields: Mapping[str, object]) -> None:
        sealed = self.sessions.seal.seal(_COOKIE, {**fields, "at": self._clock()})
        self.sessions.put(response, self.sessions.named(_COOKIE), sealed, int(ATTEMPT))

    async def page(self, request: web.Request, problem: str = "", status: int = 200) -> web.StreamResponse:
        """The sign-in page."""
        csrf = self.form_token(request) or secrets.token_urlsafe(24)
        after = safe_path(request.query.get("next", "/"))
        view = SigninPage(
            providers=tuple(
                Provider(each.label, str(handling.path_with("/signin/oidc", provider=each.name, next=after)))
                for each in self.issuers.values()
            ),
            token=self.cluster is not None,
            link=bool(self.local),
            next=after,
            problem=problem,
            cluster=self.cluster.server if self.cluster is not None else "",
        )
        rendered = Rendered("signin", view, "Sign in", status=status)
        response = await html(request, rendered, replace(plain_frame(request, rendered), csrf=csrf))
        self._keep(response, {"csrf": csrf})
        return response

    def let_in(self, request: web.Request, who: SignedIn, after: str) -> web.StreamResponse:
        """The cookie, and on to the page."""
        response = web.Response(status=303, headers={"Location": safe_path(after)})
        try:
            self.sessions.write(response, who)
        except ValueError:
            raise forbidden("Your tokens are too long for cookies.", "Ask for fewer groups in them.") from None
        self.sessions.drop(response, self.sessions.named(_COOKIE))
        handling.set_who(request, None)
        console_of(request).counts.signed_in[who.method] += 1
        log.info("signed in", name=who.name, method=who.method, provider=who.provider)
        return response

    # -- OIDC

    async def begin(self, request: web.Request) -> web.StreamResponse:
        issuer = self.issuers.get(request.query.get("provider", ""))
        if issuer is None:
            raise Problem(404, "Not found", "There is no such way to sign in.", "Go to the sign-in page.")
        attempt = Attempt.new()
        try:
            where = await issuer.address(attempt)
        except IssuerAway as problem:
            raise self._away(issuer, problem) from None
        response = web.Response(status=303, headers={"Location": where})
        fields = {"state": attempt.state, "nonce": attempt.nonce, "verifier": attempt.verifier}
        after = safe_path(request.query.get("next", "/"))
        self._keep(response, {**fields, "provider": issuer.name, "next": after})
        return response

    async def end(self, request: web.Request) -> web.StreamResponse:
        kept = self._attempt(request)
        issuer = self.issuers.get(str(kept.get("provider", "")))
        if issuer is None:
            return await self.page(request, "That sign-in took too long, or began in another browser. Try again.", 400)
        attempt = Attempt(*(str(kept.get(name, "")) for name in ("state", "nonce", "verifier")))
        try:
            tokens = await issuer.came_back(attempt, {key: parameter(request, key) for key in request.query})
        except SigninRefused as refused:
            console_of(request).counts.refused += 1
            log.warning("a sign-in was refused", provider=issuer.name, problem=str(refused))
            return await self.page(request, str(refused), 403)
        except IssuerAway as problem:
            raise self._away(issuer, problem) from None
        _was_no_guess(request)
        now = self._clock()
        said = tokens.said
        who = signed_in(said.name, said.groups, "oidc", lasts=self.sessions.absolute, now=now)
        who = self._with(issuer, replace(who, uid=said.subject), tokens)
        return self.let_in(request, who, str(kept.get("next", "/")))

    def _with(self, issuer: Issuer, who: SignedIn, tokens: Tokens) -> SignedIn:
        """The person with the tokens that were just given, for no longer than they are good for."""
        said = tokens.said
        until = who.until if tokens.refresh else min(who.until, said.ends)
        return replace(
            who, name=said.name, groups=said.groups, until=until, provider=issuer.name, refresh=tokens.refresh,
            token="" if issuer.impersonate else tokens.id_token, token_ends=said.ends, impersonate=issuer.impersonate,
        )  # fmt: skip

    def _away(self, issuer: Issuer, problem: IssuerAway) -> Problem:
        log.error("an issuer cannot be used", provider=issuer.name, problem=str(problem))
        return away(f"{issuer.label} cannot be asked now.", "Try again in a moment; the log says what is wrong.")

    async def _fresh(self, who: SignedIn) -> SignedIn | None:
        """With tokens that are good for another while. None: they are not, and there are no others."""
        if who.token_ends is None or self._clock() < who.token_ends - EARLY:
            return who
        issuer = self.issuers.get(who.provider)
        if issuer is None or not who.refresh:
            return who if self._clock() < who.token_ends else None
        renewing = self._renewing.get(who.id)
        if renewing is None:
            renewing = self._renewing[who.id] = asyncio.create_task(self._renewed(issuer, who))
            renewing.add_done_callback(lambda _: self._renewing.pop(who.id, None))
        try:
            # A request that is given up must not take the others' tokens with it: an issuer gives them once.
            return await asyncio.shield(renewing)
        except SigninRefused as refused:
            log.info("no new tokens", name=who.name, provider=who.provider, problem=str(refused))
            return None
        except IssuerAway as problem:
            log.warning("no new tokens now", provider=who.provider, problem=str(problem))
            return who if self._clock() < who.token_ends else None

    async def _renewed(self, issuer: Issuer, who: SignedIn) -> SignedIn:
        renewed = self._with(issuer, who, await issuer.again(who.refresh, who.uid))
        self.sessions.renewed(renewed)
        # It is written with the answer to the request that waits for it.
        return replace(renewed, seen=0.0)


def _end_of(token: str) -> float | None:
    """When a JWT says that it ends; None where it does not, or is none. Only to end earlier for it."""
    try:
        value = parse_token(token).payload.get("exp")
    except BadToken:
        return None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and value > 0 else None


def address_of(request: web.BaseRequest, proxies: Sequence[str]) -> str:
    """Where the client is. Behind proxies that are ours: the last address that none of them has."""
    address = request.remote or ""
    for each in reversed(request.headers.get("X-Forwarded-For", "").split(",")):
        if not each.strip() or not _within(address, proxies):
            break
        address = each.strip()
    return address[:64]


def _within(address: str, networks: Sequence[str]) -> bool:
    try:
        found = ipaddress.ip_address(address)
        return any(found in ipaddress.ip_network(network) for network in networks)
    except ValueError:
        return False


def _take_attempt(request: web.Request) -> None:
    console = console_of(request)
    wait = console.attempts.take(address_of(request, console.proxies))
    if wait:
        raise too_many("Too many sign-ins were tried from there.", f"Try again in {wait:.0f} s.")


def _was_no_guess(request: web.Request) -> None:
    console = console_of(request)
    console.attempts.give_back(address_of(request, console.proxies))


async def _page(request: web.Request) -> web.StreamResponse:
    if handling.maybe_who(request) is not None:
        return web.Response(status=303, headers={"Location": safe_path(request.query.get("next", "/"))})
    return await console_of(request).ways.page(request)


async def _token(request: web.Request) -> web.StreamResponse:
    console = console_of(request)
    fields = await form(request)
    try:
        who = await console.ways._by_token(request, fields.get("token", "").strip())
    except Problem as problem:
        if problem.status != 401:
            raise
        console.counts.refused += 1
        return await console.ways.page(request, f"{problem}", 403)
    return console.ways.let_in(request, who, fields.get("next", "/"))


async def _link(request: web.Request) -> web.StreamResponse:
    console = console_of(request)
    _take_attempt(request)
    if console.links is None or not console.links.use(request.match_info["secret"]):
        console.counts.refused += 1
        return await console.ways.page(
            request, "That link was used already, or is too old. `ostiary console --link` prints another.", 403
        )  # fmt: skip
    _was_no_guess(request)
    now = console.clock()
    who = signed_in(console.ways.local, (), "link", lasts=console.sessions.absolute, now=now)
    return console.ways.let_in(request, who, request.query.get("next", "/"))


async def _begin(request: web.Request) -> web.StreamResponse:
    _take_attempt(request)
    return await console_of(request).ways.begin(request)


async def _back(request: web.Request) -> web.StreamResponse:
    _take_attempt(request)
    return await console_of(request).ways.end(request)


async def _out(request: web.Request) -> web.StreamResponse:
    console, who = console_of(request), handling.maybe_who(request)
    response = redirect("/signin", done="signed-out")
    if who is not None:
        await console.sessions.ended.end(who)
        log.info("signed out", name=who.name)
    console.sessions.clear(response)
    handling.set_who(request, None)
    return response


def routes() -> list[web.RouteDef]:
    return [
        web.get("/signin", _page),
        web.post("/signin/token", _token),
        web.get("/signin/link/{secret}", _link),
        web.get("/signin/oidc", _begin),
        web.get("/signin/callback", _back),
        web.post("/signout", _out),
    ]
