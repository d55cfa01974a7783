"""OpenSSH user certificates with extensions of our own, which asyncssh neither writes nor shows. Bytes in, bytes out.

Source: OpenSSH, PROTOCOL.certkeys.
"""

from __future__ import annotations

import base64
import hashlib
import os
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import asyncssh

USER: Final = 1
MAX_CERTIFICATE: Final = 32_768
"""Bytes; asyncssh and OpenSSH take packets not much longer."""
SUFFIX: Final = b"-cert-v01@openssh.com"

_FIELDS: Final = {
    b"ssh-ed25519": 1,
    b"ssh-rsa": 2,
    b"ecdsa-sha2-nistp256": 2,
    b"ecdsa-sha2-nistp384": 2,
    b"ecdsa-sha2-nistp521": 2,
    b"sk-ssh-ed25519@openssh.com": 2,
    b"sk-ecdsa-sha2-nistp256@openssh.com": 3,
}
"""Keys that a certificate may be for, and how many strings make one."""
_UINT32: Final = struct.Struct(">I")
_UINT64: Final = struct.Struct(">Q")


class BadCertificate(Exception):
    """The bytes are no certificate, or no key. The text says why."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """As it was read; `signed` and `signature` are still to be checked."""

    key: bytes
    """The public key that it is for."""
    serial: int
    kind: int
    key_id: bytes
    principals: tuple[bytes, ...]
    valid_after: int
    valid_before: int
    critical: Mapping[bytes, bytes]
    extensions: Mapping[bytes, bytes]
    authority: bytes
    """The public key of who signed it."""
    signed: bytes
    signature: bytes


def is_certificate(blob: bytes) -> bool:
    """Whether this is to be read as a certificate, by its name."""
    return len(blob) > 4 and blob[4 : 4 + int.from_bytes(blob[:4], "big")].endswith(SUFFIX)


def read(blob: bytes) -> Certificate:
    """Raises BadCertificate."""
    if len(blob) > MAX_CERTIFICATE:
        raise BadCertificate("it is too long")
    reader = Reader(blob)
    name = reader.string()
    kind = _plain(name.removesuffix(SUFFIX))
    if not name.endswith(SUFFIX):
        raise BadCertificate("it is a key, not a certificate")
    reader.string()  # nonce
    parts = [reader.string() for _ in range(_FIELDS[kind])]
    serial, role = reader.uint64(), reader.uint32()
    key_id = reader.string()
    principals = Reader(reader.string()).strings()
    after, before = reader.uint64(), reader.uint64()
    critical, extensions = (_options(reader.string()) for _ in range(2))
    reader.string()  # reserved
    authority = reader.string()
    end = reader.at
    signature = reader.string()
    reader.finish()
    key = b"".join(string(part) for part in (kind, *parts))
    return Certificate(
        key, serial, role, key_id, tuple(principals), after, before, critical, extensions, authority, blob[:end],
        signature,
    )  # fmt: skip


def sign(
    authority: asyncssh.SSHKey, algorithm: str, key: bytes, *, serial: int, key_id: str, principals: Sequence[str],
    after: int, before: int, extensions: Mapping[str, bytes],
) -> bytes:  # fmt: skip
    """A user certificate for a public key. Raises BadCertificate if the key is of no kind that may have one."""
    kind, _, rest = _split(key)
    options = b"".join(string(name.encode()) + string(string(extensions[name])) for name in sorted(extensions))
    body = b"".join([
        string(kind + SUFFIX), string(os.urandom(32)), rest, _UINT64.pack(serial), _UINT32.pack(USER),
        string(key_id.encode()), string(b"".join(string(name.encode()) for name in principals)),
        _UINT64.pack(after), _UINT64.pack(before), string(b""), string(options), string(b""),
        string(authority.public_data),
    ])  # fmt: skip
    return body + string(authority.sign(body, algorithm.encode()))


def public_key(line: str) -> bytes:
    """The blob of a public key as ssh-keygen writes it. Raises BadCertificate."""
    words = line.split()
    if len(words) < 2 or len(line) > MAX_CERTIFICATE:
        raise BadCertificate("it is no public key (`ssh-ed25519 AAAA…`)")
    try:
        blob = base64.b64decode(words[1], validate=True)
    except ValueError:
        raise BadCertificate("it is no public key (`ssh-ed25519 AAAA…`)") from None
    kind, parts, _ = _split(blob)
    if kind.decode() != words[0]:
        raise BadCertificate(f"it says {words[0][:64]!r}, and is another kind of key")
    if kind == b"ssh-rsa" and len(parts[1].lstrip(b"\0")) < 256:
        raise BadCertificate("an RSA key needs 2048 bits; make one of Ed25519 (ssh-keygen -t ed25519)")
    return blob


def line_of(blob: bytes, comment: str = "") -> str:
    """A key or certificate as it stands in a `.pub` file."""
    name = blob[4 : 4 + _UINT32.unpack_from(blob)[0]].decode()
    return " ".join(filter(None, (name, base64.b64encode(blob).decode(), comment)))


def fingerprint(key: bytes) -> str:
    """Of a public key, as ssh-keygen -l shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def first_string(data: bytes) -> bytes:
    """The name that begins a key or a signature. Raises BadCertificate."""
    return Reader(data).string()


def string(data: bytes) -> bytes:
    return _UINT32.pack(len(data)) + data


def _split(blob: bytes) -> tuple[bytes, list[bytes], bytes]:
    """Name, parts, and all that stands behind the name."""
    reader = Reader(blob)
    kind = _plain(reader.string())
    start = reader.at
    parts = [reader.string() for _ in range(_FIELDS[kind])]
    reader.finish()
    return kind, parts, blob[start:]


def _plain(kind: bytes) -> bytes:
    if kind not in _FIELDS:
        shown = kind[:64].decode("ascii", "replace")
        raise BadCertificate(f"keys of type {shown!r} are not taken; make one of Ed25519 (ssh-keygen -t ed25519)")
    return kind


def _options(data: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    reader = Reader(data)
    while reader.more:
        name, value = reader.string(), reader.string()
        if name in found:
            raise BadCertificate("an option stands in it twice")
        found[name] = value
    return found


class Reader:
    """Takes apart what is made of strings and numbers (RFC 4251, 5). Raises BadCertificate where it is cut off."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    @property
    def more(self) -> bool:
        return self.at < len(self._data)

    @property
    def left(self) -> int:
        return len(self._data) - self.at

    def take(self, count: int) -> bytes:
        found = self._data[self.at : self.at + count]
        if len(found) != count:
            raise BadCertificate("it is cut off")
        self.at += count
        return found

    def uint32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def uint64(self) -> int:
        return int.from_bytes(self.take(8), "big")

    def string(self) -> bytes:
        return self.take(self.uint32())

    def strings(self) -> list[bytes]:
        found = []
        while self.more:
            found.append(self.string())
        return found

    def finish(self) -> None:
        if self.more:
            raise BadCertificate("something stands behind its end")
