"""Where values of JSON end in text that comes in pieces, by brackets and strings only.

Compiled; also runs as it is. That they are values, the walk checks when they are whole.
"""

from __future__ import annotations

import re

import cython

_IN_STRING = re.compile(rb'["\\]')
_OUTSIDE = re.compile(rb'[\[\]{},"]')


def _next_of_interest(data: bytes, at: int, end: int, in_string: bool, escaped: bool) -> int:
    """Jumps over what no bracket or quote is in, for where it is not compiled."""
    if escaped:
        return at
    match = (_IN_STRING if in_string else _OUTSIDE).search(data, at, end)
    return end if match is None else match.start()


@cython.cclass
class Ends:
    """Reads on where the piece before has ended."""

    def __init__(self) -> None:
        self.depth = 0
        self.in_string = False
        self.escaped = False

    @cython.cfunc
    @cython.exceptval(check=False)
    def stop(self, data: cython.p_const_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """The next `,`, `]` or `}` outside of every bracket; -1 if it is not in this piece."""
        byte: cython.int
        depth: cython.Py_ssize_t = self.depth
        in_string: cython.bint = self.in_string
        while at < end:
            if not cython.compiled:
                at = _next_of_interest(data, at, end, in_string, self.escaped)
                if at == end:
                    continue
            if in_string:
                if self.escaped:
                    self.escaped = False
                    at += 1
                    continue
                while at < end and data[at] != 34 and data[at] != 92:
                    at += 1
                if at < end:
                    if data[at] == 92:
                        self.escaped = True
                    else:
                        in_string = False
                    at += 1
                continue
            byte = data[at]
            if byte == 34:
                in_string = True
            elif byte == 123 or byte == 91:
                depth += 1
            elif byte == 44:
                if depth == 0:
                    break
            elif byte == 125 or byte == 93:
                if depth == 0:
                    break
                depth -= 1
            at += 1
        else:
            at = -1
        self.depth = depth
        self.in_string = in_string
        return at

    def next(self, piece: bytes, at: int) -> int:
        """Where the value that is being read ends: at a comma or a closing bracket that is not its own. -1: not in this
        piece. The byte that is found is not consumed."""
        data: cython.p_const_uchar = piece
        return int(self.stop(data, at, len(piece)))

    def last(self, piece: bytes, at: int) -> tuple[int, int]:
        """Of values with commas between them: where the last one that is whole ends (-1: none does in this piece), and
        where the closing bracket behind them all stands (-1: not in this piece)."""
        data: cython.p_const_uchar = piece
        end: cython.Py_ssize_t = len(piece)
        found: cython.Py_ssize_t = -1
        here: cython.Py_ssize_t = at
        while True:
            here = self.stop(data, here, end)
            if here < 0:
                if found >= 0:
                    # What follows is read again.
                    self.depth = 0
                    self.in_string = self.escaped = False
                return int(found), -1
            if data[here] != 44:
                return int(here), int(here)
            found = here
            here += 1
