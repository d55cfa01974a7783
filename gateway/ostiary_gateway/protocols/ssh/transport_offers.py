"""What the gateway offers on its two legs: quick ciphers first, nothing weak, no compression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import asyncssh

CIPHERS: Final = (
    "aes128-gcm@openssh.com", "aes256-gcm@openssh.com", "chacha20-poly1305@openssh.com",
    "aes128-ctr", "aes192-ctr", "aes256-ctr",
)  # fmt: skip
"""The first are the quick ones."""
QUICK: Final = tuple(name.encode("ascii") for name in CIPHERS[:2])
"""All that an agent is offered who can do one of them: its own order would count, and OpenSSH's begins otherwise."""
MACS: Final = (
    "hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com", "hmac-sha2-256", "hmac-sha2-512",
)  # fmt: skip
KEY_EXCHANGES: Final = (
    "mlkem768x25519-sha256", "curve25519-sha256", "curve25519-sha256@libssh.org", "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384", "ecdh-sha2-nistp521", "diffie-hellman-group14-sha256", "diffie-hellman-group16-sha512",
)  # fmt: skip
"""Each is some milliseconds of work at most, as anybody can ask for one."""
SIGNATURES: Final = (
    "ssh-ed25519", "sk-ssh-ed25519@openssh.com", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com", "rsa-sha2-512", "rsa-sha2-256",
)  # fmt: skip
SOFTWARE: Final = "OpenSSH_9.9 Ostiary"
"""What follows `SSH-2.0-` in the gateway's version line: what it is compatible with, and what it is.

OpenSSH says that nobody reads any more (`eow@openssh.com`) only to a peer whose name begins like its own. Without that,
`ssh gateway yes | head -1` would run for ever.
"""


def server_options(host_keys: Sequence[asyncssh.SSHKey]) -> asyncssh.SSHServerConnectionOptions:
    """For the legs of one Connection's clients."""
    return asyncssh.SSHServerConnectionOptions(
        config=None, server_version=SOFTWARE, server_host_keys=list(host_keys), gss_host=None, host_based_auth=False,
        public_key_auth=True, password_auth=True, kbdint_auth=True, login_timeout=0, keepalive_interval=0,
        kex_algs=KEY_EXCHANGES, encryption_algs=CIPHERS, mac_algs=MACS, compression_algs=["none"],
        signature_algs=SIGNATURES,
    )  # fmt: skip


def client_options() -> asyncssh.SSHClientConnectionOptions:
    """For the legs towards targets."""
    return asyncssh.SSHClientConnectionOptions(
        config=None, client_version=SOFTWARE, client_keys=None, known_hosts=None, gss_host=None, agent_path=None,
        host_based_auth=False, login_timeout=0, keepalive_interval=0, username="nobody",
        kex_algs=KEY_EXCHANGES, encryption_algs=CIPHERS, mac_algs=MACS, compression_algs=["none"],
        signature_algs=SIGNATURES,
    )  # fmt: skip
