"""What an ID token must say, and who it is about, with names as kube-apiserver makes them.

Source: OpenID Connect Core 1.0, 3.1.3.7. No I/O. The signature was checked before (ostiary_gateway.identity.jose).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from ostiary_gateway.identity.jose import BadToken
from ostiary_gateway.identity.proof import MAX_GROUP, MAX_GROUPS, MAX_USERNAME, is_name

SKEW: Final = 30.0
"""Seconds by which clocks may differ."""
RESERVED: Final = "system:"


@dataclass(frozen=True, slots=True)
class Rules:
    """Of one issuer. Prefixes are put before the claims as they are."""

    issuer: str
    client_id: str
    username_claim: str
    username_prefix: str
    groups_claim: str
    groups_prefix: str
    required: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Said:
    """Who it is about, and until when it counts."""

    name: str
    groups: tuple[str, ...]
    subject: str
    ends: float


def check(rules: Rules, claims: Mapping[str, object], *, now: float, nonce: str | None) -> Said:
    """nonce: None for a token that came with a refresh. Raises BadToken."""
    if claims.get("iss") != rules.issuer:
        raise BadToken("its iss is not the issuer's")
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience
    if not isinstance(audiences, list) or rules.client_id not in audiences:
        raise BadToken("it is for another audience")
    authorized = claims.get("azp")
    if (len(audiences) > 1 or authorized is not None) and authorized != rules.client_id:
        raise BadToken("it was issued to another client (azp)")
    ends = _time(claims, "exp")
    if now >= ends + SKEW:
        raise BadToken("it has expired")
    if _time(claims, "iat", required=False) > now + SKEW:
        raise BadToken("it was issued in the future (iat); compare the clocks")
    if _time(claims, "nbf", required=False) > now + SKEW:
        raise BadToken("it is not valid yet (nbf)")
    if nonce is not None and not _same(claims.get("nonce"), nonce):
        raise BadToken("its nonce is not that of this sign-in")
    for name, wanted in rules.required.items():
        value = claims.get(name)
        if value != wanted and not (isinstance(value, list) and wanted in value):
            raise BadToken(f"its claim {name} is not what is required")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject or len(subject) > MAX_USERNAME:
        raise BadToken("it has no sub")
    return Said(_name(rules, claims), _groups(rules, claims), subject, ends)


def check_access_hash(claims: Mapping[str, object], access_token: str, algorithm: str) -> None:
    """`at_hash`, where it is there, is of the access token that came with it. Raises BadToken."""
    found = claims.get("at_hash")
    if found is None:
        return
    name = {"256": "sha256", "384": "sha384", "512": "sha512"}.get(algorithm[-3:])
    if name is None:
        return  # EdDSA: it is not said which hash is meant
    digest = hashlib.new(name, access_token.encode()).digest()
    if not _same(found, base64.urlsafe_b64encode(digest[: len(digest) // 2]).rstrip(b"=").decode()):
        raise BadToken("its at_hash is of another access token")


def _same(given: object, wanted: str) -> bool:
    return isinstance(given, str) and hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode())


def _name(rules: Rules, claims: Mapping[str, object]) -> str:
    claim = rules.username_claim
    value = claims.get(claim)
    if not is_name(value, MAX_USERNAME - len(rules.username_prefix)):
        raise BadToken(f"its claim {claim} is no name")
    if claim == "email" and claims.get("email_verified", True) is not True:
        raise BadToken("its claim email counts only with email_verified: true")
    return _not_reserved(f"{rules.username_prefix}{value}", claim)


def _groups(rules: Rules, claims: Mapping[str, object]) -> tuple[str, ...]:
    claim = rules.groups_claim
    if not claim:
        return ()
    found = claims.get(claim, [])
    listed = [found] if isinstance(found, str) else found
    if not isinstance(listed, list) or len(listed) > MAX_GROUPS:
        raise BadToken(f"its claim {claim} is no list of at most {MAX_GROUPS} groups")
    if not all(is_name(each, MAX_GROUP - len(rules.groups_prefix)) for each in listed):
        raise BadToken(f"its claim {claim} has something that is no name of a group")
    return tuple(_not_reserved(f"{rules.groups_prefix}{each}", claim) for each in listed)


def _not_reserved(name: str, claim: str) -> str:
    if name.startswith(RESERVED):
        raise BadToken(f"its claim {claim} makes a name that begins with {RESERVED}")
    return name


def _time(claims: Mapping[str, object], name: str, *, required: bool = True) -> float:
    value = claims.get(name)
    if value is None and not required:
        return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**40:
        raise BadToken(f"its {name} is no time")
    return float(value)
