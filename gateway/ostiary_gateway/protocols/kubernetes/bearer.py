"""Where a request shows its bearer token: the Authorization header, or the subprotocol of a WebSocket. No I/O.

Sources: RFC 6750 section 2.1; k8s.io/apiserver, pkg/authentication/request/websocket.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final

from .wire import RequestHead

PREFIX: Final = b"base64url.bearer.authorization.k8s.io."
PROTOCOLS: Final = b"sec-websocket-protocol"
MAX_TOKEN: Final = 32_768
"""Bytes."""


def shown_by(head: RequestHead) -> bytes:
    """What a request shows, as it stands there: equal bytes stand for the same token. Empty if it shows nothing."""
    found = head.get(b"authorization")
    if found is not None:
        return found
    return _subprotocol(head) if head.upgrade else b""


def token_of(shown: bytes) -> str:
    """The token in what was shown; empty if it is none that could be checked."""
    scheme, _, rest = shown.partition(b" ")
    if scheme.lower() == b"bearer":
        token = rest.strip(b" ")
    elif shown.startswith(PREFIX):
        token = _decoded(shown[len(PREFIX) :])
    else:
        return ""
    return token.decode("ascii") if len(token) <= MAX_TOKEN and token.isascii() else ""


def _subprotocol(head: RequestHead) -> bytes:
    for name, value in head.headers:
        if name == PROTOCOLS:
            for each in _listed(value):
                if each.startswith(PREFIX):
                    return each
    return b""


def _listed(value: bytes) -> list[bytes]:
    return [each.strip(b" \t") for each in value.split(b",")]


def _decoded(text: bytes) -> bytes:
    """Base64url without padding; empty if it is none."""
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return b""
