"""Certificates for agents' own keys: signed for who has logged in with a token, and read back at the next login.

What is in one proves nobody by itself: it carries the token, sealed for this gateway alone, and a login with it is one
with that token. So it ends when the token is revoked, expires or is not taken any more, in whatever way that is known.
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass, replace
from typing import Final

import asyncssh
from asyncssh.public_key import decode_ssh_public_key
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from ostiary_gateway.credentials.ssh_keys import signing_algorithm
from ostiary_gateway.identity.proof import Identity, LoginRefused
from ostiary_gateway.protocols import Site

from . import certificates
from .certificates import BadCertificate, Certificate

EXTENSION: Final = "token@ostiary.dev"
BEFORE: Final = 60
"""Seconds that an agent's clock may be behind."""
MAX_SUBJECT: Final = 128
_NONCE: Final = 12

NOBODY: Final = Identity(
    {
        "username": "", "uid": "", "groups": [], "kind": "User", "namespace": "", "name": "", "claims": {},
        "onBehalfOf": "",
    },
    "",
)  # fmt: skip
"""Of who only asks whether a certificate would do."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A new certificate: the line of its file, its serial number, and when it ends (seconds since the epoch)."""

    line: str
    serial: int
    expires: float


class NoCertificate(Exception):
    """None can be made. The text says why and what to do, for the agent."""


def issue(site: Site, identity: Identity, secret: str, public: str, now: float) -> Issued:
    """For a public key as ssh-keygen writes it. `secret`: the token that has just proven the identity. Raises
    NoCertificate."""
    keys = site.ssh
    if keys is None or keys.login_ca is None:
        raise NoCertificate(_OFF.format(name=site.connection.metadata.name))
    try:
        key = certificates.public_key(public)
    except BadCertificate as problem:
        raise NoCertificate(f"This public key cannot have a certificate: {problem}.") from None
    ends = now + keys.ttl if identity.expires is None else min(now + keys.ttl, identity.expires)
    nonce = os.urandom(_NONCE)
    sealed = nonce + _sealer(keys.login_ca).encrypt(nonce, secret.encode(), _bound_to(site, key))
    serial = secrets.randbits(63)
    subject = identity.subject["username"]
    shown = "".join(c if c.isascii() and c.isprintable() and c != " " else "?" for c in subject[:MAX_SUBJECT])
    try:
        blob = certificates.sign(
            keys.login_ca, signing_algorithm(keys.login_ca), key, serial=serial,
            key_id=f"ostiary connection={site.name} subject={shown}", principals=[_principal(site)],
            after=int(now) - BEFORE, before=int(ends), extensions={EXTENSION: sealed},
        )  # fmt: skip
    except BadCertificate as problem:
        raise NoCertificate(f"This public key cannot have a certificate: {problem}.") from None
    if len(blob) > certificates.MAX_CERTIFICATE:
        raise NoCertificate("The token is too long for a certificate. Use a shorter one, or the token itself.")
    return Issued(certificates.line_of(blob, f"ostiary-{site.connection.metadata.name}"), serial, float(int(ends)))


def read(site: Site, blob: bytes) -> Certificate:
    """A certificate that this gateway has signed, for this Connection, and that is valid now. Raises LoginRefused."""
    keys, name = site.ssh, site.connection.metadata.name
    if keys is None or keys.login_ca is None:
        raise _refused("they are off", _OFF.format(name=name).rstrip("."))
    try:
        found = certificates.read(blob)
    except BadCertificate as problem:
        raise _refused(f"unreadable: {problem}", f"The certificate is not accepted: {problem}") from None
    # The cheap questions first: nobody makes the gateway check signatures that could not count.
    if found.authority != keys.login_ca.public_data:
        raise _refused("of another authority", f"The certificate is not one that the Connection {name} has signed")
    if not keys.login_ca.convert_to_public().verify(found.signed, found.signature):
        raise _refused("its signature is wrong", "The certificate is not accepted: its signature is wrong")
    now = time.time()
    if found.kind != certificates.USER or found.critical or EXTENSION.encode() not in found.extensions:
        raise _refused("not for a login", "The certificate is not one for logins")
    if now >= found.valid_before:
        raise _refused("expired", "The certificate has expired")
    if now < found.valid_after:
        raise _refused("not valid yet", "The certificate is not valid yet: is the gateway's clock behind?")
    if found.principals != (_principal(site).encode(),):
        theirs = ", ".join(each.decode("ascii", "replace")[:128] for each in found.principals[:2])
        raise _refused(
            f"for another Connection ({theirs})", f"The certificate is for another Connection than {name} ({theirs})"
        )
    return found


def check_signature(shown: Certificate, signed: bytes, signature: bytes) -> None:
    """Whether the client has the private key. Raises LoginRefused."""
    try:
        key = decode_ssh_public_key(shown.key)
        # The algorithm stands first in a signature; SHA-1 does not count.
        if certificates.first_string(signature) != b"ssh-rsa" and key.verify(signed, signature):
            return
    except (asyncssh.KeyImportError, BadCertificate, ValueError):
        pass
    raise _refused("the client's signature is wrong", "The private key is not the one of the certificate")


async def identify(site: Site, shown: Certificate) -> Identity:
    """Who a certificate stands for: whoever its token stands for now. Raises LoginRefused."""
    assert site.ssh is not None
    assert site.ssh.login_ca is not None
    sealed = certificates.Reader(shown.extensions[EXTENSION.encode()]).string()
    try:
        plain = _sealer(site.ssh.login_ca).decrypt(sealed[:_NONCE], sealed[_NONCE:], _bound_to(site, shown.key))
    except (InvalidTag, ValueError):
        raise _refused("its token cannot be read", "The certificate is not accepted: it is damaged") from None
    identity = await site.identities.by_secret(plain.decode(errors="replace"), None)
    ends = min(float(shown.valid_before), identity.expires or float(shown.valid_before))
    return replace(identity, expires=ends, shown=(*identity.shown, ("sshCertificate", str(shown.serial))))


def _principal(site: Site) -> str:
    """Names no login at any host: should somebody let an sshd trust this authority, it opens nothing there."""
    return f"ostiary:{site.name}"


def _bound_to(site: Site, key: bytes) -> bytes:
    return certificates.string(site.name.encode()) + key


def _sealer(authority: asyncssh.SSHKey) -> AESGCM:
    derive = HKDF(SHA256(), 32, salt=None, info=b"ostiary token@ostiary.dev")
    return AESGCM(derive.derive(authority.export_private_key("pkcs8-der")))


def _refused(reason: str, message: str) -> LoginRefused:
    return LoginRefused("certificate", f"ssh certificate: {reason}", f"{message}.", _HINT)


_OFF: Final = "The Connection {name} signs no certificates: authentication.sshCertificates is not set."
_HINT: Final = "Get another one with `ostiary ssh cert`, or log in with the token as the password."
