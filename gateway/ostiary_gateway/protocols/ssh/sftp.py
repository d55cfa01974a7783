"""SFTP inside one channel: each operation a question, what is refused answered here, content passed on as it is. Pure.

The bytes of both directions go through a splitter that looks at the heads of packets only where that is enough. A
request that must be decided stops its direction until it is; answers to earlier ones go on meanwhile. What the policies
were asked about is what goes on: paths are sent on as they were normalised, and resolved where links were.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from . import sftp_wire as wire
from .questions import PREFIX, Question
from .sftp_answers import MAX_HANDLES, Answering, closed
from .sftp_asks import Broken, Pending
from .sftp_files import OpenFile
from .sftp_paths import PathError, text
from .sftp_requests import Call, NoSuchFile, Unknown, read_request
from .sftp_wire import Fields, SftpError

if TYPE_CHECKING:
    from .questions import Admission
    from .talks import Piece

MAX_PENDING: Final = 4096
"""Requests that the target has not answered; a client that sends more waits."""
MAX_TOLD: Final = 16 << 10
"""Bytes of refusals on standard error: some clients never read it, and it takes from the channel's window."""

_FRAME: Final = struct.Struct(">IB")
_HANDLED: Final = struct.Struct(">IBII")
_PLACE: Final = struct.Struct(">QI")
_WRITTEN: Final = frozenset(("size", "atime", "mtime"))


