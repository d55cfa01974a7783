"""Version 3 of the SFTP protocol: its packets, read and written, bounded. Pure.

Sources: draft-ietf-secsh-filexfer-02; OpenSSH, PROTOCOL, section 4 (its extensions, and the order of SYMLINK's paths).
"""

from __future__ import annotations

import struct
from typing import Final

INIT: Final = 1
VERSION: Final = 2
OPEN: Final = 3
CLOSE: Final = 4
READ: Final = 5
WRITE: Final = 6
LSTAT: Final = 7
FSTAT: Final = 8
SETSTAT: Final = 9
FSETSTAT: Final = 10
OPENDIR: Final = 11
READDIR: Final = 12
REMOVE: Final = 13
MKDIR: Final = 14
RMDIR: Final = 15
REALPATH: Final = 16
STAT: Final = 17
RENAME: Final = 18
READLINK: Final = 19
SYMLINK: Final = 20
STATUS: Final = 101
HANDLE: Final = 102
DATA: Final = 103
NAME: Final = 104
ATTRS: Final = 105
EXTENDED: Final = 200
EXTENDED_REPLY: Final = 201

NAMES: Final = {
    INIT: "INIT", VERSION: "VERSION", OPEN: "OPEN", CLOSE: "CLOSE", READ: "READ", WRITE: "WRITE", LSTAT: "LSTAT",
    FSTAT: "FSTAT", SETSTAT: "SETSTAT", FSETSTAT: "FSETSTAT", OPENDIR: "OPENDIR", READDIR: "READDIR",
    REMOVE: "REMOVE", MKDIR: "MKDIR", RMDIR: "RMDIR", REALPATH: "REALPATH", STAT: "STAT", RENAME: "RENAME",
    READLINK: "READLINK", SYMLINK: "SYMLINK", STATUS: "STATUS", HANDLE: "HANDLE", DATA: "DATA", NAME: "NAME",
    ATTRS: "ATTRS", EXTENDED: "EXTENDED", EXTENDED_REPLY: "EXTENDED_REPLY",
}  # fmt: skip

OK: Final = 0
EOF: Final = 1
NO_SUCH_FILE: Final = 2
PERMISSION_DENIED: Final = 3
FAILURE: Final = 4
BAD_MESSAGE: Final = 5
OP_UNSUPPORTED: Final = 8
STATUSES: Final = {
    OK: "ok", EOF: "end of file", NO_SUCH_FILE: "no such file", PERMISSION_DENIED: "permission denied",
    FAILURE: "failure", BAD_MESSAGE: "bad message", 6: "no connection", 7: "connection lost",
    OP_UNSUPPORTED: "operation unsupported",
}  # fmt: skip

F_READ: Final = 1
F_WRITE: Final = 2
F_APPEND: Final = 4
F_CREAT: Final = 8
F_TRUNC: Final = 16
F_EXCL: Final = 32
FLAGS: Final = 63

_SIZE: Final = 1
_IDS: Final = 2
_MODE: Final = 4
_TIMES: Final = 8
_MORE: Final = 0x80000000

MAX_DATA: Final = 256 << 10
"""Bytes of one read or write."""
MAX_PACKET: Final = MAX_DATA + 1024
"""Of a packet with data."""
MAX_REQUEST: Final = 64 << 10
"""Of any other request."""
MAX_ANSWER: Final = 64 << 10
"""Of an answer that is looked at as a whole."""
MAX_HANDLE: Final = 256
MAX_PATH: Final = 4096
MAX_STATUS_TEXT: Final = 1000


class SftpError(Exception):
    """A packet that cannot be what it says. The message says why."""


class Fields:
    """Reads the fields of one packet, in their order."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at

    def _take(self, size: int) -> int:
        at = self.at
        if size > len(self.data) - at:
            raise SftpError("a field reaches over the packet's end")
        self.at = at + size
        return at

    def u32(self) -> int:
        at = self._take(4)
        return int.from_bytes(self.data[at : at + 4], "big")

    def u64(self) -> int:
        at = self._take(8)
        return int.from_bytes(self.data[at : at + 8], "big")

    def string(self) -> bytes:
        size = self.u32()
        at = self._take(size)
        return self.data[at : at + size]

    def rest(self) -> bytes:
        return self.data[self.at :]

    @property
    def over(self) -> bool:
        return self.at == len(self.data)

    def end(self) -> None:
        """There must be no more."""
        if not self.over:
            raise SftpError(f"{len(self.data) - self.at} bytes follow its last field")

    def attributes(self) -> dict[str, object]:
        """ATTRS, as words for people."""
        flags = self.u32()
        if flags & ~(_SIZE | _IDS | _MODE | _TIMES | _MORE):
            raise SftpError(f"there are no attributes with the flags {flags:#x}")
        found: dict[str, object] = {}
        if flags & _SIZE:
            found["size"] = self.u64()
        if flags & _IDS:
            found["uid"], found["gid"] = self.u32(), self.u32()
        if flags & _MODE:
            found["mode"] = f"{self.u32() & 0o7777:04o}"
        if flags & _TIMES:
            found["atime"], found["mtime"] = self.u32(), self.u32()
        if flags & _MORE:
            for _ in range(self.u32()):
                found[visible_name(self.string())] = len(self.string())
        return found


def visible_name(name: bytes) -> str:
    return name.decode("ascii", "backslashreplace")


def string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def packet(kind: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">IB", len(body) + 1, kind) + body


def request(kind: int, ident: int, *parts: bytes) -> bytes:
    return packet(kind, ident.to_bytes(4, "big"), *parts)


def status(ident: int, code: int, message: str) -> bytes:
    """An answer of the gateway's own."""
    text = message.encode("utf-8", "replace")[:MAX_STATUS_TEXT].decode("utf-8", "ignore").encode()
    return request(STATUS, ident, code.to_bytes(4, "big"), string(text), string(b"en"))


def data(ident: int, content: bytes) -> bytes:
    return request(DATA, ident, string(content))
