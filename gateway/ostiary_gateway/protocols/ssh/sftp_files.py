"""The files and folders that a client of SFTP holds open: what it may do with each, and what went through. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from ostiary_gateway.audit.stream_recording import Kind, Writer

if TYPE_CHECKING:
    from ostiary_gateway.masking.detectors import Detectors

    from .questions import Admission, Question
    from .talks import Piece


class Flow:
    """What goes one way: counted, digested as long as it goes on where it ended, kept if that is wanted."""

    __slots__ = ("_digest", "_kept", "_kind", "_next", "_now", "_record", "size")

    def __init__(self, kind: Kind) -> None:
        self.size = 0
        self._kind = kind
        self._digest = hashlib.sha256()
        self._next: int | None = 0
        """Where the next byte of a file that is transferred from its beginning to its end stands; None: it is not."""
        self._record: Callable[[bytes], None] | None = None
        self._kept: Writer | None = None
        self._now: Callable[[], float] | None = None

    def keep(self, record: Callable[[bytes], None], writer: Writer, now: Callable[[], float]) -> None:
        self._record, self._kept, self._now = record, writer, now

    def at(self, offset: int, size: int) -> None:
        """So many bytes follow that stand there in the file."""
        if offset == self._next:
            self._next = offset + size
        else:
            self._next = None

    def append(self, size: int) -> None:
        """So many bytes follow, behind the others."""
        if self._next is not None:
            self._next += size

    def took(self, data: Piece) -> None:
        self.size += len(data)
        if self._next is not None:
            self._digest.update(data)
            if self._record is not None and self._kept is not None and self._now is not None:
                self._record(self._kept.frame(self._now(), self._kind, bytes(data)))

    @property
    def sequential(self) -> bool:
        return self._next is not None

    def digest(self) -> str:
        """Of all that was transferred; empty if it came in another order than it stands in the file."""
        return self._digest.hexdigest() if self._next is not None else ""


class OpenFile:
    """One handle."""

    __slots__ = (
        "_reads",
        "_writes",
        "admission",
        "appends",
        "closed",
        "detectors",
        "entries",
        "failed",
        "handle",
        "listing",
        "path",
        "question",
        "read",
        "reads",
        "real",
        "window",
        "writes",
        "written",
    )  # fmt: skip

    def __init__(
        self,
        path: bytes,
        real: bytes,
        question: Question,
        admission: Admission,
        *,
        reads: bool,
        writes: bool,
        appends: bool,
        listing: bool,
    ) -> None:
        self.path = path
        self.real = real
        """As it was opened: with links resolved, if that was asked for."""
        self.question = question
        self.admission = admission
        self.closed = ""
        """Why nothing more of it is read or written; empty if it may be."""
        self._reads = self.reads = reads
        self._writes = self.writes = writes
        self.appends = appends
        self.listing = listing
        self.handle = b""
        self.detectors: Detectors | None = (admission.detectors or None) if reads else None
        self.read = Flow(Kind.STDOUT)
        self.written = Flow(Kind.STDIN)
        self.failed = 0
        self.entries = 0
        self.window: tuple[int, bytes] = 0, b""
        """The end of what was read last, as it is at the target, and where it begins: for masks."""

    def keep(self, now: Callable[[], float]) -> None:
        """Its content goes into the record."""
        writer = Writer(now(), tty=False)
        self.admission.record(writer.header)
        self.read.keep(self.admission.record, writer, now)
        self.written.keep(self.admission.record, writer, now)

    def close(self, why: str) -> None:
        self.closed = why
        self.reads = self.writes = False

    def detail(self) -> dict[str, object]:
        if self.listing:
            return {"entries": self.entries}
        found: dict[str, object] = {}
        for used, name, flow in ((self._reads, "read", self.read), (self._writes, "written", self.written)):
            if used:
                found[f"{name}Bytes"] = flow.size
                if flow.sequential:
                    found[f"{name}Sha256"] = flow.digest()
                else:
                    found[f"{name}InOrder"] = False
        if self.failed:
            found["failedWrites"] = self.failed
        return found
