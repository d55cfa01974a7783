"""What the target answers in a session of SFTP: each answer belongs to a request, content passes as it is. Pure."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from . import sftp_requests as requests
from . import sftp_wire as wire
from .sftp_asks import Asking, Broken, Pending
from .sftp_files import OpenFile
from .sftp_wire import Fields, SftpError

if TYPE_CHECKING:
    from .talks import Piece

MAX_HANDLES: Final = 1000

_NAMED: Final = struct.Struct(">IBI")

_ANSWERS: Final = {
    wire.READ: (wire.DATA,), wire.OPEN: (wire.HANDLE,), wire.OPENDIR: (wire.HANDLE,), wire.READDIR: (wire.NAME,),
    wire.REALPATH: (wire.NAME,), wire.READLINK: (wire.NAME,), wire.STAT: (wire.ATTRS,), wire.LSTAT: (wire.ATTRS,),
    wire.FSTAT: (wire.ATTRS,), wire.EXTENDED: (wire.EXTENDED_REPLY, wire.NAME),
}  # fmt: skip
"""What a request may be answered with, besides a STATUS."""


class Answering(Asking):
    """The direction from the target to the client."""

    def _target(self, data: Piece) -> None:
        if self._target_part:
            data, self._target_part = self._target_part + bytes(data), b""
        view = memoryview(data)
        size = len(view)
        at = start = 0
        while at < size:
            if left := self._target_left:
                take = min(left, size - at)
                if self._source is not None:
                    self._source.read.took(view[at : at + take])
                    self._read += take
                at += take
                self._target_left = left - take
                continue
            if size - at < 9:
                break
            length, kind, ident = _NAMED.unpack_from(view, at)
            pending = self._pending.get(ident) if self._ready or kind != wire.VERSION else None
            if pending is None:
                if kind != wire.VERSION or not self._begun or self._ready or self._pending:
                    name = wire.NAMES.get(kind, f"type {kind}")
                    raise Broken(f"The target answered ({name}) what nobody asked.")
                whole = True
            else:
                if kind != wire.STATUS and kind not in _ANSWERS.get(pending.kind, ()):
                    name, asked = wire.NAMES.get(kind, f"type {kind}"), wire.NAMES[pending.kind]
                    raise Broken(f"The target answered a {asked} with {name}.")
                whole = pending.own is not None or kind == wire.HANDLE or _is(pending, requests.LIMITS)
            if length > (wire.MAX_ANSWER if whole and kind != wire.DATA else wire.MAX_PACKET) or length < 9:
                raise Broken(f"The target sent a packet of {length} bytes, which cannot be.")
            if whole:
                end = at + 4 + length
                if end > size:
                    break
                self._pass_to_client(data, view, start, at)
                start = at = end
                self._answer(ident, pending, kind, bytes(view[end - 4 - length : end]))
                continue
            assert pending is not None
            if size - at < 13:
                break
            word = int.from_bytes(view[at + 9 : at + 13], "big")
            if kind == wire.DATA:
                if word != length - 9 or word > pending.size:
                    raise Broken("The target sent data of a length that cannot be.")
                file = pending.file
                assert file is not None
                file.read.at(pending.where, word)
                self._source = file
                del self._pending[ident]
                at += 13
                self._target_left = word
            else:
                self._source = None
                del self._pending[ident]
                self._settled(pending, kind, word)
                at += 13
                self._target_left = length - 9
        self._pass_to_client(data, view, start, at)
        self._target_part = bytes(view[at:])

    def _pass_to_client(self, data: Piece, view: memoryview, start: int, end: int) -> None:
        if end > start:
            self.to_client.append(data if end - start == len(view) else view[start:end])

    def _settled(self, pending: Pending, kind: int, word: int) -> None:
        """An answer of which only the head is looked at. `word`: what follows the id."""
        code = word if kind == wire.STATUS else wire.OK
        file, admission = pending.file, pending.admission
        if pending.kind == wire.WRITE:
            if code != wire.OK and file is not None:
                file.failed += 1
        elif pending.kind in (wire.OPEN, wire.OPENDIR):
            self._opening -= 1
            if admission is not None:
                admission.end("error", {"status": _words(code)}, 0)
        elif pending.kind == wire.CLOSE:
            if file is not None:
                closed(file, "ok" if code == wire.OK else "error", code)
        elif pending.kind == wire.READDIR:
            if file is not None and kind == wire.NAME:
                file.entries += word
        elif admission is not None:
            if code == wire.OK:
                admission.end("ok", {}, 0)
            else:
                admission.end("error", {"status": _words(code)}, 0)

    def _answer(self, ident: int, pending: Pending | None, kind: int, packet: bytes) -> None:
        """An answer that is looked at as a whole."""
        if pending is None:
            self._versioned(packet)
            return
        del self._pending[ident]
        try:
            if pending.own is not None:
                code = int.from_bytes(packet[9:13], "big") if kind == wire.STATUS else -1
                if kind == wire.DATA and int.from_bytes(packet[9:13], "big") != len(packet) - 13:
                    raise SftpError("its data has another length")
                self._step(pending.own, (kind, code, packet))
            elif kind == wire.HANDLE:
                self._opened(pending, packet)
            else:
                self.to_client.append(self._limits(packet) if kind == wire.EXTENDED_REPLY else packet)
                self._settled(pending, kind, wire.FAILURE)
        except SftpError as problem:
            self._pending[ident] = pending  # `ended` ends it
            raise Broken(f"The target sent what is no answer: {problem}.") from None

    def _versioned(self, packet: bytes) -> None:
        try:
            fields = Fields(packet, 5)
            version = fields.u32()
            pairs: list[bytes] = []
            while not fields.over:
                name, content = fields.string(), fields.string()
                if name in requests.EXTENSIONS:
                    pairs += wire.string(name), wire.string(content)
        except SftpError as problem:
            raise Broken(f"The target's VERSION cannot be read: {problem}.") from None
        if version > self._version:
            raise Broken(f"The target speaks version {version} of SFTP and was asked for {self._version}.")
        self._version = version
        self.to_client.append(wire.packet(wire.VERSION, version.to_bytes(4, "big"), *pairs))
        self._step(self._learn_home())

    def _opened(self, pending: Pending, packet: bytes) -> None:
        fields = Fields(packet, 9)
        handle = fields.string()
        fields.end()
        call, question, admission = pending.call, pending.question, pending.admission
        assert call is not None
        assert question is not None
        assert admission is not None
        if len(handle) > wire.MAX_HANDLE or handle in self._files:
            raise SftpError("the handle is too long, or it is in use")
        self._opening -= 1
        listing = call.kind == wire.OPENDIR
        flags = call.flags
        file = self._files[handle] = OpenFile(
            call.paths[0], call.sent, question, admission, listing=listing,
            reads=not listing and (bool(flags & wire.F_READ) or not flags & (wire.F_WRITE | wire.F_APPEND)),
            writes=bool(flags & wire.F_WRITE), appends=bool(flags & wire.F_APPEND),
        )  # fmt: skip
        file.handle = handle
        if self._content and admission.keeps and not listing:
            file.keep(self._now)
        self.to_client.append(packet)

    def _limits(self, packet: bytes) -> bytes:
        """What this gateway lets through is less than some targets take."""
        fields = Fields(packet, 9)
        ours = wire.MAX_DATA, wire.MAX_DATA - 1024, wire.MAX_DATA - 1024, MAX_HANDLES
        told = [min(theirs, mine) if (theirs := fields.u64()) else mine for mine in ours]
        return packet[:9] + struct.pack(">4Q", *told)


def closed(file: OpenFile, outcome: str, code: int) -> None:
    detail = file.detail()
    if code != wire.OK:
        detail["status"] = _words(code)
    file.admission.end("ok" if outcome == "ok" else "error" if outcome == "error" else "lost", detail, file.read.size)


def _is(pending: Pending, extension: bytes) -> bool:
    return pending.call is not None and pending.call.extension == extension


def _words(code: int) -> str:
    return wire.STATUSES.get(code, str(code))
