"""What the gateway itself asks the target in a session of SFTP: where paths lead, and content to be masked. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Final

from . import sftp_wire as wire
from .sftp_files import OpenFile
from .sftp_masks import CONTEXT, masked
from .sftp_paths import PathError, below, normal, parted, text
from .sftp_requests import Call
from .sftp_wire import Fields, SftpError

if TYPE_CHECKING:
    from .questions import Admission, Question
    from .talks import Piece

_STEP: Final = 32 << 10
"""Bytes that the gateway itself reads at once."""

Reply = tuple[int, int, bytes]
"""An answer to a request of the gateway's own: its type, its code if it is a STATUS, and the whole packet."""
Own = Generator[tuple[int, tuple[bytes, ...]], Reply, None]
"""Asks the target by itself: yields the type and fields of requests, and is sent their answers."""


class Pending:
    """A request that the target has to answer. `own`: the gateway's own."""

    __slots__ = ("admission", "call", "file", "kind", "own", "question", "size", "where")

    def __init__(self, kind: int, file: OpenFile | None = None, where: int = 0, size: int = 0) -> None:
        self.kind = kind
        self.file = file
        self.where = where
        self.size = size
        self.call: Call | None = None
        self.question: Question | None = None
        self.admission: Admission | None = None
        self.own: Own | None = None


class Broken(Exception):
    """The talk must end. The message says why."""


class Asking:
    """The state of one session, and the requests of the gateway's own."""

    def __init__(self, now: Callable[[], float], *, content: bool = False) -> None:
        self.to_client: list[Piece] = []
        self.to_stderr: list[bytes] = []
        self.to_target: list[Piece] = []
        self.questions: list[Question] = []
        self.over = ""
        self.held = 0
        self.client_done = False
        self._now = now
        self._content = content
        self._queue: deque[Piece] = deque()
        """What the client has sent behind a request that must wait."""
        self._waiting: Question | None = None
        self._begun = False
        """INIT has been sent."""
        self._ready = False
        """The target has said which version it speaks, and where relative paths begin."""
        self._busy = False
        """The gateway itself asks the target something, and the client waits for that."""
        self._home: bytes | None = None
        self._client_ended = False
        self._ended = False
        self._part: bytes = b""
        self._left = 0
        self._sink: OpenFile | None = None
        """What the rest of the packet is written to; None: it is dropped."""
        self._target_part: bytes = b""
        self._target_left = 0
        self._source: OpenFile | None = None
        self._pending: dict[int, Pending] = {}
        self._own = 0xFFFFFFFF
        self._files: dict[bytes, OpenFile] = {}
        self._opening = 0
        self._told = 0
        self._full = False
        """The next request of the client waits for an answer of the target to any earlier one."""
        self._real: list[bytes] = []
        """The paths of the request that waits, resolved; empty if nobody wanted to know."""
        self._version = 0
        self._counts: Counter[str] = Counter()
        self._read = self._written = 0

    def _step(self, own: Own, reply: Reply | None = None) -> None:
        try:
            kind, fields = next(own) if reply is None else own.send(reply)
        except StopIteration:
            return
        while self._own in self._pending:
            self._own = (self._own - 1) & 0xFFFFFFFF
        pending = self._pending[self._own] = Pending(kind)
        pending.own = own
        self.to_target.append(wire.request(kind, self._own, *fields))
        self._own = (self._own - 1) & 0xFFFFFFFF

    def _learn_home(self) -> Own:
        reply = yield wire.REALPATH, (wire.string(b"."),)
        self._home = _name_of(reply) or None
        self._ready = True

    def _find(self, question: Question, call: Call, done: Callable[[str, str], None]) -> None:
        def work() -> Own:
            found = [b"", b""]
            for index, (path, follows) in enumerate(call.looks):
                found[index] = yield from self._resolved(path, follows=follows)
            if self._waiting is question:
                self._real = [real or path for real, path in zip(found, call.paths, strict=False)]
            real, target = (text(path)[0] for path in found)
            question.facts |= {"realPath": real} if real else {}
            question.facts |= {"realTarget": target} if target else {}
            done(real, target)

        self._step(work())

    def _resolved(self, path: bytes, *, follows: bool) -> Generator[tuple[int, tuple[bytes, ...]], Reply, bytes]:
        """The path with symbolic links resolved; empty if that cannot be known."""
        if follows:
            if real := _name_of((yield wire.REALPATH, (wire.string(path),))):
                return real
            reply = yield wire.LSTAT, (wire.string(path),)
            if reply[1] != wire.NO_SUCH_FILE:
                return b""  # a link that leads nowhere, or what may not be looked at
        folder, name = parted(path)
        if not name:
            return path
        real = _name_of((yield wire.REALPATH, (wire.string(folder),)))
        return below(real, name) if real else b""

    def _masked(self, file: OpenFile, ident: int, where: int, count: int) -> Own:
        """Reads with what stands around it, so that no value is cut, and shows the part that was asked for."""
        assert file.detectors is not None
        begin, end = max(0, where - CONTEXT), where + count + CONTEXT
        before, known = file.window
        raw = bytearray(known[begin - before :] if before <= begin <= before + len(known) == where + CONTEXT else b"")
        problem = b""
        while begin + len(raw) < end and begin + len(raw) < 1 << 63:
            step = min(_STEP, end - begin - len(raw))
            place = (begin + len(raw)).to_bytes(8, "big"), step.to_bytes(4, "big")
            kind, code, packet = yield wire.READ, (wire.string(file.handle), *place)
            if kind == wire.STATUS:
                problem = packet if code != wire.EOF else b""
                break
            data = packet[13:]
            if len(data) > step:
                raise SftpError("it has more data than it was asked for")
            if not data:
                break
            raw += data
        self._busy = False
        whole = bytes(raw)
        shown = masked(whole, file.detectors, where - begin, where - begin + count)
        if problem:
            self.to_client.append(problem[:5] + ident.to_bytes(4, "big") + problem[9:])
        elif not shown:
            self.to_client.append(wire.status(ident, wire.EOF, "End of file"))
        else:
            file.window = begin, whole
            file.read.at(where, len(shown))
            file.read.took(shown)
            self._read += len(shown)
            self.to_client.append(wire.data(ident, shown))


def _name_of(reply: Reply) -> bytes:
    """The one path of a NAME; empty if it is none that could be one."""
    kind, _, packet = reply
    if kind != wire.NAME:
        return b""
    fields = Fields(packet, 9)
    if fields.u32() != 1:
        return b""
    name = fields.string()
    if not name.startswith(b"/"):
        return b""
    try:
        return normal(name, None)
    except PathError:
        return b""
