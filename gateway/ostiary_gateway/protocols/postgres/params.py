# cython: annotation_typing=False
"""Bound parameters in PostgreSQL's text form, as policies see them."""

from __future__ import annotations

from struct import error
from typing import Final

from . import values, wire

BINARY: Final = 1


class UnknownParameter(Exception):
    """A binary parameter of a type that cannot be turned into text here. The message names its number and type."""


def in_text(bind: wire.Bind, types: tuple[int, ...]) -> list[object]:
    """One string, or None for NULL, for each parameter. `types` are OIDs, 0 where the type is not known.

    Raises UnknownParameter: a policy that reads parameters must then err, not guess.
    """
    shown: list[object] = []
    for index, value in enumerate(bind.values):
        code = _format(bind, index)
        oid = types[index] if index < len(types) else 0
        shown.append(None if value is None else _text(value, code, oid, index + 1))
    return shown


def _format(bind: wire.Bind, index: int) -> int:
    """No format is text for all, one is for all."""
    formats = bind.formats
    return formats[0] if len(formats) == 1 else formats[index] if index < len(formats) else 0


def _text(value: bytes, code: int, oid: int, number: int) -> str:
    try:
        if code != BINARY or oid in values.TEXTUAL or oid == values.JSON:
            return value.decode()
        if oid == values.JSONB and value[:1] == b"\x01":
            return value[1:].decode()
        if oid == values.BYTEA:
            return "\\x" + value.hex()
        if (convert := values.TO_TEXT.get(oid)) is not None:
            return convert(value).decode()
    except (UnicodeDecodeError, ValueError, OverflowError, IndexError, error):
        raise UnknownParameter(f"parameter ${number} is not what its type (OID {oid}) promises") from None
    what = f"of type OID {oid}" if oid else "of a type that the client did not declare"
    raise UnknownParameter(f"parameter ${number} is binary, {what}, and cannot be read")


MAX_RECORDED: Final = 65_536
"""Characters of one parameter that go into the record."""


def for_record(bind: wire.Bind, types: tuple[int, ...]) -> list[str | None]:
    """The parameters as the record keeps them: what cannot be read as hex, what is long cut and marked so."""
    shown: list[str | None] = []
    for index, value in enumerate(bind.values):
        if value is None:
            shown.append(None)
            continue
        code, oid = _format(bind, index), types[index] if index < len(types) else 0
        try:
            text = _text(value[:MAX_RECORDED] if code != BINARY else value, code, oid, index + 1)
        except UnknownParameter:
            text = "\\x" + value[:MAX_RECORDED].hex()
        shown.append(text if len(value) <= MAX_RECORDED else f"{text[:MAX_RECORDED]}… ({len(value)} bytes)")
    return shown
