"""What a mask makes of an API server's answer: for tests, in one call."""

from __future__ import annotations

import json
from collections.abc import Iterable

from ostiary_gateway.protocols.kubernetes.masks import response_mask
from ostiary_gateway.protocols.kubernetes.questions import BodyMask
from ostiary_gateway.protocols.kubernetes.request_info import RequestInfo, request_info
from ostiary_policy.masking import DetectorMask, JsonPathMask, MaskPlan, Strategy

REDACT = Strategy("Redact")
JSON = b"application/json"


def plan(*paths: str, detectors: Iterable[str] = (), strategy: Strategy = REDACT) -> MaskPlan:
    """Paths and detectors under one strategy."""
    return MaskPlan(
        json_paths=tuple(JsonPathMask(path, strategy) for path in paths),
        detectors=tuple(DetectorMask(name, strategy) for name in detectors),
    )


def fed(mask: BodyMask | None, body: bytes, size: int = 1 << 20) -> bytes:
    """The whole body, in pieces of this size."""
    if mask is None:
        return body
    shown = [piece for at in range(0, len(body), size) for piece in mask.feed(body[at : at + size])]
    return b"".join([*shown, *mask.finish()])


def shown(
    masks: MaskPlan, target: str, body: bytes, *, method: str = "GET", status: int = 200, kind: bytes = JSON,
    size: int = 1 << 20,
) -> bytes:  # fmt: skip
    """The body of a response to this request, as the agent gets it."""
    return fed(response_mask(masks, info(target, method), status, kind), body, size)


def info(target: str, method: str = "GET") -> RequestInfo:
    return request_info(method, target.encode())


def dumped(value: object) -> bytes:
    """As Go's encoder writes it."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026").encode()
