"""An OpenID provider for tests: real codes and signatures, PKCE checked, refresh tokens used once; wrong if told to."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit

from aiohttp import web
from support.certificates import KeyPair
from support.jwts import Json, SigningKey, jwks, rsa_key

CLIENT = "ostiary-console"
SECRET = "the secret of the console +/%"


@dataclass(slots=True)
class _Granted:
    user: str
    query: Mapping[str, str]


@dataclass(slots=True)
class Provider:
    """People are those in `people`, with their groups; who is at the browser says `user`."""

    certificate: KeyPair
    people: dict[str, list[str]] = field(default_factory=lambda: {"ann": ["dba", "devs"], "bob": ["devs"]})
    user: str = "ann"
    lasts: float = 300.0
    """Seconds that an ID token is good for."""
    refreshes: bool = True
    more: dict[str, object] = field(default_factory=dict)
    """Claims that are changed; None removes one."""
    answer: dict[str, str] = field(default_factory=dict)
    """Parameters of the way back that are changed; an empty one is left out."""
    discovery: dict[str, object] = field(default_factory=dict)
    key: SigningKey = field(default_factory=rsa_key)
    signs: SigningKey | None = None
    """Another key than the one that is published."""
    port: int = 0
    asked: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Why a request for tokens was refused."""
    away: bool = False
    _codes: dict[str, _Granted] = field(default_factory=dict)
    _refresh: dict[str, _Granted] = field(default_factory=dict)

    @property
    def issuer(self) -> str:
        return f"https://localhost:{self.port}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        if self.away:
            return web.Response(status=503)
        match request.path:
            case "/.well-known/openid-configuration":
                return web.json_response({
                    "issuer": self.issuer, "authorization_endpoint": f"{self.issuer}/authorize",
                    "token_endpoint": f"{self.issuer}/token", "jwks_uri": f"{self.issuer}/keys",
                    "response_types_supported": ["code"], "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["RS256"], "code_challenge_methods_supported": ["S256"],
                    "authorization_response_iss_parameter_supported": True, **self.discovery,
                })  # fmt: skip
            case "/keys":
                return web.Response(body=jwks(self.key), content_type="application/json")
            case "/authorize":
                return self._authorize(dict(request.query))
            case "/token":
                return self._token(request, dict(parse_qsl(await request.text())))
        return web.Response(status=404)

    def _authorize(self, query: dict[str, str]) -> web.Response:
        assert query["response_type"] == "code"
        assert query["client_id"] == CLIENT
        assert query["code_challenge_method"] == "S256"
        assert "openid" in query["scope"].split()
        code = secrets.token_urlsafe(16)
        self._codes[code] = _Granted(self.user, query)
        back = {"code": code, "state": query["state"], "iss": self.issuer, **self.answer}
        given = urlencode({name: value for name, value in back.items() if value})
        return web.Response(status=302, headers={"Location": f"{query['redirect_uri']}?{given}"})

    def _token(self, request: web.Request, fields: dict[str, str]) -> web.Response:
        problem = self._refusal(request, fields)
        if problem:
            self.refused.append(problem)
            return web.json_response({"error": "invalid_grant", "error_description": problem}, status=400)
        if fields["grant_type"] == "refresh_token":
            granted, nonce = self._refresh.pop(fields["refresh_token"]), None
        else:
            granted = self._codes.pop(fields["code"])
            nonce = granted.query["nonce"]
        access = secrets.token_urlsafe(16)
        at_hash = base64.urlsafe_b64encode(hashlib.sha256(access.encode()).digest()[:16]).rstrip(b"=").decode()
        now = int(time.time())
        claims: Json = {
            "iss": self.issuer, "aud": CLIENT, "sub": granted.user, "iat": now, "exp": now + int(self.lasts),
            "groups": self.people[granted.user], "nonce": nonce, "at_hash": at_hash, **self.more,
        }  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        answer: dict[str, Any] = {"access_token": access, "token_type": "Bearer", "expires_in": int(self.lasts)}
        answer["id_token"] = (self.signs or self.key).token(claims)
        if self.refreshes:
            answer["refresh_token"] = refresh = secrets.token_urlsafe(16)
            self._refresh[refresh] = granted
        return web.json_response(answer)

    def _refusal(self, request: web.Request, fields: dict[str, str]) -> str:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        user, _, word = base64.b64decode(given or "").decode().partition(":")
        if scheme != "Basic" or (unquote_plus(user), unquote_plus(word)) != (CLIENT, SECRET):
            return "the client did not prove who it is"
        if fields["grant_type"] == "refresh_token":
            return "" if fields.get("refresh_token") in self._refresh else "the refresh token was used already"
        granted = self._codes.get(fields.get("code", ""))
        if granted is None:
            return "the code was used already, or never given"
        if fields.get("redirect_uri") != granted.query["redirect_uri"]:
            return "the redirect_uri is another one"
        made = base64.urlsafe_b64encode(hashlib.sha256(fields.get("code_verifier", "").encode()).digest()).rstrip(b"=")
        return "" if made.decode() == granted.query["code_challenge"] else "the verifier does not fit the challenge"

    @contextmanager
    def running(self) -> Iterator[Provider]:
        """In a thread, so that it answers whatever the test does meanwhile."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate.certificate, self.certificate.key)

        async def start() -> web.AppRunner:
            app = web.Application()
            app.router.add_route("*", "/{path:.*}", self.handle)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", self.port, ssl_context=context).start()
            self.port = runner.addresses[0][1]
            return runner

        runner = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()


def path_of(url: str) -> str:
    """Path and query of an address of the console."""
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
