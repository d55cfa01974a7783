# cython: annotation_typing=False
"""What the record keeps of a request beside its text and its outcome."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Final

from . import params, wire
from .questions import Ask, Stage

NONE: Final[Mapping[str, object]] = {}
_RUN = Stage.RUN


def of_request(ask: Ask, full: bool) -> Mapping[str, object]:
    """The name of a prepared statement, and with `full` the parameters that were bound."""
    statement, portal = ask.statement, ask.portal
    if statement is None and ask.stage is _RUN:
        return NONE
    detail: dict[str, object] = {}
    if ask.stage is not _RUN:
        detail["stage"] = ask.stage.value
    if statement is not None:
        if statement.name:
            detail["statement"] = statement.name.decode(errors="replace")
        if full and portal is not None and portal.bind:
            bind = wire.parse_bind(portal.bind)
            if bind.values:
                detail["parameters"] = params.for_record(bind, statement.parameter_types)
    return detail


def of_end(tags: list[str] | None, error: tuple[str, str] | None) -> Mapping[str, object] | bytes:
    """Command tags; SQLSTATE and message of an error."""
    if error is None and tags is not None and len(tags) == 1:
        return _one_tag(tags[0])
    detail: dict[str, object] = {}
    if tags:
        detail["tags"] = tags[:100]
    if error is not None:
        detail["sqlstate"], detail["message"] = error
    return detail


@functools.lru_cache(1024)
def _one_tag(tag: str) -> bytes:
    return json.dumps({"tags": [tag]}, ensure_ascii=False).encode()
