"""JWTs, good and hostile: who they stand for, or why they are refused. A part of a token is never in the words."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.jwts import AUDIENCE, ISSUER, SigningKey, claims, ec_key, ed_key, encode, jwks, rsa_key

from ostiary_api.authentication import OIDCIssuer
from ostiary_gateway.identity.claims import subject_of
from ostiary_gateway.identity.issuer_keys import FixedKeys
from ostiary_gateway.identity.jose import BadToken, parse_jwks, parse_token
from ostiary_gateway.identity.oidc import OIDCIdentities
from ostiary_gateway.identity.proof import Identity, LoginRefused

NOW = 1_800_000_000.0
RSA = rsa_key()
PSS = SigningKey("rsa", "PS256", RSA.private)
EC = ec_key()
ED = ed_key()
EC384 = ec_key("ec384", "ES384")
STRANGER = rsa_key("rsa")

Json = dict[str, Any]


def issuer(**more: object) -> OIDCIssuer:
    return OIDCIssuer.model_validate({"name": "corp", "issuer": ISSUER, "audiences": [AUDIENCE], **more})


def login(
    token: str, *keys: SigningKey, now: float = NOW, certificate: bytes | None = None, **config: object
) -> Identity:
    known = parse_jwks(jwks(*(keys or (RSA, EC, ED))))
    identities = OIDCIdentities((issuer(**config),), {"corp": FixedKeys(known)})
    return asyncio.run(identities.identify(token, now, certificate))


def why(token: str, *keys: SigningKey, **more: Any) -> str:
    with pytest.raises(LoginRefused) as caught:
        login(token, *keys, **more)
    refused = caught.value
    words = f"{refused.reason} {refused.message} {refused.hint}"
    assert not any(len(part) > 20 and part in words for part in token.split(".")), "the token is in the words"
    assert refused.kind == "jwt"
    assert AUDIENCE in refused.hint, "the hint names what is expected"
    assert ISSUER in refused.hint
    return refused.reason


def good(**more: object) -> Json:
    return claims(now=NOW, **more)


# What is taken


@pytest.mark.parametrize("key", [RSA, PSS, EC, ED, EC384], ids=lambda key: key.algorithm)
def test_every_asymmetric_algorithm_that_is_configured_works(key: SigningKey) -> None:
    found = login(key.token(good()), key, algorithms=["RS256", "PS256", "ES256", "ES384", "EdDSA"])
    assert found.subject["username"] == "corp:planner"
    assert (found.method, found.expires) == ("oidc", NOW + 600 + 30)


def test_claims_make_the_subject() -> None:
    token = RSA.token(
        good(
            sub="0001", email="planner@example.com", email_verified=True, roles=["dev", "ops"], person="alice",
            team={"name": "data", "size": 3}, secret="not for policies",
        )
    )  # fmt: skip
    found = login(
        token, usernameClaim="email", groupsClaim="roles", claims=["team"], onBehalfOfClaim="person",
        subjectKind="Workload",
    )  # fmt: skip
    assert found.subject == {
        "username": "corp:planner@example.com",
        "uid": "0001",
        "groups": ["corp:dev", "corp:ops"],
        "kind": "Workload",
        "namespace": "",
        "name": "corp:planner@example.com",
        "claims": {"team": {"name": "data", "size": 3}},
        "onBehalfOf": "corp:alice",
    }


def test_a_token_of_a_delegation_is_the_actors_on_behalf_of_its_subject() -> None:
    token = RSA.token(good(sub="alice", act={"sub": "planner", "act": {"sub": "earlier"}}))
    found = login(token, delegation="Actor").subject
    assert (found["username"], found["uid"], found["onBehalfOf"]) == ("corp:planner", "planner", "corp:alice")


def test_a_type_is_read_as_a_media_type() -> None:
    for written in ("at+jwt", "AT+JWT", "application/at+jwt"):
        assert login(RSA.token(good(), typ=written), tokenType="at+jwt")


def test_a_token_without_a_kid_is_checked_by_the_only_key_of_its_algorithm() -> None:
    assert login(RSA.token(good(), kid=None))
    assert "several" in why(RSA.token(good(), kid=None), RSA, rsa_key("other"))


def test_a_token_that_is_bound_to_a_certificate_counts_only_with_it() -> None:
    certificate = b"the certificate"
    digest = base64.urlsafe_b64encode(hashlib.sha256(certificate).digest()).rstrip(b"=").decode()
    token = RSA.token(good(cnf={"x5t#S256": digest}))
    assert login(token, certificate=certificate)
    assert "none was shown" in why(token)
    assert "another client certificate" in why(token, certificate=b"another")
    assert "cannot be checked" in why(RSA.token(good(cnf={"jkt": digest})), certificate=certificate)


# Signatures and keys


def test_an_unsigned_token_is_refused() -> None:
    header = encode(b'{"alg":"none","kid":"rsa"}')
    payload = encode(json.dumps(good()).encode())
    assert "three parts" in why(f"{header}.{payload}.")
    assert "algorithm none" in why(f"{header}.{payload}.AAAA")
    for spelling in ("None", "NONE", "nOnE"):
        assert "is not one of" in why(RSA.token(good(), alg=spelling))


def test_a_public_key_is_no_shared_secret() -> None:
    """CVE-2015-9235 and kin: HS256 with the issuer's public key as the secret."""
    public = RSA.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    signed = encode(b'{"alg":"HS256","kid":"rsa"}') + "." + encode(json.dumps(good()).encode())
    forged = f"{signed}.{encode(hmac.digest(public, signed.encode(), 'sha256'))}"
    assert "algorithm HS256 is not one of" in why(forged)


