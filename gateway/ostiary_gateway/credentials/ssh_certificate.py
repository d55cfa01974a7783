"""A certificate for one login at an SSH target: a key that only this session has, signed by the targets' authority."""

from __future__ import annotations

import ipaddress
import secrets
import time
from typing import Final

import asyncssh

from ostiary_api.connection import SSHCertificateCredentials

from .ssh_keys import signing_algorithm

BEFORE: Final = 30
"""Seconds that the target's clock may be behind."""
MAX_SUBJECT: Final = 128
"""Characters of the subject in the key id, which stands in the target's log."""


def certified_key(
    authority: asyncssh.SSHKey, spec: SSHCertificateCredentials, login: str, *, session: str, subject: str, source: str
) -> asyncssh.SSHKeyPair:
    """A new key with its certificate for exactly this login. Neither is ever written anywhere."""
    now = int(time.time())
    permits = spec.extensions
    bound = _address(source) if spec.source_address == "Bind" else ""
    key = asyncssh.generate_private_key("ssh-ed25519")
    certificate = authority.generate_user_certificate(
        key, key_id(session, subject),
        serial=secrets.randbits(63), principals=[login], valid_after=now - BEFORE, valid_before=now + int(spec.ttl),
        source_address=[bound] if bound else None,
        permit_x11_forwarding="permit-X11-forwarding" in permits,
        permit_agent_forwarding="permit-agent-forwarding" in permits,
        permit_port_forwarding="permit-port-forwarding" in permits,
        permit_pty="permit-pty" in permits, permit_user_rc="permit-user-rc" in permits,
        sig_alg=signing_algorithm(authority),
    )  # fmt: skip
    # With the certificate first, and once more the bare key, which no target knows.
    return asyncssh.load_keypairs([(key, certificate)])[0]


def key_id(session: str, subject: str) -> str:
    """What the target's log says of a login: which session of which subject. One line, printable, bounded."""
    shown = "".join(c if c.isascii() and c.isprintable() and c != " " else "?" for c in subject[: MAX_SUBJECT + 1])
    if len(shown) > MAX_SUBJECT:
        shown = shown[: MAX_SUBJECT - 3] + "..."
    return f"ostiary session={session} subject={shown}"


def _address(source: str) -> str:
    """An address as sshd compares it; empty for what cannot stand in a certificate, which knows no zones."""
    try:
        found = ipaddress.ip_address(source.partition("%")[0])
    except ValueError:
        return ""
    if found.version == 6 and found.is_link_local:
        return ""
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)
