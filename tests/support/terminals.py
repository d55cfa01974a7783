"""Programs at a terminal: a pseudo-terminal of a size, what is typed, what is seen."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

PATIENCE = 60.0
"""Seconds until what should be seen counts as not coming."""


class Terminal:
    """The screen's side of it."""

    def __init__(self, descriptor: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.seen = b""
        self._descriptor = descriptor

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def until(self, text: str) -> bytes:
        """Waits until this is seen behind what was looked for before; gives what came up to it."""
        end = time.monotonic() + PATIENCE
        wanted = text.encode()
        while (at := self.seen.find(wanted)) < 0:
            assert self._read(end), f"{text!r} was not seen in {self.seen[-2000:]!r}"
        before, self.seen = self.seen[: at + len(wanted)], self.seen[at + len(wanted) :]
        return before

    def resize(self, columns: int, rows: int) -> None:
        """The window becomes another; the kernel tells the program."""
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def ended(self) -> int:
        """Waits for the program's end; its exit status."""
        end = time.monotonic() + PATIENCE
        while self._read(end):
            pass
        return self.process.wait(PATIENCE)

    def _read(self, end: float) -> bool:
        ready, _, _ = select.select([self._descriptor], [], [], max(0.0, end - time.monotonic()))
        assert ready or time.monotonic() < end, f"nothing comes behind {self.seen[-2000:]!r}"
        try:
            data = os.read(self._descriptor, 65536)
        except OSError:  # the program has closed its side
            return False
        self.seen += data
        return bool(data)


@contextmanager
def terminal(
    command: Sequence[str], environment: Mapping[str, str], *, columns: int = 100, rows: int = 30
) -> Iterator[Terminal]:
    """A program that has a terminal as its own."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def control() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    process = subprocess.Popen(
        command, env=dict(environment), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=control,  # noqa: PLW1509 - nothing else runs here
    )  # fmt: skip
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        process.kill()
        process.wait()
        with suppress(OSError):
            os.close(ours)
