"""How one value is hidden: Redact, Partial, Pseudonym, Null. On UTF-8 text as bytes."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Callable

from ostiary_policy.masking import Strategy

Mask = Callable[[bytes], bytes | None]
"""What is shown in the place of a value; None is NULL."""

_CARD_SEPARATORS = b" -"


class MaskError(ValueError):
    """A mask that cannot be applied as written. Whoever compiles it must withhold the response, not pass it."""


def compile_strategy(strategy: Strategy, *, card: bool = False) -> Mask:
    """The function of a strategy on whole values (or on what a detector found). MaskError if it hides nothing.

    With `card`, Partial counts digits only and keeps spaces and dashes, and Pseudonym ignores them.
    """
    match strategy.type:
        case "Null":
            return _null
        case "Redact":
            replacement = strategy.replacement.encode()
            return lambda _value: replacement
        case "Partial":
            return _compile_partial(strategy, card=card)
        case "Pseudonym":
            return _compile_pseudonym(strategy, card=card)
        case other:
            raise MaskError(f"unknown masking strategy {other!r}; use Redact, Partial, Pseudonym or Null")


def _null(_value: bytes) -> None:
    return None


def _compile_partial(strategy: Strategy, *, card: bool) -> Mask:
    first, last, char = strategy.keep_first, strategy.keep_last, strategy.char
    if first < 0 or last < 0:
        raise MaskError("keepFirst and keepLast must not be negative")
    if len(char) != 1 or char.isdigit() or char in " -@\0":
        raise MaskError(f"char {char!r} cannot hide a value; use one character that is no digit, space, dash, @ or NUL")

    def characters(value: bytes) -> bytes:
        # Bytes that are not UTF-8 (another client encoding) count as one character each.
        text = value.decode("utf-8", "surrogateescape")
        hidden = len(text) - first - last
        if hidden <= 0:
            # Keeping everything would be no mask.
            return (char * len(text)).encode()
        return (text[:first] + char * hidden + text[len(text) - last :]).encode("utf-8", "surrogateescape")

    def digits(value: bytes) -> bytes:
        shown = characters(value.translate(None, _CARD_SEPARATORS)).decode()
        rest = iter(shown)
        return "".join(chr(byte) if byte in _CARD_SEPARATORS else next(rest) for byte in value).encode()

    return digits if card else characters


def _compile_pseudonym(strategy: Strategy, *, card: bool) -> Mask:
    key = strategy.key
    if len(key) < 16:
        raise MaskError("Pseudonym needs a key of at least 16 bytes; a shorter one can be guessed from known values")

    def pseudonym(value: bytes) -> bytes:
        if card:
            value = value.translate(None, _CARD_SEPARATORS)
        # 128 bits in lower-case base32: short, of one case, and no run of digits that looks like a card.
        digest = hmac.digest(key, value, "sha256")[:16]
        return base64.b32encode(digest).rstrip(b"=").lower()

    return pseudonym
