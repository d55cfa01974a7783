"""Requests of a recorded session on their way to a page: read from the store within bounds, shown in a thread."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ostiary_console.shown.bounds import IN_SESSION, WHOLE, Bounds
from ostiary_console.shown.requests import request_view
from ostiary_console.views import RequestView
from ostiary_gateway.audit.reader import Event
from ostiary_store.model import SessionRow
from ostiary_store.reading import SessionView, StoredRequest
from ostiary_store.store import Store

PEEK: Final = 64 * 1024
"""Bytes of each response that a session's page looks at."""
PAGE: Final = 2 * 1024 * 1024
"""Bytes of all responses of such a page together."""
LONGEST: Final = 16 * 1024 * 1024
"""Bytes of a response that the page of one request looks at."""
PIECE: Final = 1024 * 1024

Read = tuple[StoredRequest, list[bytes], bool]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Some requests of a session, and the number to go on from (0: there are no more now)."""

    views: tuple[RequestView, ...]
    next: int


async def stretch(store: Store, row: SessionRow, first: int, limit: int) -> Stretch:
    """Requests from the number `first` on."""
    view = SessionView(store, row)
    found = await view.requests(first, limit)
    left = PAGE
    read: list[Read] = []
    for request in found.requests:
        pieces, expired = await _beginning(view, request, min(PEEK, left))
        left -= sum(map(len, pieces))
        read.append((request, pieces, expired))
    return Stretch(await asyncio.to_thread(_shown, row, read, IN_SESSION, 0), found.next)


async def whole(store: Store, row: SessionRow, number: int, first_row: int = 0) -> RequestView:
    """One request with as much of its response as a page takes. LookupError."""
    view = SessionView(store, row)
    request = await view.request(number)
    pieces, expired = await _beginning(view, request, LONGEST)
    views = await asyncio.to_thread(_shown, row, [(request, pieces, expired)], WHOLE, first_row)
    return views[0]


async def remarks(store: Store, row: SessionRow) -> Sequence[Event]:
    """What was recorded at the end of the session beside its requests."""
    return await SessionView(store, row).ending()


async def _beginning(view: SessionView, request: StoredRequest, most: int) -> tuple[list[bytes], bool]:
    """The first bytes of a response, in pieces; and whether it is not kept any more."""
    pieces: list[bytes] = []
    size = 0
    try:
        while size < most:
            wanted = min(PIECE, most - size)
            piece = await view.response(request, size, wanted)
            if piece:
                pieces.append(piece)
            size += len(piece)
            if len(piece) < wanted:
                break
    except LookupError:
        return pieces, True
    except ValueError:
        pass  # damaged: what came before is shown, and `ostiary verify` names it
    return pieces, False


def _shown(row: SessionRow, read: Sequence[Read], bounds: Bounds, first_row: int) -> tuple[RequestView, ...]:
    return tuple(
        request_view(row, request, pieces, first_row=first_row, bounds=bounds, expired=expired)
        for request, pieces, expired in read
    )
