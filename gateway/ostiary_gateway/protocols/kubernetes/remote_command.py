"""An exec or attach on its way: relayed as it came, counted, masked where a detector finds something, recorded. Pure.

Clients are told how it ended on the channel where the server would have said it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import orjson

from ostiary_gateway.audit.stream_recording import Kind, Writer, size_data, terminal_size
from ostiary_gateway.masking.output import MaskedOutput, OutputMask

from .carriers import ERROR, OTHER, RESIZE, STDERR, STDIN, STDOUT, Broken, Carrier, Piece

MAX_STATUS: Final = 65536
"""Bytes of the last word that are looked at."""
_KINDS: Final = {STDIN: Kind.STDIN, STDOUT: Kind.STDOUT, STDERR: Kind.STDERR, ERROR: Kind.ERROR}
_NAMES: Final = {STDIN: "stdin", STDOUT: "stdout", STDERR: "stderr"}


class RemoteCommand:
    """The tunnel of one exec or attach.

    now: seconds of a clock that only grows. mask: makes what goes over one output; None: nothing is masked.
    mask_text: the same for a whole text. record: takes what is kept of it; None: nothing is.
    """

    def __init__(
        self,
        carrier: Carrier,
        *,
        attach: bool,
        tty: bool,
        now: Callable[[], float],
        mask: Callable[[], OutputMask] | None,
        mask_text: Callable[[bytes], bytes] | None,
        record: Callable[[bytes], None] | None,
    ) -> None:
        self.to_client: list[bytes] = []
        self.to_server: list[bytes] = []
        self.over = ""
        """Why the gateway must end it; empty as long as it need not."""
        self._carrier = carrier
        self._attach = attach
        self._now = now
        self._masks = MaskedOutput(mask, tty=tty, now=now) if mask is not None else None
        self._mask_text = mask_text
        self._writer = Writer(now(), tty=tty)
        self._record = record
        self._counts = dict.fromkeys(_NAMES, 0)
        self._status = bytearray()
        self._size = (0, 0)
        self._ended_by = ""
        if record is not None:
            record(self._writer.header)

    # -- bytes

    def from_client(self, data: bytes) -> None:
        if self.over:
            return
        try:
            for piece in self._carrier.client(data):
                self.to_server.append(piece.raw)
                self._told(piece)
        except Broken as problem:
            self.over = f"The client broke the protocol of the stream: {problem}."

    def _told(self, piece: Piece) -> None:
        """What the agent says is only looked at."""
        if piece.channel == STDIN:
            self._counts[STDIN] += len(piece.data)
            if piece.data:
                self._keep(Kind.STDIN, piece.data)
                if self._masks is not None:
                    self._masks.typed(piece.data)
            if piece.fin:
                self._keep(Kind.CLOSED, b"")
        elif piece.channel == RESIZE and (size := terminal_size(piece.data)) is not None:
            self._size = size
            self._keep(Kind.RESIZE, size_data(*size))

    def from_server(self, data: bytes) -> None:
        if self.over:
            return
        try:
            for piece in self._carrier.server(data):
                self._heard(piece)
        except Broken as problem:
            self.over = f"The server broke the protocol of the stream: {problem}."

    def _heard(self, piece: Piece) -> None:
        if piece.channel in (STDOUT, STDERR):
            self._output(piece)
        elif piece.channel == ERROR:
            self._said(piece)
        else:
            if piece.channel == OTHER:
                # A close or a reset ends what is held back: nothing may follow it.
                self._release()
            self.to_client.append(piece.raw)

    def _output(self, piece: Piece) -> None:
        if self._masks is None:
            shown = piece.data
            self.to_client.append(piece.raw)
        else:
            feed = self._masks.stdout if piece.channel == STDOUT else self._masks.stderr
            shown = feed(piece.data, last=piece.fin)
            self.to_client += self._carrier.encode(piece.channel, shown, fin=piece.fin)
        self._counts[piece.channel] += len(shown)
        if shown:
            self._keep(_KINDS[piece.channel], shown)

    def _said(self, piece: Piece) -> None:
        self._release()
        data = piece.data
        if self._mask_text is not None and data:
            data = self._masked_status(data)
        if data is piece.data:
            self.to_client.append(piece.raw)
        else:
            self.to_client += self._carrier.encode(ERROR, data, fin=piece.fin)
        if data:
            self._status += data[: MAX_STATUS - len(self._status)]
            self._keep(Kind.ERROR, data)

    def _masked_status(self, data: bytes) -> bytes:
        assert self._mask_text is not None
        try:
            status = orjson.loads(data)
        except orjson.JSONDecodeError:
            masked = self._mask_text(data)
            return data if masked == data else masked
        shown = _masked_strings(status, self._mask_text)
        return data if shown == status else orjson.dumps(shown)

    # -- held back output

    @property
    def due(self) -> float | None:
        """Seconds from now on until `tick` is wanted; None: it is not."""
        at = None if self._masks is None else self._masks.due
        return None if at is None else max(0.0, at - self._now())

    def tick(self) -> None:
        """Lets go what was held back for long enough."""
        if self._masks is not None and self._masks.overdue:
            self._release()

    def _release(self) -> None:
        if self._masks is None:
            return
        for channel, shown in zip((STDOUT, STDERR), self._masks.release(), strict=True):
            if shown:
                self._counts[channel] += len(shown)
                self._keep(_KINDS[channel], shown)
                self.to_client += self._carrier.encode(channel, shown, fin=False)

    # -- the end

    def ended(self, by: Literal["client", "server", "gateway"], message: str = "") -> None:
        """It is over. `message`: what the client is told, if the gateway ends it."""
        if self._ended_by:
            return
        self._ended_by = by
        if by == "client":
            return
        self._release()
        if by == "gateway":
            status = b""
            if not self._status:
                status = _failure(message) if self._carrier.has_status else message.encode()
            self.to_client += self._carrier.last_words(status, message)
            self._keep(Kind.NOTE, message.encode())

    def end_detail(self) -> dict[str, object]:
        """For the record: bytes by channel, how the command ended, and `outcome`."""
        detail: dict[str, object] = {f"{name}Bytes": self._counts[channel] for channel, name in _NAMES.items()}
        if all(self._size):
            detail["terminal"] = "{}x{}".format(*self._size)
        return detail | self._result()

    def _result(self) -> dict[str, object]:
        if not self._status:
            # Who leaves an attach has seen enough of it; a command that said nothing of its end was cut.
            left = self._attach and self._ended_by == "client"
            silent = not self._carrier.has_status and self._ended_by == "server"
            return {"outcome": "ok" if left or silent else "lost"}
        text = bytes(self._status)
        if not self._carrier.has_status:
            return {"outcome": "error", "message": text.decode(errors="replace")}
        return exit_of(text)

    @property
    def size(self) -> int:
        """Bytes of output."""
        return self._counts[STDOUT] + self._counts[STDERR]

    def _keep(self, kind: Kind, data: bytes) -> None:
        if self._record is not None:
            self._record(self._writer.frame(self._now(), kind, data))


def exit_of(text: bytes) -> dict[str, object]:
    """What a v1.Status on the error channel says: `exitCode`, or `message`, and the outcome of the request."""
    try:
        status = orjson.loads(text)
    except orjson.JSONDecodeError:
        status = None
    if not isinstance(status, dict):
        return {"outcome": "error", "message": text.decode(errors="replace")}
    if status.get("status") == "Success":
        return {"outcome": "ok", "exitCode": 0}
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    if status.get("reason") == "NonZeroExitCode":
        for cause in causes if isinstance(causes, list) else ():
            if isinstance(cause, dict) and cause.get("reason") == "ExitCode" and str(cause.get("message")).isdecimal():
                return {"outcome": "ok", "exitCode": int(cause["message"])}
    return {"outcome": "error", "message": str(status.get("message", ""))}


def _failure(message: str) -> bytes:
    return orjson.dumps({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": "Forbidden", "code": 403,
    })  # fmt: skip


def _masked_strings(value: object, mask: Callable[[bytes], bytes]) -> object:
    if isinstance(value, str):
        return mask(value.encode()).decode(errors="replace")
    if isinstance(value, list):
        return [_masked_strings(item, mask) for item in value]
    if isinstance(value, dict):
        return {key: _masked_strings(item, mask) for key, item in value.items()}
    return value
