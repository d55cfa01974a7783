"""The inner scan of the detectors: where in bytes a payment card, an email address or a candidate of another stands.

Compiled; also runs as it is. Never looks outside of the offsets it is given. What finds in a *buffer* is a necessary
condition on any value that stands in it verbatim, whatever surrounds it; what finds in a *value* is exact, so that a
neighbour's length byte is never taken for a digit.
"""

import re

import cython

if cython.compiled:
    from cython.cimports.libc.string import memchr

CARD_MIN = 13
CARD_MAX = 19
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)

_LENGTHS_16 = frozenset((16,))
_LENGTHS_16_19 = frozenset((16, 17, 18, 19))
_LENGTHS_14_19 = frozenset((14, 15, 16, 17, 18, 19))
_LENGTHS_ANY = frozenset(range(CARD_MIN, CARD_MAX + 1))

ISSUERS: tuple[tuple[int, int, int, frozenset[int]], ...] = (
    (4, 4, 1, frozenset((13, 16, 19))),  # Visa
    (51, 55, 2, _LENGTHS_16),  # Mastercard
    (2221, 2720, 4, _LENGTHS_16),  # Mastercard, second range
    (34, 34, 2, frozenset((15,))),  # American Express
    (37, 37, 2, frozenset((15,))),
    (300, 305, 3, _LENGTHS_14_19),  # Diners Club
    (3095, 3095, 4, _LENGTHS_14_19),
    (36, 36, 2, _LENGTHS_14_19),
    (38, 39, 2, _LENGTHS_14_19),
    (3528, 3589, 4, _LENGTHS_16_19),  # JCB
    (6011, 6011, 4, _LENGTHS_16_19),  # Discover
    (644, 649, 3, _LENGTHS_16_19),
    (65, 65, 2, _LENGTHS_16_19),  # Discover, RuPay
    (62, 62, 2, _LENGTHS_16_19),  # UnionPay
    (81, 82, 2, _LENGTHS_16_19),  # UnionPay, RuPay
    (60, 60, 2, _LENGTHS_16),  # RuPay
    (2200, 2204, 4, _LENGTHS_16_19),  # Mir
    (9792, 9792, 4, _LENGTHS_16),  # Troy
    (5018, 5018, 4, _LENGTHS_ANY),  # Maestro
    (5020, 5020, 4, _LENGTHS_ANY),
    (5038, 5038, 4, _LENGTHS_ANY),
    (5893, 5893, 4, _LENGTHS_ANY),
    (6304, 6304, 4, _LENGTHS_ANY),
    (6759, 6763, 4, _LENGTHS_ANY),
)
"""Ranges of the first digits: lowest, highest, how many digits are compared, lengths that the issuer gives out."""




def _prefix_lengths() -> bytes:
    found = bytearray(10_000)
    for low, high, digits, lengths in ISSUERS:
        scale = 10 ** (4 - digits)
        for prefix in range(low * scale, (high + 1) * scale):
            for length in lengths:
                found[prefix] |= 1 << (length - CARD_MIN)
    return bytes(found)


_LENGTHS_OF_PREFIX = _prefix_lengths()
"""Lengths that a card may have, by its first four digits: bit 0 is 13, bit 6 is 19."""

_RUN = re.compile(rb"[0-9](?:[ -]?[0-9]){12}")
_DIGITS_ONLY = bytes(48 if 48 <= byte <= 57 else 46 for byte in range(256))
_BLOCK, _LONGEST = 8192, 25


def _next_run(data: bytes, at: int, end: int) -> int:
    """What `Finder.run` finds, for where it is not compiled."""
    while at < end:
        stop = min(end, at + _BLOCK + _LONGEST)
        if b"0" * CARD_MIN in data[at:stop].translate(_DIGITS_ONLY, b" -"):
            match = _RUN.search(data, at, stop)
            if match is not None:
                return match.start()
        at += _BLOCK
    return end


_LOCAL, _LABEL, _FIRST = 1, 2, 4


