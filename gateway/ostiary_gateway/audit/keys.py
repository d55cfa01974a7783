"""The Ed25519 key that signs the seals of the record, and the public keys that check them."""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


def key_id(public: Ed25519PublicKey) -> str:
    """A short name of a key: the first 16 hex digits of the sha256 of its 32 raw bytes."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


class Signer:
    """Signs with the key in `path` (PEM, PKCS #8, mode 0600), made at first use.

    The public half is appended to the file `path` with the suffix `.pub`, one line a key: `ed25519 ID BASE64`. Keep a
    copy of that file elsewhere: whoever can replace both the record and its keys can forge both.
    """

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.id = key_id(private.public_key())

    @classmethod
    def load_or_create(cls, path: Path) -> Signer:
        """ValueError if the file is no Ed25519 key or others than its owner may read it; OSError from the disk."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return cls._create(path)
        with os.fdopen(descriptor, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            if mode & 0o077:
                raise ValueError(f"{path} may be read by others (mode {mode:04o}). Run: chmod 600 {path}")
            pem = file.read()
        try:
            private = serialization.load_pem_private_key(pem, password=None)
        except ValueError as error:
            raise ValueError(f"{path} is not a private key in PEM: {error}. Restore it from a backup.") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise ValueError(f"{path} is not an Ed25519 key. Restore the key that signed this record.")
        signer = cls(private)
        _publish(path.with_suffix(".pub"), private.public_key())
        return signer

    @classmethod
    def _create(cls, path: Path) -> Signer:
        private = Ed25519PrivateKey.generate()
        pem = private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            file.flush()
            os.fsync(file.fileno())
        _publish(path.with_suffix(".pub"), private.public_key())
        return cls(private)

    def sign(self, message: bytes) -> bytes:
        """64 bytes."""
        return self._private.sign(message)


def _publish(path: Path, public: Ed25519PublicKey) -> None:
    known = read_public_keys(path) if path.exists() else {}
    if key_id(public) in known:
        return
    line = f"ed25519 {key_id(public)} {base64.b64encode(public.public_bytes_raw()).decode()}\n"
    with path.open("a", encoding="ascii") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def read_public_keys(path: Path) -> Mapping[str, Ed25519PublicKey]:
    """Keys by id, from a file of lines `ed25519 ID BASE64`. ValueError names the line that is wrong."""
    keys: dict[str, Ed25519PublicKey] = {}
    for number, line in enumerate(path.read_text(encoding="ascii").splitlines(), 1):
        fields = line.split()
        if not fields or fields[0].startswith("#"):
            continue
        try:
            kind, name, encoded = fields
            public = Ed25519PublicKey.from_public_bytes(base64.b64decode(encoded, validate=True))
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: not a public key ({error})") from error
        if kind != "ed25519" or key_id(public) != name:
            raise ValueError(f"{path}, line {number}: the key is not the one that its id says")
        keys[name] = public
    return keys


def verifies(public: Ed25519PublicKey, signature: bytes, message: bytes) -> bool:
    """True if `signature` is this key's over `message`."""
    try:
        public.verify(signature, message)
    except InvalidSignature:
        return False
    return True
