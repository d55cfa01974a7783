"""Walks JSON text without reading it into objects: what is picked goes to an editor, all else stays byte for byte.

Compiled; also runs as it is. The grammar is RFC 8259's, strictly, so that every reader sees the structure that was
walked; each of two members of the same name is walked. What finds a candidate in the whole text decides which strings
are looked at (see `scan`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Protocol

import cython

MAX_DEPTH = 500
"""Levels in one another. Kubernetes' own decoder takes 10,000; real objects have some twenty."""

Edit = tuple[int, int, bytes]
"""(begin, end, JSON text that stands there instead)."""

_VALUE, _FIRST_VALUE, _KEY, _FIRST_KEY, _COLON, _NEXT = 0, 1, 2, 3, 4, 5
_NORMAL, _QUOTE, _BACKSLASH, _CONTROL = 0, 1, 2, 3
_MAX_DEPTH = MAX_DEPTH
_STRING = re.compile(rb'"[^"\\\x00-\x1f]*+(?:\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})[^"\\\x00-\x1f]*+)*+"')
_ODD = re.compile(rb"\\/|\\u(?!003[cCeE]|0026|202[89])")


class Malformed(ValueError):
    """Text that is no JSON, or too deep."""


def _classes() -> bytes:
    found = bytearray(256)
    found[:32] = bytes([_CONTROL]) * 32
    found[0x22], found[0x5C] = _QUOTE, _BACKSLASH
    return bytes(found)


_CLASSES = _classes()