def test_another_key_of_the_same_kid_is_refused() -> None:
    assert "signature is wrong" in why(STRANGER.token(good()))


def test_an_algorithm_that_does_not_fit_the_key_is_refused() -> None:
    assert "does not have the key" in why(EC.token(good(), kid="rsa"))
    assert "does not have the key" in why(RSA.token(good(), alg="ES256"))


def test_an_algorithm_that_is_not_configured_is_refused_although_the_key_could() -> None:
    assert "algorithm PS256 is not one of RS256" in why(PSS.token(good()))


def test_a_key_that_the_issuer_pins_to_another_algorithm_is_not_used() -> None:
    pinned = json.dumps({"keys": [{**RSA.jwk, "alg": "RS512"}]}).encode()
    assert parse_jwks(pinned).find(parse_token(RSA.token(good())).header) is None


@pytest.mark.parametrize(
    "header",
    [
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/certificate"},
        {"jwk": STRANGER.jwk},
        {"x5c": ["MIIB"]},
    ],
    ids=lambda header: next(iter(header)),
)
def test_a_key_that_the_token_brings_along_is_never_used(header: Json) -> None:
    assert "signature is wrong" in why(STRANGER.token(good(), **header))
    assert login(RSA.token(good(), **header)), "it is not even read"


@pytest.mark.parametrize(
    "header", [{"crit": ["exp"]}, {"crit": []}, {"b64": False}, {"zip": "DEF"}, {"enc": "A256GCM"}], ids=str
)
def test_a_header_that_changes_what_is_signed_is_refused(header: Json) -> None:
    why(RSA.token(good(), **header))


@pytest.mark.parametrize(
    "kid", ["../../etc/passwd", "rsa\0", "' or 1=1 --", "RSA", 7, ["rsa"], {"a": 1}, "", "x" * 600]
)
def test_a_kid_is_a_name_and_nothing_else(kid: object) -> None:
    why(RSA.token(good(), kid=kid))


def test_a_signature_of_zeros_is_refused() -> None:
    """CVE-2022-21449: r = s = 0 verified for any key."""
    signed = EC.token(good()).rpartition(".")[0]
    assert "signature is wrong" in why(f"{signed}.{encode(bytes(64))}")


