"""The masks of DataRows: a buffer of whole messages in, the same with their values masked out.

Compiled; also runs as it is. Every length is checked against its frame before it is used.
"""

import cython

from ostiary_gateway.protocols.postgres.wire import ProtocolViolation

if not cython.compiled:
    from ostiary_gateway.protocols.postgres._cells import Cells
else:
    from cython.cimports.ostiary_gateway.protocols.postgres._cells import Cells  # type: ignore[no-redef]


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _length(data: cython.p_const_uchar, at: cython.Py_ssize_t) -> cython.Py_ssize_t:
    """An Int32; below zero if its first bit is set."""
    length: cython.Py_ssize_t = data[at]
    length = (length << 8) | data[at + 1]
    length = (length << 8) | data[at + 2]
    length = (length << 8) | data[at + 3]
    return length if length < 0x80000000 else length - 0x100000000


@cython.final
@cython.cclass
class RowCells(Cells):
    """The masks of one result's DataRows."""

    _row: cython.Py_ssize_t
    _row_out: cython.Py_ssize_t
    _open: cython.bint

    def apply(self, data: bytes) -> bytes:
        """A buffer of whole DataRows; the same object if nothing changed. ProtocolViolation if malformed."""
        row: cython.Py_ssize_t = 0
        end: cython.Py_ssize_t
        at: cython.Py_ssize_t
        self.open(data)
        size: cython.Py_ssize_t = self._size
        if self._each:
            while row < size:
                end = self.frame(row)
                if self._full or self._searcher is None:
                    self.row(row, end, self._full)
                else:
                    self.candidate(row)
                    self.row(row, end, self._next_found < end)
                row = end
        else:
            at = self.candidate(0)
            while at < size:
                end = self.frame(row)
                if at < end:
                    self.row(row, end, self._next_found < end)
                    at = self.candidate(end)
                row = end
            while 0 < row < size:
                row = self.frame(row)
        shown: bytes = self.close()
        return shown

    @cython.cfunc
    @cython.exceptval(-1)
    def frame(self, row: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Where the message that begins here ends."""
        if self._size - row < 7:
            raise ProtocolViolation("DataRow: it ends before the number of its columns")
        length: cython.Py_ssize_t = _length(self._at, row + 1)
        if self._at[row] != 68 or length < 6 or length > self._size - row - 1:
            raise ProtocolViolation("DataRow: its length does not fit")
        return row + 1 + length

    @cython.cfunc
    @cython.exceptval(-1)
    def row(self, row: cython.Py_ssize_t, end: cython.Py_ssize_t, full: cython.bint) -> cython.int:
        at: cython.p_const_uchar = self._at
        column: cython.Py_ssize_t
        first: cython.Py_ssize_t
        length: cython.Py_ssize_t
        here: cython.Py_ssize_t = row + 7
        count: cython.Py_ssize_t = at[row + 5] * 256 + at[row + 6]
        if count != self._columns:
            raise ProtocolViolation(f"DataRow: {count} columns, but RowDescription announced {self._columns}")
        self._row = row
        self._open = False
        for column in range(count):
            if end - here < 4:
                raise ProtocolViolation("DataRow: it ends in the middle of a length")
            length = _length(at, here)
            first = here + 4
            if length < 0:
                if length != -1:
                    raise ProtocolViolation(f"DataRow: a value of {length} bytes")
                here = first
                continue
            if length > end - first:
                raise ProtocolViolation("DataRow: a value is longer than the message")
            self.cell(column, here, first, first + length, full)
            here = first + length
        if here != end:
            raise ProtocolViolation(f"DataRow: {end - here} bytes behind its last value")
        if self._open:
            self.flush(end)
            self.write_length(self._row_out + 1, self._written - self._row_out - 1)
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def begin_cell(self, cell: cython.Py_ssize_t) -> cython.int:
        if not self._open:
            self.flush(self._row)
            self._row_out = self._written
            self._open = True
        self.flush(cell)
        self._cell_out = self._written
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def end_cell(self, last: cython.Py_ssize_t) -> cython.int:
        self.flush(last)
        return self.write_length(self._cell_out, self._written - self._cell_out - 4)

    @cython.cfunc
    @cython.exceptval(-1)
    def replace_cell(self, cell: cython.Py_ssize_t, last: cython.Py_ssize_t, shown: bytes | None) -> cython.int:
        self.begin_cell(cell)
        self.reserve(4)
        self.write_length(self._written, -1 if shown is None else len(shown))
        self._written += 4
        if shown is not None:
            self.put(shown)
        self._copied = last
        return 0