def _nowhere(_position: int) -> int:
    """Where nothing is looked for, nothing is found."""
    return 0


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _stands(
    data: cython.p_const_uchar,
    at: cython.Py_ssize_t,
    end: cython.Py_ssize_t,
    word: cython.p_const_uchar,
    size: cython.Py_ssize_t,
) -> cython.bint:
    """True if these bytes stand here."""
    index: cython.Py_ssize_t = 0
    if end - at < size:
        return False
    while index < size and data[at + index] == word[index]:
        index += 1
    return index == size


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _digits(data: cython.p_const_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """Behind the digits that stand here; -1 if there are none."""
    begin: cython.Py_ssize_t = at
    if at < 0:
        return -1
    while at < end and 48 <= data[at] <= 57:
        at += 1
    return at if at > begin else -1


@cython.cclass
class State:
    """Where in the selection a node is. `names` and `targets` go together; a target that is None is made when needed.

    `acts`: the node goes to the editor. `alive`: something below it may. `filtered`: what its children are depends on
    what is in them. `other`, `element`: children that have neither a name nor an index of their own.
    """

    def __init__(self, make: Callable[[State, bytes | int | None, bytes | None], State]) -> None:
        """`make`: (state, the member's name or the element's index, the child's text if filtered) → the child's state.
        A name or an index of None is one that the selection does not name."""
        self.make = make
        self.acts = False
        self.alive = False
        self.filtered = False
        self.names: tuple[bytes, ...] = ()
        self.targets: list[State | None] = []
        self.other: State | None = None
        self.element: State | None = None
        self.indices: dict[int, State | None] = {}
        self.tags: frozenset[object] = frozenset()
        self.positions: frozenset[tuple[int, int]] = frozenset()

    def member(self, name: bytes) -> State:
        """The state of a member, if none of the children is filtered."""
        found: State = self.of_name(name, 0, len(name))
        return found

    def elements(self) -> State:
        """The state of the elements, if the selection names none of them by its index and filters none."""
        found: State = self.of_index(0)
        return found

    @cython.cfunc
    def of_name(self, data: bytes, begin: cython.Py_ssize_t, end: cython.Py_ssize_t) -> State:
        index: cython.Py_ssize_t
        name: bytes
        target: State | None
        for index in range(len(self.names)):
            name = self.names[index]
            if len(name) == end - begin and data[begin:end] == name:
                target = self.targets[index]
                if target is None:
                    target = self.targets[index] = self.make(self, name, None)
                return target
        if self.other is None:
            self.other = self.make(self, None, None)
        return self.other

    @cython.cfunc
    def of_index(self, index: cython.Py_ssize_t) -> State:
        target: State | None
        if self.indices and index in self.indices:
            target = self.indices[index]
            if target is None:
                target = self.indices[index] = self.make(self, index, None)
            return target
        if self.element is None:
            self.element = self.make(self, None, None)
        return self.element


class Editor(Protocol):
    """Makes what stands in the place of what was picked. Each gives the same object back for no change."""

    def value(self, state: State, raw: bytes, begin: int) -> bytes:
        """A node that the selection picked, whole, and where it begins."""

    def text(self, raw: bytes, key: bool) -> bytes:
        """A string (with its quotes) in which something may be found."""

    def number(self, raw: bytes) -> bytes:
        """A number in which something may be found."""

    def between(self) -> None:
        """One of several values has ended."""


@cython.cclass
class Walker:
    """Walks with one editor. `finder(text)` gives `next(position)`: where the next candidate begins, the text's length
    if nowhere; None if strings are of no interest."""

    def __init__(
        self,
        editor: Editor,
        finder: Callable[[bytes], Callable[[int], int]] | None,
        dead: State,
        numbers: bool,
        any_escape: bool,
    ) -> None:
        """`dead`: a state that picks nothing. `numbers`: a number may be a candidate. `any_escape`: a string with an
        escape may hold what its text does not show."""
        self.editor = editor
        self.finder = finder
        self.dead = dead
        self.numbers = numbers
        self.any_escape = any_escape
        self.odd = False
        table: bytes = _CLASSES
        self._kept = table
        self._classes = table

    @cython.cfunc
    @cython.exceptval(-2, check=True)
    def string(self, data: cython.p_const_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """The end of the string that begins at `at`. Sets `odd` if its candidates may not show in its text."""
        what: cython.int
        byte: cython.int
        index: cython.Py_ssize_t
        code: cython.int
        began: cython.Py_ssize_t = at
        classes: cython.p_const_uchar = self._classes
        self.odd = False
        if not cython.compiled:
            match = _STRING.match(data, at, end)
            if match is None:
                raise Malformed(f"a string that does not end or has an unknown escape, at byte {began}")
            if b"\\" in match.group():
                self.odd = self.any_escape or _ODD.search(match.group().replace(b"\\\\", b"")) is not None
            return match.end()
        at += 1
        while at < end:
            what = classes[data[at]]
            if what == _NORMAL:
                at += 1
                continue
            if what == _QUOTE:
                return at + 1
            if what == _CONTROL or at + 1 >= end:
                break
            byte = data[at + 1]
            if self.any_escape:
                self.odd = True
            if byte == 117:  # u
                if at + 6 > end:
                    break
                code = 0
                for index in range(at + 2, at + 6):
                    byte = data[index]
                    if 48 <= byte <= 57:
                        code = code * 16 + byte - 48
                    elif 97 <= (byte | 32) <= 102:
                        code = code * 16 + (byte | 32) - 87
                    else:
                        raise Malformed(f"a string that does not end or has an unknown escape, at byte {began}")
                # What Go's encoder always escapes: < > & and two line separators.
                if code != 0x3C and code != 0x3E and code != 0x26 and code != 0x2028 and code != 0x2029:
                    self.odd = True
                at += 6
            elif byte == 34 or byte == 92 or byte == 98 or byte == 102 or byte == 110 or byte == 114 or byte == 116:
                at += 2
            elif byte == 47:
                self.odd = True
                at += 2
            else:
                break
        raise Malformed(f"a string that does not end or has an unknown escape, at byte {began}")

    @cython.cfunc
    @cython.exceptval(-2, check=True)
    def scalar(self, data: cython.p_const_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """The end of a number or a literal."""
        byte: cython.int = data[at]
        begin: cython.Py_ssize_t = at
        if byte == 116 and _stands(data, at, end, b"true", 4):
            return at + 4
        if byte == 102 and _stands(data, at, end, b"false", 5):
            return at + 5
        if byte == 110 and _stands(data, at, end, b"null", 4):
            return at + 4
        # RFC 8259, section 6.
        if byte == 45:
            at += 1
        if at < end and data[at] == 48:
            at += 1
        else:
            at = _digits(data, at, end)
        if at > begin and at < end and data[at] == 46:
            at = _digits(data, at + 1, end)
        if at > begin and at < end and data[at] | 32 == 101:
            at += 1
            if at < end and (data[at] == 43 or data[at] == 45):
                at += 1
            at = _digits(data, at, end)
        if at <= begin:
            raise Malformed(f"no JSON value at byte {begin}")
        return at

    def end_of(self, data: bytes, at: int, end: int) -> int:
        """The end of the value that begins here; it is not checked for more than brackets and strings."""
        return int(self._end_of(data, at, end))

    @cython.cfunc
    @cython.exceptval(-2, check=True)
    def _end_of(self, data: bytes, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.Py_ssize_t:
        buffer: cython.p_const_uchar = data
        depth: cython.Py_ssize_t = 0
        byte: cython.int
        while at < end:
            byte = buffer[at]
            if byte == 34:
                at = self.string(buffer, at, end)
            elif byte == 123 or byte == 91:
                depth += 1
                at += 1
                continue
            elif byte == 125 or byte == 93:
                depth -= 1
                at += 1
            elif byte == 32 or byte == 44 or byte == 58 or byte == 10 or byte == 13 or byte == 9:
                at += 1
                continue
            else:
                at = self.scalar(buffer, at, end)
            if depth <= 0:
                return at
        raise Malformed("a value that does not end")

    def walk(self, data: bytes, begin: int, end: int, root: State, several: bool = False) -> list[Edit]:
        """Edits of one value in `data[begin:end]`, ascending; with `several`, of values with commas between them.
        Raises Malformed."""
        found: list[Edit] = self._walk(data, begin, end, root, several)
        return found

    @cython.cfunc
    def _walk(
        self, data: bytes, begin: cython.Py_ssize_t, end: cython.Py_ssize_t, root: State, several: cython.bint
    ) -> list[Edit]:
        buffer: cython.p_const_uchar = data
        at: cython.Py_ssize_t = begin
        start: cython.Py_ssize_t
        close: cython.Py_ssize_t
        depth: cython.Py_ssize_t = 0
        captured: cython.Py_ssize_t = -1
        captured_at: cython.Py_ssize_t = 0
        expect: cython.int = _VALUE
        byte: cython.int
        finder: Callable[[bytes], Callable[[int], int]] | None = self.finder
        looks: cython.bint = finder is not None
        hit: cython.Py_ssize_t = -1
        done: cython.bint
        edits: list[Edit] = []
        parents: list[State] = []
        counts: list[int] = []
        # How many of the containers around here are in `parents`: below one of which nothing is picked, none is.
        live: cython.Py_ssize_t = 0
        stack = bytearray(_MAX_DEPTH)
        kinds: cython.p_uchar = stack
        dead: State = self.dead
        state: State = root
        parent: State = dead
        taken: State = dead
        find: Callable[[int], int] = _nowhere
        raw: bytes
        new: bytes
        if finder is not None:
            find = finder(data)
            hit = find(begin)
        while True:
            while at < end:
                byte = buffer[at]
                if byte != 32 and byte != 10 and byte != 13 and byte != 9:
                    break
                at += 1
            else:
                break
            done = False
            if expect in (_KEY, _FIRST_KEY):
                if byte == 34:
                    close = self.string(buffer, at, end)
                    if captured < 0:
                        if parent.filtered or (parent.alive and self.has_escape(buffer, at, close)):
                            state = self.odd_member(data, at, close, end, parent)
                        elif parent.alive:
                            state = parent.of_name(data, at + 1, close - 1)
                        else:
                            state = dead
                        if looks:
                            if hit < at:
                                hit = find(at)
                            if self.odd or hit < close:
                                raw = data[at:close]
                                new = self.editor.text(raw, True)
                                if new is not raw:
                                    edits.append((at, close, new))
                    at = close
                    expect = _COLON
                    continue
                if byte != 125 or expect == _KEY:
                    raise Malformed(f"a member's name is expected at byte {at}")
                done = True
            elif expect == _COLON:
                if byte != 58:
                    raise Malformed(f"a colon is expected at byte {at}")
                at += 1
                expect = _VALUE
                continue
            elif expect == _NEXT:
                if byte == 44:
                    at += 1
                    if depth == 0:
                        if not several:
                            raise Malformed(f"more than one value, at byte {at}")
                        self.editor.between()
                        state = root
                        expect = _VALUE
                    elif kinds[depth - 1] == 123:
                        expect = _KEY
                    else:
                        expect = _VALUE
                        state = dead
                        if parent.alive:
                            counts[live - 1] += 1
                            state = self.next_element(data, at, end, parent, counts[live - 1])
                    continue
                if depth == 0 or byte != kinds[depth - 1] + 2:
                    raise Malformed(f"a comma or the end is expected at byte {at}")
                done = True
            if done or (expect == _FIRST_VALUE and byte == 93):
                # The end of an object or an array.
                at += 1
                depth -= 1
                if live > depth:
                    live -= 1
                    parents.pop()
                    counts.pop()
                    parent = parents[live - 1] if live > 0 else dead
                elif live == depth and live > 0:
                    parent = parents[live - 1]
            elif byte == 34:
                close = self.string(buffer, at, end)
                if captured < 0:
                    if state.acts:
                        raw = data[at:close]
                        new = self.editor.value(state, raw, at)
                        if new is not raw:
                            edits.append((at, close, new))
                    elif looks:
                        if hit < at:
                            hit = find(at)
                        if self.odd or hit < close:
                            raw = data[at:close]
                            new = self.editor.text(raw, False)
                            if new is not raw:
                                edits.append((at, close, new))
                at = close
                expect = _NEXT
                continue
            elif byte == 123 or byte == 91:
                if depth >= _MAX_DEPTH:
                    raise Malformed(f"more than {MAX_DEPTH} levels in one another")
                if captured < 0 and state.acts:
                    captured = depth
                    captured_at = at
                    taken = state
                    state = dead
                kinds[depth] = byte
                if state.alive:
                    parents.append(state)
                    counts.append(0)
                    live += 1
                parent = state
                depth += 1
                at += 1
                if byte == 123:
                    expect = _FIRST_KEY
                else:
                    expect = _FIRST_VALUE
                    if parent.alive:
                        state = self.next_element(data, at, end, parent, 0)
                    else:
                        state = dead
                continue
            else:
                close = self.scalar(buffer, at, end)
                if captured < 0:
                    if state.acts:
                        raw = data[at:close]
                        new = self.editor.value(state, raw, at)
                        if new is not raw:
                            edits.append((at, close, new))
                    elif looks and self.numbers and (byte == 45 or 48 <= byte <= 57):
                        if hit < at:
                            hit = find(at)
                        start = at
                        if hit < close or self.has_exponent(buffer, start, close):
                            raw = data[at:close]
                            new = self.editor.number(raw)
                            if new is not raw:
                                edits.append((at, close, new))
                at = close
                expect = _NEXT
                continue
            # An object or an array has ended.
            expect = _NEXT
            if captured == depth:
                captured = -1
                raw = data[captured_at:at]
                new = self.editor.value(taken, raw, captured_at)
                if new is not raw:
                    edits.append((captured_at, at, new))
        if depth != 0 or expect != _NEXT:
            raise Malformed("the text ends before its value does")
        return edits

    @cython.cfunc
    @cython.exceptval(check=False)
    def has_escape(self, data: cython.p_const_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.bint:
        while at < end:
            if data[at] == 92:
                return True
            at += 1
        return False

    @cython.cfunc
    @cython.exceptval(check=False)
    def has_exponent(self, data: cython.p_const_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.bint:
        while at < end:
            if data[at] | 32 == 101:
                return True
            at += 1
        return False

    @cython.cfunc
    def odd_member(
        self, data: bytes, at: cython.Py_ssize_t, close: cython.Py_ssize_t, end: cython.Py_ssize_t, parent: State
    ) -> State:
        """The state of a member whose name has an escape, or that a filter looks into."""
        odd: cython.bint = self.odd
        here: cython.Py_ssize_t = close
        buffer: cython.p_const_uchar = data
        name: bytes = unescape(data[at:close])
        value: bytes
        found: State
        if not parent.filtered:
            found = parent.of_name(name, 0, len(name))
            return found
        while here < end and (buffer[here] <= 32 or buffer[here] == 58):
            here += 1
        value = data[here : self._end_of(data, here, end)]
        self.odd = odd
        return parent.make(parent, name, value)

    @cython.cfunc
    def next_element(
        self, data: bytes, at: cython.Py_ssize_t, end: cython.Py_ssize_t, parent: State, index: cython.Py_ssize_t
    ) -> State:
        """The state of the element that begins here."""
        buffer: cython.p_const_uchar = data
        found: State
        if not parent.filtered:
            found = parent.of_index(index)
            return found
        while at < end and buffer[at] <= 32:
            at += 1
        if at >= end or buffer[at] == 93:
            return self.dead
        return parent.make(parent, index, data[at : self._end_of(data, at, end)])


def unescape(token: bytes) -> bytes:
    """The text of a string token with its quotes, in UTF-8. Raises Malformed if it is none."""
    if b"\\" not in token:
        return token[1:-1]
    try:
        text: str = json.loads(token.decode("utf-8", "replace"), strict=False)
        return text.encode("utf-8", "surrogatepass")
    except ValueError as error:
        raise Malformed(f"a string that cannot be read: {error}") from None


def apply(data: bytes, begin: int, end: int, edits: list[Edit]) -> bytes:
    """`data[begin:end]` with the edits, which ascend and do not overlap."""
    if not edits:
        return data if begin == 0 and end == len(data) else data[begin:end]
    pieces: list[bytes] = []
    at = begin
    for start, stop, new in edits:
        pieces += (data[at:start], new)
        at = stop
    pieces.append(data[at:end])
    return b"".join(pieces)