@pytest.mark.parametrize("length", [0, 1, 63, 65, 128])
def test_a_signature_of_another_length_is_refused(length: int) -> None:
    signed = EC.token(good()).rpartition(".")[0]
    why(f"{signed}.{encode(b'x' * length)}")


def test_a_token_has_one_spelling() -> None:
    token = EC.token(good())
    with pytest.raises(LoginRefused):
        login(token[:-1] + chr(ord(token[-1]) + 1))
    for other in (token + "=", token + "\n", " " + token, token.replace("-", "+").replace("_", "/") + "/"):
        assert "base64url" in why(other)


# Claims


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"iss": "https://login.example.com/"}, "issuer is not one"),
        ({"iss": "https://evil.example"}, "issuer is not one"),
        ({"iss": None}, "no iss"),
        ({"iss": [ISSUER]}, "no iss"),
        ({"aud": None}, "no aud"),
        ({"aud": "another"}, "another audience"),
        ({"aud": []}, "another audience"),
        ({"aud": {"ostiary": 1}}, "no list of text"),
        ({"aud": [AUDIENCE, 7]}, "no list of text"),
        ({"exp": None}, "no exp"),
        ({"exp": NOW - 31}, "expired"),
        ({"exp": str(NOW + 60)}, "no time"),
        ({"exp": True}, "no time"),
        ({"exp": 10**30}, "no time"),
        ({"exp": -1}, "no time"),
        ({"nbf": NOW + 31}, "not valid yet"),
        ({"nbf": "now"}, "no time"),
        ({"iat": NOW + 31}, "in the future"),
        ({"exp": NOW + 90_000}, "longer than maxTokenLifetime"),
        ({"exp": NOW + 90_000, "iat": None, "nbf": None}, "longer than maxTokenLifetime"),
        ({"sub": None}, "no claim sub"),
        ({"sub": ""}, "no name"),
        ({"sub": " planner"}, "no name"),
        ({"sub": 7}, "no name"),
        ({"sub": ["planner"]}, "no name"),
        ({"sub": "a\nb"}, "no name"),
        ({"sub": "a\0b"}, "no name"),
        ({"sub": "\u202eplanner"}, "no name"),
        ({"sub": "x" * 600}, "no name"),
        ({"act": {"sub": "x"}}, "delegation is Refuse"),
    ],
)
def test_claims_that_are_not_in_order(change: Json, says: str) -> None:
    assert says in why(RSA.token(good(**change)))


def test_clocks_may_differ_a_little() -> None:
    assert login(RSA.token(good(exp=NOW - 29)))
    assert login(RSA.token(good(nbf=NOW + 29, iat=NOW + 29)))
    assert "expired" in why(RSA.token(good(exp=NOW - 29)), clockSkew="0s")


def test_an_email_counts_only_when_the_issuer_has_verified_it() -> None:
    for claim in ({}, {"email_verified": False}, {"email_verified": "true"}):
        token = RSA.token(good(email="ceo@example.com", **claim))
        assert "email_verified" in why(token, usernameClaim="email")


def test_a_token_that_leaves_its_groups_out_is_refused() -> None:
    """Else a rule that denies a group could be escaped; some issuers leave the claim out when it grows long."""
    assert "no claim groups" in why(RSA.token(good()), groupsClaim="groups")
    assert login(RSA.token(good(groups=[])), groupsClaim="groups").subject["groups"] == []
    assert login(RSA.token(good(groups="one")), groupsClaim="groups").subject["groups"] == ["corp:one"]
    for bad in ([1], [""], ["a\0"], {"a": "b"}, [["a"]], ["x"] * 300):
        why(RSA.token(good(groups=bad)), groupsClaim="groups")


def test_names_of_kubernetes_and_spiffe_cannot_be_made() -> None:
    found = login(RSA.token(good(sub="system:masters", groups=["system:masters"])), groupsClaim="groups").subject
    assert (found["username"], found["groups"]) == ("corp:system:masters", ["corp:system:masters"])


