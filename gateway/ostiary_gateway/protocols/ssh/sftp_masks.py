"""Masks over the content of files: a masked value keeps its length, since clients read by offset. Pure.

A piece of a file is looked at with CONTEXT bytes before and behind it. What is found there whole is hidden in the
piece, whichever way the file is cut by reads; a line, or a key, that is longer is looked at in parts.
"""

from __future__ import annotations

import re
from typing import Final

from ostiary_gateway.masking.detectors import Detectors

CONTEXT: Final = 16 << 10

_KEY: Final = rb"[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_BEGINS: Final = re.compile(rb"-----BEGIN " + _KEY)
_ENDS: Final = re.compile(rb"-----END " + _KEY)
_LINE: Final = re.compile(rb"[^\r\n]+")


def masked(data: bytes, detectors: Detectors, begin: int, end: int) -> bytes:
    """What is shown of data[begin:end], in as many bytes: what is found in any line is replaced, and keys."""
    found: bytearray | None = None
    if detectors.anywhere or detectors.could_hit(data):
        first = max(data.rfind(b"\n", 0, begin), data.rfind(b"\r", 0, begin)) + 1
        for line in _LINE.finditer(data, first):
            at = line.start()
            if at >= end:
                break
            body = line.group()
            for start, stop in detectors.spans(body):
                if found is None:
                    found = bytearray(data)
                found[at + start : at + stop] = _fitting(body[start:stop], detectors)
    if "PrivateKey" in detectors.names:
        for start, stop in _keys(data):
            if found is None:
                found = bytearray(data)
            found[start:stop] = _LINE.sub(lambda line: b"*" * len(line.group()), data[start:stop])
    return data[begin:end] if found is None else bytes(found[begin:end])


def _fitting(value: bytes, detectors: Detectors) -> bytes:
    """What is shown for a value, in as many bytes."""
    shown = detectors.mask(value)
    if shown is None or shown == value or len(shown) > len(value):
        return b"*" * len(value)
    return shown.ljust(len(value), b"*")


def _keys(data: bytes) -> list[tuple[int, int]]:
    """Where private keys are. One whose beginning is not there begins with the data, one without an end ends there."""
    found: list[tuple[int, int]] = []
    at = 0
    while True:
        begins, ends = _BEGINS.search(data, at), _ENDS.search(data, at)
        if ends is not None and (begins is None or ends.start() < begins.start()):
            found.append((at, ends.end()))
            at = ends.end()
        elif begins is not None:
            end = len(data) if ends is None else ends.end()
            found.append((begins.start(), end))
            at = end
        else:
            return found


class InOrder:
    """Masks a file that is transferred from its beginning to its end. What comes out lags behind by CONTEXT bytes."""

    def __init__(self, detectors: Detectors) -> None:
        self._detectors = detectors
        self._raw = b""
        self._shown = 0
        """How much of `_raw` is out."""

    def feed(self, data: bytes) -> bytes:
        self._raw += data
        # Less often than data come: each time the context is looked at again.
        if len(self._raw) - self._shown < 3 * CONTEXT:
            return b""
        return self._out(len(self._raw) - CONTEXT)

    def finish(self) -> bytes:
        return self._out(len(self._raw))

    def _out(self, end: int) -> bytes:
        shown = masked(self._raw, self._detectors, self._shown, end)
        begin = max(0, end - CONTEXT)
        self._raw, self._shown = self._raw[begin:], end - begin
        return shown
