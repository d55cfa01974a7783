"""Agents by the JWTs of OIDC issuers: which issuer, its keys, its rules; then a subject, or why not."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Mapping
from typing import Final

from ostiary_api.authentication import OIDCIssuer
from ostiary_api.secret import Secret

from .claims import check_claims, check_header, subject_of
from .issuer_keys import FixedKeys, KeySource, KeySources, KeysUnavailable
from .jose import BadToken, UnverifiedToken, VerifyingKey, parse_jwks, parse_token
from .proof import Identity, LoginRefused, bounded

_NAMED_AUDIENCES: Final = 3


class IssuerError(Exception):
    """An issuer cannot be used as it is configured. The message says which field and why."""


class OIDCIdentities:
    """The issuers of one Connection. `sources` by the names of the issuers."""

    def __init__(self, issuers: tuple[OIDCIssuer, ...], sources: Mapping[str, KeySource]) -> None:
        self._issuers = {issuer.issuer: issuer for issuer in issuers}
        self._sources = dict(sources)
        self._revisions = {issuer.name: _revision(issuer) for issuer in issuers}

    @property
    def expected(self) -> str:
        """What a JWT must be, in words."""
        wanted = []
        for issuer in self._issuers.values():
            audiences = " or ".join(issuer.audiences[:_NAMED_AUDIENCES])
            wanted.append(f"{issuer.issuer} for the audience {audiences}")
        return "a JWT of " + ", or of ".join(wanted)

    @property
    def prefixes(self) -> tuple[str, ...]:
        return tuple(issuer.names_begin for issuer in self._issuers.values())

    def takes(self, secret: str) -> bool:
        """Whether a JWT says that it is of one of these issuers."""
        try:
            return bool(self._issuers) and parse_token(secret).issuer in self._issuers
        except BadToken:
            return False

    async def identify(self, secret: str, now: float, certificate: bytes | None) -> Identity:
        """Who a JWT stands for. Raises LoginRefused."""
        issuer: OIDCIssuer | None = None
        try:
            token = parse_token(secret)
            issuer = self._issuers.get(token.issuer)
            if issuer is None:
                raise BadToken("its issuer is not one that this Connection takes")
            check_header(issuer, token.header)
            key = await self._key(issuer, token)
            claims = token.verify(key)
            ends = check_claims(issuer, claims, now, certificate)
            subject = subject_of(issuer, claims)
        except BadToken as problem:
            of = f" of {issuer.issuer}" if issuer is not None else ""
            raise LoginRefused(
                "jwt", f"jwt{of}: {problem}", f"The JWT{of} is not accepted: {problem}.", f"Send {self.expected}."
            ) from None
        credential = f"oidc {issuer.name} {self._revisions[issuer.name]} {key.thumbprint}"
        return Identity(subject, credential, "oidc", ends, "", (("issuer", issuer.issuer),))

    async def _key(self, issuer: OIDCIssuer, token: UnverifiedToken) -> VerifyingKey:
        try:
            key = await self._sources[issuer.name].find(token.header)
        except KeysUnavailable as problem:
            raise LoginRefused(
                "issuer", f"jwt of {issuer.issuer}: its keys cannot be had: {bounded(str(problem), 300)}",
                f"The keys of {issuer.issuer} cannot be had now, so its JWTs cannot be checked.",
                "Try again later; the gateway's record says under this id what is wrong.",
            ) from None  # fmt: skip
        if key is None:
            named = "the key that it names (kid)" if token.header.kid is not None else "a key of its algorithm"
            raise BadToken(f"the issuer does not have {named}")
        return key

    def holds(self, credential: str) -> bool:
        """Whether the issuer that proved this is still configured in the same way, and still has that key."""
        _, name, revision, thumbprint = credential.split(" ")
        return self._revisions.get(name) == revision and self._sources[name].has(thumbprint)


def key_source(
    issuer: OIDCIssuer, namespace: str, secrets: Mapping[tuple[str, str], Secret], remote: KeySources
) -> KeySource:
    """Where this issuer's keys come from. Raises IssuerError."""
    field = f"authentication.oidc {issuer.name}"
    if issuer.jwks_ref is not None:
        ref = issuer.jwks_ref
        held = secrets.get((namespace, ref.name))
        if held is None or ref.key not in held.data:
            raise IssuerError(f"{field}: Secret {ref.name} with key {ref.key} does not exist")
        try:
            return FixedKeys(parse_jwks(held.data[ref.key]))
        except ValueError as problem:
            raise IssuerError(f"{field}: {ref.name}/{ref.key}: {problem}") from None
    authorities: str | None = None
    if issuer.ca_ref is not None:
        ca = issuer.ca_ref
        held = secrets.get((namespace, ca.name))
        if held is None or ca.key not in held.data:
            raise IssuerError(f"{field}: Secret {ca.name} with key {ca.key} does not exist")
        try:
            authorities = held.text(ca.key)
        except ValueError as problem:
            raise IssuerError(f"{field}: {problem}") from None
    try:
        return remote.remote(issuer.issuer, issuer.jwks_url, authorities)
    except (ssl.SSLError, ValueError) as problem:
        raise IssuerError(f"{field}: caRef holds no PEM certificate: {problem}") from None


def _revision(issuer: OIDCIssuer) -> str:
    return hashlib.sha256(issuer.model_dump_json(by_alias=True).encode()).hexdigest()[:32]
