"""A protocol that has no view of its own on a page: what was asked, as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ostiary_console.shown.bounds import Bounds
from ostiary_console.shown.protocol import Answer, Asked
from ostiary_console.views import AnyBlock


def login(detail: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Nothing of its own."""
    return iter(())


def asked(text: str, detail: Mapping[str, object], bounds: Bounds) -> Asked:
    """As it was."""
    return Asked("other", text)


def answered(answer: Answer, bounds: Bounds) -> Iterator[AnyBlock]:
    """Not shown: nobody knows how to read it."""
    return iter(())


def result(detail: Mapping[str, object]) -> tuple[str, bool]:
    """Nothing of its own."""
    return "", True


def failure(detail: Mapping[str, object]) -> str:
    """The message, if there is one."""
    return str(detail.get("message", ""))