def _mail_classes() -> bytes:
    found = bytearray(256)
    for byte in range(256):
        char = chr(byte)
        if byte >= 128 or (char.isascii() and char.isalnum()):
            found[byte] = _LOCAL | _LABEL | (0 if char.isdigit() and byte < 128 else _FIRST)
    for byte in b".!#$%&'*+/=?^_`{|}~-":
        found[byte] |= _LOCAL
    return bytes(found)


_MAIL_CLASSES = _mail_classes()


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _is_digit(byte: cython.uchar) -> cython.bint:
    return 48 <= byte <= 57


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _is_letter(byte: cython.uchar) -> cython.bint:
    return 65 <= byte <= 90 or 97 <= byte <= 122


@cython.cfunc
@cython.inline
@cython.exceptval(check=False)
def _in_card(byte: cython.uchar) -> cython.bint:
    return 48 <= byte <= 57 or byte == 32 or byte == 45


@cython.cclass
class Finder:
    """Finds the next one. `start` and `end` are where it stands, once something was found."""

    def __init__(self) -> None:
        # The pointers live as long as the tables, and those as long as this.
        lengths: bytes = _LENGTHS_OF_PREFIX
        mail: bytes = _MAIL_CLASSES
        self._tables = (lengths, mail)
        self._lengths = lengths
        self._mail = mail
        self.start = 0
        self.end = 0

    @cython.cfunc
    @cython.exceptval(check=False)
    def byte(
        self, data: cython.p_const_uchar, wanted: cython.int, at: cython.Py_ssize_t, end: cython.Py_ssize_t
    ) -> cython.Py_ssize_t:
        """Where a byte stands; `end` if it does not."""
        where: cython.Py_ssize_t
        found: cython.p_const_uchar
        if at >= end:
            return end
        if cython.compiled:
            found = cython.cast(cython.p_const_uchar, memchr(data + at, wanted, end - at))
            where = found - data if found else end
        else:
            where = data.find(wanted, at, end)
        return where if where >= 0 else end

    # -- payment cards

    @cython.cfunc
    @cython.exceptval(check=False)
    def run(
        self, data: cython.p_const_uchar, at: cython.Py_ssize_t, end: cython.Py_ssize_t
    ) -> cython.Py_ssize_t:
        """Where the next 13 digits with nothing but single spaces or dashes between them begin; `end` if nowhere."""
        low: cython.Py_ssize_t
        high: cython.Py_ssize_t
        digits: cython.Py_ssize_t
        here: cython.Py_ssize_t = at + 12
        if not cython.compiled:
            return _next_run(data, at, end)
        while here < end:
            # A candidate has at least 13 bytes of its own kind in a row, so one of them stands here.
            if not _in_card(data[here]):
                at = here + 1
                here += 13
                continue
            low = here
            while low > at and _in_card(data[low - 1]):
                low -= 1
            high = here + 1
            while high < end and _in_card(data[high]):
                high += 1
            if high - low >= 13:
                digits = 0
                for here in range(low, high):
                    if _is_digit(data[here]):
                        digits += 1
                        if digits == 13:
                            return low
                    elif here > low and not _is_digit(data[here - 1]):
                        digits = 0
            at = high
            here = high + 12
        return end

    @cython.cfunc
    @cython.exceptval(check=False)
    def card(
        self,
        data: cython.p_const_uchar,
        at: cython.Py_ssize_t,
        first: cython.Py_ssize_t,
        last: cython.Py_ssize_t,
        strict: cython.bint,
    ) -> cython.bint:
        """The next card from `at` on, in the value [first, last).

        A candidate begins and ends where a group of digits does and passes Luhn and the issuers' ranges; if `strict`,
        it is not stuck to an ASCII letter, and does not begin as the fraction of a number. Overlapping ones are one.
        """
        low: cython.Py_ssize_t = self.run(data, at, last)
        high: cython.Py_ssize_t
        while low < last:
            high = low + 13
            while high < last and _in_card(data[high]):
                high += 1
            if self.card_in(data, low, high, first, last, strict):
                return True
            low = self.run(data, high, last)
        return False

    @cython.cfunc
    @cython.exceptval(check=False)
    def card_in(
        self,
        data: cython.p_const_uchar,
        low: cython.Py_ssize_t,
        high: cython.Py_ssize_t,
        first: cython.Py_ssize_t,
        last: cython.Py_ssize_t,
        strict: cython.bint,
    ) -> cython.bint:
        """The first card in a stretch of digits, spaces and dashes."""
        end: cython.Py_ssize_t
        further: cython.Py_ssize_t
        here: cython.Py_ssize_t = low
        while high - here >= 13:
            if not _is_digit(data[here]):
                here += 1
                continue
            end = self.card_at(data, here, high, first, last, strict)
            if end > 0:
                self.start = here
                while here < end:
                    # Another may begin inside of it and end behind it.
                    while here < high and _is_digit(data[here]):
                        here += 1
                    while here < high and not _is_digit(data[here]):
                        here += 1
                    if here < end:
                        further = self.card_at(data, here, high, first, last, strict)
                        if further > end:
                            end = further
                self.end = end
                # A group of a UUID has twelve digits at most, so a card in one has a dash.
                if not strict or self.byte(data, 45, self.start, end) == end:
                    return True
                if not self.in_uuid(data, self.start, first, last):
                    return True
                here = end
            while here < high and _is_digit(data[here]):
                here += 1
        return False

    @cython.cfunc
    @cython.exceptval(check=False)
    def in_uuid(
        self,
        data: cython.p_const_uchar,
        start: cython.Py_ssize_t,
        first: cython.Py_ssize_t,
        last: cython.Py_ssize_t,
    ) -> cython.bint:
        """True if the group of digits that begins here is one of a UUID's (8-4-4-4-12)."""
        offset: cython.Py_ssize_t
        begin: cython.Py_ssize_t
        index: cython.Py_ssize_t
        byte: cython.int
        for offset in (0, 9, 14, 19, 24):
            begin = start - offset
            if begin < first or begin + 36 > last:
                continue
            if begin > first and (_is_digit(data[begin - 1]) or _is_letter(data[begin - 1])):
                continue
            if begin + 36 < last and (_is_digit(data[begin + 36]) or _is_letter(data[begin + 36])):
                continue
            index = 0
            while index < 36:
                byte = data[begin + index]
                if index == 8 or index == 13 or index == 18 or index == 23:
                    if byte != 45:
                        break
                elif not (48 <= byte <= 57 or 97 <= byte <= 102 or 65 <= byte <= 70):
                    break
                index += 1
            if index == 36:
                return True
        return False

    @cython.cfunc
    @cython.exceptval(check=False)
    def card_at(
        self,
        data: cython.p_const_uchar,
        start: cython.Py_ssize_t,
        high: cython.Py_ssize_t,
        first: cython.Py_ssize_t,
        last: cython.Py_ssize_t,
        strict: cython.bint,
    ) -> cython.Py_ssize_t:
        """The end of the longest card of whole groups that begins with the group at `start`; 0 if none does."""
        digit: cython.int
        doubled: cython.int
        prefix: cython.int = 0
        lengths: cython.int = 0
        # Which digits count double depends on where the card ends, so both sums are kept.
        even: cython.int = 0
        odd: cython.int = 0
        count: cython.int = 0
        best: cython.Py_ssize_t = 0
        here: cython.Py_ssize_t = start
        if strict and start > first:
            if _is_letter(data[start - 1]):
                return 0
            if data[start - 1] == 46 and start - 1 > first and _is_digit(data[start - 2]):
                return 0
        while here < high:
            if not _is_digit(data[here]):
                if here + 1 >= high or not _is_digit(data[here + 1]):
                    break
                here += 1
            if count == 19:
                break
            digit = data[here] - 48
            doubled = 2 * digit if digit < 5 else 2 * digit - 9
            if count % 2 == 0:
                even += doubled
                odd += digit
            else:
                even += digit
                odd += doubled
            count += 1
            here += 1
            if count <= 4:
                prefix = prefix * 10 + digit
                if count == 4:
                    lengths = self._lengths[prefix]
                    if lengths == 0:
                        return 0
            if count < 13 or not (lengths >> (count - 13)) & 1 or (here < high and _is_digit(data[here])):
                continue
            if (even if count % 2 == 0 else odd) % 10 != 0:
                continue
            if not strict or here == last or not _is_letter(data[here]):
                best = here
        return best

    @cython.cfunc
    @cython.exceptval(check=False)
    def is_card_number(self, number: cython.ulonglong) -> cython.bint:
        """True if a whole number, written in decimal, is a card."""
        rest: cython.ulonglong = number
        digit: cython.int
        total: cython.int = 0
        count: cython.int = 0
        while rest >= 10000:
            digit = rest % 10
            total += (2 * digit if digit < 5 else 2 * digit - 9) if count % 2 else digit
            rest //= 10
            count += 1
        count += 4
        if rest < 1000 or not 13 <= count <= 19 or not (self._lengths[rest] >> (count - 13)) & 1:
            return False
        count -= 4
        while rest > 0:
            digit = rest % 10
            total += (2 * digit if digit < 5 else 2 * digit - 9) if count % 2 else digit
            rest //= 10
            count += 1
        return total % 10 == 0

    # -- email addresses

    @cython.cfunc
    @cython.exceptval(check=False)
    def mail(
        self, data: cython.p_const_uchar, at: cython.Py_ssize_t, last: cython.Py_ssize_t
    ) -> cython.bint:
        """The next email address in a value that ends at `last`, wholly behind `at`.

        RFC 5321 dot-strings with a dotted domain or an IPv4 literal; UTF-8 in both parts (RFC 6531); no quoted local
        parts.
        """
        start: cython.Py_ssize_t
        end: cython.Py_ssize_t
        sign: cython.Py_ssize_t = self.byte(data, 64, at, last)
        while sign < last:
            if sign > at and self._mail[data[sign - 1]] & 1:
                end = self.domain(data, sign + 1, last)
                if end > 0 and not self.is_image(data, end):
                    start = sign - 1
                    while start > at and sign - start < 256 and self._mail[data[start - 1]] & 1:
                        start -= 1
                    self.start = start
                    self.end = end
                    return True
            sign = self.byte(data, 64, sign + 1, last)
        return False

    @cython.cfunc
    @cython.exceptval(check=False)
    def is_image(self, data: cython.p_const_uchar, end: cython.Py_ssize_t) -> cython.bint:
        """True for `icon@2x.png` and the like: these are no top-level domains."""
        three: cython.int = ((data[end - 3] | 32) << 16) | ((data[end - 2] | 32) << 8) | (data[end - 1] | 32)
        if data[end - 4] == 46:
            # png, jpg, gif, svg
            return three == 0x706E67 or three == 0x6A7067 or three == 0x676966 or three == 0x737667
        # jpeg, webp
        return data[end - 5] == 46 and (
            ((data[end - 4] | 32) == 106 and three == 0x706567) or ((data[end - 4] | 32) == 119 and three == 0x656270)
        )

    @cython.cfunc
    @cython.exceptval(check=False)
    def domain(
        self, data: cython.p_const_uchar, at: cython.Py_ssize_t, last: cython.Py_ssize_t
    ) -> cython.Py_ssize_t:
        """The end of the domain that begins here, as long as it can be; 0 if none does."""
        here: cython.Py_ssize_t
        end: cython.Py_ssize_t
        best: cython.Py_ssize_t = 0
        labels: cython.int = 0
        if at < last and data[at] == 91:
            return self.literal(data, at, last)
        while at < last and self._mail[data[at]] & 2:
            here = at
            while here < last and here - at < 64 and (self._mail[data[here]] & 2 or data[here] == 45):
                here += 1
            if labels > 0 and self._mail[data[at]] & 4:
                end = min(here, at + 63)
                while end > at and data[end - 1] == 45:
                    end -= 1
                if end - at >= 2:
                    best = end
            if here - at > 63 or here >= last or data[here] != 46 or data[here - 1] == 45:
                break
            labels += 1
            at = here + 1
        return best

    @cython.cfunc
    @cython.exceptval(check=False)
    def literal(
        self, data: cython.p_const_uchar, at: cython.Py_ssize_t, last: cython.Py_ssize_t
    ) -> cython.Py_ssize_t:
        """The end of `[1.2.3.4]`; 0 if it is none."""
        part: cython.int
        digits: cython.int
        at += 1
        for part in range(4):
            digits = 0
            while at < last and digits < 3 and _is_digit(data[at]):
                at += 1
                digits += 1
            if digits == 0 or at >= last or data[at] != (93 if part == 3 else 46):
                return 0
            at += 1
        return at

    # -- for whoever has single values

    def card_spans(self, value: bytes) -> list[tuple[int, int]]:
        """See the function of that name."""
        data: cython.p_const_uchar = value
        last: cython.Py_ssize_t = len(value)
        at: cython.Py_ssize_t = 0
        spans: list[tuple[int, int]] = []
        while self.card(data, at, 0, last, True):
            at = self.end
            spans.append((self.start, at))
        return spans

    def email_spans(self, value: bytes) -> list[tuple[int, int]]:
        """See the function of that name."""
        data: cython.p_const_uchar = value
        last: cython.Py_ssize_t = len(value)
        at: cython.Py_ssize_t = 0
        spans: list[tuple[int, int]] = []
        while self.mail(data, at, last):
            at = self.end
            spans.append((self.start, at))
        return spans

    def next_run(self, buffer: bytes, position: int) -> int:
        """See `next_card_candidate`."""
        data: cython.p_const_uchar = buffer
        last: cython.Py_ssize_t = len(buffer)
        return int(self.run(data, position, last))


