"""The old protocol of scp inside one channel: each file and folder a question, a step at a time. Pure.

One end is the source, of what is copied, the other the sink, which acknowledges everything. Whoever is ahead waits
here: bytes of either end are only read where the protocol has them, so that both always mean the same by them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Final

from ostiary_gateway.audit.stream_recording import Kind, Writer

from .questions import PREFIX, Question
from .scp_lines import MAX_LINE, Item, ScpCommand, ScpError, first_places, is_times, read_item
from .sftp_files import Flow
from .sftp_masks import InOrder
from .sftp_paths import PathError, below, text

if TYPE_CHECKING:
    from .questions import Admission
    from .talks import Piece

MAX_AHEAD: Final = 4 << 20
"""Bytes of one end that wait for the other; more than the window of a channel."""
MAX_DEPTH: Final = 256
RELATIVE: Final = "the path is relative, and scp does not tell where that begins"


class _State(Enum):
    START = "the sink is ready"
    LINE = "the source announces something"
    WAIT = "it is being decided"
    TIMES = "the sink acknowledges times"
    ACK = "the sink acknowledges what was announced"
    DATA = "the source sends a file"
    STATUS = "the source says how that went"
    DONE = "the sink says how that went"


_SINK: Final = frozenset((_State.START, _State.TIMES, _State.ACK, _State.DONE))
_SOURCE: Final = frozenset((_State.LINE, _State.DATA, _State.STATUS))


class _Broken(Exception):
    """The talk must end. The message says why."""


class ScpTalk:
    """A Talk (talks.py). now, content: as for SftpTalk."""

    def __init__(self, command: ScpCommand, now: Callable[[], float], *, content: bool = False) -> None:
        self.to_client: list[Piece] = []
        self.to_stderr: list[bytes] = []
        self.to_target: list[Piece] = []
        self.questions: list[Question] = []
        self.over = ""
        self.held = 0
        self.client_done = False
        self._command = command
        self._now = now
        self._content = content
        self._state = _State.START
        self._source: deque[Piece] = deque()
        self._sink: deque[Piece] = deque()
        self._line = bytearray()
        """The beginning of a line that has not ended."""
        self._times = b""
        self._item: Item | None = None
        self._after_ack = _State.LINE
        self._places: list[bytes] = []
        """Where the item may be that is announced."""
        self._ask: list[bytes] = []
        """Those of them that are still to be decided."""
        self._folders: list[list[bytes]] = []
        self._question: Question | None = None
        self._asked: Question | None = None
        self._admission: Admission | None = None
        """Of the file that is being copied, and what was asked of it."""
        self._left = 0
        self._flow: Flow | None = None
        self._mask: InOrder | None = None
        self._failed = ""
        self._client_ended = False
        self._ended = False
        self._files = self._refused = self._bytes = 0

    # -- bytes

    def passes_up(self, data: Piece) -> bool:
        return self._command.upload and self._passes(data)

    def passes_down(self, data: Piece) -> bool:
        return not self._command.upload and self._passes(data)

    def _passes(self, data: Piece) -> bool:
        if (
            self._state is not _State.DATA
            or self._mask is not None
            or self._flow is None
            or not len(data) < self._left
            or self._source
            or self.over
            or self._ended
        ):
            return False
        self._flow.took(data)
        self._bytes += len(data)
        self._left -= len(data)
        return True

    def from_client(self, data: Piece) -> None:
        self._take(self._source if self._command.upload else self._sink, data)

    def from_target(self, data: Piece) -> None:
        self._take(self._sink if self._command.upload else self._source, data)

    def client_eof(self) -> None:
        self._client_ended = True
        self._run()

    def target_eof(self) -> None:
        """What it has not acknowledged it never will; `ended` says so."""

    @property
    def _ahead(self) -> deque[Piece]:
        return self._source if self._command.upload else self._sink

    def _take(self, queue: deque[Piece], data: Piece) -> None:
        if self.over or self._ended or not data:
            return
        queue.append(data)
        self._run()
        for each in (self._source, self._sink):
            if each:
                each[-1] = bytes(each[-1])  # the caller may use its buffer again
        if sum(map(len, queue)) > MAX_AHEAD:
            self.over = "One end of scp has sent far more than the other has read."

    def _run(self) -> None:
        try:
            while not self.over:
                if self._state in _SINK and self._sink:
                    self._heard()
                elif self._state in _SOURCE and self._source:
                    self._said()
                else:
                    break
        except (_Broken, ScpError, PathError) as problem:
            who = "The client" if self._command.upload == (self._state in _SOURCE) else "The target"
            self.over = f"{who} broke the protocol of scp: {problem}."
            self.questions.clear()
        self.held = sum(map(len, self._ahead))
        self.client_done = self._client_ended and not self._ahead and self._question is None

    def _out(self, data: Piece, *, sink: bool) -> None:
        (self.to_target if sink == self._command.upload else self.to_client).append(data)

    def _next_line(self, queue: deque[Piece]) -> bytes | None:
        """A line with its end; None if it has not all come."""
        line = self._line
        while queue:
            data = bytes(queue.popleft())
            end = data.find(b"\n")
            if end >= 0:
                line += data[: end + 1]
                if data[end + 1 :]:
                    queue.appendleft(data[end + 1 :])
                found = bytes(line)
                line.clear()
                return found
            line += data
            if len(line) > MAX_LINE:
                break
        if len(line) > MAX_LINE:
            raise _Broken(f"a line has more than {MAX_LINE} bytes")
        return None

    def _next_answer(self, queue: deque[Piece]) -> bytes | None:
        """A zero byte, or an error with its line; None if it has not all come."""
        if not self._line:
            first = bytes(queue[0][:1])
            if first == b"\0":
                rest = queue.popleft()[1:]
                if rest:
                    queue.appendleft(rest)
                return first
            if first not in (b"\1", b"\2"):
                raise _Broken("an answer is neither yes nor an error")
        return self._next_line(queue)

    # -- the sink

    def _heard(self) -> None:
        answer = self._next_answer(self._sink)
        if answer is None:
            return
        state = self._state
        if answer == b"\0":
            if state is _State.TIMES:
                self._state = _State.ACK
                return
            self._out(answer, sink=False)
            if state is _State.ACK:
                self._state = self._after_ack
                self._acknowledged()
                return
            if state is _State.DONE:
                self._ended_file("")
            self._state = _State.LINE
            return
        self._out(answer, sink=False)
        problem = answer[1:].decode("utf-8", "replace").strip()
        if state is _State.TIMES:
            raise _Broken(f"times were not taken ({problem})")
        if self._admission is not None:
            self._ended_file(problem)
        self._item = None
        self._state = _State.LINE

    def _acknowledged(self) -> None:
        item = self._item
        if item is None:
            return
        if item.kind == "D":
            self._folders.append(self._places)
            self._item = None
            if self._admission is not None:
                self._admission.end("ok", {}, 0)
                self._admission = None
        elif not item.size:
            self._state = _State.STATUS

    # -- the source

    def _said(self) -> None:
        if self._state is _State.DATA:
            self._data(self._source.popleft())
            return
        if self._state is _State.STATUS:
            answer = self._next_answer(self._source)
            if answer is not None:
                if answer != b"\0":
                    self._failed = answer[1:].decode("utf-8", "replace").strip() or "it could not be read"
                self._out(answer, sink=True)
                self._state = _State.DONE
            return
        line = self._next_line(self._source)
        if line is not None:
            self._announced(line)

    def _data(self, data: Piece) -> None:
        if len(data) > self._left:
            view = memoryview(data)
            self._source.appendleft(view[self._left :])
            data = view[: self._left]
        self._left -= len(data)
        if self._mask is not None:
            data = self._mask.feed(bytes(data)) + (b"" if self._left else self._mask.finish())
        if data:
            assert self._flow is not None
            self._flow.took(data)
            self._bytes += len(data)
            self._out(data, sink=True)
        if not self._left:
            self._state = _State.STATUS

    def _announced(self, line: bytes) -> None:
        first, body = line[:1], line[:-1]
        if first in (b"\1", b"\2"):
            self._out(line, sink=True)
        elif first == b"T":
            if not is_times(body) or self._times:
                raise ScpError("a line with times is not made like that")
            self._times = line
            self._out(b"\0", sink=False)
        elif line == b"E\n":
            if not self._folders or self._times:
                raise ScpError("a folder ends that did not begin")
            self._folders.pop()
            self._out(line, sink=True)
            self._state, self._after_ack = _State.ACK, _State.LINE
        elif first in (b"C", b"D"):
            self._item = item = read_item(body)
            if item.kind == "D" and (not self._command.recursive or len(self._folders) >= MAX_DEPTH):
                raise ScpError("a folder comes that was not asked for, or is too deep")
            folders = self._folders[-1] if self._folders else []
            self._places = [below(folder, item.name) for folder in folders] or first_places(self._command, item.name)
            self._ask = list(self._places)
            self._next_question()
        else:
            raise ScpError("there is no such line")

    # -- deciding

    def _next_question(self) -> None:
        item = self._item
        assert item is not None
        path = self._ask.pop(0)
        shown, opaque = text(path)
        if not path.startswith(b"/"):
            opaque = opaque or RELATIVE
        operation = "write" if self._command.upload else "read"
        facts: dict[str, object] = {
            "kind": "scp", "operation": operation, "path": shown, "size": item.size,
            "readOnly": not self._command.upload,
        }  # fmt: skip
        if opaque:
            facts["opaque"], facts["opaqueReason"] = True, opaque
        what = f"{item.size} bytes" if item.kind == "C" else "a folder"
        # Both were asked about; the record of the last stands for them.
        either = "".join(f" or {text(other)[0]}" for other in self._places if other != path and not self._ask)
        self._question = Question(
            "scp", facts, f"scp {operation} {shown}{either} ({what})", detail={"mode": item.mode},
            exact=(self._times, self._line_of(item)), quiet=bool(self._ask), tag=item,
        )  # fmt: skip
        self._state = _State.WAIT
        self.questions.append(self._question)

    @staticmethod
    def _line_of(item: Item) -> bytes:
        return f"{item.kind}{item.mode} {item.size} ".encode() + item.name + b"\n"

    def answer(self, question: Question, admission: Admission) -> None:
        if self._question is not question or self.over or self._ended:
            admission.end("skipped", {}, 0)
            return
        self._question = None
        if not admission.allowed:
            self._refuse(admission)
        elif self._ask:
            admission.end("ok", {}, 0)
            self._next_question()
        else:
            self._asked = question
            self._let_through(admission)
        self._run()

    def _let_through(self, admission: Admission) -> None:
        item = self._item
        assert item is not None
        self._admission = admission
        if self._times:
            self._out(self._times, sink=True)
        self._out(self._line_of(item), sink=True)
        self._state, self._after_ack = _State.TIMES if self._times else _State.ACK, _State.LINE
        self._times = b""
        if item.kind == "C":
            self._after_ack = _State.DATA
            self._left = item.size
            self._failed = ""
            upload = self._command.upload
            flow = self._flow = Flow(Kind.STDIN if upload else Kind.STDOUT)
            self._mask = InOrder(admission.detectors) if admission.detectors and not upload else None
            if self._content and admission.keeps:
                writer = Writer(self._now(), tty=False)
                admission.record(writer.header)
                flow.keep(admission.record, writer, self._now)

    def _refuse(self, admission: Admission) -> None:
        self._refused += 1
        self._item, self._times = None, b""
        message = admission.message
        if admission.request and admission.request not in message:
            message += f" ({admission.request})"
        error = b"\1scp: " + message.encode("utf-8", "replace") + b"\n"
        # The source goes on with what it has next; a client that is the sink hears it as an error of the source.
        self._out(error, sink=False)
        if not self._command.upload:
            self._out(error, sink=True)
        self.to_stderr += [f"{PREFIX}{line}\n".encode() for line in admission.lines if line.startswith("{")]
        self._state = _State.LINE

    # -- the end

    def recheck(self, still: Callable[[Question, Admission], str]) -> None:
        """What is being copied and may not any more ends all of it: the protocol has no way to leave a file."""
        if self._admission is not None and self._asked is not None and (why := still(self._asked, self._admission)):
            self.over = why

    def _ended_file(self, problem: str) -> None:
        admission, flow, item = self._admission, self._flow, self._item
        self._admission = self._flow = self._item = None
        if admission is None:
            return
        detail: dict[str, object] = {}
        if flow is not None and item is not None and item.kind == "C":
            detail = {"bytes": flow.size, "sha256": flow.digest()} if flow.size == item.size else {"bytes": flow.size}
        problem = problem or self._failed
        self._files += not problem
        size = flow.size if flow is not None and not self._command.upload else 0
        admission.end("error" if problem else "ok", detail | ({"message": problem} if problem else {}), size)

    def ended(self) -> None:
        """Ends every request that was begun."""
        if self._admission is not None:
            size = self._flow.size if self._flow is not None else 0
            self._admission.end("lost", {"bytes": size}, 0 if self._command.upload else size)
            self._admission = None
        self._question = None
        self._source.clear()
        self._sink.clear()
        self.held = 0
        self._ended = True

    def end_detail(self) -> dict[str, object]:
        found: dict[str, object] = {"files": self._files, "bytes": self._bytes}
        return found | {"refused": self._refused} if self._refused else found
