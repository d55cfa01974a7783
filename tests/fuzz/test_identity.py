"""Whatever an agent sends as its credential, and whatever an issuer signs or publishes: a sane subject or a refusal."""

from __future__ import annotations

import json
import warnings

from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.utils import CryptographyDeprecationWarning
from support.fuzzing import Target
from support.jwts import AUDIENCE, ISSUER, SigningKey, claims, encode, jwks

from ostiary_api.authentication import OIDCIssuer
from ostiary_gateway.identity.claims import check_claims, check_header, subject_of
from ostiary_gateway.identity.jose import BadToken, KeySet, parse_jwks, parse_token
from ostiary_gateway.identity.mtls import BadCertificate, read_svid
from ostiary_gateway.identity.service_account import LEEWAY, claimed, proven
from ostiary_gateway.kube.resources import Reviewed
from ostiary_policy.facts import SubjectFacts
from ostiary_policy.guard import check_facts

NOW = 1_800_000_000
KEY = SigningKey("ed", "EdDSA", ed25519.Ed25519PrivateKey.from_private_bytes(b"a key that is the same each time"))
KEYS = parse_jwks(jwks(KEY))
TOKEN = KEY.token(claims(now=NOW, groups=["agents"]))
CONFIG = OIDCIssuer.model_validate(
    {
        "name": "corp", "issuer": ISSUER, "audiences": [AUDIENCE], "groupsClaim": "groups", "claims": ["team"],
        "delegation": "Actor",
    }
)  # fmt: skip


def subject(token: str, keys: KeySet = KEYS) -> SubjectFacts | None:
    """Who a gateway would take this for; None if nobody."""
    try:
        read = parse_token(token)
        check_header(CONFIG, read.header)
        key = keys.find(read.header)
        if key is None:
            return None
        verified = read.verify(key)
        ends = check_claims(CONFIG, verified, NOW, None)
        found = subject_of(CONFIG, verified)
    except BadToken as problem:
        words = str(problem)
        if not words.isprintable() or len(words) > 1000:
            raise ValueError("these are no words for a record") from problem
        return None
    assert NOW < ends <= NOW + CONFIG.max_token_lifetime + CONFIG.clock_skew + 30
    return found


def sane(found: SubjectFacts | None) -> None:
    if found is not None:
        for name in (found["username"], *found["groups"], found["onBehalfOf"] or "corp:nobody"):
            assert name.startswith("corp:")
            assert name.isprintable()
        assert found["kind"] == "User"
        check_facts({"subject": dict(found)})


def account(token: str) -> SubjectFacts | None:
    """Who a ServiceAccount's token is for, where the API server says yes to everything that it is asked."""
    try:
        asked = claimed(token, NOW)
        found = proven(Reviewed(True, asked.subject, "uid", ("system:serviceaccounts",), {}, (AUDIENCE,)), asked)
    except BadToken as problem:
        words = str(problem)
        if not words.isprintable() or len(words) > 1000:
            raise ValueError("these are no words for a record") from problem
        return None
    payload = parse_token(token).payload
    assert payload["aud"] in (AUDIENCE, [AUDIENCE]), "it would work somewhere else, too"
    assert asked.expires + LEEWAY > NOW
    subject = found.subject
    assert subject["username"] == f"system:serviceaccount:{subject['namespace']}:{subject['name']}"
    assert subject["kind"] == "ServiceAccount"
    check_facts({"subject": dict(subject)})
    return subject


def run(data: bytes) -> None:
    """The first byte tells what the rest is."""
    rest = data[1:]
    match data[:1]:
        case b"t":
            token = rest.decode(errors="replace")
            assert subject(token) is None or token.startswith(TOKEN.rpartition(".")[0]), "a forged token got in"
        case b"p":
            sane(subject(KEY.token(rest)))
        case b"h":
            signed = f"{encode(rest)}.{encode(json.dumps(claims(now=NOW, groups=['a'])).encode())}"
            sane(subject(f"{signed}.{encode(KEY.sign(signed.encode()))}"))
        case b"k":
            try:
                found = parse_jwks(rest)
            except ValueError:
                return
            assert found.keys
            assert subject(TOKEN, found) is None or KEYS.thumbprints & found.thumbprints
        case b"s":
            account(KEY.token(rest))
        case b"c":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", CryptographyDeprecationWarning)
                try:
                    assert read_svid(rest).id.isascii()
                except BadCertificate:
                    pass


TARGET = Target("identity", run, longest=8192)


def test_the_corpus_and_its_mutations() -> None:
    TARGET.replay(3000)


def test_the_corpus_reaches_a_subject_in_every_way() -> None:
    seeds = TARGET.seeds()
    assert b"t" + TOKEN.encode() in seeds
    assert subject(TOKEN) is not None
    payloads = [subject(KEY.token(seed[1:])) for seed in seeds if seed[:1] == b"p"]
    assert any(found is not None and found["onBehalfOf"] for found in payloads)
    assert any(found is not None and not found["onBehalfOf"] for found in payloads)
    accounts = [account(KEY.token(seed[1:])) for seed in seeds if seed[:1] == b"s"]
    assert any(found is not None and found["name"] == "planner" for found in accounts)
