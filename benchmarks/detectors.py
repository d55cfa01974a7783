"""Precision and recall of the detectors on generated data. Writes the table of docs/masking.md (--write)."""

from __future__ import annotations

import base64
import json
import random
import string
import sys
import uuid
import zlib
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise
from pathlib import Path
from typing import Final

from ostiary_gateway.masking.detectors import BUILT_IN
from ostiary_gateway.masking.grammars import IBAN_LENGTHS

DOCS: Final = Path(__file__).parents[1] / "docs" / "masking.md"
BEGIN, END = "<!-- benchmarks/detectors.py writes from here -->", "<!-- to here -->"
SEED: Final = 20261123
EACH: Final = 400
"""Values of each kind."""

CONTEXTS: Final = (
    "{}", "call {} today", '{{"value": "{}"}}', "a={};b=2", "({})", "first line\n{}\nlast line",
    "https://x.example/?q={}&r=1", "<td>{}</td>", "id 7, {}, 2026-11-23 03:11:18", "Ref. 12: {}!",
)  # fmt: skip
WORDS: Final = (
    "the", "order", "of", "12", "items", "was", "shipped", "on", "Monday", "and", "paid", "by", "card", "see", "page",
    "4", "of", "19", "PRIVATE", "KEY", "eyes",
)  # fmt: skip
BASE62: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase

Make = Callable[[random.Random], str]


def digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice(string.digits) for _ in range(count))


def letters(rng: random.Random, count: int, alphabet: str = BASE62) -> str:
    return "".join(rng.choice(alphabet) for _ in range(count))


def luhn_digit(number: str) -> str:
    total = sum(int(d) for d in number[-2::-2]) + sum(sum(divmod(2 * int(d), 10)) for d in number[-1::-2])
    return str(-total % 10)


def card(rng: random.Random) -> str:
    prefix, length = rng.choice(
        (("4", 16), ("4", 13), ("51", 16), ("55", 16), ("2221", 16), ("2720", 16), ("34", 15), ("37", 15), ("36", 14),
         ("305", 14), ("3530", 16), ("6011", 16), ("65", 16), ("62", 19), ("2200", 16), ("9792", 16), ("6759", 18))
    )  # fmt: skip
    number = prefix + digits(rng, length - len(prefix) - 1)
    number += luhn_digit(number)
    form = rng.choice(("{}", "{}", " ", "-"))
    if form == "{}":
        return number
    cuts = (0, 4, 10, 15) if length == 15 else tuple(range(0, length, 4)) + (length,)
    return form.join(number[a:b] for a, b in pairwise(cuts))


def iban(rng: random.Random) -> str:
    country = rng.choice(sorted(IBAN_LENGTHS))
    body = digits(rng, IBAN_LENGTHS[country] - 4)
    check = 98 - int("".join(str(int(char, 36)) for char in body + country + "00")) % 97
    text = f"{country}{check:02d}{body}"
    return text if rng.random() < 0.5 else " ".join(text[i : i + 4] for i in range(0, len(text), 4))


def email(rng: random.Random) -> str:
    local = rng.choice(("bob", "jane.doe", "a", "x+tag", "o'hara", "jörg", "first_last-1", letters(rng, 9)))
    return f"{local}@{rng.choice(('example.com', 'mail.example.co.uk', 'münchen.example', 'x-1.example.photography'))}"


def phone(rng: random.Random) -> str:
    code, length = rng.choice((("1", 10), ("44", 10), ("49", 10), ("33", 9), ("91", 10), ("358", 8), ("971", 9)))
    rest = f"{rng.randint(2, 9)}{digits(rng, 2)}{rng.randint(2, 9)}{digits(rng, length - 4)}"
    return rng.choice(
        (f"+{code}{rest}", f"+{code} {rest[:3]} {rest[3:]}", f"+{code} ({rest[:3]}) {rest[3:6]}-{rest[6:]}",
         f"+{code}-{rest[:3]}-{rest[3:]}", f"+{code}.{rest[:3]}.{rest[3:]}")
    )  # fmt: skip


def ssn(rng: random.Random) -> str:
    area = rng.choice([n for n in range(1, 900) if n != 666])
    return rng.choice("- ").join((f"{area:03d}", f"{rng.randint(1, 99):02d}", f"{rng.randint(1, 9999):04d}"))


def address(rng: random.Random) -> str:
    if rng.random() < 0.5:
        return str(IPv4Address(rng.getrandbits(32)))
    number = 0x20010DB8 << 96 | rng.getrandbits(rng.choice((16, 32, 64, 96)))
    mapped = f"::ffff:{IPv4Address(rng.getrandbits(32))}"
    return rng.choice((str(IPv6Address(number)), IPv6Address(number).exploded, mapped))


