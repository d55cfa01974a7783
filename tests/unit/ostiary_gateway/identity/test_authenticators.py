"""All ways into one Connection: which credential is asked for, which counts, and when a session must end."""

from __future__ import annotations

import hashlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.certificates import TrustDomain, der
from support.jwts import AUDIENCE, ISSUER, claims, ec_key, jwks

from ostiary_api.connection import Connection
from ostiary_api.meta import ObjectMeta
from ostiary_api.secret import TOKEN_TYPE, Secret
from ostiary_gateway.identity.authenticators import GRACE, AuthenticationError, Authenticators
from ostiary_gateway.identity.issuer_keys import KeySources
from ostiary_gateway.identity.proof import Identity, LoginRefused
from ostiary_gateway.identity.tokens import TokenIdentities

KEY = ec_key()
ID = "spiffe://example.org/agents/planner"
OIDC: dict[str, Any] = {"name": "corp", "issuer": ISSUER, "audiences": [AUDIENCE], "jwksRef": {"name": "keys"}}


class House:
    """One Connection with its Secrets, and what a client shows there."""

    def __init__(self, directory: Path) -> None:
        self.domain = TrustDomain(directory)
        self.now: float = 0
        self.asked = 0
        self.secrets = {("default", "keys"): self.secret("keys", {"jwks.json": jwks(KEY)})}
        self.secrets["default", "trust"] = self.secret("trust", {"ca.crt": self.domain.bundle})
        self.token("s3cret", "planner", "agents")

    @staticmethod
    def secret(name: str, data: dict[str, bytes], kind: str = "Opaque") -> Secret:
        return Secret(metadata=ObjectMeta(name=name, namespace="default"), type=kind, data=data)

    def token(self, token: str, username: str, groups: str = "") -> None:
        digest = hashlib.sha256(token.encode()).hexdigest()
        data = {"username": username.encode(), "groups": groups.encode(), "sha256": digest.encode()}
        self.secrets["default", f"token-{username}"] = self.secret("t", data, TOKEN_TYPE)

    def door(self, **authentication: object) -> Authenticators:
        connection = Connection.model_validate(
            {
                "metadata": {"name": "app"},
                "spec": {
                    "protocol": "Postgres",
                    "upstream": {"host": "db"},
                    "credentials": {"static": {"secretRef": {"name": "db"}}},
                    "listener": {"port": 5432},
                    "authentication": authentication,
                },
            }
        )
        tokens = TokenIdentities(self.secrets.values())
        return Authenticators(connection, tokens, self.secrets, KeySources(), lambda: self.now)

    async def enter(self, door: Authenticators, secret: str = "", certificate: bytes | None = None) -> Identity:
        async def ask() -> str:
            self.asked += 1
            return secret

        self.asked = 0
        return await door.authenticate(certificate, ask)

    async def refused(self, door: Authenticators, secret: str = "", certificate: bytes | None = None) -> LoginRefused:
        with pytest.raises(LoginRefused) as caught:
            await self.enter(door, secret, certificate)
        return caught.value


@pytest.fixture
def house(tmp_path: Path) -> House:
    found = House(tmp_path)
    found.now = time.time()
    return found


async def test_tokens_are_the_default(house: House) -> None:
    door = house.door()
    found = await house.enter(door, "s3cret")
    assert (found.subject["username"], found.method, found.expires) == ("planner", "token", None)
    assert (await house.refused(door, "wrong")).kind == "token"
    refused = await house.refused(door, KEY.token(claims()))
    assert (refused.kind, "takes no JWTs" in refused.message) == ("jwt", True)


async def test_each_secret_is_taken_for_what_it_is(house: House) -> None:
    door = house.door(oidc=[OIDC])
    assert (await house.enter(door, "s3cret")).subject["username"] == "planner"
    assert (await house.enter(door, KEY.token(claims()))).subject["username"] == "corp:planner"
    refused = await house.refused(door, "wrong")
    assert refused.kind == "token"
    assert ISSUER in refused.hint
    assert AUDIENCE in refused.hint


async def test_tokens_can_be_refused(house: House) -> None:
    door = house.door(tokens="Refuse", oidc=[OIDC])
    refused = await house.refused(door, "s3cret")
    assert "ostiary token" not in refused.hint


@pytest.mark.parametrize(
    ("username", "groups"),
    [
        ("corp:planner", ""),
        ("system:admin", ""),
        (ID, ""),
        ("me", "agents,corp:admins"),
        ("me", "system:masters"),
        ("me", "spiffe://example.org/x"),
    ],
)
async def test_a_token_cannot_take_a_name_of_another_source(house: House, username: str, groups: str) -> None:
    """Who may write Secrets must not become who an issuer, Kubernetes or an authority speaks of."""
    house.token("forged", username, groups)
    refused = await house.refused(house.door(oidc=[OIDC]), "forged")
    assert "reserved" in refused.message


async def test_a_certificate_comes_in_without_a_password(house: House) -> None:
    door = house.door(mtls={"caRef": {"name": "trust"}, "trustDomain": "example.org"})
    certificate = der(house.domain.issue(ID))
    found = await house.enter(door, "", certificate)
    assert (found.subject["username"], found.method, house.asked) == (ID, "mtls", 0)
    assert (await house.enter(door, "s3cret")).method == "token", "it is optional"