_FINDER = Finder()


def luhn(digits: bytes) -> bool:
    """True if ASCII digits pass the Luhn check (ISO/IEC 7812-1, annex B)."""
    total = sum(digits[-1::-2]) - 48 * len(digits[-1::-2])
    for byte in digits[-2::-2]:
        total += _DOUBLED[byte - 48]
    return total % 10 == 0


def is_card(digits: bytes) -> bool:
    """True if these ASCII digits, separators removed, are a payment card number."""
    if not CARD_MIN <= len(digits) <= CARD_MAX:
        return False
    return bool(_LENGTHS_OF_PREFIX[int(digits[:4])] >> (len(digits) - CARD_MIN) & 1) and luhn(digits)


def may_hold_card(buffer: bytes) -> bool:
    """False only if no value in the buffer holds 13 digits with nothing but single spaces and dashes between them."""
    return _FINDER.next_run(buffer, 0) < len(buffer)


def next_card_candidate(buffer: bytes, position: int) -> int:
    """Where from `position` on such digits begin; the buffer's length if nowhere."""
    return _FINDER.next_run(buffer, position)


def card_spans(value: bytes) -> list[tuple[int, int]]:
    """Where card numbers stand in one value: (start, end) in bytes, ascending, none overlapping. Time is linear."""
    return _FINDER.card_spans(value)


def may_hold_email(buffer: bytes) -> bool:
    """False only if no value in the buffer holds an `@`."""
    return b"@" in buffer


def next_at_sign(buffer: bytes, position: int) -> int:
    """Where from `position` on an `@` stands; the buffer's length if nowhere."""
    found = buffer.find(b"@", position)
    return len(buffer) if found < 0 else found


def email_spans(value: bytes) -> list[tuple[int, int]]:
    """Where email addresses stand in one value: (start, end) in bytes, ascending, none overlapping."""
    return _FINDER.email_spans(value)