def jwt(rng: random.Random) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    header = {"alg": rng.choice(("HS256", "RS256", "none")), "typ": "JWT"}
    return f"{part(header)}.{part({'sub': digits(rng, 8)})}.{letters(rng, 43, BASE62 + '_-')}"


def private_key(rng: random.Random) -> str:
    kind = rng.choice(("RSA ", "EC ", "OPENSSH ", "ENCRYPTED ", "")) + "PRIVATE KEY"
    lines = "\n".join(letters(rng, 64, BASE62 + "+/") for _ in range(6))
    return f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----"


def aws(rng: random.Random) -> str:
    return rng.choice(("AKIA", "ASIA")) + letters(rng, 16, string.ascii_uppercase + "234567")


def github(rng: random.Random) -> str:
    if rng.random() < 0.2:
        return f"github_pat_{letters(rng, 22)}_{letters(rng, 59)}"
    body, check = letters(rng, 30), ""
    rest = zlib.crc32(body.encode())
    while rest:
        rest, digit = divmod(rest, 62)
        check = BASE62[digit] + check
    return f"gh{rng.choice('oprsu')}_{body}{check:0>6}"


def slack(rng: random.Random) -> str:
    return f"xox{rng.choice('abprs')}-{digits(rng, 12)}-{digits(rng, 12)}-{letters(rng, 24)}"


def stripe(rng: random.Random) -> str:
    return rng.choice((f"sk_live_{letters(rng, 24)}", f"rk_test_{letters(rng, 40)}", f"whsec_{letters(rng, 32)}"))


POSITIVE: Final[dict[str, Make]] = {
    "CreditCard": card, "Email": email, "IBAN": iban, "Phone": phone, "USSocialSecurityNumber": ssn,
    "IPAddress": address, "JWT": jwt, "PrivateKey": private_key, "AWSKey": aws, "GitHubToken": github,
    "SlackToken": slack, "StripeKey": stripe,
}  # fmt: skip

NEGATIVE: Final[dict[str, Make]] = {
    "UUIDs": lambda r: str(uuid.UUID(int=r.getrandbits(128), version=4)),
    "UUIDs of digits only": lambda r: "-".join(digits(r, n) for n in (8, 4, 4, 4, 12)),
    "MD5, SHA-1, SHA-256": lambda r: f"{r.getrandbits(256):064x}"[: r.choice((32, 40, 64))],
    "snowflake ids": lambda r: str(1_500_000_000_000_000_000 + r.getrandbits(58)),
    "Unix times in ms, µs, ns": lambda r: str(r.randint(10**9, 2 * 10**9)) + digits(r, r.choice((3, 6, 9))),
    "dates and times": lambda r: (
        f"20{r.randint(10, 40)}-{r.randint(1, 12):02d}-{r.randint(1, 28):02d} {r.randint(0, 23):02d}:"
        f"{r.randint(0, 59):02d}:{r.randint(0, 59):02d}.{digits(r, 6)}+{r.randint(0, 12):02d}"
    ),
    "random numbers of 16 digits": lambda r: str(r.randint(1, 9)) + digits(r, 15),
    "order and invoice numbers": lambda r: r.choice(
        (f"ORD-{digits(r, 4)}-{digits(r, 6)}", f"2026-{digits(r, 5)}", f"INV{digits(r, 10)}", f"PO {digits(r, 8)}")
    ),
    "ISBN-13, EAN, IMEI, ICCID": lambda r: r.choice(
        (f"978-{digits(r, 1)}-{digits(r, 4)}-{digits(r, 4)}-{digits(r, 1)}", f"40{digits(r, 11)}",
         f"35{digits(r, 13)}", f"8949{digits(r, 15)}")
    ),
    "phone-like numbers": lambda r: r.choice(
        (f"+{digits(r, 3)}", f"+{r.randint(1, 9)},{digits(r, 3)},{digits(r, 3)}", f"+0{digits(r, 9)}",
         f"x+{digits(r, 6)}", f"+1{digits(r, 7)}", f"030 {digits(r, 8)}")
    ),
    "numbers like an SSN": lambda r: r.choice(
        (f"000-{digits(r, 2)}-{digits(r, 4)}", f"9{digits(r, 2)}-45-{digits(r, 4)}",
         f"{digits(r, 3)}-00-{digits(r, 4)}",
         f"{digits(r, 3)}-{digits(r, 2)}-{digits(r, 5)}", f"{digits(r, 4)}-{digits(r, 2)}-{digits(r, 4)}")
    ),
    "versions, times, C++ names, MACs": lambda r: r.choice(
        (f"{r.randint(0, 9)}.{r.randint(0, 30)}.{r.randint(0, 99)}", f"Chrome/120.0.{r.randint(1000, 9999)}.71",
         "std::map::at", ":".join(f"{r.getrandbits(8):02x}" for _ in range(6)),
         f"{r.randint(10, 23)}:{r.randint(10, 59)}:{r.randint(10, 59)}",
         f"v1.2.3.{r.randint(0, 9)}", "a::b", f"1.2.3.{r.randint(300, 999)}")
    ),
    "what has an @": lambda r: r.choice(
        ("@handle", "root@localhost", f"lodash@4.17.{r.randint(0, 40)}", "a @ b.de",
         f"image@sha256:{r.getrandbits(64):x}",
         f"icon{r.randint(1, 9)}@2x.png", "x@.com", "50 @ 3.50 each")
    ),
    "base64": lambda r: base64.b64encode(r.randbytes(60)).decode(),
    "JSON in base64url, no JWT": lambda r: (
        base64.urlsafe_b64encode(json.dumps({"page": r.randint(1, 99), "size": 10}).encode()).decode().rstrip("=")
        + f".{letters(r, 20)}.{letters(r, 20)}"
    ),
    "keys with a wrong prefix or checksum": lambda r: r.choice(
        (f"ghp_{letters(r, 36)}", f"AKIA{letters(r, 10, string.ascii_uppercase)}", f"sk_{letters(r, 24)}",
         f"xox-{digits(r, 12)}",
         f"SAKIA{letters(r, 16, string.ascii_uppercase)}")
    ),
    "IBANs with a wrong check digit": lambda r: _wrong(iban(r)),
    "cards with a wrong check digit": lambda r: _wrong(card(r)),
    "prose": lambda r: " ".join(r.choice(WORDS) for _ in range(12)),
}  # fmt: skip