async def test_a_wrong_certificate_is_not_made_good_by_a_token(house: House) -> None:
    door = house.door(mtls={"caRef": {"name": "trust"}, "trustDomain": "example.org"})
    refused = await house.refused(door, "s3cret", der(house.domain.issue("spiffe://other.org/x")))
    assert (refused.kind, house.asked) == ("certificate", 0)


async def test_required_means_a_certificate_and_nothing_else(house: House) -> None:
    door = house.door(mtls={"caRef": {"name": "trust"}, "trustDomain": "example.org", "mode": "Required"})
    refused = await house.refused(door, "s3cret")
    assert (refused.kind, house.asked) == ("certificate", 0)
    assert "sslcert" in refused.hint


async def test_with_token_means_both_and_the_token_says_who(house: House) -> None:
    mtls = {"caRef": {"name": "trust"}, "trustDomain": "example.org", "mode": "WithToken"}
    door = house.door(mtls=mtls, oidc=[OIDC])
    certificate = der(house.domain.issue(ID, lasts=120))
    assert (await house.refused(door, "s3cret")).kind == "certificate"
    assert (await house.refused(door, "wrong", certificate)).kind == "token"
    found = await house.enter(door, KEY.token(claims()), certificate)
    assert found.subject["username"] == "corp:planner"
    assert found.expires is not None
    assert found.expires < house.now + 121, "what ends first ends the session"
    assert dict(found.shown) == {"issuer": ISSUER, "certificate": ID}
    assert door.holds(found)
    assert not house.door(mtls=mtls | {"trustDomain": "example.com"}, oidc=[OIDC]).holds(found)


async def test_what_was_proven_holds_only_while_that_way_is_open(house: House) -> None:
    mtls = {"caRef": {"name": "trust"}, "trustDomain": "example.org"}
    door = house.door(oidc=[OIDC], mtls=mtls)
    token = await house.enter(door, "s3cret")
    jwt = await house.enter(door, KEY.token(claims()))
    svid = await house.enter(door, "", der(house.domain.issue(ID)))
    after: list[tuple[dict[str, Any], tuple[bool, bool, bool]]] = [
        ({"oidc": [OIDC], "mtls": mtls}, (True, True, True)),
        ({"oidc": [OIDC | {"clockSkew": "1m"}], "mtls": mtls}, (True, False, True)),
        ({}, (True, False, False)),
        ({"tokens": "Refuse", "oidc": [OIDC]}, (False, True, False)),
        ({"mtls": mtls | {"mode": "Required"}}, (False, False, True)),
        ({"oidc": [OIDC], "mtls": mtls | {"mode": "WithToken"}}, (False, False, False)),
        ({"oidc": [OIDC | {"name": "x", "issuer": "https://x.example", "prefix": "planner/"}]}, (True, False, False)),
    ]
    for config, expected in after:
        now = house.door(**config)
        assert (now.holds(token), now.holds(jwt), now.holds(svid)) == expected, config
    house.secrets["default", "keys"] = house.secret("keys", {"jwks.json": jwks(ec_key())})
    assert not house.door(oidc=[OIDC]).holds(jwt), "its key was withdrawn"
    house.token("s3cret", "planner", "agents,admins")
    assert not house.door().holds(token), "the token's groups changed"


async def test_a_session_ends_with_what_opened_it(house: House) -> None:
    door = house.door(oidc=[OIDC])
    found = await house.enter(door, KEY.token(claims(lasts=60)))
    assert not door.ended(found, idle=True)
    house.now += 60 + 31
    assert door.ended(found, idle=True)
    assert not door.ended(found, idle=False), "it may end what it is in the middle of"
    house.now += GRACE
    assert door.ended(found, idle=False)
    assert not house.door(oidc=[OIDC], sessionsOutliveCredential=True).ended(found, idle=True)
    assert not door.ended(replace(found, expires=None), idle=True)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "Secret keys with key jwks.json does not exist"),
        ({"jwks.json": b"{}"}, "keys/jwks.json: the key set has no list keys"),
    ],
)
def test_keys_that_are_not_there_are_named(house: House, data: dict[str, bytes], says: str) -> None:
    house.secrets["default", "keys"] = house.secret("keys", data)
    with pytest.raises(AuthenticationError, match=says):
        house.door(oidc=[OIDC])


@pytest.mark.parametrize("data", [{}, {"ca.crt": b"nothing"}])
def test_authorities_that_are_not_there_are_named(house: House, data: dict[str, bytes]) -> None:
    house.secrets["default", "trust"] = house.secret("trust", data)
    with pytest.raises(AuthenticationError, match=r"authentication\.mtls\.caRef"):
        house.door(mtls={"caRef": {"name": "trust"}, "trustDomain": "example.org"})
    with pytest.raises(AuthenticationError, match=r"authentication\.oidc corp"):
        house.door(oidc=[{**OIDC, "jwksRef": None, "caRef": {"name": "trust"}}])
