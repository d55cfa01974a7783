"""What one running command reads and writes: counted, digested, masked and recorded. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from ostiary_gateway.audit.stream_recording import Kind, Writer, size_data
from ostiary_gateway.masking.output import MaskedOutput, OutputMask

LARGE: Final = 4096
"""Bytes of data that are recorded without a copy of them."""
MAX_SIGNALS: Final = 16
"""Signals whose names are kept."""


class Streams:
    """Of one exec, shell or subsystem.

    mask: makes what goes over one output; None: nothing is masked. record: takes what is kept of it, `limit` bytes;
    None: nothing is. now: seconds of a clock that only grows. digests: whether what passes is hashed.
    `plain`: bytes pass as they are and are not kept, so that the caller may count and hash them by itself.
    """

    __slots__ = (
        "_left", "_masks", "_now", "_record", "_size", "_started", "_writer", "err_bytes", "err_hash", "full",
        "in_bytes", "in_hash", "out_bytes", "out_hash", "plain", "result", "signals",
    )  # fmt: skip

    def __init__(
        self,
        mask: Callable[[], OutputMask] | None,
        record: Callable[[bytes | memoryview], None] | None,
        *,
        tty: bool,
        size: tuple[int, int],
        now: Callable[[], float],
        digests: bool,
        limit: int = 0,
    ) -> None:
        self._now = now
        self._started = now()
        self._masks = MaskedOutput(mask, tty=tty, now=now) if mask is not None else None
        self._record = record
        self._writer = Writer(self._started, tty=tty)
        self._size = size
        self.in_bytes = self.out_bytes = self.err_bytes = 0
        self.in_hash = hashlib.sha256() if digests else None
        self.out_hash = hashlib.sha256() if digests else None
        self.err_hash = hashlib.sha256() if digests else None
        self.result: dict[str, object] = {}
        """How it ended, as the target said it."""
        self.signals: list[str] = []
        self.plain = mask is None and record is None
        self.full = False
        """Whether there was more than is kept."""
        self._left = limit
        if record is not None:
            record(self._writer.header)
            if all(size):
                self._keep(Kind.RESIZE, size_data(*size))

    def stdin(self, data: bytes | memoryview) -> None:
        self.in_bytes += len(data)
        if self.in_hash is not None:
            self.in_hash.update(data)
        if self._masks is not None:
            self._masks.typed(bytes(data))
        self._keep(Kind.STDIN, data)

    def stdin_closed(self) -> None:
        self._keep(Kind.CLOSED, b"")

    def stdout(self, data: bytes | memoryview) -> bytes | memoryview:
        """What of it the client may see now."""
        shown = data if self._masks is None else self._masks.stdout(bytes(data))
        return self._seen(Kind.STDOUT, shown)

    def stderr(self, data: bytes | memoryview) -> bytes | memoryview:
        shown = data if self._masks is None else self._masks.stderr(bytes(data))
        return self._seen(Kind.STDERR, shown)

    def _seen(self, kind: Kind, shown: bytes | memoryview) -> bytes | memoryview:
        if shown:
            if kind is Kind.STDOUT:
                self.out_bytes += len(shown)
                if self.out_hash is not None:
                    self.out_hash.update(shown)
            else:
                self.err_bytes += len(shown)
                if self.err_hash is not None:
                    self.err_hash.update(shown)
            self._keep(kind, shown)
        return shown

    def note(self, text: bytes) -> None:
        """What the gateway itself says on standard error."""
        self._keep(Kind.NOTE, text)

    def resized(self, columns: int, rows: int) -> None:
        self._size = (columns, rows)
        self._keep(Kind.RESIZE, size_data(columns, rows))

    def signalled(self, name: str) -> None:
        if len(self.signals) < MAX_SIGNALS:
            self.signals.append(name)

    # -- held back output

    @property
    def due(self) -> float | None:
        """When, by `now`, `release` is wanted; None: it is not."""
        return None if self._masks is None else self._masks.due

    def release(self) -> tuple[bytes | memoryview, bytes | memoryview]:
        """What was held back, of standard output and of standard error."""
        if self._masks is None:
            return b"", b""
        stdout, stderr = self._masks.release()
        return self._seen(Kind.STDOUT, stdout), self._seen(Kind.STDERR, stderr)

    # -- the end

    @property
    def size(self) -> int:
        """Bytes of output."""
        return self.out_bytes + self.err_bytes

    def end_detail(self) -> dict[str, object]:
        """For the record."""
        detail: dict[str, object] = {
            "seconds": round(self._now() - self._started, 6),
            "stdinBytes": self.in_bytes, "stdoutBytes": self.out_bytes, "stderrBytes": self.err_bytes,
        }  # fmt: skip
        for name, count, digest in (
            ("stdin", self.in_bytes, self.in_hash),
            ("stdout", self.out_bytes, self.out_hash),
            ("stderr", self.err_bytes, self.err_hash),
        ):
            if digest is not None and count:
                detail[f"{name}Sha256"] = digest.hexdigest()
        if all(self._size):
            detail["terminal"] = "{}x{}".format(*self._size)
        if self.signals:
            detail["signals"] = self.signals
        return detail | self.result

    def _keep(self, kind: Kind, data: bytes | memoryview) -> None:
        if self._record is not None:
            head = self._writer.head(self._now(), kind, len(data))
            if len(data) >= LARGE:
                self._record(head)
                self._record(data)
            else:
                self._record(head + data)
            self._left -= len(head) + len(data)
            if self._left <= 0:
                # The record has all that it takes.
                self._record = None
                self.full = True
                self.plain = self._masks is None
