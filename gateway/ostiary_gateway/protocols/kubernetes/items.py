"""Bodies in pieces: a list by its elements, a watch by its events, each masked as soon as it is whole.

Memory is bounded by the largest element, event or member besides the elements, not by the body.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, Protocol

from ostiary_gateway.masking.json_ends import Ends
from ostiary_gateway.masking.json_walk import Malformed, State, unescape
from ostiary_gateway.masking.strategies import MaskError

from .editing import ObjectEditor
from .questions import Unmaskable
from .targets import OF_LISTS, Document

MAX_UNIT: Final = 32 << 20
"""Bytes of one object. etcd takes 1.5 MiB unless it is told otherwise."""

_SPACE: Final = b" \t\r\n"
_NAME: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_ARRAYS: Final = (b"items", b"rows")


class _Pieces:
    """What has come and is not whole yet."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> None:
        if not piece:
            return
        self._size += len(piece)
        if self._size > MAX_UNIT:
            raise Unmaskable(f"One object of the answer has more than {MAX_UNIT >> 20} MiB, so it cannot be masked.")
        self._pieces.append(piece)

    def take(self) -> bytes:
        """All of it, and nothing is left."""
        found = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        return found

    def __bool__(self) -> bool:
        return self._size > 0


class Whole:
    """A body that is one object: it is given out when it has ended."""

    def __init__(self, edit: Callable[[bytes], bytes]) -> None:
        self._edit = edit
        self._held = _Pieces()
        self.touched = False

    def feed(self, data: bytes) -> list[bytes]:
        """Raises Unmaskable."""
        self._held.add(data)
        return []

    def finish(self) -> list[bytes]:
        """Raises Unmaskable."""
        if not self._held:
            return []
        body = self._held.take()
        shown = _guarded(self._edit, body)
        self.touched = shown is not body
        return [shown]


class Editing(Protocol):
    """Makes what is shown of one event."""

    def __call__(self, event: bytes) -> bytes: ...


class Events:
    """A watch: JSON values one behind the other."""

    def __init__(self, edit: Editing) -> None:
        self._edit = edit
        self._held = _Pieces()
        self._ends = Ends()
        self._inside = False
        self.touched = False

    def feed(self, data: bytes) -> list[bytes]:
        """Raises Unmaskable."""
        out: list[bytes] = []
        at = 0
        while at < len(data):
            if not self._inside:
                start = at
                while at < len(data) and data[at] in _SPACE:
                    at += 1
                if at > start:
                    out.append(data[start:at])
                if at == len(data):
                    break
                if data[at] != 0x7B:
                    raise Unmaskable("The answer is no stream of events, so it cannot be masked.")
                self._held.add(data[at : at + 1])
                self._inside = True
                at += 1
                continue
            # From behind its opening bracket on, so that the first bracket that is not its own closes the event.
            stop = self._ends.next(data, at)
            if stop < 0:
                self._held.add(data[at:])
                break
            self._held.add(data[at : stop + 1])
            at = stop + 1
            if data[stop] == 0x2C:
                continue
            self._inside = False
            event = self._held.take()
            shown = _guarded(self._edit, event)
            self.touched = self.touched or shown is not event
            out.append(shown)
        return out

    def finish(self) -> list[bytes]:
        """An event that did not end is not shown."""
        return []


