"""The gateway's own login at a PostgreSQL server: SCRAM-SHA-256 and -PLUS, MD5 and clear text. Bytes in, bytes out.

Sources: RFC 5802, RFC 7677, RFC 5929 (tls-server-end-point); PostgreSQL documentation, "SASL Authentication".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import stringprep
import unicodedata
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.hashes import MD5, SHA1, SHA256, Hash

from .wire import INT32, Reader, frame


class LoginFailed(Exception):
    """The server did not take the gateway's credential, or is not what it claims to be. The message names no secret."""


MIN_ITERATIONS: Final = 1
MAX_ITERATIONS: Final = 1_000_000
"""A server that asks for more would only burn the gateway's CPU."""


@dataclass(frozen=True, slots=True)
class ScramKeys:
    """What RFC 5802 derives from a password: the dearest part of a login (PBKDF2), so it is kept."""

    client_key: bytes = field(repr=False)
    server_key: bytes = field(repr=False)


class KeyCache:
    """ScramKeys by password, salt and iterations. In memory only; the newest few."""

    def __init__(self, size: int = 64) -> None:
        self._keys: OrderedDict[tuple[bytes, bytes, int], ScramKeys] = OrderedDict()
        self._size = size

    def derive(self, password: str, salt: bytes, iterations: int) -> ScramKeys:
        # The password itself is no key of the dict: a digest under a process-local secret is.
        key = (hmac.digest(_PROCESS_SECRET, password.encode(), "sha256"), salt, iterations)
        if found := self._keys.get(key):
            self._keys.move_to_end(key)
            return found
        salted = hashlib.pbkdf2_hmac("sha256", saslprep(password), salt, iterations)
        keys = ScramKeys(hmac.digest(salted, b"Client Key", "sha256"), hmac.digest(salted, b"Server Key", "sha256"))
        self._keys[key] = keys
        if len(self._keys) > self._size:
            self._keys.popitem(last=False)
        return keys


_PROCESS_SECRET: Final = secrets.token_bytes(32)


def saslprep(password: str) -> bytes:
    """RFC 4013, as PostgreSQL does it: what it prohibits is used unchanged."""
    raw = password.encode()
    if password.isascii():
        return raw
    mapped = "".join(
        " " if stringprep.in_table_c12(c) else c for c in password if not stringprep.in_table_b1(c)
    )
    normal = unicodedata.normalize("NFKC", mapped)
    prohibited = (
        stringprep.in_table_a1, stringprep.in_table_c12, stringprep.in_table_c21_c22, stringprep.in_table_c3,
        stringprep.in_table_c4, stringprep.in_table_c5, stringprep.in_table_c6, stringprep.in_table_c7,
        stringprep.in_table_c8, stringprep.in_table_c9,
    )  # fmt: skip
    if not normal or any(check(c) for c in normal for check in prohibited):
        return raw
    right_to_left = [stringprep.in_table_d1(c) for c in normal]
    if any(right_to_left) and (
        any(stringprep.in_table_d2(c) for c in normal) or not (right_to_left[0] and right_to_left[-1])
    ):
        return raw
    return normal.encode()


def end_point_binding(certificate: bytes) -> bytes:
    """tls-server-end-point (RFC 5929, section 4): the certificate's digest. `certificate` is DER."""
    algorithm = x509.load_der_x509_certificate(certificate).signature_hash_algorithm
    # MD5 and SHA-1 are replaced by SHA-256; Ed25519 has no hash of its own, and PostgreSQL takes SHA-256 there too.
    chosen = SHA256() if algorithm is None or isinstance(algorithm, MD5 | SHA1) else algorithm
    digest = Hash(chosen)
    digest.update(certificate)
    return digest.finalize()


