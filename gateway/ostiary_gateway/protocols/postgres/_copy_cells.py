"""The masks of COPY TO STDOUT: a buffer of whole CopyData messages in, the same with their values masked out.

Compiled; also runs as it is. Handles payloads of whole rows, which is what PostgreSQL sends; whatever else comes is
for the slower code that puts rows together first.
"""

from typing import Protocol

import cython

from ostiary_gateway.protocols.postgres._cells import TEXT, WEAK
from ostiary_gateway.protocols.postgres.wire import ProtocolViolation

if not cython.compiled:
    from ostiary_gateway.protocols.postgres._cells import Cells
else:
    from cython.cimports.ostiary_gateway.protocols.postgres._cells import Cells  # type: ignore[no-redef]

_FORMATS = {"text": 0, "csv": 1, "binary": 2}
_CSV = cython.declare(cython.int, 1)
_BINARY = cython.declare(cython.int, 2)
_CELL_TEXT = cython.declare(cython.int, TEXT)
_CELL_WEAK = cython.declare(cython.int, WEAK)


class Framing(Protocol):
    """Puts rows together from payloads that may begin and end anywhere."""

    @property
    def busy(self) -> bool:
        """True while it must see the next payload: a row or a header is incomplete."""

    def feed(self, payload: bytes) -> bytes:
        """The next payload; what may be sent of it, masked."""

    def escape(self, value: bytes) -> bytes:
        """A value as it is written."""

    def unescape(self, raw: bytes) -> bytes:
        """What was written as this."""


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _int(data: cython.p_const_uchar, at: cython.Py_ssize_t, size: cython.int) -> cython.Py_ssize_t:
    """A signed integer of so many bytes."""
    index: cython.int
    number: cython.Py_ssize_t = 0
    for index in range(size):
        number = (number << 8) | data[at + index]
    return number - (1 << (8 * size)) if data[at] & 128 else number


