"""AES-GCM as OpenSSH has it (RFC 5647, aes128-gcm@openssh.com), with one object for each key, not for each packet.

Both classes also stand in for asyncssh's own encryption objects, so that one object alone ever uses a key: the nonce of
a packet is a counter, and two counters for one key would give it all away.
"""

from __future__ import annotations

import os
import struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

BLOCK: Final = 16
TAG: Final = 16
_HEAD: Final = struct.Struct(">IB")
_DATA: Final = struct.Struct(">IBBII")
_DATA_SIZE: Final = 9
"""Of a CHANNEL_DATA before its bytes: number, channel, length."""
CHANNEL_DATA: Final = 94


class _Counted:
    """A key, and the nonce of the next packet: four fixed bytes and a counter of eight (RFC 5647, 7.1)."""

    def __init__(self, key: bytes, iv: bytes) -> None:
        self._aead = AESGCM(key)
        self._fixed = iv[:4]
        self._counter = int.from_bytes(iv[4:], "big")


class Sealer(_Counted):
    """Encrypts the packets of one direction."""

    def __init__(self, key: bytes, iv: bytes) -> None:
        super().__init__(key, iv)
        # What pads a packet is encrypted with it and dropped unread: it need not be other bytes each time.
        self._padding = os.urandom(2 * BLOCK)

    def _nonce(self) -> bytes:
        counter = self._counter
        self._counter = (counter + 1) & 0xFFFFFFFFFFFFFFFF
        return self._fixed + counter.to_bytes(8, "big")

    def seal(self, payload: bytes | bytearray | memoryview) -> bytes:
        """A whole packet with this payload."""
        padding = BLOCK - (len(payload) + 1) % BLOCK
        if padding < 4:
            padding += BLOCK
        head = _HEAD.pack(len(payload) + 1 + padding, padding)
        plain = b"".join((head[4:], payload, self._padding[:padding]))
        return head[:4] + self._aead.encrypt(self._nonce(), plain, head[:4])

    def seal_data(self, channel: int, data: bytes | bytearray | memoryview) -> tuple[bytes, bytes]:
        """CHANNEL_DATA of a channel, in two parts: length, and what is encrypted."""
        size = len(data)
        padding = BLOCK - (size + _DATA_SIZE + 1) % BLOCK
        if padding < 4:
            padding += BLOCK
        head = _DATA.pack(size + _DATA_SIZE + 1 + padding, padding, CHANNEL_DATA, channel, size)
        length = head[:4]
        plain = b"".join((head[4:], data, self._padding[:padding]))
        return length, self._aead.encrypt(self._nonce(), plain, length)

    def encrypt_packet(self, seq: int, header: bytes, packet: bytes) -> tuple[bytes, bytes]:
        """As asyncssh's: `packet` is padded; gives it encrypted, and its tag."""
        return header + self._aead.encrypt(self._nonce(), packet, header), b""


class Opener(_Counted):
    """Decrypts the packets of one direction."""

    def open(self, head: bytes | memoryview, body: bytes | memoryview) -> bytes | None:
        """What a packet holds, its padding's length first; None if it is forged. `head` is its length, as sent."""
        counter = self._counter
        self._counter = (counter + 1) & 0xFFFFFFFFFFFFFFFF
        try:
            return self._aead.decrypt(self._fixed + counter.to_bytes(8, "big"), body, head)
        except InvalidTag:
            return None

    def rewind(self) -> None:
        """The last packet will be opened once more."""
        self._counter = (self._counter - 1) & 0xFFFFFFFFFFFFFFFF

    def decrypt_header(self, seq: int, first_block: bytes, header_len: int) -> tuple[bytes, bytes]:
        """As asyncssh's: the length is not encrypted."""
        return first_block, first_block[:header_len]

    def decrypt_packet(self, seq: int, first: bytes, rest: bytes, header_len: int, mac: bytes) -> bytes | None:
        """As asyncssh's."""
        return self.open(first[:header_len], first[header_len:] + rest + mac)