def test_required_claims_are_required() -> None:
    config: Json = {"requiredClaims": {"hd": "example.com"}}
    assert login(RSA.token(good(hd="example.com")), **config)
    assert login(RSA.token(good(hd=["other", "example.com"])), **config)
    for change in ({}, {"hd": "evil.com"}, {"hd": ["evil.com"]}, {"hd": {"example.com": 1}}, {"hd": "example.com "}):
        assert "claim hd" in why(RSA.token(good(**change)), **config)


def test_an_access_token_can_be_told_from_an_id_token() -> None:
    for typ in ("JWT", None, "logout+jwt", "id+jwt"):
        assert "typ is not at+jwt" in why(RSA.token(good(), typ=typ), tokenType="at+jwt")


def test_a_delegation_that_cannot_be_understood_is_refused() -> None:
    for act in ("planner", None, [], {}, {"sub": 7}, {"sub": "x", "iss": "https://evil.example"}):
        payload = {**good(sub="alice"), "act": act}
        why(RSA.token(payload), delegation="Actor")


def test_claims_for_policies_are_bounded_and_plain() -> None:
    deep: object = "x"
    for _ in range(20):
        deep = [deep]
    for value in (deep, "x" * 9000, 2**63, "a\0b", {"\ud800": 1}):
        assert "policies" in why(RSA.token(good(team=value)), claims=["team"])
    kept = {"text": "é", "number": 2**63 - 1, "nested": [{"a": [1.5, None, True]}]}
    assert login(RSA.token(good(team=kept)), claims=["team", "absent"]).subject["claims"] == {"team": kept}


# Forms


def raw(header: bytes, payload: bytes, key: SigningKey = RSA) -> str:
    signed = f"{encode(header)}.{encode(payload)}"
    return f"{signed}.{encode(key.sign(signed.encode()))}"


@pytest.mark.parametrize(
    "payload",
    [
        b'{"iss":"%b","iss":"https://evil.example"}' % ISSUER.encode(),
        b'{"iss":"%b","exp":NaN}' % ISSUER.encode(),
        b'{"iss":"%b","exp":1e999}' % ISSUER.encode(),
        b"[" * 4000,
        b'{"a":' * 2000,
        b"[]",
        b"null",
        b'"text"',
        b"\xff\xfe",
        b"{}\0",
        b'{"exp":' + b"9" * 5000 + b"}",
        b"",
    ],
)
def test_a_payload_that_two_readers_could_read_differently_is_refused(payload: bytes) -> None:
    why(raw(json.dumps({"alg": "RS256", "kid": "rsa"}).encode(), payload) if payload else "eyJ..AA")


def test_a_header_with_a_name_twice_is_refused() -> None:
    header = b'{"alg":"RS256","alg":"none","kid":"rsa"}'
    assert "plain JSON" in why(raw(header, json.dumps(good()).encode()))


def test_a_token_that_is_too_long_is_refused_before_it_is_read() -> None:
    assert "longer than" in why(RSA.token(good(padding="x" * 16_000)))


@pytest.mark.parametrize("parts", [1, 2, 4, 5])
def test_other_serializations_are_refused(parts: int) -> None:
    token = ".".join((RSA.token(good()) + ".AAAA.AAAA").split(".")[:parts])
    assert "three parts" in why(token)


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_change_of_a_token_gets_in_or_crashes(data: st.DataObject) -> None:
    token = TOKENS[data.draw(st.sampled_from(sorted(TOKENS)))]
    at = data.draw(st.integers(0, len(token) - 1))
    change: Callable[[str], str] = data.draw(
        st.sampled_from([
            lambda other: token[:at] + other + token[at + 1 :],
            lambda other: token[:at] + other + token[at:],
            lambda other: token[:at] + token[at + 1 :],
            lambda other: token[:at],
            lambda other: token + other,
        ])
    )  # fmt: skip
    changed = change(data.draw(st.sampled_from("AZaz09-_.=+/\0 é")))
    if changed != token:
        why(changed)


TOKENS = {key.algorithm: key.token(good()) for key in (RSA, EC, ED)}

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
NAMES = ["iss", "aud", "sub", "exp", "nbf", "iat", "act", "cnf", "groups", "email", "email_verified", "team"]


