"""Upgraded requests, exec, attach and port-forward: which of them there are, their handshakes, and their tunnels. Pure.

Sources: RFC 6455, section 4; Kubernetes, k8s.io/apimachinery/pkg/util/remotecommand, k8s.io/streaming/pkg/httpstream
and k8s.io/kubelet/pkg/cri/streaming (which subprotocols there are). A gateway answers no handshake by itself: what the
API server picks holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Literal, Protocol

from ostiary_gateway.masking.detectors import Detectors
from ostiary_gateway.masking.output import OutputMask
from ostiary_gateway.masking.streaming import StreamMask
from ostiary_policy.masking import MaskPlan

from .carriers import SpdyStreams, WebSocketChannels
from .port_forward import ChannelPortForward, SpdyPortForward, TunnelledPortForward
from .questions import Ask, Header
from .remote_command import RemoteCommand
from .websocket import accept_value
from .wire import ResponseHead, WireError

BEARER: Final = b"base64url.bearer.authorization.k8s.io."
"""What browsers hide a token in. It never goes upstream."""

TUNNEL: Final = b"SPDY/3.1+portforward.k8s.io"

_COMMANDS: Final = frozenset((
    b"v5.channel.k8s.io", b"v4.channel.k8s.io", b"v4.base64.channel.k8s.io", b"channel.k8s.io",
    b"base64.channel.k8s.io",
))  # fmt: skip
_FORWARDS: Final = frozenset((
    TUNNEL, b"v4.channel.k8s.io", b"v4.base64.channel.k8s.io", b"channel.k8s.io", b"base64.channel.k8s.io",
))  # fmt: skip
_SPDY_COMMANDS: Final = frozenset((
    b"v5.channel.k8s.io", b"v4.channel.k8s.io", b"v3.channel.k8s.io", b"v2.channel.k8s.io", b"channel.k8s.io",
))  # fmt: skip
_SPDY_FORWARDS: Final = frozenset((b"portforward.k8s.io",))
_SUBRESOURCES: Final = frozenset(("exec", "attach", "portforward"))


class Relayed(Protocol):
    """A tunnel once the server has agreed."""

    to_client: list[bytes]
    to_server: list[bytes]
    over: str

    @property
    def due(self) -> float | None: ...

    @property
    def size(self) -> int: ...

    def from_client(self, data: bytes) -> None: ...

    def from_server(self, data: bytes) -> None: ...

    def tick(self) -> None: ...

    def ended(self, by: Literal["client", "server", "gateway"], message: str = "") -> None: ...

    def end_detail(self) -> dict[str, object]: ...


class Tunnel:
    """One upgraded request. `request_headers` are for its upstream; `accepted` takes the API server's 101.

    After that whatever comes from either side is given to `from_client` and `from_server`, and what is to be sent
    stands in `to_client` and `to_server`, which the caller empties. When `over` is not empty the gateway has to end it,
    with that reason: `ended("gateway", over)`. When `due` is a number, `tick` is wanted in so many seconds.
    """

    def __init__(self, ask: Ask, make: Callable[[bytes], Relayed]) -> None:
        self.request_headers: list[Header]
        self.protocol = b""
        """What the API server has picked."""
        self._make = make
        self._relayed: Relayed | None = None
        self._spdy = ask.request.head.upgrade == b"spdy/3.1"
        self._forward = ask.info.subresource == "portforward"
        headers = ask.request.head.headers
        if self._spdy:
            self._offered = _offered(headers, b"x-stream-protocol-version")
            known = [each for each in self._offered if each in (_SPDY_FORWARDS if self._forward else _SPDY_COMMANDS)]
            self.request_headers = [
                (b"connection", b"Upgrade"), (b"upgrade", b"SPDY/3.1"),
                *((b"x-stream-protocol-version", each) for each in known),
            ]  # fmt: skip
        else:
            key = self._websocket_key(ask)
            offered = _offered(headers, b"sec-websocket-protocol")
            self._offered = [each for each in offered if not each.startswith(BEARER)]
            known = [each for each in self._offered if each in (_FORWARDS if self._forward else _COMMANDS)]
            self._accept = accept_value(key)
            self.request_headers = [
                (b"connection", b"Upgrade"), (b"upgrade", b"websocket"), (b"sec-websocket-version", b"13"),
                (b"sec-websocket-key", key),
            ]  # fmt: skip
            if known:
                self.request_headers.append((b"sec-websocket-protocol", b", ".join(known)))
        if self._offered and not known:
            shown = b", ".join(self._offered)[:200].decode(errors="replace")
            raise _bad(f"None of these protocols is known for {ask.info.subresource}: {shown}.")
        self._offered = known

    def _websocket_key(self, ask: Ask) -> bytes:
        head = ask.request.head
        if head.method != "GET":
            raise _bad("A WebSocket begins with a GET.")
        if head.get(b"sec-websocket-version") != b"13":
            raise _bad("Only version 13 of WebSocket is spoken: send Sec-WebSocket-Version: 13.")
        key = head.get(b"sec-websocket-key") or b""
        if len(key) != 24:
            raise _bad("A WebSocket needs a Sec-WebSocket-Key of 24 characters.")
        return key

    def accepted(self, head: ResponseHead) -> list[Header]:
        """The API server agreed: the headers of the gateway's own 101. Raises WireError if it did not really."""
        if (head.get(b"upgrade") or b"").lower() != (b"spdy/3.1" if self._spdy else b"websocket"):
            raise _broken("it upgrades to something that was not asked for")
        name = b"x-stream-protocol-version" if self._spdy else b"sec-websocket-protocol"
        self.protocol = head.get(name) or b""
        if self.protocol and self.protocol not in self._offered:
            raise _broken("it picked a protocol that was not offered")
        headers = [(b"connection", b"Upgrade"), (b"upgrade", b"SPDY/3.1" if self._spdy else b"websocket")]
        if not self._spdy:
            if head.get(b"sec-websocket-accept") != self._accept:
                raise _broken("its Sec-WebSocket-Accept does not fit the key")
            if head.get(b"sec-websocket-extensions"):
                raise _broken("it uses an extension that was not offered")
            headers.append((b"sec-websocket-accept", self._accept))
        if self.protocol:
            headers.append((name, self.protocol))
        self._relayed = self._make(self.protocol)
        return headers

    @property
    def relayed(self) -> Relayed:
        assert self._relayed is not None, "nothing is relayed before the server has agreed"
        return self._relayed

    @property
    def to_client(self) -> list[bytes]:
        return self.relayed.to_client

    @property
    def to_server(self) -> list[bytes]:
        return self.relayed.to_server

    @property
    def over(self) -> str:
        """Why the gateway must end it; empty as long as it need not."""
        return self.relayed.over

    @property
    def due(self) -> float | None:
        """Seconds from now until `tick` is wanted; None: it is not."""
        return self.relayed.due

    @property
    def size(self) -> int:
        """Bytes of output that went to the client."""
        return self.relayed.size

    def from_client(self, data: bytes) -> None:
        self.relayed.from_client(data)

    def from_server(self, data: bytes) -> None:
        self.relayed.from_server(data)

    def tick(self) -> None:
        self.relayed.tick()

    def ended(self, by: Literal["client", "server", "gateway"], message: str = "") -> None:
        """It is over; last words for the client, if there are any, stand in `to_client`."""
        if self._relayed is not None:
            self._relayed.ended(by, message)

    def end_detail(self) -> dict[str, object]:
        """For the record, with `outcome`: ok, error or lost."""
        if self._relayed is None:
            return {"outcome": "lost"}
        transport = "SPDY" if self._spdy else "WebSocket"
        return {"transport": transport, "protocol": self.protocol.decode(), **self._relayed.end_detail()}


