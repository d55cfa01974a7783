"""Names, verifiers and statements of session roles."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary_gateway.credentials.postgres_role import (
    LoginKeys,
    advice,
    create,
    hand_over,
    identifier,
    literal,
    new_owner,
    owner_of,
    role_name,
    short_name,
    terminate,
)
from ostiary_gateway.ids import new_id
from ostiary_gateway.protocols.postgres.auth import KeyCache, Login, LoginFailed, ScramKeys
from ostiary_gateway.protocols.postgres.wire import INT32


@given(connection=st.text(min_size=1), agent=st.text())
def test_a_name_fits_whoever_the_agent_is_and_leads_back_to_its_owner(connection: str, agent: str) -> None:
    owner, session = new_owner(), new_id()
    name = role_name(connection, owner, agent, session)
    assert len(name.encode()) <= 63
    assert name.isascii()
    assert name.endswith(f"_{session}")
    assert owner_of(name, connection) == owner
    assert owner_of(name, connection + "2") is None


@pytest.mark.parametrize(
    ("agent", "short"),
    [
        ("planner", "planner"),
        ("system:serviceaccount:agents:planner", "planner"),
        ("spiffe://example.org/ns/agents/sa/executor", "executor"),
        ("Jane.Doe@example.org", "jane_doe"),
        ("a-very-long-name-that-goes-on-and-on", "a_very_long_name_tha"),
        ("Größe", "gr_e"),
        ("", "agent"),
        ("///", "agent"),
    ],
)
def test_an_agents_name_in_a_roles(agent: str, short: str) -> None:
    assert short_name(agent) == short


@pytest.mark.parametrize(
    "name",
    ["postgres", "ostiary_", "ostiary_by_hand", "ostiary_ugmjzx_aaaaaa", "ostiary_ugmjzx_aaaaaa_x_y; drop", "x"],
)
def test_other_roles_are_nobodys(name: str) -> None:
    assert owner_of(name, "default/app") is None


def test_the_verifier_proves_the_keys_and_does_not_give_them_away() -> None:
    keys = LoginKeys()
    scheme, _, rest = keys.verifier().partition("$")
    assert scheme == "SCRAM-SHA-256"
    stored, _, server_key = rest.partition("$")[2].partition(":")
    assert base64.b64decode(stored) == hashlib.sha256(keys.client_key).digest()
    assert base64.b64decode(server_key) == keys.server_key
    assert base64.b64encode(keys.client_key).decode() not in keys.verifier()
    assert repr(keys) == "LoginKeys()"
    assert LoginKeys().client_key != keys.client_key


def test_a_login_with_keys_is_scram_as_the_server_checks_it() -> None:
    """RFC 5802, section 3: the server finds ClientKey in the proof, and its digest is what it has stored."""
    keys = LoginKeys()
    salt = keys.verifier().split("$")[1].split(":")[1]
    login = Login(
        "role", "", KeyCache(), certificate=None, nonce=b"n", proof=ScramKeys(keys.client_key, keys.server_key)
    )
    first = login.authentication(INT32.pack(10) + b"SCRAM-SHA-256\0\0")
    assert first is not None
    challenge = b"r=nserver,s=" + salt.encode() + b",i=4096"
    final = login.authentication(INT32.pack(11) + challenge)
    assert final is not None
    without_proof, _, proof = final[5:].rpartition(b",p=")
    signed = first[first.index(b"n=,") :] + b"," + challenge + b"," + without_proof
    stored = hashlib.sha256(keys.client_key).digest()
    signature = hmac.digest(stored, signed, "sha256")
    found = bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature, strict=True))
    assert hashlib.sha256(found).digest() == stored
    server_signature = base64.b64encode(hmac.digest(keys.server_key, signed, "sha256"))
    assert login.authentication(INT32.pack(12) + b"v=" + server_signature) is None
    assert login.authentication(INT32.pack(0)) is None
    assert login.done


@pytest.mark.parametrize("asked", [INT32.pack(3), INT32.pack(5) + b"salt"])
def test_keys_are_no_password(asked: bytes) -> None:
    login = Login("role", "", KeyCache(), certificate=b"", proof=ScramKeys(b"c" * 32, b"s" * 32))
    with pytest.raises(LoginFailed, match=r"use scram-sha-256 for it in the server's pg_hba\.conf"):
        login.authentication(asked)


def test_statements_quote_what_they_name() -> None:
    text = create('o"; drop', "it's", ['app"rw', "App"], 0.0, "it's a \0 comment")
    assert text.startswith('CREATE ROLE "o""; drop" LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION')
    assert "PASSWORD 'it''s' VALID UNTIL '1970-01-01 00:00:00+00' IN ROLE \"app\"\"rw\", \"App\"; " in text
    assert text.endswith("IS 'it''s a  comment'")
    assert literal("a\\b'c") == "'a\\b''c'"
    for wrong in ("", "a\0b"):
        with pytest.raises(ValueError, match="zero byte"):
            identifier(wrong)


@pytest.mark.parametrize(("version", "options"), [(15, "; "), (16, " WITH INHERIT TRUE, SET TRUE; ")])
def test_memberships_have_options_since_postgresql_16(version: int, options: str) -> None:
    assert f'GRANT "r" TO CURRENT_USER{options}REASSIGN OWNED BY "r" TO "app";' in hand_over("r", "app", version)
    assert f'GRANT "r" TO CURRENT_USER{options}SELECT' in terminate("r", version)


def test_advice_says_what_to_grant() -> None:
    rows = [("adm", "f", "f", "app_rw", "t", "f", "f"), ("adm", "f", "f", "gone", "f", None, None)]
    assert advice(rows, 15) == [
        'adm may not create roles: ALTER ROLE "adm" CREATEROLE',
        'the role gone of memberOf does not exist: CREATE ROLE "gone" NOLOGIN',
    ]
    assert advice(rows, 16)[1:] == [
        'adm may not grant app_rw: GRANT "app_rw" TO "adm" WITH ADMIN OPTION',
        'the role gone of memberOf does not exist: CREATE ROLE "gone" NOLOGIN; GRANT "gone" TO "adm" WITH ADMIN OPTION',
    ]
    assert advice([("adm", "t", "f", "app_rw", "t", "f", "f")], 18) == [], "a superuser needs no grants"
