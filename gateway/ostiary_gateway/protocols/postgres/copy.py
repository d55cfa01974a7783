"""COPY TO STDOUT, masked: text, csv and binary, by column and by value, however it is cut into CopyData messages.

Source: PostgreSQL documentation, COPY, "File Formats". A row is held back until it is whole; rows that nothing can
hit are passed on as they came.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import ClassVar, Literal, Protocol

from ostiary_gateway.masking.detectors import Detectors
from ostiary_gateway.masking.strategies import Mask, MaskError
from ostiary_gateway.protocols.postgres import values
from ostiary_gateway.protocols.postgres._cells import ALWAYS
from ostiary_gateway.protocols.postgres._copy_cells import CopyCells, Framing
from ostiary_gateway.protocols.postgres.native import native
from ostiary_gateway.protocols.postgres.values import BINARY, TEXT
from ostiary_gateway.protocols.postgres.wire import ProtocolViolation
from ostiary_policy.masking import MaskPlan, Strategy

LIMIT = 16 << 20
"""Bytes of one row that are held back while its end has not come, unless the caller says otherwise."""

_INT16 = Struct("!h")
_INT32 = Struct("!i")
_SIGNATURE = b"PGCOPY\n\xff\r\n\0"
_PLAIN_DELIMITERS = b"\t,|;"
_UNSAFE_ENCODINGS = frozenset(
    ("sjis", "shiftjis", "mskanji", "windows932", "win932", "shiftjis2004", "big5", "windows950")
)
_UNSAFE_ENCODINGS |= frozenset(
    ("win950", "gbk", "windows936", "win936", "uhc", "windows949", "win949", "johab", "gb18030")
)
_UNKNOWN_TYPE = 705


class RowTooLarge(Exception):
    """A row is larger than what may be held back to mask it. Nothing of it was passed on."""


@dataclass(frozen=True, slots=True)
class CopyOptions:
    """How the rows are written. All single bytes but `null`."""

    format: Literal["text", "csv", "binary"] = "text"
    delimiter: bytes = b"\t"
    null: bytes = b"\\N"
    quote: bytes = b'"'
    escape: bytes = b'"'
    header: bool = False


def options_from(written: Mapping[str, str | None]) -> CopyOptions:
    """The options of a COPY statement by their lower-case names (None: named without a value).

    MaskError for what could not be masked: an encoding whose characters may contain the bytes of `\\` or a quote.
    """
    form = (written.get("format") or "text").lower()
    if form not in ("text", "csv", "binary"):
        raise MaskError(f"COPY format {form!r} cannot be masked; use text, csv or binary")
    encoding = re.sub(r"[^a-z0-9]", "", (written.get("encoding") or "utf8").lower())
    if encoding in _UNSAFE_ENCODINGS:
        raise MaskError(f"COPY in encoding {encoding!r} cannot be masked; use UTF8")
    csv = form == "csv"
    quote = (written.get("quote") or '"').encode()
    header = "header" in written and (written["header"] or "true").lower() not in ("false", "off", "0")
    null = written.get("null")
    return CopyOptions(
        format="csv" if csv else "binary" if form == "binary" else "text",
        delimiter=_byte("delimiter", (written.get("delimiter") or ("," if csv else "\t")).encode()),
        null=(("" if csv else "\\N") if null is None else null).encode(),
        quote=_byte("quote", quote),
        escape=_byte("escape", (written.get("escape") or "").encode() or quote),
        header=header,
    )


def _byte(name: str, value: bytes) -> bytes:
    if len(value) != 1:
        raise MaskError(f"COPY: {name} must be a single one-byte character")
    return value


def parse_copy_response(payload: bytes) -> tuple[int, tuple[int, ...]]:
    """The body of a CopyOutResponse ('H'): the overall format (0 text or csv, 1 binary) and that of each column."""
    if len(payload) < 3 or len(payload) != 3 + 2 * int.from_bytes(payload[1:3], "big"):
        raise ProtocolViolation("CopyOutResponse: its length does not fit")
    if payload[0] not in (TEXT, BINARY):
        raise ProtocolViolation(f"CopyOutResponse: unknown format {payload[0]}")
    return payload[0], tuple(_INT16.unpack_from(payload, 3 + 2 * i)[0] for i in range((len(payload) - 3) // 2))


class _Framing(Framing, Protocol):
    """Cuts CopyData into whole rows, and masks those."""

    def finish(self) -> bytes:
        """The rest. ProtocolViolation if a row has no end."""


class CopyOutMask:
    """The mask of one COPY TO STDOUT. Falsy if it can change nothing: then pass CopyData on untouched.

    `strategies`: by index of the column. `types`: OIDs of the columns' types where they are known (else (), and a
    column's mask is NULL in binary). `columns`: their number, from CopyOutResponse.
    """

    def __init__(
        self,
        plan: MaskPlan,
        options: CopyOptions,
        columns: int,
        strategies: Mapping[int, Strategy],
        types: Sequence[int] = (),
        limit: int = LIMIT,
    ) -> None:
        detectors = Detectors(plan.detectors)
        if types and len(types) != columns:
            raise ProtocolViolation(f"CopyOutResponse: {columns} columns where the catalog has {len(types)}")
        form = BINARY if options.format == "binary" else TEXT
        # Without its type a binary value can only be looked at as bytes; a text one is text.
        oids = list(types) or [values.FIRST_NORMAL_OBJECT if form == BINARY else _UNKNOWN_TYPE] * columns
        by_column: list[Mask | None] = [None] * columns
        every: list[Mask | None] = [None] * columns
        kinds = bytearray(columns)
        always = escaped = False
        for index, oid in enumerate(oids):
            if index in strategies:
                by_column[index] = every[index] = values.element_mask(strategies[index], oid, form, detectors)
                kinds[index] = ALWAYS
                continue
            every[index] = values.detector_mask(detectors, oid, form)
            if every[index] is not None:
                kinds[index] = values.cell_kind(detectors, oid, form)
                always = always or not values.verbatim(oid, form)
                escaped = escaped or oid in (values.JSON, 199) or not detectors.verbatim
        self._rows = rows = _Rows(by_column, every, detectors, always, escaped)
        self._active = any(kinds)
        self._framing: _Framing
        if options.format == "binary":
            self._framing = _Binary(rows, limit)
        elif options.format == "csv":
            self._framing = _Csv(rows, options, limit)
        else:
            self._framing = _Text(rows, options, limit)
        self._cells = CopyCells(bytes(kinds), every, *native(detectors, self._framing.escape))
        self._cells.written_as(
            options.format, options.delimiter, options.quote, options.escape, options.null, self._framing,
            _plain(options),
        )  # fmt: skip

    def __bool__(self) -> bool:
        return self._active

    def feed(self, payload: bytes) -> bytes:
        """One CopyData's payload; what can be sent of it, masked: empty while a row is incomplete.

        RowTooLarge if the limit is passed, ProtocolViolation if the rows are not what the options say. After either
        nothing more may be sent.
        """
        return self._framing.feed(payload)

    def feed_frames(self, frames: bytes) -> bytes:
        """A buffer of whole CopyData messages; the messages to send instead, the same object if nothing changed."""
        shown: bytes = self._cells.apply(frames)
        return shown

    def finish(self) -> bytes:
        """The rest, at CopyDone. ProtocolViolation if a row has no end."""
        return self._framing.finish()


class _Rows:
    """The masks of the columns, shared by the three formats."""

    def __init__(
        self,
        by_column: Sequence[Mask | None],
        every: Sequence[Mask | None],
        detectors: Detectors,
        always: bool,
        escaped: bool,
    ) -> None:
        self.count = len(every)
        self.every = every
        self.by_column = by_column
        self.has_columns = any(mask is not None for mask in by_column)
        self.always = always
        self.escaped = escaped
        self.detectors = detectors

    def masks_for(self, buffer: bytes) -> Sequence[Mask | None] | None:
        """Which masks to run over these rows; None if they can be passed on."""
        if self.detectors and (
            self.always or self.detectors.could_hit(buffer) or (self.escaped and values.escapes(buffer))
        ):
            return self.every
        return self.by_column if self.has_columns else None


class _Held:
    """What waits for the end of its row."""

    def __init__(self, limit: int) -> None:
        self._pieces: list[bytes] = []
        self._limit = limit
        self.size = 0

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size > self._limit:
            raise RowTooLarge(
                f"a row of COPY is larger than the {self._limit} bytes that may be held back to mask it; "
                "leave the large column out, or select a part of it"
            )
        self._pieces.append(piece)

    def take(self, piece: bytes = b"") -> bytes:
        whole = b"".join((*self._pieces, piece)) if self._pieces else piece
        self._pieces.clear()
        self.size = 0
        return whole


class _Text:
    """Text: a newline ends a row, the delimiter a field, and both are escaped inside values."""

    _ESCAPES: ClassVar[dict[int, bytes]] = {98: b"\b", 102: b"\f", 110: b"\n", 114: b"\r", 116: b"\t", 118: b"\v"}
    _UNESCAPE = re.compile(rb"\\(.)", re.DOTALL)

    def __init__(self, rows: _Rows, options: CopyOptions, limit: int) -> None:
        self._rows = rows
        self._options = options
        self._held = _Held(limit)
        self._header = options.header
        delimiter = re.escape(options.delimiter)
        self._field = re.compile(rb"((?:[^\\\n" + delimiter + rb"]++|\\[^\n])*+)(" + delimiter + rb"|\n)")
        self._special = re.compile(rb"[\\\b\f\n\r\t\v" + delimiter + rb"]")
        rows.always = rows.always or not _plain(options)

    @property
    def busy(self) -> bool:
        return self._held.size > 0 or self._header

    def escape(self, value: bytes) -> bytes:
        return self._special.sub(self._escaped, value)

    def unescape(self, raw: bytes) -> bytes:
        return self._UNESCAPE.sub(self._unescaped, raw) if b"\\" in raw else raw

    def feed(self, payload: bytes) -> bytes:
        end = payload.rfind(b"\n") + 1
        if end == 0:
            self._held.add(payload)
            return b""
        block = self._held.take(payload[:end])
        if end < len(payload):
            self._held.add(payload[end:])
        return self._mask(block)

    def finish(self) -> bytes:
        if self._held.size:
            raise ProtocolViolation("COPY: the last row has no end")
        return b""

    def _mask(self, block: bytes) -> bytes:
        start = 0
        if self._header:
            self._header = False
            start = block.index(b"\n") + 1
        masks = self._rows.masks_for(block)
        if masks is None:
            return block
        pieces = [block[:start]]
        position, column, null = start, 0, self._options.null
        while position < len(block):
            field = self._field.match(block, position)
            if field is None:
                raise ProtocolViolation("COPY: a row that is not in the text format")
            raw, end = field.groups()
            position = field.end()
            mask = masks[column] if column < len(masks) else None
            shown = raw
            if mask is not None and raw != null:
                value = self.unescape(raw)
                masked = mask(value)
                if masked is None:
                    shown = null
                elif masked != value:
                    shown = self.escape(masked)
            pieces += (shown, end)
            column += 1
            if end == b"\n":
                _check_count(column, self._rows.count, raw)
                column = 0
        return b"".join(pieces)

    def _unescaped(self, match: re.Match[bytes]) -> bytes:
        char = match.group(1)
        return self._ESCAPES.get(char[0], char)

    def _escaped(self, match: re.Match[bytes]) -> bytes:
        char = match.group()
        for letter, control in self._ESCAPES.items():
            if control == char and char != self._options.delimiter:
                return b"\\" + bytes((letter,))
        return b"\\" + char


class _Csv:
    """CSV: a newline outside of quotes ends a row."""

    def __init__(self, rows: _Rows, options: CopyOptions, limit: int) -> None:
        self._rows = rows
        self._options = options
        self._held = _Held(limit)
        self._header = options.header
        self._quoted = self._escaped = False
        self._after_escape = 0
        quote, escape = re.escape(options.quote), re.escape(options.escape)
        delimiter = re.escape(options.delimiter)
        self._same = options.quote == options.escape
        inner = rb"[^%b]++|%b%b" % (quote, quote, quote) if self._same else rb"[^%b%b]++|%b." % (quote, escape, escape)
        self._field = re.compile(
            rb"(?:%b((?:%b)*+)%b|([^%b%b\r\n]*+))(%b|\r?\n)" % (quote, inner, quote, quote, delimiter, delimiter),
            re.DOTALL,
        )
        self._unescaped = re.compile(rb"%b(.)" % escape, re.DOTALL)
        self._special = re.compile(rb"[%b%b]" % (quote, escape))
        self._mark = re.compile(rb"[%b%b\n]" % (quote, escape))
        rows.always = rows.always or not _plain(options)

    @property
    def busy(self) -> bool:
        return self._held.size > 0 or self._header

    def escape(self, value: bytes) -> bytes:
        return self._special.sub(self._marked, value)

    def unescape(self, raw: bytes) -> bytes:
        return self._unescaped.sub(rb"\1", raw)

    def feed(self, payload: bytes) -> bytes:
        end = self._last_end(payload)
        if end == 0:
            self._held.add(payload)
            return b""
        block = self._held.take(payload[:end])
        if end < len(payload):
            self._held.add(payload[end:])
        return self._mask(block)

    def finish(self) -> bytes:
        if self._held.size:
            raise ProtocolViolation("COPY: the last row has no end")
        return b""

    def _last_end(self, payload: bytes) -> int:
        """Behind the last newline outside of quotes; 0 if there is none. Keeps its place between payloads."""
        quote = self._options.quote
        if self._same and not self._quoted and payload[-1:] == b"\n" and payload.count(quote) % 2 == 0:
            return len(payload)
        end = 0
        for mark in self._mark.finditer(payload):
            char = mark.group()
            if self._escaped and mark.start() == self._after_escape:
                self._escaped = False
                continue
            self._escaped = False
            if char == quote:
                self._quoted = not self._quoted
            elif char == b"\n":
                if not self._quoted:
                    end = mark.end()
            elif self._quoted:
                self._escaped, self._after_escape = True, mark.end()
        if self._escaped:
            # An escape as the last byte reaches into the next payload.
            self._after_escape -= len(payload)
            self._escaped = self._after_escape == 0
        return end

    def _mask(self, block: bytes) -> bytes:
        masks = self._rows.masks_for(block)
        if masks is None and not self._header:
            return block
        pieces: list[bytes] = []
        position, column, null, quote = 0, 0, self._options.null, self._options.quote
        while position < len(block):
            field = self._field.match(block, position)
            if field is None:
                raise ProtocolViolation("COPY: a row that is not in the csv format")
            inner, bare, end = field.groups()
            position = field.end()
            mask = masks[column] if masks is not None and column < len(masks) and not self._header else None
            shown = field.group()
            if mask is not None and (inner is not None or bare != null):
                value = bare if inner is None else self.unescape(inner)
                masked = mask(value)
                if masked is None:
                    shown = null + end
                elif masked != value:
                    shown = quote + self.escape(masked) + quote + end
            pieces.append(shown)
            column += 1
            if end != self._options.delimiter:
                _check_count(column, self._rows.count, bare)
                column = 0
                self._header = False
        return b"".join(pieces)

    def _marked(self, match: re.Match[bytes]) -> bytes:
        return self._options.escape + match.group()


class _Binary:
    """Binary: a header, rows of counted and length-prefixed values, a trailer of -1."""

    def __init__(self, rows: _Rows, limit: int) -> None:
        self._rows = rows
        self._held = _Held(limit)
        self._need = 0
        self._header = True
        self._ended = False

    @property
    def busy(self) -> bool:
        return self._held.size > 0 or self._header or self._ended

    def escape(self, value: bytes) -> bytes:
        return value

    def unescape(self, raw: bytes) -> bytes:
        return raw

    def feed(self, payload: bytes) -> bytes:
        if self._held.size + len(payload) < self._need:
            self._held.add(payload)
            return b""
        data = self._held.take(payload)
        done = self._header_end(data) if self._header else 0
        pieces = [data[:done]]
        while not self._header and done < len(data):
            end = self._row_end(data, done)
            if end is None:
                break
            pieces.append(self._mask(data[done:end]))
            done = end
        self._need = max(self._need - done, 0)
        if done < len(data):
            self._held.add(data[done:])
        return b"".join(pieces)

    def finish(self) -> bytes:
        if self._held.size or not self._ended:
            raise ProtocolViolation("COPY: the last row has no end")
        return b""

    def _header_end(self, data: bytes) -> int:
        self._need = 19
        if len(data) < 19:
            return 0
        if not data.startswith(_SIGNATURE):
            raise ProtocolViolation("COPY: not the binary format's signature")
        flags, extension = _INT32.unpack_from(data, 11)[0], _INT32.unpack_from(data, 15)[0]
        if flags & 0x7FFF0000 or flags < 0 or extension < 0:
            raise ProtocolViolation("COPY: a flag or extension of the binary format that is not known")
        self._need = 19 + extension
        if len(data) < self._need:
            return 0
        self._header = False
        return self._need

    def _row_end(self, data: bytes, start: int) -> int | None:
        position = start + 2
        self._need = position
        if len(data) < position:
            return None
        count = _INT16.unpack_from(data, start)[0]
        if self._ended:
            raise ProtocolViolation("COPY: bytes behind the trailer")
        if count == -1:
            self._ended = True
            return position
        if count != self._rows.count:
            raise ProtocolViolation(f"COPY: a row of {count} columns where {self._rows.count} were announced")
        for _ in range(count):
            self._need = position + 4
            if len(data) < self._need:
                return None
            length = _INT32.unpack_from(data, position)[0]
            if length < -1:
                raise ProtocolViolation(f"COPY: a value of {length} bytes")
            position += 4 + max(length, 0)
        self._need = position
        return None if len(data) < position else position

    def _mask(self, row: bytes) -> bytes:
        masks = self._rows.masks_for(row)
        if masks is None or len(row) == 2:
            return row
        pieces = [row[:2]]
        position = 2
        for mask in masks:
            length = _INT32.unpack_from(row, position)[0]
            start = position + 4
            end = start + max(length, 0)
            value = row[start:end]
            shown = mask(value) if mask is not None and length >= 0 else value
            if shown is None:
                pieces.append(b"\xff\xff\xff\xff")
            elif shown is value:
                pieces.append(row[position:end])
            else:
                pieces += (_INT32.pack(len(shown)), shown)
            position = end
        return b"".join(pieces)


def _plain(options: CopyOptions) -> bool:
    """True if how rows are written takes no character that a detector may look for."""
    if options.format == "binary":
        return True
    quotes = options.format == "text" or options.quote == options.escape == b'"'
    return quotes and options.delimiter in _PLAIN_DELIMITERS


def _check_count(found: int, announced: int, last: bytes | None) -> None:
    # A table without columns has empty rows.
    if found != announced and not (announced == 0 and found == 1 and not last):
        raise ProtocolViolation(f"COPY: a row of {found} columns where {announced} were announced")
