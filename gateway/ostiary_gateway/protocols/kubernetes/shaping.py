"""What goes over a response on its way to the client and into the record, and how the request asks for it. No I/O."""

from __future__ import annotations

import functools

from ostiary_policy.masking import MaskPlan

from .access_reviews import Judge, shaper_for
from .masks import accept_for, check_write, for_record, response_mask
from .questions import Ask, BodyMask, Header, Shaper
from .request_info import RequestInfo
from .wire import Request, RequestHead

_JSON = b"application/json"


def shaped(ask: Ask, request: Request, plan: MaskPlan, all_masks: MaskPlan, judge: Judge) -> tuple[
    Request, tuple[Shaper, ...]
]:  # fmt: skip
    """`request` as it has to ask so that its response can be masked by `plan`, and what goes over that.

    `all_masks`: of the Connection; what they have hidden may not come back in a write. Raises MaskedValueReturned.
    """
    if all_masks and request.body:
        check_write(all_masks, ask.info, request)
    shapers: list[Shaper] = []
    accept = asked = request.head.get(b"accept") or b"*/*"
    if plan:
        accept = accept_for(plan, ask.info, accept)
        shapers.append(functools.partial(response_mask, plan, ask.info))
    if (review := shaper_for(ask, judge)) is not None:
        # Who takes nothing but a Table is told by the API server that there is none (406).
        accept = _JSON if _takes_plain(accept) else accept
        shapers.append(review)
    return (request if accept == asked else _asking(request, accept)), tuple(shapers)


def recorder_for(info: RequestInfo) -> Shaper | None:
    """What goes over a response into the record, where it may hold what is never recorded."""
    if (info.resource, info.group) == ("secrets", "") or info.subresource == "token" or info.resource == "tokenreviews":
        return lambda status, content_type: for_record(info, "response", content_type, status)
    return None


def recorded_body(info: RequestInfo, request: Request) -> bytes:
    """A request's body as it may be recorded."""
    mask: BodyMask | None = for_record(info, "request", request.head.get(b"content-type") or b"")
    if mask is None:
        return request.body
    return b"".join((*mask.feed(request.body), *mask.finish()))


def _takes_plain(accept: bytes) -> bool:
    """Whether an object as it is would do, and not only a Table or its metadata made of it."""
    return any(b";as=" not in each.replace(b" ", b"").lower() for each in accept.split(b","))


def _asking(request: Request, accept: bytes) -> Request:
    head = request.head
    headers: list[Header] = [each for each in head.headers if each[0] != b"accept"]
    headers.append((b"accept", accept))
    return Request(RequestHead(head.method, head.target, headers, head.keep_alive, head.upgrade), request.body)