MISSED: Final = """\
What they miss, and why: cards with dots, double spaces or line breaks between their digits, or stuck to a letter
(`PAN4111…`); email addresses with a quoted local part; phone numbers without `+` and country code (nothing tells them
from other numbers); SSNs without separators; AWS secret keys (40 characters of base64 with nothing to tell them by);
and whatever is encoded, compressed or reversed. What they find wrongly: of random numbers of a card's length one in
about forty has an issuer's prefix and the right check digit, and is a card for all that can be known. A version of four
parts (`1.2.3.4`) is an IPv4 address."""


def _wrong(text: str) -> str:
    last = text[-1]
    return text[:-1] + str((int(last) + 1) % 10)


def in_context(rng: random.Random, value: str) -> tuple[str, int]:
    before, after = rng.choice(CONTEXTS).format("\0").split("\0")
    return before + value + after, len(before.encode())


def measure() -> Iterator[tuple[str, int, int, int, int, list[str]]]:
    """For each detector: values, found whole, other texts, hits in them, and the kinds of those."""
    rng = random.Random(SEED)
    positive = {name: [(*in_context(rng, value), value) for value in (make(rng) for _ in range(EACH))]
                for name, make in POSITIVE.items()}  # fmt: skip
    negative = {name: [in_context(rng, make(rng))[0] for _ in range(EACH)] for name, make in NEGATIVE.items()}
    for name, values in positive.items():
        spans = BUILT_IN[name]().spans
        found = 0
        for text, start, value in values:
            end = start + len(value.encode())
            found += any(a <= start and end <= b for a, b in spans(text.encode()))
        wrong = {kind: sum(bool(spans(text.encode())) for text in texts) for kind, texts in negative.items()}
        yield name, len(values), found, EACH * len(negative), sum(wrong.values()), [k for k, n in wrong.items() if n]


def table() -> str:
    """The table in Markdown."""
    rows = ["| detector | values | recall | other texts | hit wrongly | precision | what was hit wrongly |",
            "| --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for name, values, found, others, wrong, kinds in measure():
        precision = found / (found + wrong)
        rows.append(f"| `{name}` | {values} | {found / values:.3f} | {others:,} | {wrong} | {precision:.3f} "
                    f"| {', '.join(kinds) or '–'} |")  # fmt: skip
    kinds = ", ".join(NEGATIVE)
    return "\n".join((*rows, "", f"The other texts are {EACH} each of: {kinds}.", "", MISSED))


def document(text: str) -> str:
    """The page with the table of now."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{rest.split(END, 1)[1]}"


if __name__ == "__main__":
    if "--write" in sys.argv:
        DOCS.write_text(document(DOCS.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print(table())
