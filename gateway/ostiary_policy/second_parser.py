"""Can cel-python, whose parser explains decisions, read an expression? Here, or wherever the caller has it asked.

With its grammar the parser takes 12 MB that a gateway needs only while it loads a bundle. So a gateway asks another
process, which runs this module: JSON texts come in, one a line, and each is answered by `null` or `[line, column]`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

Place = tuple[int, int]
"""Line and column where reading ended, from 1."""
Ask = Callable[[str], Place | None]

_LONG = 2048
"""Characters above which a text is read again each time: what is kept stays within 2 MB."""

_elsewhere: ContextVar[Ask | None] = ContextVar("second_parser", default=None)


def complaint(text: str) -> Place | None:
    """Where the text cannot be read; None if it can."""
    ask = _elsewhere.get()
    return read(text) if ask is None else ask(text)


@contextmanager
def asked_by(ask: Ask) -> Iterator[None]:
    """Until the block ends, `ask` is asked, in this task or thread and those that it starts."""
    token = _elsewhere.set(ask)
    try:
        yield
    finally:
        _elsewhere.reset(token)


def read(text: str) -> Place | None:
    """The same, in this process. Policies repeat each other, and a changed one most of itself: answers are kept."""
    return _read_once(text) if len(text) <= _LONG else _read(text)


def _read(text: str) -> Place | None:
    from celpy.celparser import CELParseError, CELParser

    try:
        CELParser().parse(text)
    except CELParseError as error:
        return error.line or 1, error.column or 1
    return None


_read_once = lru_cache(maxsize=1024)(_read)


def main() -> None:
    """Answer texts until there are no more."""
    read("true")  # what takes long is done while the other process is still busy with itself
    for line in sys.stdin:
        sys.stdout.write(json.dumps(read(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
