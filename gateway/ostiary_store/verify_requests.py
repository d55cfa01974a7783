"""The requests that a session's events speak of, beside the rows that a search finds. Told in their order, both stream.

Rows come by number; events begin requests almost in that order. What is ahead of its event is kept until it comes, and
what has not ended until it does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Final, NamedTuple

from ostiary_gateway.audit import layout
from ostiary_store.digest import NOBODY, Verdict, clean, request_text
from ostiary_store.model import RequestRow

_MOST: Final = 2**63 - 1
_LOST: Final = "lost"


class Begun(NamedTuple):
    """What an event says of the begin of a request."""

    number: int
    begun: float
    text: str
    decision: bytes


class Ended(NamedTuple):
    """What an event says of its end."""

    number: int
    ended: float
    outcome: str
    rows: int
    bytes: int


class Happened(NamedTuple):
    """One event of a chunk, as far as rows depend on it. `body`: of the rare kinds, after the kind."""

    kind: int
    begun: Begun | None = None
    ended: Ended | None = None
    body: bytes = b""


def happened(raw: bytes) -> list[Happened]:
    """The events of a chunk. ValueError, struct.error or UnicodeDecodeError if they cannot be read."""
    found: list[Happened] = []
    at, end = 0, len(raw)
    while at < end:
        size, _ = layout.EVENT.unpack_from(raw, at)
        at += layout.EVENT.size
        stop = at + size
        if not size or stop > end:
            raise ValueError("an event ends behind its chunk")
        kind = raw[at]
        if kind == layout.REQUEST:
            fields = layout.WHOLE.unpack_from(raw, at)
            _, number, begun, ended, ident, told, rows, sent, _, _, _, text_size, _, _ = fields
            at += layout.WHOLE.size
            outcome, text = raw[at : at + told], raw[at + told : at + told + text_size]
            number = min(number, _MOST)
            found.append(
                Happened(
                    kind, Begun(number, begun, request_text(text), ident),
                    Ended(number, ended, _outcome(outcome), min(rows, _MOST), min(sent, _MOST)),
                )
            )  # fmt: skip
        elif kind == layout.BEGIN:
            _, number, begun, ident, text_size = layout.BEGUN.unpack_from(raw, at)
            at += layout.BEGUN.size
            found.append(
                Happened(kind, Begun(min(number, _MOST), begun, request_text(raw[at : at + text_size]), ident))
            )
        elif kind == layout.END:
            _, number, ended, told, rows, sent, _, _, _, _ = layout.ENDED.unpack_from(raw, at)
            at += layout.ENDED.size
            outcome = raw[at : at + told]
            ending = Ended(min(number, _MOST), ended, _outcome(outcome), min(rows, _MOST), min(sent, _MOST))
            found.append(Happened(kind, None, ending))
        else:
            found.append(Happened(kind, body=raw[at + 1 : stop]))
        at = stop
    return found


def _outcome(told: bytes) -> str:
    return clean(told.decode("utf-8", "replace"))


Add = Callable[[str], None]
"""A finding about a request of the session, in words."""

_KINDS: Final = 1000
"""Different findings that are grouped; the others are told one by one."""

_STRETCHES: Final = 20
"""Of numbers that one finding names."""


class Grouped:
    """Findings that are alike, told once with the numbers of the requests that they are about."""

    def __init__(self, add: Add) -> None:
        self._add = add
        self._found: dict[str, list[list[int]]] = {}

    def add(self, what: str, number: int) -> None:
        """what: a sentence with `{}` for the requests."""
        stretches = self._found.get(what)
        if stretches is None:
            if len(self._found) >= _KINDS:
                self._add(what.replace("{}", f"request {number}", 1))
                return
            stretches = self._found[what] = []
        if stretches and stretches[-1][1] + 1 == number:
            stretches[-1][1] = number
        elif len(stretches) < _STRETCHES + 1:
            stretches.append([number, number])
        else:
            stretches[-1][1] = max(stretches[-1][1], number)

    def tell(self) -> None:
        for what, stretches in self._found.items():
            named = [f"{low}" if low == high else f"{low} to {high}" for low, high in stretches[:_STRETCHES]]
            one = len(stretches) == 1 and stretches[0][0] == stretches[0][1]
            numbers = ", ".join(named) + (" …" if len(stretches) > _STRETCHES else "")
            self._add(what.replace("{}", f"request{'' if one else 's'} {numbers}", 1))
        self._found.clear()


class Requests:
    """Compares the rows of one session with what its events say."""

    def __init__(self, session: str, rows: AsyncIterator[RequestRow], add: Add) -> None:
        self._session = session
        self._rows = rows
        self.found = Grouped(add)
        self._next: RequestRow | None = None
        self._over = False
        self._ahead: dict[int, RequestRow] = {}
        self._running: dict[int, RequestRow | None] = {}
        """Not ended yet; None: there is no row of it, which was said."""
        self._unread: list[tuple[int, int]] = []
        """Numbers in chunks that could not be read."""
        self.connection = self.protocol = self.username = ""
        """As the open event has them; empty as long as it was not seen."""
        self.opened = False
        self.seen = 0

    def unread(self, low: int, high: int) -> None:
        """A chunk with these numbers cannot be read: rows of theirs are not judged."""
        if high:
            self._unread.append((low, high))

    async def begun(self, begun: Begun, found: Verdict | None) -> None:
        self.seen += 1
        number = begun.number
        row = await self._row(number)
        self._running[number] = row
        if row is None:
            if not self._unjudged(number):
                self.found.add("{} was removed from what a search finds", number)
            return
        told = found or NOBODY
        columns: list[tuple[str, object, object]] = [
            ("begun", row.begun, begun.begun), ("text", row.text, begun.text),
            ("decision", row.decision, told.id if found else row.decision),
        ]  # fmt: skip
        if found:
            columns += [
                ("action", row.action, told.action), ("policy", row.policy, told.policy),
                ("rule", row.rule, told.rule), ("would_deny", row.would_deny, told.would_deny),
            ]  # fmt: skip
        if self.opened:
            columns += [
                ("connection", row.connection, self.connection), ("protocol", row.protocol, self.protocol),
                ("username", row.username, self.username),
            ]  # fmt: skip
        self._compare(number, columns)

    def ended(self, ended: Ended) -> None:
        if ended.number not in self._running:
            return  # its begin was not recorded (a gap), or cannot be read
        row = self._running.pop(ended.number)
        if row is not None:
            self._ends(row, ended.ended, ended.outcome, ended.rows, ended.bytes)

    def closed(self, at: float) -> None:
        """What still ran is lost."""
        for number in list(self._running):
            self.ended(Ended(number, at, _LOST, 0, 0))

    async def finish(self) -> None:
        """What is left is what no event speaks of."""
        for number, row in self._running.items():
            if row is not None and not self._unjudged(number):
                self._ends(row, None, "", 0, 0)
        self._running.clear()
        left = [*self._ahead.values()]
        while (row := await self._peek()) is not None:
            self._next = None
            if len(left) < 10_000:
                left.append(row)
        for row in left:
            if not self._unjudged(row.number):
                self.found.add("{} was inserted into what a search finds, and never was", row.number)
        self.found.tell()

    def _ends(self, row: RequestRow, ended: float | None, outcome: str, rows: int, size: int) -> None:
        self._compare(
            row.number,
            [
                ("ended", row.ended, ended), ("outcome", row.outcome, outcome), ("rows", row.rows, rows),
                ("bytes", row.bytes, size),
            ],
        )  # fmt: skip

    def _compare(self, number: int, columns: list[tuple[str, object, object]]) -> None:
        for column, value, right in columns:
            if value != right:
                what = f"the {column} of {{}} in the search was changed to "
                self.found.add(what + f"{_short(value)}, from {_short(right)}", number)

    async def _row(self, number: int) -> RequestRow | None:
        if number in self._ahead:
            return self._ahead.pop(number)
        while (row := await self._peek()) is not None and row.number <= number:
            self._next = None
            if row.number == number:
                return row
            self._ahead[row.number] = row
        return None

    async def _peek(self) -> RequestRow | None:
        if self._next is None and not self._over:
            self._next = await anext(self._rows, None)
            self._over = self._next is None
        return self._next

    def _unjudged(self, number: int) -> bool:
        return any(low <= number <= high for low, high in self._unread)


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 120 else f"{shown[:117]}…"
