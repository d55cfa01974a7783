"""The inner scan of the detectors: where in a buffer a payment card or an email address stands.

Bytes in, offsets out, nothing imported but `re` and `itertools`: this module is the one to be compiled.
A `may_hold_*` is a necessary condition on any buffer that contains the value verbatim, whatever surrounds it;
a `*_spans` is exact and sees one value, so that a neighbour's length byte is never taken for a digit.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from itertools import accumulate

CARD_MIN = 13
CARD_MAX = 19

_CARD_CLASSES = bytes(48 if 48 <= byte <= 57 else 46 for byte in range(256))
_CARD_SEPARATORS = b" -"
_CARD_NEEDLE = b"0" * CARD_MIN
_CARD_RUN = re.compile(rb"[0-9](?:[ -]?[0-9]){12,}")
_DIGITS = re.compile(rb"[0-9]+")
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


def _prefix_lengths() -> tuple[frozenset[int], ...]:
    table: list[frozenset[int]] = [frozenset()] * 10_000
    for low, high, digits, lengths in ISSUERS:
        scale = 10 ** (4 - digits)
        for prefix in range(low * scale, (high + 1) * scale):
            table[prefix] = table[prefix] | lengths
    return tuple(table)


_LENGTHS_OF_PREFIX = _prefix_lengths()
"""Lengths that a card may have, by its first four digits."""


def luhn(digits: bytes) -> bool:
    """True if ASCII digits pass the Luhn check (ISO/IEC 7812-1, annex B)."""
    total = sum(digits[-1::-2]) - 48 * len(digits[-1::-2])
    for byte in digits[-2::-2]:
        total += _DOUBLED[byte - 48]
    return total % 10 == 0


def is_card(digits: bytes) -> bool:
    """True if these ASCII digits, separators removed, are a payment card number."""
    return len(digits) in _LENGTHS_OF_PREFIX[int(digits[:4])] and luhn(digits) if len(digits) >= CARD_MIN else False


def may_hold_card(buffer: bytes | bytearray) -> bool:
    """False only if no value in the buffer holds 13 digits with nothing but spaces and dashes between them."""
    return _CARD_NEEDLE in buffer.translate(_CARD_CLASSES, _CARD_SEPARATORS)


def card_spans(value: bytes) -> list[tuple[int, int]]:
    """Where card numbers stand in one value: (start, end) in bytes, ascending, none overlapping.

    A candidate begins and ends where a group of digits does, is not stuck to an ASCII letter, and does not begin
    as the fraction of a number. Overlapping candidates are one span.
    """
    if len(value) < CARD_MIN:
        return []
    spans: list[tuple[int, int]] = []
    for run in _CARD_RUN.finditer(value):
        start, end = run.span()
        digits = run.group().translate(None, _CARD_SEPARATORS)
        if len(digits) == end - start:
            # One group, by far the most frequent: it is a card as a whole or not at all.
            if len(digits) <= CARD_MAX and is_card(digits) and _starts(value, start) and _ends(value, end):
                spans.append((start, end))
        else:
            _grouped_spans(value, start, run.group(), digits, spans)
    return spans


def _starts(value: bytes, start: int) -> bool:
    if start == 0:
        return True
    before = value[start - 1]
    if 65 <= before <= 90 or 97 <= before <= 122:
        return False
    return not (before == 46 and start > 1 and 48 <= value[start - 2] <= 57)


def _ends(value: bytes, end: int) -> bool:
    if end == len(value):
        return True
    after = value[end]
    return not (65 <= after <= 90 or 97 <= after <= 122)


def _grouped_spans(value: bytes, offset: int, run: bytes, digits: bytes, spans: list[tuple[int, int]]) -> None:
    """Try every window of whole groups in a run of digits with separators; time is linear in the run."""
    values = [byte - 48 for byte in digits]
    # Luhn of any window from two prefix sums: which digits count double depends on where the window ends.
    sums = (
        [0, *accumulate(_DOUBLED[digit] if index % 2 == 0 else digit for index, digit in enumerate(values))],
        [0, *accumulate(_DOUBLED[digit] if index % 2 == 1 else digit for index, digit in enumerate(values))],
    )
    starts: list[tuple[int, int]] = []
    ends: list[tuple[int, int]] = []
    position = 0
    for group in _DIGITS.finditer(run):
        starts.append((position, offset + group.start()))
        position += group.end() - group.start()
        ends.append((position, offset + group.end()))
    lasts = [last for last, _ in ends]
    for first, start in starts:
        if first + CARD_MIN > len(digits):
            break
        lengths = _LENGTHS_OF_PREFIX[int(digits[first : first + 4])]
        if not lengths or not _starts(value, start):
            continue
        for index in range(bisect_left(lasts, first + CARD_MIN), len(ends)):
            last, end = ends[index]
            if last - first > CARD_MAX:
                break
            prefix = sums[last % 2]
            if last - first in lengths and (prefix[last] - prefix[first]) % 10 == 0 and _ends(value, end):
                if spans and start < spans[-1][1]:
                    spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
                else:
                    spans.append((start, end))


_LOCAL_REVERSED = re.compile(rb"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~\x80-\xff-]{1,256}")
_DOMAIN = re.compile(
    rb"(?:[A-Za-z0-9\x80-\xff](?:[A-Za-z0-9\x80-\xff-]{0,61}[A-Za-z0-9\x80-\xff])?\.)+"
    rb"[A-Za-z\x80-\xff](?:[A-Za-z0-9\x80-\xff-]{0,61}[A-Za-z0-9\x80-\xff])"
    rb"|\[[0-9]{1,3}(?:\.[0-9]{1,3}){3}\]"
)


def may_hold_email(buffer: bytes | bytearray) -> bool:
    """False only if no value in the buffer holds an `@`."""
    return b"@" in buffer


def email_spans(value: bytes) -> list[tuple[int, int]]:
    """Where email addresses stand in one value: (start, end) in bytes, ascending, none overlapping.

    RFC 5321 dot-strings with a dotted domain or an IPv4 literal; UTF-8 in both parts (RFC 6531); no quoted local parts.
    """
    spans: list[tuple[int, int]] = []
    free = 0
    at = value.find(b"@")
    while at >= 0:
        domain = _DOMAIN.match(value, at + 1)
        if domain is not None:
            local = _LOCAL_REVERSED.match(value[max(free, at - 256) : at][::-1])
            if local is not None:
                free = domain.end()
                spans.append((at - len(local.group()), free))
        at = value.find(b"@", max(at + 1, free))
    return spans