class SftpTalk(Answering):
    """A Talk (talks.py).

    now: seconds of a clock that only grows. content: the content of files goes into the record.
    """

    # -- from the client

    def passes_up(self, data: Piece) -> bool:
        size, file = len(data), self._sink
        if file is None or not size <= self._left or self._queue or self.over or self._ended:
            return False
        file.written.took(data)
        self._left -= size
        return True

    def passes_down(self, data: Piece) -> bool:
        size, file = len(data), self._source
        if file is None or not size <= self._target_left or self.over or self._ended:
            return False
        file.read.took(data)
        self._read += size
        self._target_left -= size
        return True

    def from_client(self, data: Piece) -> None:
        if self.over or self._ended:
            return
        if self._queue or self._stopped:
            self._queue.append(bytes(data))
            self.held += len(data)
            return
        self._guarded(self._client, data)

    def client_eof(self) -> None:
        self._client_ended = True
        self._resume()

    @property
    def _stopped(self) -> bool:
        return self._waiting is not None or self._busy or (self._begun and not self._ready)

    def _resume(self) -> None:
        queue = self._queue
        while queue and not self.over and not self._stopped:
            data = queue.popleft()
            self.held -= len(data)
            self._full = False
            self._guarded(self._client, data)
            if self._full:
                break
        self.client_done = self._client_ended and not queue and not self._stopped

    def _guarded(self, work: Callable[[Piece], None], data: Piece) -> None:
        try:
            work(data)
        except Broken as problem:
            self.over = str(problem)
            self.questions.clear()

    def _client(self, data: Piece) -> None:
        if self._part:
            data, self._part = self._part + bytes(data), b""
        view = memoryview(data)
        size = len(view)
        at = start = 0  # from `start` to `at` goes on as it is
        while at < size:
            if left := self._left:
                take = min(left, size - at)
                if self._sink is not None:
                    self._sink.written.took(view[at : at + take])
                    at += take
                else:
                    at = start = at + take
                self._left = left - take
                continue
            if size - at < 5:
                break
            length, kind = _FRAME.unpack_from(view, at)
            if kind == wire.WRITE and self._ready:
                if len(self._pending) >= MAX_PENDING:
                    self._full = True
                    self._pass_to_target(data, view, start, at)
                    self._hold(view[at:])
                    return
                used = self._write(view, at)
                if not used:
                    break
                if self._sink is None:
                    self._pass_to_target(data, view, start, at)
                    start = at + used
                at += used
                continue
            if length > wire.MAX_REQUEST:
                name = wire.NAMES.get(kind, f"type {kind}")
                raise Broken(f"The client sent a request ({name}) of {length} bytes; {wire.MAX_REQUEST} are allowed.")
            if length < 5:
                raise Broken(f"The client sent a packet of {length} bytes, which is too short to be one.")
            end = at + 4 + length
            if end > size:
                break
            if kind == wire.READ and self._ready and self._read_on(view, at, length):
                at = end
                continue
            self._pass_to_target(data, view, start, at)
            start = at
            if not self._must_wait(int.from_bytes(view[at + 5 : at + 9], "big")):
                self._request(kind, bytes(view[at:end]))
                start = at = end
            if self._full or self._stopped:
                self._hold(view[start:])
                return
        self._pass_to_target(data, view, start, at)
        self._part = bytes(view[at:])

    def _hold(self, rest: memoryview) -> None:
        if rest:
            self._queue.appendleft(bytes(rest))
            self.held += len(rest)

    def _pass_to_target(self, data: Piece, view: memoryview, start: int, end: int) -> None:
        if end > start:
            self.to_target.append(data if end - start == len(view) else view[start:end])

    def _must_wait(self, ident: int) -> bool:
        """Not now: the target must answer something first."""
        pending = self._pending.get(ident)
        self._full = len(self._pending) >= MAX_PENDING or (pending is not None and pending.own is not None)
        return self._full

    def _write(self, view: memoryview, at: int) -> int:
        """The head of a WRITE: how many bytes it has, or 0 if they are not all there yet."""
        size = len(view) - at
        if size < 13:
            return 0
        length, _, ident, handle_size = _HANDLED.unpack_from(view, at)
        head = 25 + int(handle_size)
        if handle_size > wire.MAX_HANDLE or length > wire.MAX_PACKET or length + 4 < head:
            raise Broken("The client sent a write whose lengths cannot be.")
        if size < head:
            return 0
        where, count = _PLACE.unpack_from(view, at + 13 + handle_size)
        if count != length + 4 - head:
            raise Broken("The client sent a write whose lengths cannot be.")
        file = self._files.get(bytes(view[at + 13 : at + 13 + handle_size]))
        self._left = count
        self._sink = None
        if file is None or not file.writes:
            what = "there is no such handle" if file is None else file.closed or "it was not opened for writing"
            self._unfit(ident, wire.FAILURE if file is None else wire.PERMISSION_DENIED, what)
        elif ident in self._pending:
            self._unfit(ident, wire.BAD_MESSAGE, "a request with this id is not answered yet")
        else:
            if file.appends:
                file.written.append(count)
            else:
                file.written.at(where, count)
            self._pending[ident] = Pending(wire.WRITE, file)
            self._written += count
            self._sink = file
        return head

    def _read_on(self, view: memoryview, at: int, length: int) -> bool:
        """True if a READ may go on as it is."""
        handle_size = length - 21
        if handle_size < 0 or len(self._pending) >= MAX_PENDING:
            return False
        _, _, ident, said = _HANDLED.unpack_from(view, at)
        if said != handle_size or ident in self._pending:
            return False
        file = self._files.get(bytes(view[at + 13 : at + 13 + handle_size]))
        if file is None or not file.reads or file.listing or file.detectors is not None:
            return False
        where, count = _PLACE.unpack_from(view, at + 13 + handle_size)
        if count > wire.MAX_DATA:
            return False
        self._pending[ident] = Pending(wire.READ, file, where, count)
        return True

    def from_target(self, data: Piece) -> None:
        if self.over or self._ended:
            return
        self._guarded(self._target, data)
        if self._queue or self._client_ended:
            self._resume()

    def target_eof(self) -> None:
        """What it has not answered it never will; `ended` says so."""

    # -- one request

    def _request(self, kind: int, packet: bytes) -> None:
        if kind == wire.INIT:
            self._init(packet)
            return
        if not self._begun:
            raise Broken(f"The client began with {wire.NAMES.get(kind, kind)} instead of INIT.")
        if len(packet) < 9:
            raise Broken("The client sent a request without an id.")
        ident = int.from_bytes(packet[5:9], "big")
        if ident in self._pending:
            self._unfit(ident, wire.BAD_MESSAGE, "a request with this id is not answered yet")
            return
        try:
            if kind == wire.READ:
                self._read_other(ident, packet)
                return
            call = read_request(packet, self._home)
            self._take(call)
        except NoSuchFile as problem:
            self._unfit(ident, wire.NO_SUCH_FILE, str(problem))
        except Unknown as problem:
            self._unfit(ident, wire.OP_UNSUPPORTED, str(problem))
        except PathError as problem:
            self._unfit(ident, wire.PERMISSION_DENIED, str(problem))
        except SftpError as problem:
            self._unfit(ident, wire.BAD_MESSAGE, str(problem))

    def _init(self, packet: bytes) -> None:
        if self._begun:
            raise Broken("The client sent INIT twice.")
        if len(packet) < 9:
            raise Broken("The client's INIT names no version.")
        self._begun = True
        self._version = min(3, int.from_bytes(packet[5:9], "big"))
        self.to_target.append(wire.packet(wire.INIT, self._version.to_bytes(4, "big")))

    def _read_other(self, ident: int, packet: bytes) -> None:
        """A READ that cannot go on as it is."""
        fields = Fields(packet, 9)
        handle = fields.string()
        where, count = fields.u64(), fields.u32()
        fields.end()
        file = self._files.get(handle)
        if file is None:
            self._unfit(ident, wire.FAILURE, "there is no such handle")
        elif not file.reads or file.listing:
            self._unfit(ident, wire.PERMISSION_DENIED, file.closed or "it was not opened for reading")
        else:
            count = min(count, wire.MAX_DATA)
            if file.detectors is None:
                self._pending[ident] = Pending(wire.READ, file, where, count)
                self.to_target.append(wire.request(
                    wire.READ, ident, wire.string(handle), where.to_bytes(8, "big"), count.to_bytes(4, "big")
                ))  # fmt: skip
            else:
                self._busy = True
                self._step(self._masked(file, ident, where, count))

    def _take(self, call: Call) -> None:
        """A request that is understood."""
        files: list[OpenFile] = []
        for handle in call.handles:
            file = self._files.get(handle)
            if file is None:
                self._unfit(call.ident, wire.FAILURE, "there is no such handle")
                return
            files.append(file)
        if call.kind in (wire.OPEN, wire.OPENDIR) and len(self._files) + self._opening >= MAX_HANDLES:
            self._unfit(call.ident, wire.FAILURE, f"at most {MAX_HANDLES} files can be open at once")
        elif call.kind == wire.READDIR and not files[0].listing:
            self._unfit(call.ident, wire.PERMISSION_DENIED, "it is no folder that was opened")
        elif call.kind == wire.READDIR and files[0].closed:
            self._unfit(call.ident, wire.PERMISSION_DENIED, files[0].closed)
        elif call.kind == wire.CLOSE:
            del self._files[call.handles[0]]
            self._send(call, call.packet([]), None, files[0])
        elif call.operation == "copy-data" and not (files[0].reads and files[1].writes):
            why = files[0].closed or files[1].closed or "they were not opened for this"
            self._unfit(call.ident, wire.PERMISSION_DENIED, why)
        elif call.operation == "copy-data" and files[0].detectors is not None:
            self._unfit(call.ident, wire.PERMISSION_DENIED, "what is masked cannot be copied at the target")
        elif not call.operation or (call.kind == wire.FSETSTAT and _only_writes(call, files[0])):
            self._send(call, call.packet([]), None, files[0] if files else None)
        else:
            if files:
                call.looks = [(file.real, True) for file in files]
                call.path, call.opaque = text(files[0].path)
                call.target = text(files[1].path)[0] if len(files) > 1 else ""
            question = Question(
                "sftp", call.facts(), call.line(), detail=dict(call.attributes), exact=(call.exact,), tag=call,
                quiet=call.quiet,
            )  # fmt: skip
            if call.looks:
                question.find = lambda done: self._find(question, call, done)
            self._waiting = question
            self.questions.append(question)

    def answer(self, question: Question, admission: Admission) -> None:
        if self._waiting is not question or self.over or self._ended:
            admission.end("skipped", {}, 0)
            return
        self._waiting = None
        call = question.tag
        assert isinstance(call, Call)
        if admission.allowed:
            paths, self._real = self._real or call.paths, []
            call.sent = paths[0] if paths else b""
            self._send(call, call.packet(paths), admission, None)
            self._pending[call.ident].question = question
        else:
            self._real = []
            self._refuse(call, admission)
        self._resume()

    def _send(self, call: Call, packet: bytes, admission: Admission | None, file: OpenFile | None) -> None:
        pending = self._pending[call.ident] = Pending(call.kind, file)
        pending.call, pending.admission = call, admission
        if call.kind in (wire.OPEN, wire.OPENDIR):
            self._opening += 1
        if call.operation:
            self._counts[call.operation] += 1
        self.to_target.append(packet)

    def _unfit(self, ident: int, code: int, message: str) -> None:
        """Refused by the gateway itself: nobody needs to be asked."""
        self._counts["refused"] += 1
        self.to_client.append(wire.status(ident, code, f"{PREFIX}{message}"))

    def _refuse(self, call: Call, admission: Admission) -> None:
        self._counts["refused"] += 1
        message = admission.message
        if admission.request and admission.request not in message:
            message += f" ({admission.request})"
        self.to_client.append(wire.status(call.ident, wire.PERMISSION_DENIED, message))
        # Few clients of SFTP show what a status says.
        said = f"{message}\n".encode("utf-8", "replace") if call.quiet else admission.stderr()
        if self._told + len(said) <= MAX_TOLD:
            self._told += len(said)
            self.to_stderr.append(said)

    # -- the end

    def recheck(self, still: Callable[[Question, Admission], str]) -> None:
        """Files that may not be open any more are of no use, until they are closed."""
        for file in self._files.values():
            if not file.closed and (why := still(file.question, file.admission)):
                file.close(why)

    def ended(self) -> None:
        """Ends every request that was begun."""
        for file in self._files.values():
            closed(file, "lost", wire.OK)
        for pending in self._pending.values():
            if pending.admission is not None:
                pending.admission.end("lost", {}, 0)
            if pending.kind == wire.CLOSE and pending.file is not None:
                closed(pending.file, "lost", wire.OK)
        self._files.clear()
        self._pending.clear()
        self._queue.clear()
        self.held = 0
        self._waiting = None
        self._ended = True

    def end_detail(self) -> dict[str, object]:
        counts = dict(self._counts)
        refused = counts.pop("refused", 0)
        found: dict[str, object] = {
            "sftpVersion": self._version, "operations": counts, "readBytes": self._read, "writtenBytes": self._written,
        }  # fmt: skip
        return found | {"refused": refused} if refused else found


def _only_writes(call: Call, file: OpenFile) -> bool:
    """True if attributes are set that a file that may be written to may have set: its size, and when that was."""
    return file.writes and not file.appends and call.attributes.keys() <= _WRITTEN
