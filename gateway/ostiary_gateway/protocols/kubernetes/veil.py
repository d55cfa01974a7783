"""Hides what an agent may not see in what people, explanations and the API server's own errors show. No I/O."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import orjson

from ostiary_policy.masking import MaskPlan

from . import masks
from .questions import Unmaskable, UpstreamAnswer
from .request_info import RequestInfo

JsonObject = dict[str, object]

HIDDEN: Final = "[secret]"
_JSON: Final = b"application/json"


class Veil:
    """For what one request is about. `plan`: what any request of the session would be masked by."""

    def __init__(self, plan: MaskPlan, info: RequestInfo) -> None:
        self._plan = plan
        self._info = info
        self._is_secret = info.resource == "secrets" and not info.group

    def document(self, document: JsonObject) -> JsonObject:
        """The object as a GET of it would be masked, and no value of a Secret. Raises Unmaskable."""
        # A subresource's objects are those that it belongs to, and a collection's are each one of it.
        info = replace(self._info, subresource="", verb="get", name=self._info.name or "one", watch=False)
        if mask := masks.response_mask(self._plan, info, 200, _JSON):
            document = orjson.loads(b"".join([*mask.feed(orjson.dumps(document)), *mask.finish()]))
        if self._is_secret or document.get("kind") == "Secret":
            for key in ("data", "stringData"):
                values = document.get(key)
                if isinstance(values, dict):
                    document = {**document, key: dict.fromkeys(values, HIDDEN)}
        return document

    def fact(self, name: str, value: object) -> object:
        """One of the facts about objects, likewise; others as they are. Raises Unmaskable."""
        if name in ("object", "oldObject") and isinstance(value, dict):
            return self.document(value) if value else value
        if name == "oldObjects" and isinstance(value, list):
            return [self.document(each) for each in value]
        return value

    def response(self, answer: UpstreamAnswer) -> bytes:
        """The body of an error, as the agent may see it. Raises Unmaskable."""
        mask = masks.response_mask(self._plan, self._info, answer.status, answer.content_type)
        if mask is None:
            return answer.body
        return b"".join([*mask.feed(answer.body), *mask.finish()])


__all__ = ["HIDDEN", "Unmaskable", "Veil"]
