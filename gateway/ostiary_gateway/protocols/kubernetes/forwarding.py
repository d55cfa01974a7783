# cython: annotation_typing=False
"""Which headers pass a gateway, in either direction, and how a request is written for the API server. No I/O.

Sources: RFC 9110 section 7.6.1 (hop-by-hop), Kubernetes "Authenticating" (front proxies, impersonation).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .questions import Header
from .wire import HOP_BY_HOP, RequestHead

_NOT_UPSTREAM: Final = HOP_BY_HOP | frozenset(
    (b"accept-encoding", b"authorization", b"cookie", b"forwarded", b"host", b"x-real-ip")
)
"""What an API server, or a proxy before it, could take for a proof of who asks; and what the gateway says itself.

Accept-Encoding is among them: what is packed can neither be masked nor recorded.
"""
_NOT_UPSTREAM_PREFIXES: Final = (b"impersonate-", b"x-remote-", b"x-forwarded-", b"proxy-")
_OF_AN_UPGRADE: Final = (b"sec-websocket-", b"x-stream-protocol-version")
_NOT_TO_CLIENT: Final = HOP_BY_HOP | frozenset((b"set-cookie", b"ostiary-request"))
_BODIED: Final = frozenset(("POST", "PUT", "PATCH"))


def forwarded(headers: Iterable[Header]) -> list[Header]:
    """A client's headers as the API server may see them."""
    return [
        header
        for header in headers
        if header[0] not in _NOT_UPSTREAM and not header[0].startswith(_NOT_UPSTREAM_PREFIXES)
    ]


def returned(headers: Iterable[Header]) -> list[Header]:
    """The API server's headers as the client may see them, without those of the framing."""
    return [header for header in headers if header[0] not in _NOT_TO_CLIENT]


def request_start(method: str, target: bytes, headers: Iterable[Header], host: bytes) -> bytes:
    """The part of a request's head that is the same whoever asks. `headers` may be a client's."""
    lines = [b"%s %s HTTP/1.1\r\nhost: %s\r\n" % (method.encode(), target, host)]
    lines += [b"%s: %s\r\n" % header for header in forwarded(headers)]
    return b"".join(lines)


def request_bytes(
    method: str, target: bytes, headers: Iterable[Header], body: bytes, host: bytes, credentials: Iterable[Header]
) -> bytes:
    """A request as it goes to the API server. `headers` may be a client's."""
    return finished(method, request_start(method, target, headers, host), credentials, body)


def upgrade_start(head: RequestHead, upgrade: Iterable[Header], host: bytes) -> bytes:
    """As `request_start`, for a request with an upgrade, whose headers are `upgrade`."""
    kept = [header for header in forwarded(head.headers) if not header[0].startswith(_OF_AN_UPGRADE)]
    start = request_start(head.method, head.target, kept, host)
    return start + b"".join(b"%s: %s\r\n" % header for header in upgrade)


def finished(method: str, start: bytes, credentials: Iterable[Header], body: bytes, *, upgrade: bool = False) -> bytes:
    """`request_start` with the rest. The reader lets no line break into a header's value, and no credential has one."""
    parts = [start, *[b"%s: %s\r\n" % header for header in credentials]]
    if not upgrade and (body or method in _BODIED):
        parts.append(b"content-length: %d\r\n\r\n" % len(body))
        parts.append(body)
    else:
        parts.append(b"\r\n")
    return b"".join(parts)
