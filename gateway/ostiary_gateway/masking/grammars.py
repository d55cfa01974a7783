"""Detectors with a grammar of their own: IBAN, phone, SSN, IP addresses, tokens and keys, each with its check."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
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


_IBAN_LENGTHS = {
    **{"AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BI": 27, "BR": 29},
    **{"BY": 28, "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DJ": 27, "DK": 18, "DO": 28, "EE": 20, "EG": 29},
    **{"ES": 24, "FI": 18, "FK": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28},
    **{"HN": 28, "HR": 21, "HU": 28, "IE": 22, "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20},
    **{"LB": 28, "LC": 32, "LI": 21, "LT": 20, "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19},
    **{"MN": 20, "MR": 27, "MT": 31, "MU": 30, "NI": 28, "NL": 18, "NO": 15, "OM": 23, "PK": 24, "PL": 28, "PS": 29},
    **{"PT": 25, "QA": 29, "RO": 24, "RS": 22, "RU": 33, "SA": 24, "SC": 31, "SD": 18, "SE": 24, "SI": 19, "SK": 24},
    **{"SM": 27, "SO": 23, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "VG": 24, "XK": 20},
    **{"YE": 30},
}
"""Length of an IBAN by country (ISO 13616 registry)."""


def _iban(match: bytes) -> int:
    length = _IBAN_LENGTHS.get(match[:2].decode().upper())
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
    return len(match) if 8 <= sum(48 <= byte <= 57 for byte in match) <= 15 else 0


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


GRAMMARS: tuple[Grammar, ...] = (
    Grammar("IBAN", r"[A-Za-z]{2}[0-9]{2}(?: ?[0-9A-Za-z]){11,30}", _iban),
    Grammar("Phone", r"\+[1-9](?:[ .()/-]{0,2}[0-9]){7,14}", _phone, needles=(b"+",)),
    Grammar("USSocialSecurityNumber", r"[0-9]{3}[ -][0-9]{2}[ -][0-9]{4}", _ssn, around=_WORD | frozenset(b"-")),
    Grammar(
        "IPAddress",
        r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:]{1,38}(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3})?",
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
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?s:.*?)(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\z)",
        len,
        needles=(b"PRIVATE KEY",),
        around=frozenset(),
    ),
    Grammar("AWSKey", r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}", len, needles=(b"AKIA", b"ASIA", b"ABIA", b"ACCA")),
    Grammar(
        "GitHubToken",
        r"gh[oprsu]_[0-9A-Za-z]{36}|github_pat_[0-9A-Za-z]{22}_[0-9A-Za-z]{59}",
        len,
        needles=(b"gh", b"github_pat_"),
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
