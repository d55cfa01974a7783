"""ErrorResponse, NoticeResponse and NotificationResponse, masked: values leak through their texts too.

Detectors see every text. Where columns are masked, a message must not quote what may be a value of them
(`Key (email)=(…) already exists`, `Failing row contains (…)`, `invalid input syntax for type integer: "…"`), so
only what the agent's own statement or the names in the message's fields say stays.
"""

from __future__ import annotations

import re

from ostiary_gateway.masking.detectors import Detectors
from ostiary_gateway.protocols.postgres.wire import ProtocolViolation
from ostiary_policy.masking import MaskPlan

HIDDEN = b"[redacted]"
_MAX_QUOTED = 100
"""Pieces between quotes that are looked for in the statement; a message with more quotes a value."""

_TEXTS = frozenset(b"MDHWqstcdn")
"""Message, detail, hint, context, internal query, and the names of schema, table, column, type, constraint."""
_NAMES = frozenset(b"stcdn")
_RAISED = frozenset((b"exec_stmt_raise", b"exec_stmt_assert", b"PLy_output", b"do_util_elog", b"pltcl_elog"))
"""Routines that raise what procedural code wrote; it may hold anything."""
_ABOUT_NAMES = frozenset((b"42P04", b"42P06", b"42P07", b"42710", b"42723", b"42809", b"2BP01"))
"""Duplicate objects, wrong object types, dependent objects: they quote names of what there is, never values."""
_KEY = re.compile(rb"(\) ?= ?\().*\)", re.DOTALL)
_ROW = re.compile(rb"(row contains \()(?!.*\) ?= ?\().*\)", re.DOTALL)
_JSON_CONTEXT = re.compile(rb"(JSON data, line [0-9]+: )[^\n]*")


class MessageMask:
    """The mask of the messages beside the rows. Falsy if it can change nothing."""

    def __init__(self, plan: MaskPlan) -> None:
        self._detectors = Detectors(plan.detectors)
        self._columns = bool(plan.columns)

    def __bool__(self) -> bool:
        return self._columns or bool(self._detectors)

    def fields(self, payload: bytes, statement: bytes = b"") -> bytes:
        """The body of an ErrorResponse or NoticeResponse; the same object if nothing changed.

        `statement`: the text that the client sent; what it quotes itself is no secret to it.
        """
        fields = _parse(payload)
        by_code = dict(fields)
        shown = [(code, self._field(code, text, by_code, statement)) for code, text in fields]
        if shown == fields:
            return payload
        return b"".join(bytes((code,)) + text + b"\0" for code, text in shown) + b"\0"

    def notification(self, payload: bytes) -> bytes:
        """The body of a NotificationResponse: process id, channel, payload."""
        parts = payload[4:].split(b"\0")
        if len(payload) < 6 or len(parts) != 3 or parts[2]:
            raise ProtocolViolation("NotificationResponse: its strings do not fit")
        masked = self._detect(parts[1])
        return payload if masked == parts[1] else payload[:4] + parts[0] + b"\0" + masked + b"\0"

    def _field(self, code: int, text: bytes, fields: dict[int, bytes], statement: bytes) -> bytes:
        if code not in _TEXTS:
            return text
        if self._columns and code not in _NAMES:
            text = self._withhold(code, text, fields, statement)
        return self._detect(text)

    def _detect(self, text: bytes) -> bytes:
        masked = self._detectors.mask(text) if self._detectors else text
        return HIDDEN if masked is None else masked

    def _withhold(self, code: int, text: bytes, fields: dict[int, bytes], statement: bytes) -> bytes:
        if code == ord("q"):
            return text if text in statement else HIDDEN
        if fields.get(ord("R")) in _RAISED and code != ord("W"):
            return HIDDEN
        state = fields.get(ord("C"), b"")
        if code == ord("M") and (ord("P") in fields or state.startswith(b"23") or state in _ABOUT_NAMES):
            # With a position it is about the statement's own text; an integrity violation's message holds names only.
            return text
        if code == ord("D"):
            text = _ROW.sub(rb"\g<1>" + HIDDEN + b")", _KEY.sub(rb"\g<1>" + HIDDEN + b")", text))
        if code == ord("W"):
            text = _JSON_CONTEXT.sub(rb"\g<1>" + HIDDEN, text)
        quoted = text.split(b'"')
        names = [fields[name] for name in _NAMES if name in fields]
        few = len(quoted) <= _MAX_QUOTED
        if few and all(part in statement or part in names or part == HIDDEN for part in quoted[1::2]):
            return text
        # A value may hold quotes itself, so everything between the first and the last goes.
        return quoted[0] + b'"' + HIDDEN + (b'"' + quoted[-1] if len(quoted) > 2 else b"")


def mask_message_fields(plan: MaskPlan, payload: bytes, statement: bytes = b"") -> bytes:
    """`MessageMask(plan).fields(payload, statement)`, for one message."""
    return MessageMask(plan).fields(payload, statement)


def _parse(payload: bytes) -> list[tuple[int, bytes]]:
    fields: list[tuple[int, bytes]] = []
    position = 0
    while position < len(payload) and payload[position]:
        end = payload.find(b"\0", position + 1)
        if end < 0:
            raise ProtocolViolation("ErrorResponse: a field has no end")
        fields.append((payload[position], payload[position + 1 : end]))
        position = end + 1
    if position != len(payload) - 1:
        raise ProtocolViolation("ErrorResponse: it does not end with its terminator")
    return fields
