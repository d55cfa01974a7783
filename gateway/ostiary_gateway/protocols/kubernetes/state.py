# cython: annotation_typing=False
"""What a client's connection is in the middle of: one request, and its response as it goes out and into the record.

No I/O. `Turn` frames the response for the client, sends its body through the masks, and keeps apart what is recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import orjson

from .answers import REQUEST_HEADER
from .forwarding import returned
from .questions import Admission, BodyMask, Header, Shaper, Unmaskable
from .streams import Tunnel
from .wire import LAST_CHUNK, Request, ResponseHead, chunk, encode_response_head

MAX_ERROR: Final = 16_384
"""Bytes of an error's body that are looked at for the record."""
_BODILESS: Final = (204, 304)
_PROTOBUF: Final = b"application/vnd.kubernetes.protobuf"


class Turn:
    """One request of a client, until its response has ended."""

    __slots__ = (
        "_boundary", "_chunked", "_cutting", "_error", "_keeps", "_masks", "_record", "admission", "begun", "close",
        "full", "number", "recorded", "request", "size", "status", "streams", "tries", "tunnel",
    )  # fmt: skip

    def __init__(self, request: Request) -> None:
        self.request = request
        self.admission: Admission | None = None
        self.number = 0
        """Of the request in its session; 0 while it is not recorded."""
        self.tries = 0
        """How often it was sent upstream."""
        self.tunnel: Tunnel | None = None
        """Where an upgrade was asked for."""
        self.begun = False
        """The head of the response is out."""
        self.close = not request.head.keep_alive or bool(request.head.upgrade)
        """The connection ends with the response. What comes behind a request for an upgrade is no request."""
        self.full = False
        """Bodies go into the record: `recorded`, which who takes them empties."""
        self.streams = False
        """The response goes on until somebody ends it (a watch, a followed log), and may be ended between two lines."""
        self.status = 0
        self.size = 0
        """Bytes of the body that went to the client."""
        self.recorded: list[bytes] = []
        self._masks: list[BodyMask] = []
        self._record: BodyMask | None = None
        self._chunked = False
        self._cutting = False
        self._keeps = False
        self._error = b""
        self._boundary: Lines | Frames | None = None

    @property
    def record(self) -> str:
        """The id of the request's record; empty while it has none."""
        return self.admission.verdict.request if self.admission is not None else ""

    def head(
        self, head: ResponseHead, request_id: bytes, shapers: Sequence[Shaper], more: Sequence[Header],
        recorder: Shaper | None,
    ) -> bytes:  # fmt: skip
        """The head for the client. `shapers` go over the body, `recorder` over what is recorded of it; `more` headers.

        Raises Unmaskable; then nothing may be sent of it.
        """
        status = self.status = head.status
        self._keeps = status >= 400
        has_body = self.request.head.method != "HEAD" and status not in _BODILESS
        length = head.length
        if has_body and (shapers or recorder is not None or self.streams):
            content_type = head.get(b"content-type") or b""
            self._masks = [mask for make in shapers if (mask := make(status, content_type)) is not None]
            if self._masks:
                if (head.get(b"content-encoding") or b"identity").strip().lower() != b"identity":
                    raise Unmaskable("The answer came compressed, which nobody asked for, so it cannot be masked.")
                length = None
            if recorder is not None and (self.full or self._keeps):
                self._record = recorder(status, content_type)
            if self.streams:
                self._boundary = Frames() if content_type.startswith(_PROTOBUF) else Lines()
        self._chunked = has_body and length is None
        headers = returned(head.headers)
        if self._masks:
            # Of an admission webhook's words nobody knows what they quote.
            headers = [each for each in headers if each[0].lower() != b"warning"]
        headers.append((REQUEST_HEADER, request_id))
        headers += more
        self.begun = True
        return encode_response_head(status, head.reason, headers, length=length, close=self.close)

    @property
    def waits(self) -> bool:
        """A mask has let nothing out yet, and it is no stream: so it may still turn out that nothing can be shown."""
        return bool(self._masks) and self.size == 0 and not self.streams

    def body(self, data: bytes) -> list[bytes]:
        """More of the body, framed for the client."""
        if self._masks:
            return self._framed(self._masked([data], last=False))
        return self._framed([data])

    def end(self) -> list[bytes]:
        """The body has ended."""
        parts = self._framed(self._masked([], last=True)) if self._masks else []
        if self._record is not None:
            self._keep(self._record.finish())
        if self._chunked:
            parts.append(LAST_CHUNK)
        return parts

    def cut(self) -> bool:
        """A stream is to end: True if it can at once, with `last`; else `body` says when by `over`."""
        self._cutting = True
        return self._boundary is None or self._boundary.whole

    @property
    def over(self) -> bool:
        """It was to be ended, and is between two lines now."""
        return self._cutting and (self._boundary is None or self._boundary.whole)

    @property
    def cutting(self) -> bool:
        """It ends as soon as it can."""
        return self._cutting

    def last(self) -> bytes:
        """Ends a stream where it is. What masks have not let out is not sent."""
        return LAST_CHUNK if self._chunked else b""

    def error(self) -> tuple[str, str]:
        """Reason and message of the `Status` in an error's body; empty if it is none."""
        if not self._error or len(self._error) > MAX_ERROR:
            return "", ""
        try:
            found = orjson.loads(self._error)
        except orjson.JSONDecodeError:
            return "", ""
        if not isinstance(found, dict):
            return "", ""
        reason, message = found.get("reason"), found.get("message")
        return reason if isinstance(reason, str) else "", message if isinstance(message, str) else ""

    def _masked(self, pieces: list[bytes], *, last: bool) -> list[bytes]:
        for mask in self._masks:
            pieces = [out for piece in pieces for out in mask.feed(piece)]
            if last:
                pieces += mask.finish()
        return pieces

    def _framed(self, pieces: list[bytes]) -> list[bytes]:
        boundary = self._boundary
        if boundary is not None:
            pieces = self._bounded(boundary, pieces)
        for piece in pieces:
            self.size += len(piece)
        if self.full or self._keeps:
            record = self._record
            self._keep(pieces if record is None else [out for piece in pieces for out in record.feed(piece)])
        if not self._chunked:
            return pieces
        if len(pieces) == 1:
            return chunk(pieces[0])
        return [part for piece in pieces for part in chunk(piece)]

    def _keep(self, pieces: Sequence[bytes]) -> None:
        if self.full:
            self.recorded += pieces
        if self._keeps and len(self._error) <= MAX_ERROR:
            self._error += b"".join(pieces)[: MAX_ERROR + 1]

    def _bounded(self, boundary: Lines | Frames, pieces: list[bytes]) -> list[bytes]:
        """What may go out; with a cut, up to the next boundary only."""
        kept: list[bytes] = []
        for piece in pieces:
            if self.over:
                break
            upto = boundary.feed(piece, stop=self._cutting)
            kept.append(piece[:upto] if upto < len(piece) else piece)
        return kept


class Lines:
    """Where a text of lines can be cut."""

    __slots__ = ("whole",)

    def __init__(self) -> None:
        self.whole = True

    def feed(self, data: bytes, *, stop: bool) -> int:
        """How much of it goes out: all, or with `stop` up to the first end of a line."""
        if stop and (found := data.find(b"\n")) >= 0:
            self.whole = True
            return found + 1
        if data:
            self.whole = data.endswith(b"\n")
        return len(data)


class Frames:
    """Where a stream of frames, each behind four bytes with its length (big-endian), can be cut."""

    __slots__ = ("_left", "_size", "whole")

    def __init__(self) -> None:
        self.whole = True
        self._left = 0
        self._size = b""

    def feed(self, data: bytes, *, stop: bool) -> int:
        """As `Lines.feed`."""
        at, end = 0, len(data)
        while at < end:
            if self._left:
                taken = min(self._left, end - at)
                self._left -= taken
                at += taken
            else:
                taken = min(4 - len(self._size), end - at)
                self._size += data[at : at + taken]
                at += taken
                if len(self._size) < 4:
                    break
                self._left, self._size = int.from_bytes(self._size), b""
            if stop and not self._left and not self._size:
                break
        self.whole = not self._left and not self._size
        return at