class Members:
    """A list: an object whose `items` or `rows` go out element by element, and each other member when it is whole."""

    def __init__(self, editor: ObjectEditor, document: Document) -> None:
        self._editor = editor
        self._document = document
        self._held = _Pieces()
        self._ends = Ends()
        self._read: Callable[[bytes, int], int] = self._begin
        self._out: list[bytes] = []
        self._first = True
        self._state: State = document.selection.dead
        self._ended = False
        self.touched = False

    def feed(self, data: bytes) -> list[bytes]:
        """Raises Unmaskable."""
        at = 0
        while at < len(data):
            at = self._read(data, at)
        found, self._out = self._out, []
        return found if len(found) < 2 else [b"".join(found)]

    def finish(self) -> list[bytes]:
        """Raises Unmaskable: a list that does not end is cut, not ended."""
        if not self._ended:
            raise Unmaskable("The API server's answer ended in the middle.")
        return []

    # Each reads on from a position and gives the next one.

    def _begin(self, data: bytes, at: int) -> int:
        at = self._spaces(data, at)
        if at < len(data):
            if data[at] != 0x7B:
                raise Unmaskable("The answer is no JSON object, so it cannot be masked.")
            self._out.append(b"{")
            self._read = self._name
            at += 1
        return at

    def _name(self, data: bytes, at: int) -> int:
        """A member's name up to its colon, or the end."""
        if not self._held:
            at = self._spaces(data, at)
            if at == len(data):
                return at
            if data[at] == 0x7D and self._first:
                return self._close(at)
            if data[at] != 0x22:
                raise Unmaskable("The answer is no JSON, so it cannot be masked.")
        # Names are short: what has come is looked at again as a whole.
        self._held.add(data[at:])
        text = self._held.take()
        match = _NAME.match(text)
        colon = text.find(b":", match.end()) if match is not None else -1
        if match is None or colon < 0:
            if len(text) > 65536:
                raise Unmaskable("The answer has a member without an end, so it cannot be masked.")
            self._held.add(text)
            return len(data)
        if text[match.end() : colon].strip(_SPACE):
            raise Unmaskable("The answer is no JSON, so it cannot be masked.")
        dead = self._document.selection.dead
        token = match.group()
        shown = self._edited(token, dead)
        self._out += (shown, text[match.end() : colon + 1])
        name = _guarded(unescape, token)
        self._first = False
        picked = self._document.selection if name in OF_LISTS else self._document.members
        self._state = picked.root.member(name)
        self._read = self._array if name in _ARRAYS else self._value
        return len(data) - (len(text) - colon - 1)

    def _value(self, data: bytes, at: int) -> int:
        """A member's value, whole."""
        stop = self._ends.next(data, at)
        if stop < 0:
            self._held.add(data[at:])
            return len(data)
        self._held.add(data[at:stop])
        value = self._held.take() if self._held else b""
        self._out.append(self._edited(value, self._state))
        return self._after(data, stop)

    def _array(self, data: bytes, at: int) -> int:
        """The beginning of the elements, if it is an array."""
        at = self._spaces(data, at)
        if at == len(data):
            return at
        if data[at] != 0x5B or self._state.acts:
            self._read = self._value
            return at
        self._out.append(b"[")
        self._read = self._elements
        self._first = True
        return at + 1

    def _elements(self, data: bytes, at: int) -> int:
        last, close = self._ends.last(data, at)
        if last < 0:
            self._held.add(data[at:])
            return len(data)
        self._held.add(data[at:last])
        values = self._held.take() if self._held else b""
        if values.strip(_SPACE) or not self._first or close < 0:
            self._out.append(self._edited(values, self._state.elements(), several=True))
        else:
            self._out.append(values)
        if close < 0:
            self._out.append(b",")
            self._first = False
            return last + 1
        if data[close] != 0x5D:
            raise Unmaskable("The answer is no JSON, so it cannot be masked.")
        self._out.append(b"]")
        self._read = self._behind
        return close + 1

    def _behind(self, data: bytes, at: int) -> int:
        at = self._spaces(data, at)
        return at if at == len(data) else self._after(data, at)

    def _after(self, data: bytes, at: int) -> int:
        """A comma and another member, or the end."""
        if data[at] == 0x7D:
            return self._close(at)
        if data[at] != 0x2C:
            raise Unmaskable("The answer is no JSON, so it cannot be masked.")
        self._out.append(b",")
        self._first = False
        self._read = self._name
        return at + 1

    def _close(self, at: int) -> int:
        self._out.append(b"}")
        self._ended = True
        self._read = self._nothing
        return at + 1

    def _nothing(self, data: bytes, at: int) -> int:
        """Behind the end there are only spaces."""
        at = self._spaces(data, at)
        if at < len(data):
            raise Unmaskable("Something follows the API server's answer, so it cannot be masked.")
        return at

    def _spaces(self, data: bytes, at: int) -> int:
        start = at
        while at < len(data) and data[at] in _SPACE:
            at += 1
        if at > start:
            self._out.append(data[start:at])
        return at

    def _edited(self, text: bytes, state: State, *, several: bool = False) -> bytes:
        shown = _guarded(lambda whole: self._editor.edited(whole, 0, len(whole), state, several=several), text)
        self.touched = self.touched or shown is not text
        return shown


def _guarded(edit: Callable[[bytes], bytes], text: bytes) -> bytes:
    try:
        return edit(text)
    except Malformed as error:
        raise Unmaskable(f"The answer cannot be masked: it is no JSON ({error}).") from None
    except MaskError as error:
        raise Unmaskable(f"The answer cannot be masked: {error}.") from None
