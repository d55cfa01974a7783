"""Standard output and error of one command, masked as they stream, in every protocol that carries them.

What may be the beginning of something to mask is held back for a moment. What only repeats what was typed is not: the
agent knows it, and waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

INTERACTIVE: Final = 0.05
"""Seconds that output of a terminal may be held back, where it might be the beginning of something to mask."""
PLAIN: Final = 0.5
"""Seconds, without a terminal: nobody sees the characters come."""
MAX_TYPED: Final = 1024
"""Bytes of what was typed whose echo is waited for."""


class OutputMask(Protocol):
    """Goes over output as it streams."""

    @property
    def held(self) -> int:
        """Bytes that wait, since they may be the beginning of something."""

    def feed(self, data: bytes) -> bytes:
        """What may go on."""

    def flush(self) -> bytes:
        """What waited, as far as it is known."""

    def seen(self, data: bytes) -> None:
        """This went on past the mask: what follows is looked at behind it."""


class MaskedOutput:
    """make: makes what goes over one stream. now: seconds of a clock that only grows."""

    def __init__(self, make: Callable[[], OutputMask], *, tty: bool, now: Callable[[], float]) -> None:
        self._stdout, self._stderr = make(), make()
        self._tty = tty
        self._now = now
        self._window = INTERACTIVE if tty else PLAIN
        self._deadline: float | None = None
        self._typed = bytearray()

    def typed(self, data: bytes) -> None:
        """The agent has sent this."""
        if self._tty and data:
            self._typed += data.replace(b"\r", b"\r\n")
            del self._typed[:-MAX_TYPED]

    def stdout(self, data: bytes, *, last: bool = False) -> bytes:
        """What of it the client may see now."""
        echo = b"" if self._stdout.held else self._echo(data)
        if echo:
            # Who types the beginning of what must not be seen does not get the rest of it.
            self._stdout.seen(echo)
        return echo + self._fed(self._stdout, data[len(echo) :], last)

    def stderr(self, data: bytes, *, last: bool = False) -> bytes:
        return self._fed(self._stderr, data, last)

    def _fed(self, mask: OutputMask, data: bytes, last: bool) -> bytes:
        shown = mask.feed(data)
        if last:
            shown += mask.flush()
        if mask.held and self._deadline is None:
            self._deadline = self._now() + self._window
        return shown

    def _echo(self, data: bytes) -> bytes:
        """The beginning of the output that only repeats what was typed."""
        typed = self._typed
        size = 0
        for mine, theirs in zip(typed, data, strict=False):
            if mine != theirs:
                break
            size += 1
        del typed[:size]
        return data[:size]

    @property
    def held(self) -> int:
        """Bytes that wait."""
        return self._stdout.held + self._stderr.held

    @property
    def due(self) -> float | None:
        """When, by `now`, something has waited for long enough; None: nothing waits."""
        return self._deadline

    @property
    def overdue(self) -> bool:
        return self._deadline is not None and self._now() >= self._deadline

    def release(self) -> tuple[bytes, bytes]:
        """Lets go what is held back: of standard output, of standard error."""
        self._deadline = None
        return (
            self._stdout.flush() if self._stdout.held else b"",
            self._stderr.flush() if self._stderr.held else b"",
        )
