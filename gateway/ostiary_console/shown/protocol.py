"""What each protocol tells of a request for a page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from ostiary_console.shown.bounds import Bounds
from ostiary_console.views import AnyBlock


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked."""

    kind: str
    """statement, call, command, shell, file, forward, or other."""
    text: str
    language: str = ""
    parameters: tuple[str | None, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    blocks: tuple[AnyBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """A recorded response, to be read once. `detail` is that of the request's end."""

    detail: Mapping[str, object]
    truncated: bool
    pieces: Iterable[bytes]
    first_row: int = 0
    cast_href: str = ""
    """Where it can be had as an asciicast, if it is one."""


class Shown(Protocol):
    """What is a protocol's own on a page."""

    def login(self, detail: Mapping[str, object]) -> Iterator[tuple[str, str]]:
        """More of the session's heading, name and text. `detail` is that of its beginning."""

    def asked(self, text: str, detail: Mapping[str, object], bounds: Bounds) -> Asked: ...

    def answered(self, answer: Answer, bounds: Bounds) -> Iterator[AnyBlock]: ...

    def result(self, detail: Mapping[str, object]) -> tuple[str, bool]:
        """How it ended in a few words, and whether that is well. `detail` is that of the request's end."""

    def failure(self, detail: Mapping[str, object]) -> str:
        """The error, where its response is not recorded; empty if there was none."""
