"""What came into the store, as the lines that an export has: each with its kind, its session and its fields."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from typing import Final

from ostiary_gateway.audit import export as lines
from ostiary_gateway.audit.reader import Event, Raw, Request, Session, event_of
from ostiary_store.exports.item import Item
from ostiary_store.model import ALL, RequestQuery, Slice
from ostiary_store.reading import SessionView, StoredRequest, session_of
from ostiary_store.store import Store

TURN: Final = 100
"""Events after which others get their turn."""
MOST_LOST: Final = 200
"""Requests of a session that were cut off, that are asked for at once."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of it is to be told."""

    begun: bool = False
    responses: str = "none"


async def items(store: Store, came: Slice, wanted: Wanted) -> AsyncIterator[Item]:
    """Of a session's new rows, in the order of its events; a request when it has ended."""
    view = SessionView(store, came.session)
    session = session_of(came.session)
    begun: dict[int, Event] = {}
    for count, raw in enumerate(await view.in_rows([*came.chunks, *came.parts]), 1):
        if not count % TURN:
            await asyncio.sleep(0)
        seq, kind, read, _ = raw
        if kind not in lines.OF_REQUESTS:
            event = event_of(seq, kind, read, view.decided)
            async for item in _of_event(store, view, session, event):
                yield item
            continue
        for number, event in _parts(raw, view):
            if event.kind == "begin":
                begun[number] = event
                if wanted.begun and kind == "begin":
                    yield _request(view, session, StoredRequest(_id(session, number), event, None, ()))
                continue
            request = await _whole(view, session, number, begun.pop(number, None), event, wanted)
            yield _request(view, session, request)
            if wanted.responses != "none" and request.parts:
                async for item in _responses(view, session, request, wanted.responses):
                    yield item


def _parts(raw: Raw, view: SessionView) -> Iterator[tuple[int, Event]]:
    """Begins and ends."""
    seq, _, read, _ = raw
    for one in read:
        kind = str(one.fields["kind"])
        if kind in ("begin", "end"):
            yield one.number, Event(seq, kind, view.decided(one.fields), one.size)


async def _whole(
    view: SessionView, session: Session, number: int, begun: Event | None, ended: Event, wanted: Wanted
) -> StoredRequest:
    if begun is not None and wanted.responses == "none":
        return StoredRequest(_id(session, number), begun, ended, (), session.id)
    try:
        found = await view.request(number)
    except LookupError:
        return StoredRequest(_id(session, number), begun, ended, (), session.id)
    return found if found.ended is not None else replace(found, ended=ended)


async def _of_event(store: Store, view: SessionView, session: Session, event: Event) -> AsyncIterator[Item]:
    row = view.session
    at = _at(event)
    if event.kind == "open":
        # As it was then: what it came to since, the line at its end says.
        then = replace(
            session, closed=None, state="open", requests=0, denied=0, asked=0, errors=0, rows=0, bytes=0
        )  # fmt: skip
        yield Item("session", row, lines.of_session(then), at, f"{session.id}-opened")
    yield Item(event.kind, row, lines.of_event(event), at, f"{session.id}.{event.seq}")
    if event.kind in ("close", "lost"):
        async for request in _cut_off(store, view, session):
            cut = _request(view, session, request)
            yield replace(cut, fields={**cut.fields, "outcome": "lost"}, at=at, id=request.id)
        yield Item("session", row, lines.of_session(session), at, f"{session.id}-closed")


async def _cut_off(store: Store, view: SessionView, session: Session) -> AsyncIterator[StoredRequest]:
    """Requests that never ended, since their session did."""
    query = RequestQuery(session=session.id, outcome="lost", limit=MOST_LOST, deadline=30.0)
    while True:
        page = await store.requests(query, ALL)
        for row in page.requests:
            try:
                request = await view.request(row.number)
            except LookupError:
                continue
            if request.ended is None:
                yield request
        if not page.next:
            return
        query = replace(query, after=page.next)


def _request(view: SessionView, session: Session, request: Request) -> Item:
    event = request.ended or request.begun
    assert event is not None
    suffix = "" if request.ended is not None else ".begun"
    fields = lines.of_request(session, request)
    return Item("request", view.session, fields, _at(event), request.id + suffix)


async def _responses(view: SessionView, session: Session, request: StoredRequest, form: str) -> AsyncIterator[Item]:
    """Decoded in a thread, piece by piece: a response may be long."""
    reader = _Pieces(view, asyncio.get_running_loop())
    decoding = lines.of_response(reader, session, request, form)
    at = _at(request.ended or request.begun)
    number = 0
    while (fields := await asyncio.to_thread(next, decoding, None)) is not None:
        number += 1
        yield Item("response", view.session, fields, at, f"{request.id}.{number}")


class _Pieces:
    """What the decoders of responses ask, from a thread."""

    def __init__(self, view: SessionView, loop: asyncio.AbstractEventLoop) -> None:
        self._view = view
        self._loop = loop

    def response(self, request: Request) -> Iterator[bytes]:
        at = 0
        while True:
            asking = asyncio.run_coroutine_threadsafe(self._view.response(request, at), self._loop)
            try:
                piece = asking.result()
            except (LookupError, ValueError):
                return  # its retention is over, or it is damaged: `ostiary verify` tells which
            if not piece:
                return
            yield piece
            at += len(piece)


def _id(session: Session, number: int) -> str:
    return f"{session.id}-{number}"


def _at(event: Event | None) -> float:
    at = event.fields.get("at") if event is not None else None
    return float(at) if isinstance(at, (int, float)) else 0.0
