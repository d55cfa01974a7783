"""Detectors over a stream of text that has no end: logs, the output of a command. Values that span pieces are found.

What could still become a part of a hit is held back; everything else goes at once. Who waits too long for the rest says
`flush`; a value that is cut by that is hidden in the part that is still to come.
"""

from __future__ import annotations

import re
from typing import Final

from ostiary_gateway.masking.detectors import Detectors

LONGEST: Final = 4096
LONGEST_VALUE: Final = 65_536
"""A key, or a token in a line without an end, that is longer is hidden as it comes."""

_LINE: Final = re.compile(rb"[\n\r]")
_SPACE: Final = re.compile(rb"[\s\x00]")
_KEY: Final = rb"[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_KEY_BEGINS: Final = re.compile(rb"-----BEGIN " + _KEY)
_KEY_ENDS: Final = re.compile(rb"-----END " + _KEY)
_MARKER: Final = 80
"""Bytes of the longest line that begins or ends a key."""


class StreamMask:
    """Masks one stream. Binary-safe: bytes that are no text pass as they are.

    A line is one value; of a line without an end, `longest` bytes wait. A private key may span lines.
    """

    def __init__(self, detectors: Detectors, *, longest: int = LONGEST) -> None:
        self._detectors = detectors
        self._longest = longest
        self._keys = "PrivateKey" in detectors.names
        self._tail = b""
        self._context = b""
        """The end of what a flush gave out, as it was before it was masked."""
        self._until: re.Pattern[bytes] | None = None
        """What ends a value of which the rest is dropped: its beginning is out, hidden."""
        self.touched = False

    @property
    def held(self) -> int:
        """Bytes that wait for what follows them."""
        return len(self._tail) if self._until is None else 0

    def feed(self, data: bytes) -> bytes:
        """What may go now."""
        text = self._tail + data
        out: list[bytes] = []
        while text:
            if self._until is not None:
                text = self._dropped(text)
                if self._until is not None:
                    break
                continue
            begins = _KEY_BEGINS.search(text) if self._keys else None
            if begins is None:
                cut = self._safe(text)
                out.append(self._shown(text[:cut]))
                text = text[cut:]
                if self._until is None:
                    break
                continue
            start = begins.start()
            out.append(self._shown(text[:start]))
            ends = _KEY_ENDS.search(text, begins.end())
            text = text[start:]
            if ends is not None:
                out.append(self._shown(text[: ends.end() - start]))
                text = text[ends.end() - start :]
            elif len(text) > LONGEST_VALUE:
                out.append(self._shown(text))
                self._until = _KEY_ENDS
            else:
                break
        self._tail = text
        return b"".join(out)

    def flush(self) -> bytes:
        """What is held goes, masked as it stands. What follows is looked at behind it."""
        if self._until is not None:
            return b""
        text, self._tail = self._tail, b""
        if not text:
            return b""
        if self._keys and _KEY_BEGINS.match(text):
            self._until, self._tail = _KEY_ENDS, text[-_MARKER:]
            return self._shown(text)
        context = (self._context + text)[-self._longest :]
        shown = self._shown(text)
        self._context = context
        return shown

    def seen(self, data: bytes) -> None:
        """This was given out past the mask: what follows is looked at behind it."""
        line = data[max(data.rfind(b"\n"), data.rfind(b"\r")) + 1 :]
        before = self._context if len(line) == len(data) else b""
        self._context = (before + line)[-self._longest :]

    def finish(self) -> bytes:
        """The stream has ended: the rest."""
        return self.flush()

    def _dropped(self, text: bytes) -> bytes:
        """What follows the end of the value, or what its end may begin with."""
        self.touched = True
        assert self._until is not None
        ends = self._until.search(text)
        if ends is None:
            return text[-_MARKER:] if self._until is _KEY_ENDS else b""
        at = ends.end() if self._until is _KEY_ENDS else ends.start()
        self._until = None
        return text[at:]

    def _safe(self, text: bytes) -> int:
        """How much of the text no hit that is still to come can begin in."""
        cut = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
        if len(text) - cut <= self._longest:
            return cut
        # A line without an end: it is cut where no hit is, `longest` before what has come at last.
        limit = len(text) - self._longest
        spaces = max(text.rfind(b" ", cut, limit), text.rfind(b"\t", cut, limit))
        here = limit if spaces < 0 else spaces
        for begin, end in self._detectors.spans(text[cut:]):
            if cut + begin < here < cut + end:
                if end - begin <= LONGEST_VALUE:
                    return cut + begin
                self._until = _SPACE
                return cut + end
        return here

    def _shown(self, text: bytes) -> bytes:
        if not text:
            return text
        context, self._context = self._context, b""
        if not context and not self._detectors.anywhere and not self._detectors.could_hit(text):
            return text
        if self._keys and _KEY_BEGINS.match(text):
            shown = self._behind(context, text)
        else:
            # Each line is a value of its own.
            end = _line_end(text) if context else 0
            pieces = [self._behind(context, text[:end])] if end else []
            pieces += [self._line(line) for line in text[end:].splitlines(keepends=True)]
            shown = b"".join(pieces)
        if shown != text:
            self.touched = True
        return shown

    def _line(self, line: bytes) -> bytes:
        body = line.rstrip(b"\r\n")
        shown = self._detectors.mask(body)
        return line if shown is body else (shown or b"") + line[len(body) :]

    def _behind(self, context: bytes, text: bytes) -> bytes:
        """The text, as it is shown behind what went before it."""
        hidden = b""
        whole = context + text
        at = len(context)
        if context:
            for begin, end in self._detectors.spans(whole):
                if begin < len(context) < end:
                    # The rest of a value of which a part has gone out.
                    hidden, at = b"*" * (end - len(context)), end
        rest = whole[at:]
        shown = self._detectors.mask(rest)
        return hidden + (rest if shown is rest else shown or b"")


def _line_end(text: bytes) -> int:
    found = _LINE.search(text)
    return len(text) if found is None else found.end()
