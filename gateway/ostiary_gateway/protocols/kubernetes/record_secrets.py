"""What the record must never hold, whatever the masks say: values of Secrets, and tokens. It says `[secret]` there."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, Literal

from ostiary_gateway.masking.detectors import Detectors
from ostiary_policy.masking import JsonPathMask, MaskPlan, Strategy

from . import statuses
from .editing import ObjectEditor
from .items import Events, Members, Whole
from .questions import BodyMask, Unmaskable
from .targets import Document, Shape, document, shape_of

if TYPE_CHECKING:
    from .request_info import RequestInfo

SECRET: Final = b"[secret]"
_HIDDEN: Final = Strategy("Redact", replacement=SECRET.decode())
_PATHS: Final[dict[tuple[str, str, str], tuple[str, ...]]] = {
    ("", "secrets", ""): ("$.data.*", "$.stringData.*"),
    ("", "serviceaccounts", "token"): ("$.status.token",),
    ("authentication.k8s.io", "tokenreviews", ""): ("$.spec.token",),
}
"""By group, resource and subresource."""


class Recorded:
    """A mask that never fails: where it cannot go on, the rest is `[secret]`."""

    def __init__(self, mask: BodyMask | None) -> None:
        self._mask = mask
        self._withheld = False
        self.touched = False

    def feed(self, data: bytes) -> list[bytes]:
        """What may be recorded."""
        mask = self._mask
        if mask is None:
            return self._withhold() if data else []
        try:
            shown = mask.feed(data)
        except Unmaskable:
            return self._withhold()
        self.touched = self.touched or mask.touched
        return shown

    def finish(self) -> list[bytes]:
        if self._mask is None:
            return []
        try:
            shown = self._mask.finish()
        except Unmaskable:
            return self._withhold()
        self.touched = self.touched or self._mask.touched
        return shown

    def _withhold(self) -> list[bytes]:
        self._mask = None
        if self._withheld:
            return []
        self._withheld = self.touched = True
        return [SECRET]


def for_record(
    info: RequestInfo, direction: Literal["request", "response"], content_type: bytes, status: int = 200
) -> BodyMask | None:
    """What goes over a body on its way into the record; None: it holds nothing of that kind. Never raises, nor does
    what it returns."""
    paths = _PATHS.get((info.group, info.resource, info.subresource))
    if paths is None and (info.group, info.resource) == ("", "secrets"):
        paths = _PATHS["", "secrets", ""]
    if paths is None or not info.is_resource:
        return None
    media = content_type.partition(b";")[0].strip().lower()
    if media == b"application/json-patch+json" and direction == "request":
        # What is added where is told by a path; values of Secrets may stand in any of them.
        paths = ("$[*].value",)
    elif media != b"application/json" and not (media.endswith(b"+json") or media == b"application/apply-patch+yaml"):
        return Recorded(None)
    shape = shape_of(info) if direction == "response" else Shape(info.group, info.resource)
    plan = _plan(paths)
    found = document(plan, shape)
    editor = ObjectEditor(plan, shape, Detectors(()), found.selection.dead, typed=False)
    if direction == "response" and status >= 400:
        return Recorded(Whole(statuses.without_values))
    return Recorded(_mask(editor, found, shape))


def _mask(editor: ObjectEditor, found: Document, shape: Shape) -> BodyMask:
    root = found.selection.root
    if shape.watch:
        return Events(lambda event: editor.edited(event, 0, len(event), root))
    if shape.collection:
        return Members(editor, found)
    return Whole(lambda body: editor.edited(body, 0, len(body), root))


@lru_cache(maxsize=16)
def _plan(paths: tuple[str, ...]) -> MaskPlan:
    return MaskPlan(json_paths=tuple(JsonPathMask(path, _HIDDEN) for path in paths))
