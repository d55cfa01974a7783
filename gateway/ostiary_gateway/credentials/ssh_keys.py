"""Private SSH keys in Secrets. What is wrong with one is told in words that have no part of it."""

from __future__ import annotations

import asyncssh

from ostiary_api.secret import Secret

KEY = "privateKey"
_SIGNING = {"ssh-rsa": "rsa-sha2-512"}
_KINDS = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")


class KeyProblem(Exception):
    """A Secret has no usable key. The message says which Secret, and what to do."""


def private_key(secret: Secret) -> asyncssh.SSHKey:
    """The key in a Secret: OpenSSH's format or PEM; Ed25519, ECDSA or RSA. Raises KeyProblem."""
    if KEY not in secret.data:
        raise KeyProblem(f"Secret {secret.key} has no {KEY}")
    try:
        key = asyncssh.import_private_key(secret.data[KEY])
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
