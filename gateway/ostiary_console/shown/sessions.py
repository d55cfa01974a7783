"""The page of one session: who, through what, how it went, and its requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ostiary_console.shown.requests import seconds, shown_of
from ostiary_console.shown.words import plural
from ostiary_console.views import Remarkable, RequestView, SessionPage
from ostiary_gateway.audit.reader import Event
from ostiary_gateway.audit.transcript_words import items
from ostiary_store.model import SessionRow


def session_page(
    row: SessionRow,
    rare: Sequence[Event],
    requests: tuple[RequestView, ...],
    *,
    now: float,
    next_href: str = "",
    previous_href: str = "",
    can_end: bool = False,
) -> SessionPage:
    """`rare`: events that are none of requests."""
    numbers = [each.number for each in requests if each.number]
    live = row.state == "open"
    return SessionPage(
        session=row,
        about=tuple(about(row)),
        requests=requests,
        first=min(numbers, default=0),
        last=max(numbers, default=0),
        next_href=next_href,
        previous_href=previous_href,
        remarks=tuple(_remarks(rare)),
        live=live,
        can_end=live and can_end,
        follow_href=f"/sessions/{row.id}/follow" if live else "",
    )


def about(row: SessionRow) -> Iterator[tuple[str, str]]:
    """Who came, from where, and as what the target knows them."""
    subject, client = row.subject, row.client
    if subject.get("onBehalfOf"):
        yield "On behalf of", str(subject["onBehalfOf"])
    if groups := items(subject.get("groups")):
        yield "Groups", ", ".join(map(str, groups))
    if where := _client(client):
        yield "Client", where
    told = dict(shown_of(row.protocol).login(row.detail))
    yield from told.items()
    if (tls := row.detail.get("tls")) and isinstance(tls, str):
        yield "TLS", tls
    if hold := _retention(row.retention):
        yield "Kept for", hold


def _client(client: Mapping[str, object]) -> str:
    parts = (str(client.get(name) or "") for name in ("address", "application"))
    return ", ".join(part for part in parts if part)


def _retention(retention: Mapping[str, object]) -> str:
    parts = []
    for name, of in (("record", ""), ("responses", "responses ")):
        value = retention.get(name)
        if isinstance(value, (int, float)):
            parts.append(f"{of}{plural(round(value / 86_400), 'day')}" if value >= 86_400 else f"{of}{value:g} s")
    return ", ".join(parts)


def _remarks(rare: Sequence[Event]) -> Iterator[Remarkable]:
    for event in rare:
        fields, at = event.fields, seconds(event.fields.get("at"))
        match event.kind:
            case "gap":
                missing = fields.get("events")
                count = missing if isinstance(missing, int) else 0
                yield Remarkable(at, "gap", f"{plural(count, 'event')} missing here: they could not be written")
            case "close":
                yield Remarkable(at, "close", f"Closed: {fields.get('reason')}")
            case "lost":
                yield Remarkable(at, "lost", f"Lost: {fields.get('reason')}")
            case "refused":
                where = f"{fields.get('connection')}: {fields.get('reason')}"
                yield Remarkable(at, "refused", f"A login was refused at {where}")
            case "approval":
                by = f" by {fields['by']}" if fields.get("by") else ""
                yield Remarkable(at, "approval", f"Approval {fields.get('name')}: {fields.get('step')}{by}")