def open_tunnel(
    ask: Ask, plan: MaskPlan, record: Callable[[bytes], None] | None, *, now: Callable[[], float]
) -> Tunnel:
    """The tunnel of a request that asks for an upgrade.

    record: takes the frames of a recorded stream (audit/stream_recording.py); None: they are not kept. Of a
    port-forward there are none. now: seconds of a clock that only grows.
    Raises WireError where the request is none that may be upgraded.
    """
    info = ask.info
    if info.resource != "pods" or info.group or info.subresource not in _SUBRESOURCES or not info.name:
        raise _bad(
            "Only exec, attach and port-forward of a pod can be upgraded. Send a watch or a log request without "
            "Upgrade; what is behind a proxy subresource cannot be reached this way."
        )
    spdy = ask.request.head.upgrade == b"spdy/3.1"
    query = dict(reversed(info.query))
    if info.subresource == "portforward":

        def forward(protocol: bytes) -> Relayed:
            if spdy:
                return SpdyPortForward()
            if protocol == TUNNEL:
                return TunnelledPortForward()
            ports = [port for name, value in info.query if name == "ports" for port in value.split(",")]
            return ChannelPortForward(ports, encoded=b"base64." in protocol)

        return Tunnel(ask, forward)
    detectors = Detectors(plan.detectors) if plan.detectors else None

    def command(protocol: bytes) -> Relayed:
        def mask() -> OutputMask:
            assert detectors is not None
            return StreamMask(detectors)

        return RemoteCommand(
            SpdyStreams(protocol) if spdy else WebSocketChannels(protocol),
            attach=info.subresource == "attach", tty=_true(query, "tty"), now=now,
            mask=None if detectors is None else mask,
            mask_text=None if detectors is None else lambda text: detectors.mask(text) or b"", record=record,
        )  # fmt: skip

    return Tunnel(ask, command)


def _true(query: Mapping[str, str], name: str) -> bool:
    """As the API server reads a flag: anything but false or 0, also nothing at all."""
    return name in query and query[name].lower() not in ("false", "0")


def _offered(headers: object, name: bytes) -> list[bytes]:
    assert isinstance(headers, (list, tuple))
    values = b",".join(value for known, value in headers if known == name)
    return [each for part in values.split(b",") if (each := part.strip())]


def _bad(message: str) -> WireError:
    return WireError(400, "BadRequest", message)


def _broken(message: str) -> WireError:
    return WireError(502, "InternalError", f"The API server's answer to the upgrade cannot be used: {message}.")
