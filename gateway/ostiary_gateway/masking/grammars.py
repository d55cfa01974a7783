"""Detectors with a grammar of their own: IBAN, phone, SSN, IP addresses, tokens and keys, each with its check."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
import string
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import re2

_WORD = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")


@dataclass(frozen=True, slots=True)
class Grammar:
    """A pattern and a check of what it matches.

    `needles`: one of these bytes must be in a buffer that holds a hit. `around`: bytes that may not stand directly
    before or after a hit. `check` gives how many bytes of the match are the hit (0: none).
    """

    name: str
    pattern: str
    check: Callable[[bytes], int]
    needles: tuple[bytes, ...] = ()
    around: frozenset[int] = _WORD

    def could_hit(self, buffer: bytes) -> bool:
        """A necessary condition, cheap."""
        if self.needles and not any(needle in buffer for needle in self.needles):
            return False
        return _compiled(self.pattern).search(buffer) is not None

    def search(self, buffer: bytes, position: int) -> int:
        """Where from `position` on the next match begins; the buffer's length if nowhere."""
        if self.needles and all(buffer.find(needle, position) < 0 for needle in self.needles):
            return len(buffer)
        match = _compiled(self.pattern).search(buffer, position)
        return len(buffer) if match is None else int(match.start())

    def spans(self, value: bytes) -> list[tuple[int, int]]:
        """Where it stands in one value."""
        pattern = _compiled(self.pattern)
        found: list[tuple[int, int]] = []
        position = 0
        while (match := pattern.search(value, position)) is not None:
            start, end = match.span()
            length = 0
            if start == 0 or value[start - 1] not in self.around:
                length = self.check(match.group())
            end = start + length
            if length and (end == len(value) or value[end] not in self.around):
                found.append((start, end))
                position = end
            else:
                # Not here: try again behind the first word, so that the rest of a refused match is not lost.
                position = _next_word(value, start)
        return found


_SPACE = re.compile(rb"[^0-9A-Za-z_]")


def _next_word(value: bytes, start: int) -> int:
    boundary = _SPACE.search(value, start + 1)
    return boundary.start() if boundary is not None else len(value)


def _compiled(pattern: str) -> re2._Regexp:
    options = re2.Options()
    options.never_capture = True
    options.encoding = re2.Options.Encoding.LATIN1
    return re2.compile(pattern.encode(), options)