class Login:
    """One login: feed it each Authentication message's body; it returns the answer to send, None if none is due.

    `certificate` is the server's, DER, if the connection is encrypted. `proof`: keys that stand for a password that
    there is not; then only SCRAM will do. After AuthenticationOk `done` is True.
    """

    def __init__(
        self, user: str, password: str, keys: KeyCache, *, certificate: bytes | None, nonce: bytes | None = None,
        proof: ScramKeys | None = None,
    ) -> None:  # fmt: skip
        self._user = user
        self._password = password
        self._keys = keys
        self._proof = proof
        self._certificate = certificate
        self._nonce = nonce or base64.b64encode(secrets.token_bytes(18))
        self._gs2 = b""
        self._binding = b""
        self._server_signature = b""
        self._verified = False
        self._expects = "start"
        self.done = False
        self.method = "trust"

    def authentication(self, body: bytes) -> bytes | None:
        """The body of an AuthenticationXXX message ('R')."""
        reader = Reader(body, "Authentication")
        code = reader.int32()
        if code == 0:
            if self._expects in ("continue", "final") or (self._expects == "verified" and not self._verified):
                raise LoginFailed("the server ended SCRAM without proving that it knows the password")
            self.done = True
            return None
        if code in (3, 5) and self._proof is not None:
            raise LoginFailed(
                "the server asks for another proof than SCRAM, which a session's role does not have; "
                "use scram-sha-256 for it in the server's pg_hba.conf"
            )
        if code == 3:
            return self._clear()
        if code == 5:
            return self._md5(reader.take(4))
        if code == 10:
            return self._first(reader)
        if code == 11:
            return self._final(reader.rest())
        if code == 12:
            self._verify(reader.rest())
            return None
        raise LoginFailed(f"the server asks for authentication method {code}, which is not supported here")

    def _clear(self) -> bytes:
        if self._expects != "start":
            raise LoginFailed("the server changed the authentication method in the middle of a login")
        if self._certificate is None:
            raise LoginFailed(
                "the server asks for the password in clear text on an unencrypted connection; "
                "use scram-sha-256 in its pg_hba.conf, or TLS (spec.upstream.tls)"
            )
        self._expects, self.method = "ok", "password"
        return frame(b"p", self._password.encode() + b"\0")

    def _md5(self, salt: bytes) -> bytes:
        if self._expects != "start":
            raise LoginFailed("the server changed the authentication method in the middle of a login")
        if self._certificate is None:
            raise LoginFailed(
                "the server asks for an MD5 hash of the password on an unencrypted connection, where anybody could "
                "crack it; use scram-sha-256 in its pg_hba.conf, or TLS (spec.upstream.tls)"
            )
        inner = hashlib.md5((self._password + self._user).encode(), usedforsecurity=False).hexdigest()
        outer = hashlib.md5(inner.encode() + salt, usedforsecurity=False).hexdigest()
        self._expects, self.method = "ok", "md5"
        return frame(b"p", b"md5" + outer.encode() + b"\0")

    def _first(self, reader: Reader) -> bytes:
        if self._expects != "start":
            raise LoginFailed("the server began SCRAM twice")
        offered: list[bytes] = []
        while name := reader.string():
            offered.append(name)
        if b"SCRAM-SHA-256-PLUS" in offered and self._certificate is not None:
            mechanism, self._gs2 = b"SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,"
            self._binding = self._gs2 + end_point_binding(self._certificate)
        elif b"SCRAM-SHA-256" in offered:
            # 'y': we could bind and the server did not offer it. A man in the middle who stripped -PLUS is found so.
            mechanism, self._gs2 = b"SCRAM-SHA-256", b"y,," if self._certificate is not None else b"n,,"
            self._binding = self._gs2
        else:
            names = b", ".join(offered).decode(errors="replace")
            raise LoginFailed(f"the server offers only {names}; SCRAM-SHA-256 is needed")
        self.method = mechanism.decode()
        first = self._gs2 + self._first_bare()
        self._expects = "continue"
        return frame(b"p", mechanism + b"\0" + INT32.pack(len(first)) + first)

    def _first_bare(self) -> bytes:
        # PostgreSQL takes the user from the startup message and wants n= empty or ignored.
        return b"n=,r=" + self._nonce

    def _final(self, server_first: bytes) -> bytes:
        if self._expects != "continue":
            raise LoginFailed("the server sent a SCRAM message out of order")
        try:
            fields = dict(part.split(b"=", 1) for part in server_first.split(b","))
            nonce, salt, rounds = fields[b"r"], base64.b64decode(fields[b"s"], validate=True), int(fields[b"i"])
        except (KeyError, ValueError):
            raise LoginFailed("the server's SCRAM challenge is malformed") from None
        if not nonce.startswith(self._nonce) or len(nonce) <= len(self._nonce):
            raise LoginFailed("the server's SCRAM nonce does not continue ours")
        if not MIN_ITERATIONS <= rounds <= MAX_ITERATIONS or not salt:
            raise LoginFailed(f"the server asks for {rounds} SCRAM iterations, more than {MAX_ITERATIONS}")
        keys = self._proof or self._keys.derive(self._password, salt, rounds)
        without_proof = b"c=" + base64.b64encode(self._binding) + b",r=" + nonce
        signed = self._first_bare() + b"," + server_first + b"," + without_proof
        stored = hashlib.sha256(keys.client_key).digest()
        signature = hmac.digest(stored, signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(keys.client_key, signature, strict=True))
        self._server_signature = hmac.digest(keys.server_key, signed, "sha256")
        self._expects = "final"
        return frame(b"p", without_proof + b",p=" + base64.b64encode(proof))

    def _verify(self, server_final: bytes) -> None:
        if self._expects != "final" or not server_final.startswith(b"v="):
            raise LoginFailed("the server's last SCRAM message is malformed")
        try:
            signature = base64.b64decode(server_final[2:].split(b",")[0], validate=True)
        except ValueError:
            raise LoginFailed("the server's last SCRAM message is malformed") from None
        if not hmac.compare_digest(signature, self._server_signature):
            raise LoginFailed("the server does not know the password: it may be an impostor")
        self._verified, self._expects = True, "verified"

