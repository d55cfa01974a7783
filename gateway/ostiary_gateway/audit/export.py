"""The record as JSON lines, with a stable schema that docs/audit.md describes."""

from __future__ import annotations

import base64
import codecs
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Final

import orjson

from ostiary_gateway.audit import postgres_recording as recording
from ostiary_gateway.audit.reader import Event, Request, ResponseReader, Session, SessionReader
from ostiary_gateway.audit.stream_recording import Broken, Chunk, Kind, Recording

VERSION = 1
"""Of the schema. Fields are added without a new version; none changes its meaning or goes."""

OF_REQUESTS: Final = frozenset({"begin", "end", "request", "frame", "decision"})
"""Kinds of events that have no line of their own: the line of their request tells them."""


def export(reader: SessionReader, sessions: Iterable[Session], *, responses: str = "decoded") -> Iterator[bytes]:
    """Lines, each with its newline. A long response is several lines, so that no line grows without bound.

    responses: `decoded` (rows, text and streams where the protocol is known, else base64), `base64` (bytes as
    recorded), `none`.
    """
    if responses not in ("decoded", "base64", "none"):
        raise ValueError(f"{responses!r} is no form of responses. Choose decoded, base64 or none.")
    for session in sessions:
        yield line("session", session.id, of_session(session))
        for request in _with_events(reader, session):
            if isinstance(request, Request):
                yield from _request(reader, session, request, responses)
            else:
                yield request


def _with_events(reader: SessionReader, session: Session) -> Iterator[Request | bytes]:
    """Every event but those of requests as a line, then the requests; each kind is in its own order."""
    for event in reader.events(session, rare=True):
        if event.kind not in OF_REQUESTS:
            yield line(event.kind, session.id, of_event(event))
    yield from reader.requests(session)


def of_session(session: Session) -> dict[str, object]:
    """The fields of a line of type `session`."""
    return {
        "connection": session.connection,
        "protocol": session.protocol,
        "username": session.username,
        "opened": time_text(session.opened),
        "closed": None if session.closed is None else time_text(session.closed),
        "state": session.state,
        "recording": session.recording,
        "requests": session.requests,
        "denied": session.denied,
        "asked": session.asked,
        "errors": session.errors,
        "rows": session.rows,
        "bytes": session.bytes,
    }


def of_event(event: Event) -> dict[str, object]:
    """The fields of a line for an event of no request."""
    fields = {key: value for key, value in event.fields.items() if key not in ("kind", "session")}
    return {"seq": event.seq, **_times(fields)}


def of_request(session: Session, request: Request) -> dict[str, object]:
    """The fields of a line of type `request`."""
    fields: dict[str, object] = {"request": request.id}
    fields |= {"connection": session.connection, "protocol": session.protocol, "username": session.username}
    if request.begun is not None:
        begun = request.begun.fields
        fields |= {"seq": request.begun.seq, "begun": time_text(begun["at"])}
        fields |= {key: begun[key] for key in ("text", "detail", "decision")}
    if request.ended is not None:
        ended = request.ended.fields
        fields |= {"ended": time_text(ended["at"]), "result": ended["detail"]}
        fields |= {key: ended[key] for key in ("outcome", "rows", "bytes", "response") if key in ended}
    return fields


def _request(reader: SessionReader, session: Session, request: Request, responses: str) -> Iterator[bytes]:
    yield line("request", session.id, of_request(session, request))
    for fields in of_response(reader, session, request, responses):
        yield line("response", session.id, fields)


def of_response(
    reader: ResponseReader, session: Session, request: Request, responses: str
) -> Iterator[dict[str, object]]:
    """The fields of its lines of type `response`."""
    if not request.parts or responses == "none":
        return
    decode = _DECODERS.get(session.protocol, _as_recorded) if responses == "decoded" else _as_recorded
    for item in decode(reader, request):
        yield {"request": request.id, **item}


def _as_recorded(reader: ResponseReader, request: Request) -> Iterator[dict[str, object]]:
    for piece in reader.response(request):
        yield {"base64": base64.b64encode(piece).decode()}


def _postgres(reader: ResponseReader, request: Request) -> Iterator[dict[str, object]]:
    detail = request.ended.fields["detail"] if request.ended is not None else {}
    columns = recording.described(detail if isinstance(detail, dict) else {})
    return map(_item, recording.decode(reader.response(request), columns))


def _streams_and_text(reader: ResponseReader, request: Request) -> Iterator[dict[str, object]]:
    stream = Recording(reader.response(request))
    if stream.known:
        for chunk in stream.chunks():
            yield _chunk(chunk)
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    for piece in reader.response(request):
        try:
            text = decoder.decode(piece)
        except UnicodeDecodeError:
            yield from _as_recorded(reader, request)
            return
        if "\0" in text:  # protobuf
            yield from _as_recorded(reader, request)
            return
        yield {"text": text}


def _chunk(chunk: Chunk | Broken) -> dict[str, object]:
    if isinstance(chunk, Broken):
        return {"broken": chunk.what}
    fields: dict[str, object] = {"at": round(chunk.at, 6), "channel": chunk.kind.name.lower()}
    if chunk.kind is Kind.RESIZE:
        fields |= dict(zip(("columns", "rows"), chunk.size, strict=True))
    else:
        try:
            fields["text"] = chunk.data.decode()
        except UnicodeDecodeError:
            fields["base64"] = base64.b64encode(chunk.data).decode()
    return {"stream": fields}


def _item(item: recording.Item) -> dict[str, object]:
    match item:
        case recording.Columns(columns):
            return {"columns": [{"name": column.name, "type": column.oid} for column in columns]}
        case recording.Row(values):
            return {"row": values}
        case recording.Complete(tag):
            return {"complete": tag}
        case recording.Report(error, fields):
            return {"error" if error else "notice": fields}
        case recording.CopyStarted(direction, binary):
            return {"copy": {"direction": direction, "binary": binary}}
        case recording.CopyChunk(data):
            return {"copyData": base64.b64encode(data).decode()}
        case recording.Notification(channel, payload):
            return {"notification": {"channel": channel, "payload": payload}}
        case recording.Broken(what):
            return {"broken": what}


_DECODERS: Final = {"Kubernetes": _streams_and_text, "Postgres": _postgres, "SSH": _streams_and_text}
"""By protocol: a recorded response as the fields of lines."""


def line(kind: str, session: str, fields: Mapping[str, object]) -> bytes:
    """One line, with its newline."""
    return orjson.dumps({"v": VERSION, "type": kind, "session": session, **fields}, option=orjson.OPT_APPEND_NEWLINE)


def _times(fields: Mapping[str, object]) -> dict[str, object]:
    return {key: time_text(value) if key == "at" else value for key, value in fields.items()}


def time_text(at: object) -> str:
    """RFC 3339, UTC, microseconds."""
    seconds = at if isinstance(at, (int, float)) else 0
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
