# cython: annotation_typing=False
"""The masks of one response: compiled when the server describes its columns, then run over the rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, Protocol

from ostiary_gateway.masking.strategies import MaskError
from ostiary_policy.masking import MaskPlan, Strategy, stronger

from . import wire
from .copy import CopyOptions, CopyOutMask, RowTooLarge, parse_copy_response
from .notices import MessageMask
from .rows import Field, RowMask, compile_row_mask, parse_row_description
from .wire import FatalError

if TYPE_CHECKING:
    from .facts import Analysis

Targets = Mapping[tuple[int, int], Strategy]


class Withhold(Protocol):
    """What is withheld besides the masked columns, and what is learnt for those who come later."""

    def __call__(self, index: int, fields: tuple[Field, ...]) -> Mapping[int, Strategy]:
        """(index of the statement, its result's columns) → the columns that may carry a masked value, by index."""

    def found(self, table_oid: int, attnum: int) -> None:
        """A detector hit a value of this column."""


MAX_KEPT: Final = 256


class RowMasks:
    """The row masks of one session, kept by result and statement while plan, origins and scope are the same."""

    def __init__(self, *valid_for: object) -> None:
        """`valid_for`: what the masks depend on besides result and statement. Compared by identity."""
        self._valid_for = valid_for
        self._kept: dict[tuple[bytes, str], RowMask | None] = {}

    def such_for(self, *valid_for: object) -> RowMasks:
        """These, or new ones if they depend on something else: a request that is under way goes on with its own."""
        held = self._valid_for
        if len(held) != len(valid_for) or any(a is not b for a, b in zip(held, valid_for, strict=True)):
            return RowMasks(*valid_for)
        return self

    def find(self, description: bytes, text: str) -> RowMask | Literal[False] | None:
        """The mask of a result with this RowDescription (its body), None if it needs none, False if it is not known."""
        return self._kept.get((description, text), False)

    def keep(self, description: bytes, text: str, mask: RowMask | None) -> None:
        if len(self._kept) >= MAX_KEPT:
            self._kept.clear()
        self._kept[description, text] = mask


class ResponseMask:
    """What the mask plan makes of one request's response."""

    __slots__ = ("_analysis", "_copy", "_copy_fields", "_kept", "_plan", "_rows", "_targets", "_withhold", "active")

    def __init__(
        self,
        plan: MaskPlan,
        analysis: Analysis,
        targets: Targets,
        withhold: Withhold,
        copy_fields: Mapping[int, tuple[Field, ...]],
        kept: RowMasks | None = None,
    ) -> None:
        """`kept` may be used if the masks of equal results of equal statements are equal."""
        self._plan = plan
        self._kept = kept
        self._analysis = analysis
        self._targets = targets
        self._withhold = withhold
        self._copy_fields = copy_fields
        """The columns of each COPY TO STDOUT, by index of the statement."""
        self._rows: RowMask | None = None
        self._copy: CopyOutMask | None = None
        self.active = True
        """False while rows can pass untouched."""

    def describe(self, body: bytes | None, index: int) -> None:
        """RowDescription's body of the rows that come next, None if it is not known; `index` of their statement."""
        self._rows, self.active = None, True
        if not body:
            return
        statements = self._analysis.statements
        kept = self._kept
        if kept is None or len(statements) != 1:
            self._rows = self._compile(body, index)
        else:
            text = statements[0].facts["text"]
            found = kept.find(body, text)
            if found is False:
                found = self._compile(body, index)
                kept.keep(body, text, found)
            self._rows = found
        self.active = self._rows is not None

    def _compile(self, body: bytes, index: int) -> RowMask | None:
        fields = parse_row_description(body)
        try:
            return compile_row_mask(
                self._plan, fields, self._targets, self._withhold(index, fields), self._withhold.found
            )
        except MaskError as problem:
            raise FatalError("XX000", f"A mask cannot be applied: {problem}. Nothing of the result was sent.") from None

    def rows(self, frames: bytes) -> bytes:
        """Whole DataRow messages."""
        if self._rows is None:
            raise FatalError("XX000", "Rows came without a description, so they cannot be masked; nothing was sent.")
        return self._rows.apply_all(frames)

    def copying(self, body: bytes, index: int) -> None:
        """CopyOutResponse's body."""
        self.active = True
        statements = self._analysis.statements
        effect = statements[index].effects.copy if index < len(statements) else None
        if effect is None or effect.direction != "out":
            raise FatalError("XX000", "The server began a COPY that the statement does not show; it cannot be masked.")
        _, formats = parse_copy_response(body)
        fields = self._copy_fields.get(index, ())
        strategies: dict[int, Strategy] = dict(self._withhold(index, fields)) if fields else {}
        for position, column in enumerate(fields):
            if (found := self._targets.get((column.table_oid, column.attnum))) is not None:
                known = strategies.get(position)
                strategies[position] = found if known is None else stronger(found, known)
        options = CopyOptions(
            _format(effect.format), effect.delimiter.encode(), effect.null.encode(), effect.quote.encode(),
            effect.escape.encode(), effect.header,
        )  # fmt: skip
        types = tuple(column.type_oid for column in fields)
        self._copy = CopyOutMask(self._plan, options, len(formats), strategies, types)
        self.active = bool(self._copy)

    def copy(self, frames: bytes) -> bytes:
        """Whole CopyData messages."""
        mask = self._copy
        if mask is None:
            raise FatalError("XX000", "COPY data came unannounced and cannot be masked; nothing was sent.")
        try:
            return mask.feed_frames(frames)
        except RowTooLarge as problem:
            raise FatalError("54000", f"{problem}", "Copy less of the row.") from None

    def finish(self) -> bytes:
        """What is left at CopyDone."""
        mask, self._copy = self._copy, None
        rest = mask.finish() if mask is not None else b""
        return wire.frame(b"d", rest) if rest else b""


def _format(name: str) -> Literal["text", "csv", "binary"]:
    match name:
        case "text" | "csv" | "binary":
            return name
        case _:
            raise FatalError("XX000", f"COPY in the format {name} cannot be masked.", "Use text, csv or binary.")


class NoticeMask:
    """Masks what the server sends beside rows, with the plan of the whole session."""

    def __init__(self, plan: MaskPlan) -> None:
        self._mask = MessageMask(plan)

    def message(self, frame: bytes, statement: str = "") -> bytes | None:
        """An ErrorResponse, NoticeResponse or NotificationResponse; None if it stays as it is.

        `statement`: what the agent sent. What it wrote itself is no secret to it.
        """
        body = frame[5:]
        if frame[:1] == b"A":
            shown = self._mask.notification(body)
        else:
            shown = self._mask.fields(body, statement.encode())
        return None if shown is body else wire.frame(frame[:1], shown)
