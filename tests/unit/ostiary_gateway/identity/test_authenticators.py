"""All ways into one Connection: which credential is asked for, which counts, and when a session must end."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.certificates import TrustDomain, der
from support.jwts import AUDIENCE, ISSUER, claims, ec_key, jwks

from ostiary_api.authentication import Authentication
from ostiary_api.connection import Connection
from ostiary_api.meta import ObjectMeta
from ostiary_api.secret import TOKEN_TYPE, Secret
from ostiary_gateway.identity.authenticators import GRACE, AuthenticationError, Authenticators
from ostiary_gateway.identity.issuer_keys import KeySources
from ostiary_gateway.identity.proof import Identity, LoginRefused
from ostiary_gateway.identity.token_review import TokenReviews
from ostiary_gateway.identity.tokens import TokenIdentities
from ostiary_gateway.kube.resources import Reviewed

KEY = ec_key()
ID = "spiffe://example.org/agents/planner"
OIDC: dict[str, Any] = {"name": "corp", "issuer": ISSUER, "audiences": [AUDIENCE], "jwksRef": {"name": "keys"}}


CLUSTER = "https://kubernetes.default.svc"
ACCOUNT = "system:serviceaccount:agents:planner"


class ApiServer:
    """Takes every token that is for us."""

    accepts = True

    async def review_token(self, token: str, audiences: Sequence[str], *, timeout: float = 0) -> Reviewed:
        return Reviewed(self.accepts, ACCOUNT, "uid-1", ("system:serviceaccounts",), {}, tuple(audiences))


def account_token(**more: object) -> str:
    usual: dict[str, object] = {"iss": CLUSTER, "aud": ["ostiary"], "kubernetes.io": {"namespace": "agents"}}
    return KEY.token(claims(ACCOUNT, **{**usual, **more}))


class House:
    """One Connection with its Secrets, and what a client shows there."""

    def __init__(self, directory: Path) -> None:
        self.domain = TrustDomain(directory)
        self.now: float = 0
        self.asked = 0
        self.cluster: TokenReviews | None = None
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

    def door(self, namespace: str = "default", **authentication: object) -> Authenticators:
        connection = Connection.model_validate(
            {
                "metadata": {"name": "app", "namespace": namespace},
                "spec": {
                    "protocol": "Postgres",
                    "upstream": {"host": "db"},
                    "credentials": {"static": {"secretRef": {"name": "db"}}},
                    "listener": {"port": 5432},
                    "authentication": {"serviceAccounts": "Allow", **authentication},
                },
            }
        )
        tokens = TokenIdentities(self.secrets.values())
        return Authenticators(connection, tokens, self.secrets, KeySources(), lambda: self.now, reviews=self.cluster)

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


@pytest.fixture
def in_cluster(house: House) -> House:
    house.cluster = TokenReviews(ApiServer(), lambda: house.now)
    return house


async def test_in_a_cluster_service_accounts_come_in(in_cluster: House) -> None:
    door = in_cluster.door()
    found = await in_cluster.enter(door, account_token())
    assert (found.subject["username"], found.subject["kind"], found.method) == (
        ACCOUNT, "ServiceAccount", "serviceAccount",
    )  # fmt: skip
    assert (await in_cluster.enter(door, "s3cret")).method == "token"
    assert "serviceAccountToken.audience: ostiary" in (await in_cluster.refused(door, "wrong")).hint
    refused = await in_cluster.refused(door, account_token(aud=[CLUSTER]))
    assert "an agent must not hand that to anybody" in refused.message


async def test_outside_of_a_cluster_they_do_not(house: House) -> None:
    refused = await house.refused(house.door(), account_token())
    assert "its gateway runs outside of a cluster" in refused.message
    assert "ostiary token create" in refused.hint


async def test_a_connection_for_service_accounts_only_lets_nobody_in_outside_of_a_cluster(house: House) -> None:
    nobody = await house.refused(house.door(tokens="Refuse"), account_token())
    assert nobody.hint == "Send a ServiceAccount token to a gateway in a cluster: this one lets nobody in."
    mtls = {"caRef": {"name": "trust"}, "trustDomain": "example.org"}
    certificate = await house.refused(house.door(tokens="Refuse", mtls=mtls), "s3cret")
    assert certificate.hint == "Send a client certificate with a SPIFFE id of the trust domain example.org."


async def test_a_connection_may_refuse_them(in_cluster: House) -> None:
    refused = await in_cluster.refused(in_cluster.door(serviceAccounts="Refuse"), account_token())
    assert "its spec.authentication says so" in refused.message
    assert "serviceAccountToken" not in refused.hint


async def test_a_connection_takes_those_of_its_namespace_unless_it_says_otherwise() -> None:
    assert Authentication().service_accounts == "SameNamespace"


async def test_a_connection_may_take_those_of_its_namespace_only(in_cluster: House) -> None:
    refused = await in_cluster.refused(in_cluster.door(serviceAccounts="SameNamespace"), account_token())
    assert "agents/planner" in refused.message
    assert "set serviceAccounts: Allow" in refused.hint
    door = in_cluster.door("agents", serviceAccounts="SameNamespace")
    assert (await in_cluster.enter(door, account_token())).subject["namespace"] == "agents"


async def test_a_jwt_goes_to_its_issuer_and_any_other_to_the_api_server(in_cluster: House) -> None:
    door = in_cluster.door(oidc=[OIDC])
    assert (await in_cluster.enter(door, KEY.token(claims()))).method == "oidc"
    assert (await in_cluster.enter(door, account_token())).method == "serviceAccount"
    refused = await in_cluster.refused(door, KEY.token(claims(iss="https://login.example.org")))
    assert "its issuer is not one that this Connection takes" in refused.message
    own = {**OIDC, "issuer": CLUSTER}
    assert (await in_cluster.enter(in_cluster.door(oidc=[own]), account_token())).subject["username"] == (
        f"corp:{ACCOUNT}"
    ), "who configures the cluster as an issuer gets its names with a prefix"


async def test_nobody_else_can_have_the_name_of_a_service_account(in_cluster: House) -> None:
    in_cluster.token("forged", ACCOUNT)
    assert "reserved" in (await in_cluster.refused(in_cluster.door(), "forged")).message


async def test_a_certificate_and_a_service_account_go_together(in_cluster: House) -> None:
    mtls = {"caRef": {"name": "trust"}, "trustDomain": "example.org", "mode": "WithToken"}
    door = in_cluster.door(tokens="Refuse", mtls=mtls)
    assert (await in_cluster.refused(door, account_token())).kind == "certificate"
    found = await in_cluster.enter(door, account_token(), der(in_cluster.domain.issue(ID, lasts=120)))
    assert (found.subject["username"], dict(found.shown)["certificate"]) == (ACCOUNT, ID)
    in_cluster.now += 130
    assert "ServiceAccount token or client certificate that opened" in door.ended(found, idle=True)


async def test_a_session_of_a_service_account_goes_on_only_while_it_is_taken(in_cluster: House) -> None:
    found = await in_cluster.enter(in_cluster.door(), account_token())
    for authentication, holds in (
        ({}, True),
        ({"oidc": [OIDC]}, True),
        ({"tokens": "Refuse"}, True),
        ({"serviceAccounts": "SameNamespace"}, False),
        ({"serviceAccounts": "Refuse"}, False),
    ):
        assert in_cluster.door(**authentication).holds(found) == holds, authentication


async def test_a_session_of_a_service_account_ends_with_its_token_or_its_account(in_cluster: House) -> None:
    server, now = ApiServer(), 0.0
    reviews = in_cluster.cluster = TokenReviews(server, lambda: in_cluster.now, lambda: now)
    door = in_cluster.door()
    found = await in_cluster.enter(door, account_token(exp=int(in_cluster.now) + 3600))
    assert door.ended(found, idle=True) == ""
    in_cluster.now += 3601
    assert "ServiceAccount token that opened this session has expired" in door.ended(found, idle=True)
    assert door.ended(found, idle=False) == "", "it may end what it is in the middle of"
    assert in_cluster.door(sessionsOutliveCredential=True).ended(found, idle=True) == ""
    in_cluster.now -= 3601
    server.accepts = False
    for _ in range(2):
        now += 61
        door.ended(found, idle=True)
        await reviews.review_again()
    assert "does not exist any more" in door.ended(found, idle=False), "nothing more for who was deleted"


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
