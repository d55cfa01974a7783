"""Rewrites the values in a buffer of rows: finds what detectors look for, cell by cell, and puts masks in its place.

Compiled; also runs as it is. How rows and cells are framed is for those who inherit; this copies what stays as it is
in whole stretches, and only once something has to change.
"""

from collections.abc import Callable

import cython

from ostiary_gateway.masking.strategies import Mask
from ostiary_gateway.protocols.postgres.wire import ProtocolViolation

if not cython.compiled:
    from ostiary_gateway.masking.candidates import Candidates
    from ostiary_gateway.masking.scan import Finder
else:
    from cython.cimports.libc.string import memcpy
    from cython.cimports.ostiary_gateway.masking.candidates import Candidates  # type: ignore[no-redef]
    from cython.cimports.ostiary_gateway.masking.scan import Finder  # type: ignore[no-redef]


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _copy(
    target: cython.p_uchar,
    to: cython.Py_ssize_t,
    source: cython.p_const_uchar,
    start: cython.Py_ssize_t,
    count: cython.Py_ssize_t,
) -> cython.int:
    if cython.compiled:
        memcpy(target + to, source + start, count)
    else:
        target[to : to + count] = source[start : start + count]
    return 0


def _no_search(_position: int) -> int:
    raise AssertionError("nobody searches")


def _nobody(_column: int) -> None:
    raise AssertionError("nobody wants to know")


_unreported: Callable[[int], None] = _nobody
_nowhere: Callable[[int], int] = _no_search

NOTHING, TEXT, ALWAYS, LOOSE, WEAK, WHOLE_NUMBER, NUMERIC, FLOAT8, FLOAT4, PATTERNS = range(10)
"""How a column's values are looked at: not at all; as text, natively; every one by its own mask; by its own mask if
a detector finds something whatever stands around it (JSON, arrays); or if there may be something in bytes that are no
text; binary numbers; by its own mask, but only where a pattern of the policy matched in the row."""
ESCAPED = 16
"""Added to LOOSE: characters may be spelled otherwise."""

# The same for the compiled code, which has them as plain C integers.
_NOTHING, _TEXT, _ALWAYS, _LOOSE, _WEAK = NOTHING, TEXT, ALWAYS, LOOSE, WEAK
_WHOLE_NUMBER, _NUMERIC, _FLOAT8, _PATTERNS, _ESCAPED = WHOLE_NUMBER, NUMERIC, FLOAT8, PATTERNS, ESCAPED


@cython.final
@cython.cclass
class Show:
    """What is shown in the place of what a detector found."""

    def __init__(self, mode: int, keep_first: int, keep_last: int, char: int, constant: bytes, mask: Mask) -> None:
        """`mode`: 0 by calling `mask`, 1 Partial natively where it is ASCII, 2 `constant`, 3 the value becomes NULL."""
        self.mode = mode
        self.keep_first = keep_first
        self.keep_last = keep_last
        self.char = char
        self.constant = constant
        self.mask = mask


