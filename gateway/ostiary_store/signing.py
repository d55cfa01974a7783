"""The key of the store service: it signs the seals, and proves what it wrote. From a file."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ostiary_gateway.audit.keys import key_id
from ostiary_store.sealed import Prover

_SECRET = b"ostiary.dev/store/v1/secret\0"


@dataclass(frozen=True, slots=True)
class StoreKey:
    """Ed25519. The secret for proofs comes from it, so that every replica with the same file has the same."""

    private: Ed25519PrivateKey

    @classmethod
    def load(cls, path: Path, *, create: bool = False) -> Self:
        """create: make one if there is none, with its public half beside it (`.pub`). ValueError, OSError."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            if not create:
                raise ValueError(f"there is no key in {path}. Make one: ostiary store key {path}") from None
            return cls._create(path)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            # A Secret that is mounted for a pod's group is readable by that group.
            if mode & 0o027:
                raise ValueError(f"{path} may be read or written by others (mode {mode:04o}). Run: chmod 600 {path}")
            pem = file.read()
        try:
            private = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path} is not a private key in PEM: {error}. Restore it from a backup.") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise ValueError(f"{path} is not an Ed25519 key. Restore the key that signed this store.")
        return cls(private)

    @classmethod
    def _create(cls, path: Path) -> Self:
        key = cls(Ed25519PrivateKey.generate())
        pem = key.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return cls.load(path)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        with path.with_suffix(".pub").open("a", encoding="ascii") as file:
            file.write(f"{key.line}\n")
        return key

    @property
    def id(self) -> str:
        return key_id(self.private.public_key())

    @property
    def public(self) -> str:
        """The public half, in base64."""
        return base64.b64encode(self.private.public_key().public_bytes_raw()).decode()

    @property
    def line(self) -> str:
        """The public half, as files of public keys have it."""
        return f"ed25519 {self.id} {self.public}"

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self.private.sign(message)

    def prover(self, former: Sequence[StoreKey] = ()) -> Prover:
        """Of this key; rows that `former` keys proved count too."""
        return Prover(self._secret, [key._secret for key in former])

    @property
    def _secret(self) -> bytes:
        return hashlib.sha256(_SECRET + self.private.private_bytes_raw()).digest()