@given(
    changes=st.dictionaries(st.sampled_from(NAMES), JSON, max_size=5), delegation=st.sampled_from(["Refuse", "Actor"])
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_an_issuer_signs_makes_a_sane_subject_or_a_refusal(changes: Json, delegation: str) -> None:
    payload = {**good(groups=[]), **changes}
    config: Json = {"groupsClaim": "groups", "claims": ["team"], "delegation": delegation}
    try:
        found = login(RSA.token(json.dumps(payload).encode()), **config)
    except LoginRefused:
        return
    subject = found.subject
    assert subject["username"].startswith("corp:")
    assert subject["username"].isprintable()
    assert all(group.startswith("corp:") for group in subject["groups"])
    assert found.expires is not None
    assert found.expires > NOW
    subject["username"].encode()
    json.dumps(subject, allow_nan=False).encode()


@given(st.text(max_size=200) | st.from_regex(r"eyJ[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}\.[A-Za-z0-9_-]{0,40}"))
@settings(max_examples=200, deadline=None)
def test_no_text_crashes_the_reader(text: str) -> None:
    with pytest.raises(BadToken):
        parse_token(text)


# Key sets


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "rsa"},
        {**RSA.jwk, "use": "enc"},
        {**RSA.jwk, "key_ops": ["encrypt"]},
        {**RSA.jwk, "alg": "HS256"},
        {**RSA.jwk, "d": "AQAB"},
        {**RSA.jwk, "kid": 7},
        {**RSA.jwk, "kty": "rsa"},
        {**RSA.jwk, "kty": ["RSA"]},
        {**RSA.jwk, "n": "!"},
        {**RSA.jwk, "n": "A" * 5000},
        {"kty": "RSA", "kid": "rsa"},
        rsa_key("rsa", bits=1024).jwk,
        {**EC.jwk, "crv": "secp256k1"},
        {**EC.jwk, "x": EC.jwk["y"]},
        {"kty": "OKP", "crv": "X25519", "x": ED.jwk["x"]},
        "a key",
        None,
    ],
)
def test_keys_that_cannot_be_used_are_passed_over(entry: object) -> None:
    assert len(parse_jwks(json.dumps({"keys": [entry, ED.jwk]}).encode()).keys) == 1
    with pytest.raises(ValueError, match="no usable key"):
        parse_jwks(json.dumps({"keys": [entry]}).encode())


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{}", b'{"keys":{}}', b'{"keys":[],"keys":[]}', b"x" * 600_000, b'{"keys":[' + b"1," * 200 + b"1]}"],
)
def test_what_is_no_key_set_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(ValueError, match="key"):
        parse_jwks(data)


def test_two_keys_of_one_kid_are_told_apart_by_their_kind_and_never_guessed() -> None:
    twin = SigningKey("rsa", "ES256", ec.generate_private_key(ec.SECP256R1()))
    assert login(RSA.token(good()), RSA, twin)
    assert login(twin.token(good()), RSA, twin)
    assert "several keys" in why(RSA.token(good()), RSA, STRANGER)


# Reloads


def test_an_issuer_that_changed_or_lost_its_key_holds_no_more() -> None:
    found = login(RSA.token(good()))

    def holds(keys: bytes, **config: object) -> bool:
        return OIDCIdentities((issuer(**config),), {"corp": FixedKeys(parse_jwks(keys))}).holds(found.credential)

    assert holds(jwks(RSA, EC))
    assert not holds(jwks(EC))
    assert not holds(jwks(RSA), audiences=["another"])
    assert not holds(jwks(RSA), groupsClaim="groups")
    assert not OIDCIdentities((), {}).holds(found.credential)


def test_the_subject_is_never_what_the_token_says_of_its_kind() -> None:
    found = subject_of(issuer(), good(kind="ServiceAccount", namespace="prod", name="admin", username="root"))
    assert (found["kind"], found["namespace"], found["username"]) == ("User", "", "corp:planner")
