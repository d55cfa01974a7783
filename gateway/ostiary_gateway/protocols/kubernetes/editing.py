"""What stands in the place of what masks pick in one response.

Typed clients must still be able to decode it: bytes stay base64, and what is no text (numbers, objects, times) becomes
null, which every client takes for "not set".
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Final

from ostiary_gateway.masking import scan
from ostiary_gateway.masking.detectors import Detectors
from ostiary_gateway.masking.documents import quote
from ostiary_gateway.masking.json_walk import Edit, Malformed, State, Walker, apply, unescape
from ostiary_policy.masking import MaskPlan, Strategy, stronger

from . import applied, tables
from .targets import Mark, Shape, whole_object

WITHHELD: Final = b"[redacted]"
MAX_EMBEDDED: Final = 3
"""Objects in annotations of objects in annotations …"""

_TIME: Final = re.compile(rb"[0-9]{4}(?:-[0-9]{2}){2}T[0-9]{2}(?::[0-9]{2}){2}(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2})")
_BASE64: Final = re.compile(rb"[A-Za-z0-9+/\r\n]*+={0,2}[\r\n]*+")

Finder = Callable[[bytes], Callable[[int], int]]


def finder(detectors: Detectors) -> Finder | None:
    """Looks for candidates of any of the detectors; None if there are none."""
    searches: list[Callable[[bytes, int], int]] = []
    if "CreditCard" in detectors.names:
        searches.append(scan.next_card_candidate)
    if "Email" in detectors.names:
        searches.append(scan.next_at_sign)
    if detectors.candidates is not None:
        searches.append(detectors.candidates.next_other)
    if not searches and not detectors.searches:
        return None
    if not detectors.searches and len(searches) == 1:
        (only,) = searches
        return lambda buffer: lambda position: only(buffer, position)

    def find(buffer: bytes) -> Callable[[int], int]:
        custom = detectors.searcher(buffer) if detectors.searches else None
        nexts = [-1] * len(searches)

        def next_from(position: int) -> int:
            for index, search in enumerate(searches):
                if nexts[index] < position:
                    nexts[index] = search(buffer, position)
            nearest = min(nexts, default=len(buffer))
            return nearest if custom is None else min(nearest, custom(position))

        return next_from

    return find


@dataclass(frozen=True, slots=True)
class _Act:
    """What the tags of a state come to. `constant`: what stands for any text; empty if that depends on the text."""

    strategy: Strategy | None = None
    mark: Mark | None = None
    is_bytes: bool = False
    constant: bytes = b""
    plain: bytes = b""


@lru_cache(maxsize=1024)
def _act(tags: frozenset[object]) -> _Act:
    if Mark.KEEP in tags:
        return _Act(mark=Mark.KEEP)
    is_bytes = Mark.BYTES in tags
    strategies = [tag for tag in tags if isinstance(tag, Strategy)]
    if not strategies:
        mark = next((mark for mark in Mark if mark in tags and mark is not Mark.BYTES), None)
        return _Act(mark=mark, is_bytes=is_bytes)
    strategy = reduce(stronger, sorted(strategies, key=repr))
    if strategy.type != "Redact":
        return _Act(strategy, is_bytes=is_bytes)
    text = strategy.replacement.encode()
    return _Act(strategy, None, is_bytes, quote(base64.b64encode(text) if is_bytes else text), quote(text))


def _may_be_time(raw: bytes) -> bool:
    return len(raw) > 20 and raw[5] == 0x2D and raw[11] == 0x54


class ObjectEditor:
    """Edits the text of one response. Made anew for each; what it is made of is kept."""

    def __init__(
        self, plan: MaskPlan, shape: Shape, detectors: Detectors, dead: State, *, embedded: int = 0, typed: bool = True
    ) -> None:
        """`embedded`: how deep in annotations. `typed` False: bytes need not stay base64, nor numbers numbers."""
        self._plan = plan
        self._shape = shape
        self._detectors = detectors
        self._embedded = embedded
        self._typed = typed
        self._dead = dead
        # A detector that finds something in a masked value matters only if its own mask is stronger.
        self._constants = all(mask.strategy.type != "Null" for mask in plan.detectors)
        self._hidden: set[bytes] = set()
        self._managed: list[tuple[int, bytes, bytes]] = []
        """managedFields of the object that is being walked: where, as it came, and as the detectors leave it."""
        self._late: list[Edit] = []
        self._columns = tables.Columns(plan, shape)
        self._walker = Walker(self, finder(detectors), dead, detectors.finds_digits, detectors.searches)

    def edited(self, data: bytes, begin: int, end: int, root: State, *, several: bool = False) -> bytes:
        """A value (with `several`: values with commas between them) as it may be shown. Raises Malformed."""
        edits = self._walker.walk(data, begin, end, root, several)
        self.between()
        if self._late:
            # Of two edits in one place the later one goes on from the earlier.
            edits = sorted({edit[0]: edit for edit in (*edits, *self._late)}.values())
            self._late.clear()
        return apply(data, begin, end, edits)

    # -- what the walk asks

    def between(self) -> None:
        """An object has ended: now it is known what was masked in it, and so which keys in managedFields name that."""
        for begin, raw, shown in self._managed:
            kept = applied.without_keys(shown, self._hidden)
            if kept is not shown:
                self._late.append((begin, begin + len(raw), kept))
        self._managed.clear()
        if not self._embedded:
            self._hidden.clear()

    def value(self, state: State, raw: bytes, begin: int) -> bytes:
        """See json_walk.Editor."""
        act = _act(state.tags)
        if act.strategy is not None:
            if act.constant and self._constants and raw[:1] == b'"' and b"\\" not in raw and not _may_be_time(raw):
                self._hidden.add(raw[1:-1])
                return act.constant if self._typed or not act.is_bytes else act.plain
            return self._masked(raw, act.strategy, act.is_bytes)
        if act.mark is Mark.KEEP:
            return self._searched(raw, raw) if self._embedded else raw
        if act.mark is Mark.APPLIED or act.mark is Mark.ANNOTATION:
            return self._annotation(raw, act.mark is Mark.APPLIED)
        if act.is_bytes:
            return self._searched_bytes(raw)
        if act.mark is Mark.COLUMNS:
            self._columns.define(raw)
        elif act.mark is Mark.CELLS:
            shown = self._columns.cells(raw)
            return self._searched(raw if shown is None else shown, raw)
        elif act.mark is Mark.MANAGED:
            shown = self._searched(raw, raw)
            self._managed.append((begin, raw, shown))
            return shown
        return self._searched(raw, raw)

    def text(self, raw: bytes, key: bool) -> bytes:
        """See json_walk.Editor."""
        text = unescape(raw)
        shown = self._detectors.mask(text)
        if shown is text or shown == text:
            return raw
        if shown is None:
            return b'""' if key else b"null"
        if self._typed and not key and _TIME.fullmatch(text):
            return b"null"
        return quote(shown)

    def number(self, raw: bytes) -> bytes:
        """See json_walk.Editor."""
        text = plain_number(raw)
        shown = self._detectors.mask(text)
        return raw if shown is text or shown == text else b"null"

    # -- parts

    def _searched(self, text: bytes, raw: bytes) -> bytes:
        """Any JSON value through the detectors; `raw` itself if neither they nor somebody before changed it."""
        edits = self._walker.walk(text, 0, len(text), self._dead)
        return apply(text, 0, len(text), edits) if edits else (raw if text is raw else text)

    def _masked(self, raw: bytes, strategy: Strategy, is_bytes: bool) -> bytes:
        if raw[:1] != b'"':
            if raw == b"null":
                return raw
            self._hidden.add(raw)
            return b"null" if self._typed else quote(WITHHELD)
        text = unescape(raw)
        self._hidden.add(text)
        decoded = decode(text) if is_bytes else None
        shown = self._detectors.over(strategy)(text if decoded is None else decoded)
        if shown is None or (self._typed and decoded is None and _TIME.fullmatch(text)):
            return b"null"
        if is_bytes and self._typed:
            shown = base64.b64encode(shown)
        return raw if shown == text else quote(shown)

    def _searched_bytes(self, raw: bytes) -> bytes:
        """What is inside of base64; as any text if it is none."""
        if not self._detectors:
            return raw
        text = unescape(raw) if raw[:1] == b'"' else b""
        decoded = decode(text)
        if decoded is None or not text:
            return self._searched(raw, raw)
        shown = self._detectors.mask(decoded)
        if shown is decoded or shown == decoded:
            return raw
        return b"null" if shown is None else quote(base64.b64encode(shown))

    def _annotation(self, raw: bytes, applied_by_kubectl: bool) -> bytes:
        """An object inside of an annotation is masked like the one around it. kubectl's, if it cannot be read, is
        withheld."""
        if raw[:1] != b'"':
            return self._searched(raw, raw)
        text = unescape(raw)
        if not applied_by_kubectl and not text.lstrip().startswith(b"{"):
            return self._searched(raw, raw)
        try:
            shown = self._object_inside(text)
        except Malformed:
            return quote(WITHHELD) if applied_by_kubectl and self._plan.json_paths else self._searched(raw, raw)
        if shown == text:
            return self._searched(raw, raw)
        found = self._detectors.mask(shown)
        return b"null" if found is None else quote(found)

    def _object_inside(self, text: bytes) -> bytes:
        if self._embedded >= MAX_EMBEDDED or not text.lstrip().startswith(b"{"):
            raise Malformed("no object, or one too deep in others")
        selection = whole_object(self._plan, self._shape)
        inner = ObjectEditor(
            self._plan, self._shape, self._detectors, selection.dead, embedded=self._embedded + 1, typed=self._typed
        )
        shown = inner.edited(text, 0, len(text), selection.root)
        self._hidden |= inner._hidden
        return shown


def decode(text: bytes) -> bytes | None:
    """What base64 stands for, as Go reads it: line breaks are nothing. None if it is none."""
    if not _BASE64.fullmatch(text):
        return None
    try:
        return base64.b64decode(text, validate=False)
    except (binascii.Error, ValueError):
        return None


def plain_number(raw: bytes) -> bytes:
    """Without an exponent, so that 4.1e15 is seen for what it is; a fraction of zeros is none."""
    if not any(byte in raw for byte in b".eE"):
        return raw
    try:
        value = float(raw)
        return b"%d" % value if value.is_integer() and abs(value) < 1e40 else raw
    except (ValueError, OverflowError):
        return raw
