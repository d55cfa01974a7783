"""OIDC issuers where people sign in: authorization code with PKCE, and new tokens for those that end.

Sources: OpenID Connect Core 1.0 and Discovery 1.0, RFC 7636 (PKCE, S256 only), RFC 9207 (iss in the answer), RFC 9700.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote_plus, urlencode, urlsplit

import aiohttp

from ostiary_console.id_tokens import Rules, Said, check, check_access_hash
from ostiary_gateway.identity.issuer_keys import KeySources, KeysUnavailable
from ostiary_gateway.identity.jose import BadToken, parse_object, parse_token
from ostiary_gateway.identity.proof import bounded

TIMEOUT: Final = 8.0
"""Seconds for one answer of an issuer."""
FRESH: Final = 3600.0
"""Seconds for which its discovery document is believed."""
MAX_ANSWER: Final = 256 * 1024
_ENDPOINTS: Final = ("authorization_endpoint", "token_endpoint")


class IssuerAway(Exception):
    """The issuer does not answer, or not as it should. The text is for people."""


class SigninRefused(Exception):
    """The issuer, or what it says, lets nobody in. The text is for people."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One sign-in under way, kept in the browser's encrypted cookie until the issuer sends it back."""

    state: str
    nonce: str
    verifier: str

    @classmethod
    def new(cls) -> Attempt:
        return cls(secrets.token_urlsafe(24), secrets.token_urlsafe(24), secrets.token_urlsafe(48))

    @property
    def challenge(self) -> str:
        return base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class Tokens:
    """What an issuer gave, and whom it is about."""

    said: Said
    id_token: str = field(repr=False)
    refresh: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Place:
    """From the discovery document."""

    authorization: str
    token: str
    basic: bool
    """The client's secret goes into the Authorization header, not into the form."""
    names_itself: bool
    """Its answers carry `iss`, and one without it is not its."""


