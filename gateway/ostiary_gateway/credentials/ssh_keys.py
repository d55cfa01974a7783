"""Private SSH keys in Secrets. What is wrong with one is told in words that have no part of it."""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from typing import Final

import asyncssh

from ostiary_api.secret import Secret

KEY: Final = "privateKey"
MOST: Final = 64
"""Keys that are kept as they were parsed: checking one of RSA takes 100 ms, and each session needs it."""
_parsed: Final[OrderedDict[bytes, asyncssh.SSHKey]] = OrderedDict()
_PROCESS_SECRET: Final = secrets.token_bytes(32)
_SIGNING: Final = {"ssh-rsa": "rsa-sha2-512"}
_KINDS: Final = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")


class KeyProblem(Exception):
    """A Secret has no usable key. The message says which Secret, and what to do."""


def private_key(secret: Secret) -> asyncssh.SSHKey:
    """The key in a Secret: OpenSSH's format or PEM; Ed25519, ECDSA or RSA. Raises KeyProblem."""
    data = secret.data.get(KEY)
    if data is None:
        raise KeyProblem(f"Secret {secret.key} has no {KEY}")
    # The key itself is no key of the dict: a digest under a process-local secret is.
    digest = hmac.digest(_PROCESS_SECRET, data, "sha256")
    if (found := _parsed.get(digest)) is not None:
        _parsed.move_to_end(digest)
        return found
    key = _parsed[digest] = _read(secret, data)
    if len(_parsed) > MOST:
        _parsed.popitem(last=False)
    return key


def _read(secret: Secret, data: bytes) -> asyncssh.SSHKey:
    try:
        key = asyncssh.import_private_key(data)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError) as problem:
        if str(problem).startswith("Passphrase"):
            raise KeyProblem(
                f"Secret {secret.key}: {KEY} is encrypted; take the passphrase off (ssh-keygen -p -N '' -f FILE)"
            ) from None
        # Neither the value nor the parser's message: both may hold parts of the key.
        raise KeyProblem(
            f"Secret {secret.key}: {KEY} is no private key; it must be one as ssh-keygen writes it, or PEM"
        ) from None
    if key.get_algorithm() not in _KINDS:
        raise KeyProblem(
            f"Secret {secret.key}: {KEY} is of type {key.get_algorithm()}; use Ed25519, ECDSA or RSA (ssh-keygen -t)"
        )
    return key


def signing_algorithm(key: asyncssh.SSHKey) -> str:
    """How this key signs certificates: RSA never with SHA-1."""
    algorithm = key.get_algorithm()
    return _SIGNING.get(algorithm, algorithm)
