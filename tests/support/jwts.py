"""Issuers for tests: keys, JWTs as an issuer or an attacker would make them, and an HTTPS server for the keys."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from support.certificates import KeyPair

ISSUER = "https://login.example.com"
AUDIENCE = "ostiary"

Json = dict[str, Any]
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclass(frozen=True)
class SigningKey:
    """One key of an issuer. `algorithm` is what it signs with unless told otherwise."""

    kid: str
    algorithm: str
    private: PrivateKey = field(repr=False)

    @property
    def jwk(self) -> Json:
        public = self.private.public_key()
        makers: Json = {"RS": RSAAlgorithm, "PS": RSAAlgorithm, "ES": ECAlgorithm, "Ed": OKPAlgorithm}
        found: Json = makers[self.algorithm[:2]].to_jwk(public, as_dict=True)
        return {**found, "kid": self.kid, "use": "sig"}

    def sign(self, signed: bytes, algorithm: str | None = None) -> bytes:
        digest = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}
        name = algorithm or self.algorithm
        if isinstance(self.private, ed25519.Ed25519PrivateKey):
            return self.private.sign(signed)
        sha = digest[name[2:]]()
        if isinstance(self.private, rsa.RSAPrivateKey):
            if name.startswith("PS"):
                return self.private.sign(signed, padding.PSS(padding.MGF1(sha), sha.digest_size), sha)
            return self.private.sign(signed, padding.PKCS1v15(), sha)
        r, s = utils.decode_dss_signature(self.private.sign(signed, ec.ECDSA(sha)))
        size = (self.private.key_size + 7) // 8
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")

    def token(self, claims: Mapping[str, object] | bytes, **header: object) -> str:
        """A JWT. `header` changes or (with None) removes what is usual in its header."""
        head = {"alg": self.algorithm, "kid": self.kid, "typ": "JWT", **header}
        head = {name: value for name, value in head.items() if value is not None}
        payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
        signed = f"{encode(json.dumps(head).encode())}.{encode(payload)}"
        return f"{signed}.{encode(self.sign(signed.encode()))}"


def rsa_key(kid: str = "rsa", algorithm: str = "RS256", bits: int = 2048) -> SigningKey:
    return SigningKey(kid, algorithm, rsa.generate_private_key(65537, bits))


def ec_key(kid: str = "ec", algorithm: str = "ES256") -> SigningKey:
    curve: ec.EllipticCurve = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}[algorithm]
    return SigningKey(kid, algorithm, ec.generate_private_key(curve))


def ed_key(kid: str = "ed") -> SigningKey:
    return SigningKey(kid, "EdDSA", ed25519.Ed25519PrivateKey.generate())


def jwks(*keys: SigningKey) -> bytes:
    return json.dumps({"keys": [key.jwk for key in keys]}).encode()


def claims(subject: str = "planner", *, now: float | None = None, lasts: float = 600, **more: object) -> Json:
    """Claims that are in order; `more` changes or (with None) removes some."""
    at = int(time.time() if now is None else now)
    usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "iat": at, "nbf": at, "exp": at + int(lasts), **more}
    return {name: value for name, value in usual.items() if value is not None}


class IssuerServer:
    """An issuer's HTTPS server. Tests change what it answers, and read what it was asked."""

    def __init__(self, certificate: KeyPair, *keys: SigningKey) -> None:
        self.keys: tuple[SigningKey, ...] = keys
        self.headers: dict[str, str] = {}
        self.discovery: Json | None = None
        """What discovery answers; None: what is right."""
        self.body: bytes | None = None
        """What the keys' URL answers; None: the keys."""
        self.status = 200
        self.redirect = ""
        self.silent = False
        self.asked: list[str] = []
        self.port = 0
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate.certificate, certificate.key)
        self._loop = asyncio.new_event_loop()
        self._runner: web.AppRunner | None = None

    @property
    def issuer(self) -> str:
        return f"https://localhost:{self.port}"

    def fetches(self) -> int:
        return self.asked.count("/keys")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        while self.silent:
            await asyncio.sleep(0.05)
        if self.redirect:
            return web.Response(status=302, headers={"Location": self.redirect})
        if request.path == "/.well-known/openid-configuration":
            usual = {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"}
            return web.json_response(usual if self.discovery is None else self.discovery)
        if request.path != "/keys":
            return web.Response(status=404)
        body = jwks(*self.keys) if self.body is None else self.body
        return web.Response(body=body, status=self.status, headers=self.headers)

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, ssl_context=self._context, reuse_address=True)
        await site.start()
        addresses = self._runner.addresses
        self.port = addresses[0][1]

    def start(self) -> None:
        """Begins to answer, at the same port as before if there was one."""
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(10)

    def stop(self) -> None:
        """The issuer is away: nothing listens."""
        if self._runner is not None:
            asyncio.run_coroutine_threadsafe(self._runner.cleanup(), self._loop).result(10)
            self._runner = None

    @contextmanager
    def running(self) -> Iterator[IssuerServer]:
        thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        thread.start()
        try:
            self.start()
            yield self
        finally:
            self.silent = False
            self.stop()
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(10)
            self._loop.close()
