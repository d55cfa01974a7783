"""The report of a client program: what it saw, step by step, as JSON that two runs can be compared by."""

from __future__ import annotations

import datetime
import decimal
import json
import sys
import uuid
from collections.abc import Callable


class Report:
    """Steps in order. Nothing in it may differ between two runs against equal servers."""

    def __init__(self, client: str) -> None:
        self._client = client
        self._steps: list[dict[str, object]] = []

    def saw(self, step: str, what: object) -> None:
        self._steps.append({"step": step, "saw": what})

    def print(self) -> None:
        json.dump({"client": self._client, "steps": self._steps}, sys.stdout, default=plain, indent=1)
        print()


def plain(value: object) -> object:
    """Anything that JSON does not know, in words."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return "bytes:" + bytes(value).hex()
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time, decimal.Decimal, uuid.UUID)):
        return f"{type(value).__name__}:{value}"
    if isinstance(value, datetime.timedelta):
        return f"seconds:{value.total_seconds()}"
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    if isinstance(value, tuple):
        return list(value)
    return f"{type(value).__name__}:{value}"


Step = Callable[[], object]
