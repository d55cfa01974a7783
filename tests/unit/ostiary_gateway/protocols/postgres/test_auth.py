"""The gateway's login at a server: transcripts of SCRAM, and servers that cheat."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from ostiary_gateway.protocols.postgres.auth import KeyCache, Login, LoginFailed, saslprep
from ostiary_gateway.protocols.postgres.wire import INT32, frame
from ostiary_gateway.tls import own_certificate

# RFC 7677, section 3: user "user", password "pencil".
NONCE = b"rOprNGfwEbeRWgbNEkqO"
SERVER_FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"


def code(number: int, rest: bytes = b"") -> bytes:
    return INT32.pack(number) + rest


def login(certificate: bytes | None = None, password: str = "pencil") -> Login:
    return Login("user", password, KeyCache(), certificate=certificate, nonce=NONCE)


def scram_exchange(attempt: Login, password: bytes = b"pencil", mechanism: bytes = b"SCRAM-SHA-256") -> bytes:
    """Plays an honest server up to its last message, which it returns."""
    first = attempt.authentication(code(10, mechanism + b"\0\0"))
    assert first is not None
    client_first = first[first.index(b"\0", 5) + 5 :]
    bare = client_first[client_first.index(b"n=") :]
    final = attempt.authentication(code(11, SERVER_FIRST))
    assert final is not None
    without_proof = final[5:].rsplit(b",p=", 1)[0]
    salted = hashlib.pbkdf2_hmac("sha256", password, base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), 4096)
    signed = bare + b"," + SERVER_FIRST + b"," + without_proof
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
    proof = base64.b64decode(final.rsplit(b",p=", 1)[1])
    assert bytes(a ^ b for a, b in zip(proof, signature, strict=True)) == client_key, "the proof is right"
    return b"v=" + base64.b64encode(hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256"))


def test_scram_proves_the_password_to_both_sides() -> None:
    attempt = login()
    last = scram_exchange(attempt)
    assert attempt.authentication(code(12, last)) is None
    assert attempt.authentication(code(0)) is None
    assert attempt.done
    assert attempt.method == "SCRAM-SHA-256"


def test_a_server_that_does_not_know_the_password_is_found_out() -> None:
    attempt = login()
    scram_exchange(attempt)
    with pytest.raises(LoginFailed, match="impostor"):
        attempt.authentication(code(12, b"v=" + base64.b64encode(b"x" * 32)))


@pytest.mark.parametrize("steps", [1, 2])
def test_a_server_may_not_end_scram_early(steps: int) -> None:
    attempt = login()
    attempt.authentication(code(10, b"SCRAM-SHA-256\0\0"))
    if steps == 2:
        attempt.authentication(code(11, SERVER_FIRST))
    with pytest.raises(LoginFailed, match="without proving"):
        attempt.authentication(code(0))


@pytest.mark.parametrize(
    "challenge",
    [
        b"r=another,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"r=" + NONCE + b",s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"r=" + NONCE + b"x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=2000000000",
        b"r=" + NONCE + b"x,s=!!,i=4096",
        b"r=" + NONCE + b"x,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=many",
        b"nonsense",
    ],
)
def test_a_false_challenge_is_refused(challenge: bytes) -> None:
    attempt = login()
    attempt.authentication(code(10, b"SCRAM-SHA-256\0\0"))
    with pytest.raises(LoginFailed):
        attempt.authentication(code(11, challenge))


def test_the_password_never_goes_out_in_clear_without_tls() -> None:
    with pytest.raises(LoginFailed, match="clear text on an unencrypted connection"):
        login().authentication(code(3))


def test_over_tls_a_clear_password_is_sent_if_asked(tmp_path: object) -> None:
    assert login(b"certificate").authentication(code(3)) == frame(b"p", b"pencil\0")


def test_md5_is_not_answered_in_clear() -> None:
    with pytest.raises(LoginFailed, match="MD5 hash of the password on an unencrypted connection"):
        login().authentication(code(5, b"salt"))


def test_md5_is_answered_over_tls() -> None:
    inner = hashlib.md5(b"penciluser", usedforsecurity=False).hexdigest().encode()
    outer = hashlib.md5(inner + b"salt", usedforsecurity=False).hexdigest().encode()
    assert login(b"certificate").authentication(code(5, b"salt")) == frame(b"p", b"md5" + outer + b"\0")


def test_channel_binding_is_used_where_the_server_offers_it(tmp_path) -> None:  # type: ignore[no-untyped-def]
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    pem, _ = own_certificate(tmp_path, "127.0.0.1")
    certificate = x509.load_pem_x509_certificate(pem.read_bytes()).public_bytes(Encoding.DER)
    attempt = login(certificate)
    first = attempt.authentication(code(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"))
    assert first is not None
    assert b"SCRAM-SHA-256-PLUS\0" in first
    assert b"p=tls-server-end-point,," in first
    final = attempt.authentication(code(11, SERVER_FIRST))
    assert final is not None
    bound = base64.b64decode(final[5:].split(b",")[0].removeprefix(b"c="))
    assert bound == b"p=tls-server-end-point,," + hashlib.sha256(certificate).digest()


def test_a_stripped_plus_is_told_to_the_server() -> None:
    attempt = login(b"certificate")
    first = attempt.authentication(code(10, b"SCRAM-SHA-256\0\0"))
    assert first is not None
    assert first.endswith(b"y,,n=,r=" + NONCE)


@pytest.mark.parametrize("method", [2, 6, 7, 9, 99])
def test_other_methods_are_refused(method: int) -> None:
    with pytest.raises(LoginFailed, match="not supported"):
        login().authentication(code(method))


def test_derived_keys_are_kept() -> None:
    keys = KeyCache(size=1)
    first = keys.derive("pencil", b"salt", 4096)
    assert keys.derive("pencil", b"salt", 4096) is first
    keys.derive("other", b"salt", 1)
    assert keys.derive("pencil", b"salt", 4096) == first
    assert "pencil" not in repr(keys.__dict__)


@pytest.mark.parametrize(
    ("password", "prepared"),
    [
        ("plain", b"plain"),
        ("I\u00adX", b"IX"),
        ("\u2168", b"IX"),
        ("a\u00a0b", b"a b"),
        ("\u0627\u0031", "\u0627\u0031".encode()),
        ("bell\u0007é", "bell\u0007é".encode()),
    ],
)
def test_saslprep_as_postgresql_does_it(password: str, prepared: bytes) -> None:
    assert saslprep(password) == prepared
