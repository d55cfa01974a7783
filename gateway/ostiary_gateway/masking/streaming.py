"""Detectors over a stream of text that has no end: logs, the output of a command. Values that span pieces are found.

What could still become a part of a hit is held back; everything else goes at once. Who waits too long for the rest says
`flush`; a value that is cut by that is hidden in the part that is still to come.
"""

from __future__ import annotations

import re
from typing import Final

from ostiary_gateway.masking.detectors import Detectors

LONGEST: Final = 4096
_LINE: Final = re.compile(rb"[\n\r]")
_KEY_BEGINS: Final = b"-----BEGIN "
_KEY_ENDS: Final = re.compile(rb"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_MAX_KEY: Final = 65_536


class StreamMask:
    """Masks one stream. Binary-safe: bytes that are no text pass as they are.

    A line is one value, up to `longest` bytes of it that look like nothing yet. A private key may span lines.
    """

    def __init__(self, detectors: Detectors, *, longest: int = LONGEST) -> None:
        self._detectors = detectors
        self._longest = longest
        self._keys = "PrivateKey" in detectors.names
        self._tail = b""
        self._context = b""
        """The end of what a flush gave out, as it was before it was masked."""
        self.touched = False

    @property
    def held(self) -> int:
        """Bytes that wait for what follows them."""
        return len(self._tail)

    def feed(self, data: bytes) -> bytes:
        """What may go now."""
        text = self._tail + data
        cut = self._safe(text)
        self._tail = text[cut:]
        return self._shown(text[:cut]) if cut else b""

    def flush(self) -> bytes:
        """What is held goes, masked as it stands. What follows is looked at behind it."""
        text, self._tail = self._tail, b""
        if not text:
            return b""
        context = (self._context + text)[-self._longest :]
        shown = self._shown(text)
        self._context = context
        return shown

    def finish(self) -> bytes:
        """The stream has ended: the rest."""
        return self.flush()

    def _safe(self, text: bytes) -> int:
        """How much of the text no hit that is still to come can begin in."""
        cut = max(text.rfind(b"\n"), text.rfind(b"\r")) + 1
        if len(text) - cut > self._longest:
            cut = self._within_a_line(text, cut)
        begins = text.rfind(_KEY_BEGINS, 0, cut) if self._keys else -1
        # A key spans lines: all of it is held until its end is there, or it is longer than keys are.
        held = begins >= 0 and _KEY_ENDS.search(text, begins) is None and len(text) - begins <= _MAX_KEY
        return begins if held else cut

    def _within_a_line(self, text: bytes, start: int) -> int:
        """A line without an end: it is cut where no hit is, `longest` before what has come at last."""
        limit = len(text) - self._longest
        spaces = max(text.rfind(b" ", start, limit), text.rfind(b"\t", start, limit))
        cut = limit if spaces < 0 else spaces
        for begin, end in self._detectors.spans(text[start:]):
            if start + begin < cut < start + end:
                return start + begin if start + begin > start or len(text) - start < 4 * self._longest else start + end
        return cut

    def _shown(self, text: bytes) -> bytes:
        context, self._context = self._context, b""
        if not context and not self._detectors.anywhere and not self._detectors.could_hit(text):
            return text
        if self._keys and b"PRIVATE KEY" in context + text:
            shown = self._masked(context, text)
        else:
            # Each line is a value of its own.
            end = _line_end(text)
            pieces = [self._masked(context, text[:end])] if end else []
            pieces += [self._line(line) for line in text[end:].splitlines(keepends=True)]
            shown = b"".join(pieces)
        if shown != text:
            self.touched = True
            return shown
        return text

    def _line(self, line: bytes) -> bytes:
        body = line.rstrip(b"\r\n")
        shown = self._detectors.mask(body)
        return line if shown is body else (shown or b"") + line[len(body) :]

    def _masked(self, context: bytes, text: bytes) -> bytes:
        """The text, as it is shown behind what went before it."""
        if not context:
            shown = self._detectors.mask(text)
            return text if shown is text else shown or b""
        pieces: list[bytes] = []
        at = len(context)
        whole = context + text
        for begin, end in self._detectors.spans(whole):
            if end <= len(context):
                continue
            if begin < len(context):
                # The rest of a value of which a part has gone out.
                pieces.append(b"*" * (end - len(context)))
                at = end
        rest = whole[at:]
        shown = self._detectors.mask(rest)
        pieces.append(rest if shown is rest else shown or b"")
        return b"".join(pieces)


def _line_end(text: bytes) -> int:
    found = _LINE.search(text)
    return len(text) if found is None else found.end()
