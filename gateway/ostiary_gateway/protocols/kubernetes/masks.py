"""The masks of one response of an API server, and what is asked for so that it can be masked. No I/O."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from ostiary_gateway.masking.detectors import Detectors
from ostiary_gateway.masking.strategies import MaskError
from ostiary_gateway.masking.streaming import StreamMask
from ostiary_policy.masking import DetectorMask, MaskPlan

from . import statuses
from .editing import ObjectEditor
from .items import Events, Members, Whole
from .questions import BodyMask, Unmaskable
from .record_secrets import for_record
from .targets import Document, Shape, document, shape_of
from .writes import MaskedValueReturned, check_write

if TYPE_CHECKING:
    from .request_info import RequestInfo

STREAMS: Final = frozenset({"exec", "attach", "portforward"})
"""Subresources that answer with another protocol, which masks its own bytes."""


class TextBody:
    """Plain text, such as logs: detectors only."""

    def __init__(self, detectors: Detectors) -> None:
        self.stream = StreamMask(detectors)
        self.touched = False

    def feed(self, data: bytes) -> list[bytes]:
        """Lines go when they are whole."""
        return self._given(self.stream.feed(data))

    def finish(self) -> list[bytes]:
        """The rest."""
        return self._given(self.stream.finish())

    def _given(self, shown: bytes) -> list[bytes]:
        self.touched = self.stream.touched
        return [shown] if shown else []


def response_mask(plan: MaskPlan, info: RequestInfo, status: int, content_type: bytes) -> BodyMask | None:
    """What goes over the body of a response; None: it passes as it is.

    Raises Unmaskable, as do its `feed` and `finish`: nothing more of the body may then be sent.
    """
    if not (plan.json_paths or plan.detectors) or describes_the_api(info) or info.subresource in STREAMS:
        return None
    detectors = _detectors(plan.detectors)
    media = _media_type(content_type)
    if media == "text/plain" and info.subresource == "log":
        return TextBody(detectors) if detectors else None
    if (not info.is_resource or info.subresource == "proxy") and media.startswith("text/"):
        return TextBody(detectors) if detectors else None
    if media == "text/plain" and status in (404, 405):
        # The API server's words for a path that it does not serve.
        return TextBody(detectors) if detectors else None
    if media != "application/json" and not media.endswith("+json"):
        raise Unmaskable(
            f"A mask applies to this answer, and it came as {media or 'something without a content type'}, which cannot"
            " be masked. Ask for application/json."
        )
    try:
        return _json_mask(plan, shape_of(info), status, detectors)
    except MaskError as error:
        raise Unmaskable(f"A mask cannot be applied: {error}.") from None


def _json_mask(plan: MaskPlan, shape: Shape, status: int, detectors: Detectors) -> BodyMask:
    found = document(plan, shape)
    editor = ObjectEditor(plan, shape, detectors, found.selection.dead)
    if status >= 400:
        return Whole(lambda body: _error(editor, found, plan, body))
    if shape.watch:
        return Events(lambda event: _event(editor, found, plan, event))
    if shape.collection:
        return Members(editor, found)
    return Whole(lambda body: editor.edited(body, 0, len(body), found.selection.root))


def _error(editor: ObjectEditor, found: Document, plan: MaskPlan, body: bytes) -> bytes:
    shown = statuses.without_values(body) if plan.json_paths else body
    masked = editor.edited(shown, 0, len(shown), found.selection.dead)
    return body if masked is body else masked


def _event(editor: ObjectEditor, found: Document, plan: MaskPlan, event: bytes) -> bytes:
    if plan.json_paths and (not event.startswith(_ORDINARY) or b'"Status"' in event):
        event = statuses.event_without_values(event)
    return editor.edited(event, 0, len(event), found.selection.root)


_ORDINARY: Final = tuple(b'{"type":"%s",' % kind for kind in (b"ADDED", b"MODIFIED", b"DELETED", b"BOOKMARK"))


def accept_for(plan: MaskPlan, info: RequestInfo, accept: bytes) -> bytes:
    """The Accept header that asks for the same as JSON, if something may be masked in the answer."""
    if not (plan.json_paths or plan.detectors) or describes_the_api(info):
        return accept
    if not info.is_resource or info.subresource in STREAMS or info.subresource in ("log", "proxy"):
        return accept
    ranges = [each.strip() for each in accept.split(b",")]
    kept = [each for each in ranges if _media_type(each) == "application/json"]
    return b", ".join(kept) if kept else b"application/json"


def describes_the_api(info: RequestInfo) -> bool:
    """Discovery, OpenAPI, the version: what there could be, no object of anybody's."""
    if info.is_resource:
        return False
    path = info.path.rstrip("/")
    return path in ("/api", "/apis", "/version") or path.startswith(("/api/", "/apis/", "/openapi/"))


@lru_cache(maxsize=256)
def _detectors(masks: tuple[DetectorMask, ...]) -> Detectors:
    return Detectors(masks)


def _media_type(content_type: bytes) -> str:
    return content_type.partition(b";")[0].strip().lower().decode("latin-1")


__all__ = ["MaskedValueReturned", "accept_for", "check_write", "describes_the_api", "for_record", "response_mask"]
