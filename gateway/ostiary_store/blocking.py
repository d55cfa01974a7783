"""A store for those that wait for its answers: commands, and what shows, exports and replays a gateway's own record."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from ostiary_gateway.audit.reader import Event, Raw, Request, Session, event_of, wholes
from ostiary_store.model import ALL, SessionQuery, SessionRow
from ostiary_store.reading import SessionView, StoredRequest, session_of
from ostiary_store.store import Store

PAGE = 200
"""Sessions that are asked for at once."""
AHEAD = 500
"""Events whose decisions are asked for at once."""

_T = TypeVar("_T")


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="store", daemon=True)
        self._thread.start()

    def run(self, what: Coroutine[object, object, _T]) -> _T:
        """Wait for it. When the wait is interrupted, it is cancelled."""
        future = asyncio.run_coroutine_threadsafe(what, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def each(self, items: AsyncIterator[_T]) -> Iterator[_T]:
        """One by one, as they are asked for."""

        async def following() -> list[_T]:
            # A list, since a coroutine must not end with StopAsyncIteration.
            async for item in items:
                return [item]
            return []

        while found := self.run(following()):
            yield found[0]

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class StoreReader:
    """A SessionReader (see audit.reader) of a store."""

    def __init__(self, loop: Loop, store: Store) -> None:
        self._loop = loop
        self._store = store
        self._views: dict[str, SessionView] = {}

    def view(self, session: SessionRow) -> Session:
        """Make a session known to this reader; as a gateway's own record has it."""
        if len(self._views) >= PAGE:
            del self._views[next(iter(self._views))]
        self._views[session.id] = SessionView(self._store, session)
        return session_of(session)

    def _view(self, session: str) -> SessionView:
        found = self._views.get(session)
        if found is None:
            row = self._loop.run(self._store.session(session, ALL))
            found = self._views[session] = SessionView(self._store, row)
        return found

    def events(self, session: Session, first: int = 0, *, rare: bool = False) -> Iterator[Event]:
        """As audit.reader.SessionReader has it."""
        view = self._view(session.id)
        for seq, kind, read, _ in self._learnt(view, view.raw(first, rare=rare)):
            yield event_of(seq, kind, read, view.decided)

    def requests(self, session: Session, number: int | None = None) -> Iterator[Request]:
        """As audit.reader.SessionReader has it."""
        view = self._view(session.id)
        for found in wholes(session.id, self._learnt(view, view.raw(number=number)), view.decided, number):
            yield StoredRequest(found.id, found.begun, found.ended, found.parts, session.id)

    def _learnt(self, view: SessionView, raws: AsyncIterator[Raw]) -> Iterator[Raw]:
        """The same events, once the decisions that they name are known."""

        async def some() -> list[Raw]:
            found = []
            async for raw in raws:
                found.append(raw)
                if len(found) >= AHEAD:
                    break
            await view.learn(found)
            return found

        while found := self._loop.run(some()):
            yield from found

    def response(self, request: Request) -> Iterator[bytes]:
        """As audit.reader.SessionReader has it."""
        if not isinstance(request, StoredRequest):
            raise LookupError("the request is of another record")
        view = self._view(request.session)
        found = view.at_hand(request)
        return iter(found) if found is not None else self._loop.each(view.pieces(request))

    def request(self, session: Session, number: int) -> Request:
        """LookupError."""
        return self._loop.run(self._view(session.id).request(number))


class StoreRecords:
    """The sessions of a store, as audit.records.Records has those of a data directory."""

    def __init__(self, loop: Loop, store: Store) -> None:
        self.loop = loop
        self.store = store
        self._reader = StoreReader(loop, store)

    @classmethod
    @contextmanager
    def open(cls, opening: Coroutine[object, object, Store]) -> Iterator[StoreRecords]:
        """With the store that `opening` opens. StoreError."""
        loop = Loop()
        try:
            store = loop.run(opening)
            try:
                yield cls(loop, store)
            finally:
                loop.run(store.close())
        finally:
            loop.close()

    def sessions(
        self,
        *,
        connection: str | None = None,
        username: str | None = None,
        since: float | None = None,
        decision: str | None = None,
        state: str | None = None,
        gateway: bool = False,
        limit: int = -1,
        newest_first: bool = True,
    ) -> Iterator[tuple[StoreReader, Session]]:
        """Sessions by the time when they were opened; the filters are those of Records.sessions."""
        query = SessionQuery(
            connection=connection, username=username, since=since, decision=decision, state=state, gateway=gateway,
            limit=PAGE if limit < 0 else min(limit, PAGE),
        )  # fmt: skip
        if newest_first:
            rows = self.loop.each(self._newest(query, limit))
        else:
            rows = reversed(list(self.loop.each(self._newest(query, limit))))
        for row in rows:
            yield self._reader, self._reader.view(row)

    async def _newest(self, query: SessionQuery, limit: int) -> AsyncIterator[SessionRow]:
        left = limit
        while True:
            page = await self.store.sessions(query, ALL)
            for row in page.sessions:
                if not left:
                    return
                left -= 1
                yield row
            if not page.next or not left:
                return
            query = replace(query, after=page.next)

    def session(self, session: str) -> tuple[StoreReader, Session]:
        """One session by its id, or by the beginning of its id if only one begins so. LookupError."""
        return self._reader, self._reader.view(self.loop.run(self.store.session(session, ALL)))

    def request(self, request: str) -> tuple[StoreReader, Session, Request]:
        """One request by its id, with its session. LookupError."""
        row = self.loop.run(self.store.request(request, ALL))
        reader, session = self.session(row.session)
        return reader, session, reader.request(session, row.number)
