"""A protocol that has no view of its own in a transcript: what was asked, and how much came back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.console import RenderableType
from rich.text import Text

from ostiary_gateway.audit.reader import Request, SessionReader
from ostiary_gateway.audit.transcript_words import Options
from ostiary_gateway.visible import visible


def login(detail: Mapping[str, object]) -> Iterable[tuple[str, str]]:
    """Nothing of its own."""
    return ()


def asked(text: str, detail: Mapping[str, object], options: Options) -> list[RenderableType]:
    """As it was."""
    return [Text(visible(text, lines=True))]


def answered(reader: SessionReader, request: Request, width: int, options: Options) -> list[RenderableType]:
    """Not shown: nobody knows how to read it."""
    return []


def result(detail: Mapping[str, object]) -> Text:
    """Nothing of its own."""
    return Text()


def failure(detail: Mapping[str, object]) -> str:
    """The message, if there is one."""
    return str(detail.get("message", ""))