IBAN_LENGTHS = {
    country: length
    for length, countries in {
        15: "NO",
        16: "BE",
        18: "DK FI FK FO GL NL SD",
        19: "MK SI",
        20: "AT BA EE KZ LT LU MN XK",
        21: "CH HR LI LV",
        22: "BG BH CR DE GB GE IE ME RS VA",
        23: "AE GI IL IQ OM SO TL",
        24: "AD CZ ES MD PK RO SA SE SK TN VG",
        25: "LY PT ST",
        26: "IS TR",
        27: "BI DJ FR GR IT MC MR SM",
        28: "AL AZ BY CY DO GT HN HU LB NI PL SV",
        29: "BR EG PS QA UA",
        30: "JO KW MU YE",
        31: "MT SC",
        32: "LC",
        33: "RU",
    }.items()
    for country in countries.split()
}
"""Length of an IBAN by country (ISO 13616 registry)."""
IBAN_COUNTRIES: bytes = bytes(
    chr(65 + index // 26) + chr(65 + index % 26) in IBAN_LENGTHS for index in range(26 * 26)
)
"""By two letters, 26 times 26, whether an IBAN may begin with them."""


def _iban(match: bytes) -> int:
    length = IBAN_LENGTHS.get(match[:2].decode().upper())
    if length is None:
        return 0
    taken = bytearray()
    for index, byte in enumerate(match):
        if byte != 0x20:
            taken.append(byte)
        if len(taken) == length:
            text = (taken[4:] + taken[:4]).decode().upper()
            number = int("".join(str(int(char, 36)) for char in text))
            return index + 1 if number % 97 == 1 else 0
    return 0


def _phone(match: bytes) -> int:
    digits = bytes(byte for byte in match if 48 <= byte <= 57).decode()
    if digits[0] == "1":
        # The North American plan: ten digits, and neither area nor exchange begins with 0 or 1.
        return len(match) if len(digits) == 11 and digits[1] > "1" and digits[4] > "1" else 0
    known = any(digits[:size] in _COUNTRY_CODES for size in (1, 2, 3))
    return len(match) if known and 8 <= len(digits) <= 15 else 0


_SINGLE_CODES = (
    "7 20 27 30 31 32 33 34 36 39 40 41 43 44 45 46 47 48 49 51 52 53 54 55 56 57 58 60 61 62 63 64 65 66 81 82 84"
    " 86 90 91 92 93 94 95 98 211 212 213 216 218 290 291 297 298 299 800 808 850 852 853 855 856 870 878 880 881"
    " 882 883 886 888 960 961 962 963 964 965 966 967 968 970 971 972 973 974 975 976 977 979 992 993 994 995 996"
    " 998"
)
_COUNTRY_CODES = frozenset(_SINGLE_CODES.split()) | frozenset(
    str(code)
    for codes in ((220, 270), (350, 360), (370, 390), (420, 424), (500, 510), (590, 600), (670, 680), (680, 693))
    for code in range(*codes)
)
"""Assigned country codes of ITU-T E.164 (and the blocks that they are assigned from), but for 1."""


def _ssn(match: bytes) -> int:
    area, group, serial = match[:3], match[4:6], match[7:]
    issued = area not in (b"000", b"666") and area < b"900" and group != b"00" and serial != b"0000"
    return len(match) if issued and match[3] == match[6] else 0


def _ip(match: bytes) -> int:
    text = match.decode()
    if text.endswith(":") and not text.endswith("::"):
        text = text[:-1]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return 0
    # `::` alone and `a::b` as in a C++ name or a cast are no addresses that tell anything.
    return len(text) if address.version == 4 or text.count(":") > 2 else 0


def _jwt(match: bytes) -> int:
    header = match.split(b".", 1)[0]
    try:
        decoded = json.loads(base64.urlsafe_b64decode(header + b"=" * (-len(header) % 4)))
    except (ValueError, RecursionError, binascii.Error):
        return 0
    return len(match) if isinstance(decoded, dict) and ("alg" in decoded or "enc" in decoded) else 0


def _github(match: bytes) -> int:
    """Tokens of 36 characters end with the CRC32 of the 30 before it, in base62."""
    if len(match) != 40:
        return len(match)
    rest, check = zlib.crc32(match[4:34]), ""
    while rest:
        rest, digit = divmod(rest, 62)
        check = _BASE62[digit] + check
    return len(match) if f"{check:0>6}".encode() == match[34:] else 0


_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
_IPV4 = r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}"
_PEM = r"[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"

GRAMMARS: tuple[Grammar, ...] = (
    Grammar("IBAN", r"[A-Za-z]{2}[0-9]{2}(?: ?[0-9A-Za-z]){11,30}", _iban),
    Grammar("Phone", r"\+[1-9](?:[ .()/-]{0,2}[0-9]){7,14}", _phone, needles=(b"+",)),
    Grammar("USSocialSecurityNumber", r"[0-9]{3}[ -][0-9]{2}[ -][0-9]{4}", _ssn, around=_WORD | frozenset(b"-")),
    Grammar(
        "IPAddress",
        rf"{_IPV4}|(?:[0-9A-Fa-f]{{0,4}}:){{2,7}}{_IPV4}|[0-9A-Fa-f]{{0,4}}:[0-9A-Fa-f:]{{1,38}}",
        _ip,
        needles=(b".", b":"),
        around=_WORD | frozenset(b"."),
    ),
    Grammar(
        "JWT",
        r"ey[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{2,}\.[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]+){0,2}",
        _jwt,
        needles=(b"ey",),
    ),
    Grammar(
        "PrivateKey",
        rf"-----BEGIN {_PEM}(?s:.*?)(?:-----END {_PEM}|\z)",
        len,
        needles=(b"PRIVATE KEY",),
        around=frozenset(),
    ),
    Grammar("AWSKey", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}", len, needles=(b"AKIA", b"ASIA", b"ABIA", b"ACCA")),
    Grammar(
        "GitHubToken",
        r"gh[oprsu]_[0-9A-Za-z]{36,255}|github_pat_[0-9A-Za-z]{22}_[0-9A-Za-z]{59}",
        _github,
        needles=(b"gh",),
    ),
    Grammar(
        "SlackToken",
        r"xox[abeoprs](?:\.xox[bp])?-[0-9A-Za-z-]{10,250}|xapp-[0-9]-[0-9A-Za-z-]{10,250}",
        len,
        needles=(b"xox", b"xapp-"),
    ),
    Grammar(
        "StripeKey",
        r"(?:sk|rk|pk)_(?:live|test)_[0-9A-Za-z]{16,250}|whsec_[0-9A-Za-z+/=]{16,250}",
        len,
        needles=(b"_live_", b"_test_", b"whsec_"),
    ),
)
"""What each finds, by its name in a policy."""