@cython.final
@cython.cclass
class CopyCells(Cells):
    """The masks of one COPY."""

    _format: cython.int
    _delimiter: cython.int
    _quote: cython.int
    _escape: cython.int
    _null: bytes
    _quote_text: bytes
    _plain: cython.bint
    _framing: Framing
    _frame: cython.Py_ssize_t
    _frame_out: cython.Py_ssize_t
    _open: cython.bint
    _bare: cython.bint
    _escaped_field: cython.bint
    _simple: cython.bint

    def written_as(
        self, form: str, delimiter: bytes, quote: bytes, escape: bytes, null: bytes, framing: Framing, plain: bool
    ) -> None:
        """To be called once, first. `plain`: delimiter, quote and escape are nothing that a detector may look for."""
        self._format = _FORMATS[form]
        self._delimiter = delimiter[0]
        self._quote = quote[0]
        self._escape = escape[0] if form == "csv" else 92
        self._quote_text = quote
        self._null = null
        self._framing = framing
        self._plain = plain
        self._open = self._bare = self._escaped_field = self._simple = False
        self._each = self._each or not plain

    def apply(self, data: bytes) -> bytes:
        """A buffer of whole CopyData messages; the same object if nothing changed. ProtocolViolation if malformed."""
        frame: cython.Py_ssize_t = 0
        end: cython.Py_ssize_t
        length: cython.Py_ssize_t
        next_one: cython.Py_ssize_t
        busy: cython.bint = self._framing.busy
        self.open(data)
        size: cython.Py_ssize_t = self._size
        # No quote in the whole buffer is the usual case, and needs no second look at each row.
        quotes: cython.bint = self._format == _CSV and self.byte(self._at, self._quote, 0, size) < size
        next_one = self.candidate(0)
        while frame < size:
            length = _int(self._at, frame + 1, 4) if size - frame >= 5 else 0
            if length < 4:
                raise ProtocolViolation("CopyData: a message shorter than its own length")
            if length > size - frame - 1 or self._at[frame] != 100:
                raise ProtocolViolation("CopyData: a buffer that does not end with a message")
            end = frame + 1 + length
            if next_one < frame:
                next_one = self.candidate(frame)
            if busy or not self.whole(frame + 5, end, quotes):
                busy = self.slowly(frame, end)
            elif self._each or next_one < end:
                self._frame = frame
                self._open = False
                if not self.rows(frame + 5, end, self._full or self._next_found < end):
                    busy = self.slowly(frame, end)
                elif self._open:
                    self.flush(end)
                    self.write_length(self._frame_out + 1, self._written - self._frame_out - 1)
            frame = end
        shown: bytes = self.close()
        return shown

    @cython.cfunc
    @cython.exceptval(-1)
    def slowly(self, frame: cython.Py_ssize_t, end: cython.Py_ssize_t) -> cython.bint:
        """One message by the code that puts rows together; 1 if the next one must go there, too."""
        if self._copied > frame:
            # A part of it was written already.
            self._written = self._frame_out
            self._copied = frame
        payload: bytes = self._data[frame + 5 : end]
        shown: bytes = self._framing.feed(payload)
        if shown != payload:
            self.flush(frame)
            self.reserve(5)
            if shown:
                self._to[self._written] = 100
                self.write_length(self._written + 1, len(shown) + 4)
                self._written += 5
                self.put(shown)
            self._copied = end
        return bool(self._framing.busy)

    @cython.cfunc
    @cython.exceptval(check=False)
    def whole(self, first: cython.Py_ssize_t, last: cython.Py_ssize_t, quotes: cython.bint) -> cython.bint:
        """True if this payload is whole rows, and no trailer."""
        at: cython.p_const_uchar = self._at
        here: cython.Py_ssize_t
        _column: cython.Py_ssize_t
        length: cython.Py_ssize_t
        even: cython.bint = True
        if self._format == _BINARY:
            here = first
            while last - here >= 2:
                if _int(at, here, 2) != self._columns:
                    return False
                here += 2
                for _column in range(self._columns):
                    if last - here < 4:
                        return False
                    length = _int(at, here, 4)
                    here += 4
                    if length < -1 or length > last - here:
                        return False
                    if length > 0:
                        here += length
            return here == last and last > first
        if last == first or at[last - 1] != 10:
            return False
        if quotes:
            if self._quote != self._escape:
                return False
            here = self.byte(at, self._quote, first, last)
            while here < last:
                even = not even
                here = self.byte(at, self._quote, here + 1, last)
        return even

    @cython.cfunc
    @cython.exceptval(-1)
    def rows(self, first: cython.Py_ssize_t, last: cython.Py_ssize_t, full: cython.bint) -> cython.int:
        """The rows of one payload; 0 if they are not what this can read."""
        at: cython.p_const_uchar = self._at
        here: cython.Py_ssize_t = first
        end: cython.Py_ssize_t
        column: cython.Py_ssize_t = 0
        length: cython.Py_ssize_t
        if self._format == _BINARY:
            while here < last:
                here += 2
                for column in range(self._columns):
                    length = _int(at, here, 4)
                    if length < 0:
                        here += 4
                        continue
                    end = here + 4 + length
                    self.cell(column, here, here + 4, end, full)
                    here = end
            return 1
        self._simple = (
            self.byte(at, 10, first, last) == last - 1
            and self.byte(at, self._escape, first, last) == last
            and (
                self._format != _CSV
                or (self.byte(at, self._quote, first, last) == last and self.byte(at, 13, first, last) == last)
            )
        )
        while here < last:
            end = self.field(column, here, last, full)
            if end < 0:
                return 0
            column += 1
            here = end + 1
            if at[end] == 10:
                if column != self._columns:
                    raise ProtocolViolation(f"COPY: a row of {column} columns where {self._columns} were announced")
                column = 0
        return 1 if column == 0 else 0

    @cython.cfunc
    @cython.exceptval(-2)
    def field(
        self, column: cython.Py_ssize_t, first: cython.Py_ssize_t, last: cython.Py_ssize_t, full: cython.bint
    ) -> cython.Py_ssize_t:
        """One field of a row: where its delimiter or newline stands; -1 if it is not what this can read."""
        at: cython.p_const_uchar = self._at
        byte: cython.int
        here: cython.Py_ssize_t = first
        self._escaped_field = False
        self._bare = True
        if self._simple:
            # One row without quotes and escapes: every delimiter ends a field.
            here = self.byte(at, self._delimiter, first, last - 1)
            if not self.is_null(first, here):
                self.value(column, first, first, here, full)
            return here
        if self._format == _CSV and at[first] == self._quote:
            self._bare = False
            here += 1
            while True:
                here = self.byte(at, self._quote, here, last)
                if here + 1 >= last:
                    return -1
                if at[here + 1] != self._quote:
                    break
                self._escaped_field = True
                here += 2
            if at[here + 1] != self._delimiter and at[here + 1] != 10:
                return -1
            self.value(column, first, first + 1, here, full)
            return here + 1
        while here < last:
            byte = at[here]
            if byte == self._delimiter or byte == 10:
                if not self.is_null(first, here):
                    self.value(column, first, first, here, full)
                return here
            if self._format == _CSV:
                if byte == self._quote or byte == self._escape or byte == 13:
                    return -1
            elif byte == 92:
                self._escaped_field = True
                here += 1
                if here >= last or at[here] == 10:
                    return -1
            here += 1
        return -1

    @cython.cfunc
    @cython.exceptval(check=False)
    def is_null(self, first: cython.Py_ssize_t, last: cython.Py_ssize_t) -> cython.bint:
        null: cython.p_const_uchar = self._null
        size: cython.Py_ssize_t = len(self._null)
        index: cython.Py_ssize_t = 0
        if last - first != size:
            return False
        while index < size and self._at[first + index] == null[index]:
            index += 1
        return index == size

    @cython.cfunc
    @cython.exceptval(-1)
    def value(
        self,
        column: cython.Py_ssize_t,
        cell: cython.Py_ssize_t,
        first: cython.Py_ssize_t,
        last: cython.Py_ssize_t,
        full: cython.bint,
    ) -> cython.int:
        """A field's value: where it is written with escapes, only those who read them can tell what it holds."""
        if column >= self._columns:
            raise ProtocolViolation(f"COPY: a row of more than the {self._columns} columns that were announced")
        if self._escaped_field and self._kinds[column] == _CELL_TEXT and not full:
            if not self._plain or self.may(_CELL_WEAK, first, last):
                self.by_python(column, cell, first, last)
            return 0
        return self.cell(column, cell, first, last, full or (self._escaped_field and not self._plain))

    @cython.cfunc
    @cython.exceptval(-1)
    def by_python(
        self,
        column: cython.Py_ssize_t,
        cell: cython.Py_ssize_t,
        first: cython.Py_ssize_t,
        last: cython.Py_ssize_t,
    ) -> cython.int:
        mask = self._masks[column]
        if mask is None:
            return 0
        value: bytes = self._data[first:last]
        if self._escaped_field and self._format != _BINARY:
            value = self._framing.unescape(value)
        shown = mask(value)
        if shown is not value and shown != value:
            self.hit(column)
            self.replace_cell(cell, last, shown)
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def begin_cell(self, cell: cython.Py_ssize_t) -> cython.int:
        if not self._open:
            self.flush(self._frame)
            self._frame_out = self._written
            self._open = True
        self.flush(cell)
        self._cell_out = self._written
        if self._format == _CSV and self._bare:
            self.put(self._quote_text)
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def end_cell(self, last: cython.Py_ssize_t) -> cython.int:
        self.flush(last)
        if self._format == _BINARY:
            return self.write_length(self._cell_out, self._written - self._cell_out - 4)
        if self._format == _CSV and self._bare:
            self.put(self._quote_text)
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def replace_cell(self, cell: cython.Py_ssize_t, last: cython.Py_ssize_t, shown: bytes | None) -> cython.int:
        self.begin_cell(cell)
        self._written = self._cell_out
        self._copied = last
        if self._format == _BINARY:
            self.reserve(4)
            self.write_length(self._written, -1 if shown is None else len(shown))
            self._written += 4
            if shown is not None:
                self.put(shown)
            return 0
        if self._format == _CSV and not self._bare:
            self._copied = last + 1
        if shown is None:
            return self.put(self._null)
        if self._format == _CSV:
            return self.put(self._quote_text + self._framing.escape(shown) + self._quote_text)
        return self.put(self._framing.escape(shown))
