"""Values inside a JSON document, replaced so that it stays a JSON document. Its own spelling is kept elsewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation

_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"(\s*:)?|-?[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?', re.DOTALL)
_MAX_EXPONENT = 40


def quote(text: bytes) -> bytes:
    """UTF-8 text as a JSON string, in ASCII."""
    return json.dumps(text.decode("utf-8", "replace")).encode()


def mask_scalars(document: bytes, mask: Callable[[bytes], bytes | None]) -> bytes:
    """Every string, key and number through `mask`; the same object if it changed none.

    A replaced number becomes a string; what `mask` makes NULL becomes `null` (a key: an empty string). The document
    must be valid JSON; nothing outside the replaced tokens changes.
    """
    changed = False

    def replace(match: re.Match[bytes]) -> bytes:
        nonlocal changed
        token = match.group()
        colon = match.group(1)
        if token[0] == 0x22:
            raw = token[: -len(colon)] if colon else token
            text = _unescape(raw)
        else:
            raw, text = token, _plain_number(token)
        shown = mask(text)
        if shown == text:
            return token
        changed = True
        if colon:
            return quote(shown or b"") + colon
        return b"null" if shown is None else quote(shown)

    masked = _TOKEN.sub(replace, document)
    return masked if changed else document


def mask_whole(document: bytes, mask: Callable[[bytes], bytes | None], replacement: bytes) -> bytes | None:
    """As one value and as a JSON string: a scalar through `mask`, an object or array becomes `replacement`."""
    match = _TOKEN.fullmatch(document.strip())
    if match is None:
        shown: bytes | None = replacement if mask(b"x") is not None else None
    else:
        token = match.group()
        shown = mask(_unescape(token) if token[0] == 0x22 else token)
    return None if shown is None else quote(shown)


def _unescape(token: bytes) -> bytes:
    if b"\\" not in token:
        return token[1:-1]
    try:
        text: str = json.loads(token, strict=False)
    except ValueError:
        return token[1:-1]
    return text.encode("utf-8", "surrogatepass")


def _plain_number(token: bytes) -> bytes:
    """Without exponent, so that 4.1e15 is seen for what it is."""
    if b"e" not in token and b"E" not in token:
        return token
    try:
        number = Decimal(token.decode())
    except InvalidOperation:
        return token
    if number and abs(number.adjusted()) > _MAX_EXPONENT:
        return token
    return f"{number:f}".encode()