class Issuer:
    """`secret`: of the client; empty for a public one, which PKCE protects. `authorities`: PEM; None: the system's."""

    def __init__(
        self, name: str, label: str, rules: Rules, *, secret: Callable[[], str], scopes: tuple[str, ...],
        redirect: str, keys: KeySources, authorities: str | None = None, impersonate: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.name = name
        self.label = label
        self.rules = rules
        self.impersonate = impersonate
        self._secret = secret
        self._scopes = scopes
        self._redirect = redirect
        self._clock = clock
        self._context = ssl.create_default_context(cadata=authorities)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._keys = keys.remote(rules.issuer, None, authorities)
        self._place: Place | None = None
        self._found_at = 0.0
        self._looking = asyncio.Lock()

    async def address(self, attempt: Attempt) -> str:
        """Where the browser goes. Raises IssuerAway."""
        place = await self._discovered()
        query = {
            "response_type": "code", "client_id": self.rules.client_id, "redirect_uri": self._redirect,
            "scope": " ".join(self._scopes), "state": attempt.state, "nonce": attempt.nonce,
            "code_challenge": attempt.challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        return f"{place.authorization}{'&' if '?' in place.authorization else '?'}{urlencode(query)}"

    async def came_back(self, attempt: Attempt, answer: Mapping[str, str]) -> Tokens:
        """The browser is back with the issuer's answer. Raises SigninRefused or IssuerAway."""
        place = await self._discovered()
        if answer.get("iss", "" if place.names_itself else self.rules.issuer) != self.rules.issuer:
            raise SigninRefused("The answer is of another issuer than the one that was asked.")
        if not secrets.compare_digest(answer.get("state", "").encode(), attempt.state.encode()):
            raise SigninRefused("The answer is to another sign-in than yours. Sign in again.")
        if "error" in answer:
            said = bounded(answer.get("error_description") or answer["error"], 300)
            raise SigninRefused(f"{self.label} did not let you in: {said}.")
        code = answer.get("code", "")
        if not code:
            raise SigninRefused("The answer holds no code. Sign in again.")
        fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": self._redirect}
        return await self._tokens(place, {**fields, "code_verifier": attempt.verifier}, attempt.nonce, "")

    async def again(self, refresh: str, subject: str) -> Tokens:
        """New tokens for the same person. Raises SigninRefused or IssuerAway."""
        place = await self._discovered()
        fields = {"grant_type": "refresh_token", "refresh_token": refresh, "scope": " ".join(self._scopes)}
        tokens = await self._tokens(place, fields, None, refresh)
        if tokens.said.subject != subject:
            raise SigninRefused("The issuer's new token is about somebody else.")
        return tokens

    async def _tokens(self, place: Place, fields: dict[str, str], nonce: str | None, refresh: str) -> Tokens:
        headers = {"Accept": "application/json"}
        try:
            secret = self._secret()
        except (OSError, ValueError) as problem:
            raise IssuerAway(f"the client's secret cannot be read: {problem}") from None
        if secret and place.basic:
            user, word = quote_plus(self.rules.client_id), quote_plus(secret)
            headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{word}".encode()).decode()
        else:
            fields = {**fields, "client_id": self.rules.client_id, **({"client_secret": secret} if secret else {})}
        status, body = await self._asked("POST", place.token, headers, fields)
        try:
            answer = parse_object(body, "answer")
        except BadToken:
            raise IssuerAway(f"{place.token} answers with status {status} and no JSON object") from None
        if status != 200:
            why = bounded(answer.get("error_description") or answer.get("error") or f"status {status}", 300)
            raise SigninRefused(f"{self.label} gives no tokens: {why}.")
        id_token, access = answer.get("id_token"), answer.get("access_token")
        if not isinstance(id_token, str):
            raise SigninRefused(f"{self.label} gave no ID token. Is the scope openid among those that are asked for?")
        said = await self._said(id_token, nonce, access if isinstance(access, str) else "")
        given = answer.get("refresh_token")
        return Tokens(said, id_token, given if isinstance(given, str) else refresh)

    async def _said(self, id_token: str, nonce: str | None, access: str) -> Said:
        try:
            token = parse_token(id_token)
            if token.issuer != self.rules.issuer:
                raise BadToken("it is of another issuer")
            key = await self._keys.find(token.header)
            if key is None:
                raise BadToken("the issuer does not have the key that it names")
            claims = token.verify(key)
            found = check(self.rules, claims, now=self._clock(), nonce=nonce)
            check_access_hash(claims, access, token.header.algorithm)
        except BadToken as problem:
            raise SigninRefused(f"The ID token of {self.label} is not accepted: {problem}.") from None
        except KeysUnavailable as problem:
            raise IssuerAway(f"its keys cannot be had: {bounded(str(problem), 300)}") from None
        return found

    async def _discovered(self) -> Place:
        async with self._looking:
            if self._place is not None and self._clock() - self._found_at < FRESH:
                return self._place
            where = self.rules.issuer.rstrip("/") + "/.well-known/openid-configuration"
            try:
                status, body = await self._asked("GET", where, {"Accept": "application/json"}, None)
                if status != 200:
                    raise IssuerAway(f"{where} answers with status {status}")
                self._place = self._read(where, body)
            except IssuerAway:
                if self._place is None:
                    raise
            self._found_at = self._clock()
            return self._place

    def _read(self, where: str, body: bytes) -> Place:
        try:
            document = parse_object(body, "answer")
        except BadToken:
            raise IssuerAway(f"{where} is no plain JSON object") from None
        if document.get("issuer") != self.rules.issuer:
            raise IssuerAway(f"{where} speaks of another issuer")
        found = []
        for name in _ENDPOINTS:
            value = document.get(name)
            if not isinstance(value, str) or len(value) > 2048 or urlsplit(value).scheme != "https":
                raise IssuerAway(f"{where} has no {name} that begins with https://")
            found.append(value)
        methods = document.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        basic = isinstance(methods, list) and "client_secret_basic" in methods
        challenges = document.get("code_challenge_methods_supported")
        if isinstance(challenges, list) and "S256" not in challenges:
            raise IssuerAway(f"{where}: it does not take PKCE with S256")
        named = document.get("authorization_response_iss_parameter_supported") is True
        return Place(found[0], found[1], basic, named)

    async def _asked(
        self, method: str, url: str, headers: Mapping[str, str], fields: Mapping[str, str] | None
    ) -> tuple[int, bytes]:
        try:
            async with (
                asyncio.timeout(TIMEOUT),
                aiohttp.ClientSession(
                    auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(),
                    headers={"Accept-Encoding": "identity", "User-Agent": "ostiary"},
                ) as session,
                session.request(
                    method, url, headers=headers, data=fields, ssl=self._context, allow_redirects=False
                ) as response,
            ):  # fmt: skip
                body = b""
                async for piece in response.content.iter_chunked(16_384):
                    body += piece
                    if len(body) > MAX_ANSWER:
                        raise IssuerAway(f"what {url} answers is too long")
                return response.status, body
        except TimeoutError:
            raise IssuerAway(f"{url} does not answer within {TIMEOUT:.0f} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as problem:
            raise IssuerAway(f"{url}: {type(problem).__name__}: {bounded(str(problem), 300)}") from None
