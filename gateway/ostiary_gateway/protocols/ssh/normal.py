"""What a grant of a request is for: everything that changes what would run, or which file it would be. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ostiary_api.connection import Connection

from .questions import Question

_COUNTS: Final = (
    "kind", "user", "command", "pty", "env", "operation", "path", "target", "realPath", "realTarget", "size",
    "direction", "destination",
)  # fmt: skip


def normal_form(question: Question, facts: Mapping[str, object], connection: Connection) -> dict[str, object]:
    """The request, to the byte: another space in a command is another command."""
    upstream = connection.spec.upstream
    return {
        **{name: facts[name] for name in _COUNTS if name in facts},
        "exact": [part.hex() for part in question.exact],
        "upstream": [upstream.host, upstream.port],
    }