@cython.cclass
class Cells(Finder):
    """The masks of the columns of one result."""

    def __init__(
        self,
        kinds: bytes,
        masks: list[Mask | None],
        card: Show | None,
        mail: Show | None,
        others: Candidates | None,
        searcher: Callable[[bytes], Callable[[int], int]] | None,
        full: bool,
    ) -> None:
        """`kinds`: one of the constants for each column. `masks`: what makes a masked value of a whole one.

        `card`, `mail`: None if nobody looks for them. `others`: looks for the rest of the built-in ones. `searcher`:
        gives for a buffer what tells where from a position on a pattern of the policy matches next. `full`: patterns
        may match anywhere, so every value is looked at.
        """
        Finder.__init__(self)
        self._columns = len(kinds)
        self._kinds = kinds
        self._masks = masks
        self._cards = card is not None
        self._mails = mail is not None
        self._card_show = card
        self._mail_show = mail
        self._others = others if others is not None else Candidates(bytes(26 * 26), 0)
        self._has_others = others is not None
        self._searcher = searcher
        self._search = _nowhere
        self._full = full
        self._unreported = bytearray(len(kinds))
        self._report = _unreported
        self._data = b""
        self._out = bytearray()
        self._written = self._copied = self._cell_out = self._room = 0
        kind: cython.int
        self._each = full
        for kind in kinds:
            if kind & ESCAPED or kind in (ALWAYS, WHOLE_NUMBER, NUMERIC, FLOAT8, FLOAT4):
                self._each = True

    def report(self, columns: bytes, report: Callable[[int], None]) -> None:
        """`report` is called with a column where a detector hits for the first time, if its byte in `columns` is 1."""
        self._unreported = bytearray(columns)
        self._report = report

    @cython.cfunc
    @cython.exceptval(-1)
    def hit(self, column: cython.Py_ssize_t) -> cython.int:
        """A detector found something in this column."""
        if self._unreported[column]:
            self._unreported[column] = 0
            self._report(column)
        return 0

    # -- the buffer that is written

    @cython.cfunc
    @cython.exceptval(-1)
    def open(self, data: bytes) -> cython.int:
        self._data = data
        self._at = data
        self._size = len(data)
        self._room = 0
        self._written = 0
        self._copied = 0
        if self._searcher is not None:
            self._search = self._searcher(data)
        self._next_card = self._next_mail = self._next_other = self._next_found = -1
        return 0

    @cython.cfunc
    def close(self) -> bytes:
        """What was made of the data; the same object if nothing changed."""
        data = self._data
        if self._room > 0:
            self.flush(self._size)
            data = bytes(memoryview(self._out)[: self._written])
        self._data = b""
        self._at = self._data
        self._out = bytearray()
        self._search = _nowhere
        return data

    @cython.cfunc
    @cython.exceptval(-1)
    def reserve(self, count: cython.Py_ssize_t) -> cython.int:
        need: cython.Py_ssize_t = self._written + count
        if need > self._room:
            if self._room == 0:
                self._room = max(need, self._size + 512)
                self._out = bytearray(self._room)
            else:
                self._room = 2 * need
                self._out.extend(bytes(self._room - len(self._out)))
            self._to = self._out
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def flush(self, until: cython.Py_ssize_t) -> cython.int:
        """Copies what was not copied yet, up to here."""
        count: cython.Py_ssize_t = until - self._copied
        if count > 0:
            self.reserve(count)
            _copy(self._to, self._written, self._at, self._copied, count)
            self._written += count
            self._copied = until
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def put(self, piece: bytes) -> cython.int:
        """Writes what is not in the data."""
        source: cython.p_const_uchar = piece
        count: cython.Py_ssize_t = len(piece)
        self.reserve(count)
        _copy(self._to, self._written, source, 0, count)
        self._written += count
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def write_length(self, at: cython.Py_ssize_t, length: cython.Py_ssize_t) -> cython.int:
        """An Int32, where there is room for it."""
        if length > 0x3FFFFFFF:
            raise ProtocolViolation("a row became too large by what its values were replaced with")
        to: cython.p_uchar = self._to
        to[at] = (length >> 24) & 255
        to[at + 1] = (length >> 16) & 255
        to[at + 2] = (length >> 8) & 255
        to[at + 3] = length & 255
        return 0

    # -- cells; the framing is the heirs'

    @cython.cfunc
    @cython.exceptval(-1)
    def begin_cell(self, cell: cython.Py_ssize_t) -> cython.int:
        """A part of the value will change. `cell`: where it begins, with what frames it."""
        raise AssertionError

    @cython.cfunc
    @cython.exceptval(check=False)
    def undo_cell(self, cell: cython.Py_ssize_t) -> cython.int:
        """What was written of this cell, the last that was begun, is taken back."""
        self._written = self._cell_out
        self._copied = cell
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def end_cell(self, last: cython.Py_ssize_t) -> cython.int:
        """All parts that change are written."""
        raise AssertionError

    @cython.cfunc
    @cython.exceptval(-1)
    def replace_cell(self, cell: cython.Py_ssize_t, last: cython.Py_ssize_t, shown: bytes | None) -> cython.int:
        """The whole value becomes another; None is NULL."""
        raise AssertionError

    @cython.cfunc
    @cython.exceptval(-1)
    def cell(
        self,
        column: cython.Py_ssize_t,
        cell: cython.Py_ssize_t,
        first: cython.Py_ssize_t,
        last: cython.Py_ssize_t,
        full: cython.bint,
    ) -> cython.int:
        """One value [first, last) of a column; `full`: a pattern of the policy may match in it."""
        kinds: cython.p_const_uchar = self._kinds
        kind: cython.int = kinds[column]
        if kind == _NOTHING:
            return 0
        if full or kind == _ALWAYS:
            return self.by_python(column, cell, first, last)
        if first == last:
            return 0
        if kind == _TEXT:
            return self.text(column, cell, first, last)
        if self.may(kind, first, last):
            return self.by_python(column, cell, first, last)
        return 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def may(self, kind: cython.int, first: cython.Py_ssize_t, last: cython.Py_ssize_t) -> cython.bint:
        """False only if no detector finds anything in this value."""
        at: cython.p_const_uchar = self._at
        index: cython.Py_ssize_t
        number: cython.ulonglong
        flip: cython.int
        if kind & 15 == _LOOSE:
            return (
                (self._cards and self.card(at, first, first, last, False))
                or (self._mails and self.mail(at, first, last))
                or (self._has_others and self._others.other(at, first, last, True) < last)
                or (kind & _ESCAPED and self.escaped(first, last))
            )
        if kind == _WEAK:
            return (
                (self._cards and self.run(at, first, last) < last)
                or (self._mails and self.byte(at, 64, first, last) < last)
                or (self._has_others and self._others.other(at, first, last, False) < last)
            )
        if not self._cards or kind == _PATTERNS:
            return False
        if kind == _WHOLE_NUMBER:
            if last - first != 8:
                return True
            flip = 255 if at[first] & 128 else 0
            number = 0
            for index in range(first, last):
                number = number * 256 + (at[index] ^ flip)
            return number >= 999_999_999_999 and self.is_card_number(number + 1 if flip else number)
        if kind == _NUMERIC:
            # 13 digits need four groups before the point, or as many decimals.
            if last - first < 8:
                return True
            if at[first + 4] >= 0xC0:
                return False
            return (at[first + 2] < 128 and (at[first + 2] > 0 or at[first + 3] >= 3)) or (
                at[first + 6] > 0 or at[first + 7] >= 13
            )
        # From 2**39 on a float may have 13 digits before its point: its exponent tells.
        if kind == _FLOAT8:
            return last - first != 8 or (at[first] & 127) * 16 + at[first + 1] // 16 >= 1023 + 39
        return last - first != 4 or (at[first] & 127) * 2 + at[first + 1] // 128 >= 127 + 39

    @cython.cfunc
    @cython.exceptval(check=False)
    def escaped(self, first: cython.Py_ssize_t, last: cython.Py_ssize_t) -> cython.bint:
        """True if characters may be spelled otherwise: JSON's escapes and exponents, quotes in arrays and records."""
        at: cython.p_const_uchar = self._at
        byte: cython.int
        here: cython.Py_ssize_t
        for here in range(first, last):
            byte = at[here]
            if byte == 92:
                return True
            if here == first:
                continue
            if byte == 34 and at[here - 1] == 34:
                return True
            if (byte != 69 and byte != 101) or not 48 <= at[here - 1] <= 57 or here + 1 == last:
                continue
            if 48 <= at[here + 1] <= 57 or at[here + 1] == 43:
                return True
        return False

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
        shown = mask(value)
        if shown is not value and shown != value:
            self.hit(column)
            self.replace_cell(cell, last, shown)
        return 0

    @cython.cfunc
    @cython.exceptval(-1)
    def text(
        self,
        column: cython.Py_ssize_t,
        cell: cython.Py_ssize_t,
        first: cython.Py_ssize_t,
        last: cython.Py_ssize_t,
    ) -> cython.int:
        """A value that is text as it stands."""
        at: cython.p_const_uchar = self._at
        card_first: cython.Py_ssize_t = 0
        card_last: cython.Py_ssize_t = 0
        mail_first: cython.Py_ssize_t = 0
        mail_last: cython.Py_ssize_t = 0
        # Up to the next candidate of the buffer there is none in the value.
        if self._has_others and self._next_other < last and self._others.other(at, first, last, True) < last:
            return self.by_python(column, cell, first, last)
        a_card: cython.bint = (
            self._cards
            and self._next_card < last
            and last - first >= 13
            and self.card(at, max(first, self._next_card), first, last, True)
        )
        if a_card:
            card_first = self.start
            card_last = self.end
        a_mail: cython.bint = self._mails and self._next_mail < last and self.mail(at, first, last)
        if a_mail:
            mail_first = self.start
            mail_last = self.end
        if not a_card and not a_mail:
            return 0
        self.hit(column)
        self.begin_cell(cell)
        while a_card or a_mail:
            if a_card and a_mail and card_first < mail_last and mail_first < card_last:
                # Two detectors on the same bytes: the stronger strategy wins, and Python knows which that is.
                self.undo_cell(cell)
                return self.by_python(column, cell, first, last)
            if a_card and (not a_mail or card_first < mail_first):
                self.flush(card_first)
                if not self.show(self._card_show, True, card_first, card_last):
                    self.undo_cell(cell)
                    return self.replace_cell(cell, last, None)
                self._copied = card_last
                a_card = self.card(at, card_last, first, last, True)
                card_first = self.start
                card_last = self.end
            else:
                self.flush(mail_first)
                if not self.show(self._mail_show, False, mail_first, mail_last):
                    self.undo_cell(cell)
                    return self.replace_cell(cell, last, None)
                self._copied = mail_last
                a_mail = self.mail(at, mail_last, last)
                mail_first = self.start
                mail_last = self.end
        return self.end_cell(last)

    @cython.cfunc
    @cython.exceptval(-1)
    def show(
        self, how: Show, card: cython.bint, first: cython.Py_ssize_t, last: cython.Py_ssize_t
    ) -> cython.int:
        """Writes what is shown of what was found; 0 if the whole value becomes NULL."""
        if how.mode == 1 and self.partial(how, card, first, last):
            return 1
        if how.mode == 3:
            return 0
        if how.mode == 2:
            self.put(how.constant)
            return 1
        shown = how.mask(self._data[first:last])
        if shown is None:
            return 0
        self.put(shown)
        return 1

    @cython.cfunc
    @cython.exceptval(-1)
    def partial(
        self, how: Show, card: cython.bint, first: cython.Py_ssize_t, last: cython.Py_ssize_t
    ) -> cython.int:
        """Hides characters at the same length; 0 if there are others than ASCII. A card's spaces and dashes stay."""
        at: cython.p_const_uchar = self._at
        byte: cython.int
        here: cython.Py_ssize_t
        hidden: cython.Py_ssize_t = 0
        for here in range(first, last):
            byte = at[here]
            if byte >= 128:
                return 0
            if not card or (byte != 32 and byte != 45):
                hidden += 1
        self.reserve(last - first)
        to: cython.p_uchar = self._to
        written: cython.Py_ssize_t = self._written
        kept: cython.Py_ssize_t = how.keep_first
        hidden -= kept + how.keep_last
        if hidden <= 0:
            # Keeping everything would be no mask.
            kept = 0
            hidden = last - first
        for here in range(first, last):
            byte = at[here]
            if card and (byte == 32 or byte == 45):
                pass
            elif kept > 0:
                kept -= 1
            elif hidden > 0:
                hidden -= 1
                byte = how.char
            to[written] = byte
            written += 1
        self._written = written
        return 1

    @cython.cfunc
    @cython.exceptval(-1)
    def candidate(self, at: cython.Py_ssize_t) -> cython.Py_ssize_t:
        """Where from `at` on the next bytes stand that a detector may find something in; the data's size if nowhere."""
        size: cython.Py_ssize_t = self._size
        if self._next_card < at:
            self._next_card = self.run(self._at, at, size) if self._cards else size
        if self._next_mail < at:
            self._next_mail = self.byte(self._at, 64, at, size) if self._mails else size
        if self._next_other < at:
            self._next_other = self._others.other(self._at, at, size, False) if self._has_others else size
        if self._next_found < at:
            self._next_found = self._search(at) if self._searcher is not None else size
        return min(self._next_card, self._next_mail, self._next_other, self._next_found)
