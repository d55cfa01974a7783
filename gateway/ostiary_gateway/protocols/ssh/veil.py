"""Hides secrets in what people are shown of command lines. No I/O.

Only plain words that stand where passwords stand are hidden, and what a detector of the policy finds: a word that the
shell would expand or run is shown, whatever it stands behind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from ostiary_gateway.masking.detectors import Detectors
from ostiary_policy.masking import MaskPlan

HIDDEN: Final = "[redacted]"

_NAME: Final = r"[\w.-]*(?:password|passwd|passphrase|secret|api[_-]?key|access[_-]?key|token|credential)[\w.-]*"
_PLAIN: Final = r"(?:'[^']*'|\"[^\"$`\\]*\"|[^\s'\"$`\\;&|<>(){}*?\[\]~!#]+)"
"""A word that the shell takes as it stands: nothing in it is expanded or run."""
_MARKS: Final = (
    re.compile(rf"(?<![\w-])(--?{_NAME}(?:=|\s+))(?!-)({_PLAIN})(?=[\s;&|)]|\Z)", re.IGNORECASE),
    re.compile(rf"(?<![\w$-])({_NAME}|MYSQL_PWD|SSHPASS|REDISCLI_AUTH)(=)({_PLAIN})(?=[\s;&|)]|\Z)", re.IGNORECASE),
    re.compile(r"(\b(?:Bearer|Basic)\s+)([A-Za-z0-9._~+/=-]{8,})"),
    re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s/:@'\"]*:)([^\s/@'\"$`\\]+)(?=@)", re.IGNORECASE),
    re.compile(rf"(\b(?:mysql|mysqldump|mysqladmin|mariadb)\b(?:\s+(?!-p)[^\s;&|]+)*\s+-p)(?!ort)({_PLAIN})(?=[\s;&|)]|\Z)"),
    re.compile(rf"(\bsshpass\s+-p\s*)({_PLAIN})(?=[\s;&|)]|\Z)"),
    re.compile(rf"(\bcurl\b[^;&|]*?\s(?:-u|--user)\s*[^\s:;&|]+:)({_PLAIN})(?=[\s;&|)]|\Z)"),
)  # fmt: skip
_IS_SECRET: Final = re.compile(rf"-{{0,2}}{_NAME}|MYSQL_PWD|SSHPASS|REDISCLI_AUTH", re.IGNORECASE)
_LISTS: Final = frozenset(("argv",))


class Veil:
    """Hides secrets in texts; `touched` tells whether there was any."""

    def __init__(self, plan: MaskPlan) -> None:
        self._detectors = Detectors(plan.detectors)
        self.touched = False

    def text(self, text: str) -> str:
        """A command line, or words about one, as a person may see it."""
        shown = text
        for mark in _MARKS:
            shown = mark.sub(_hidden, shown)
        shown = self._detected(shown)
        self.touched = self.touched or shown != text
        return shown

    def value(self, name: str, value: str) -> str:
        """The value of a variable."""
        if value and _IS_SECRET.fullmatch(name):
            self.touched = True
            return HIDDEN
        return self.text(value)

    def argv(self, words: list[str]) -> list[str]:
        """A program and its arguments, quotes removed."""
        shown: list[str] = []
        for word in words:
            before = words[len(shown) - 1] if shown else ""
            if shown and before.startswith("-") and not word.startswith("-") and "$" not in word and "`" not in word:
                shown.append(self.value(before, word) if "=" not in before else self.text(word))
            elif words[0].rpartition("/")[2].startswith(("mysql", "mariadb")) and re.match(r"-p[^o]", word):
                self.touched = True
                shown.append(f"-p{HIDDEN}")
            else:
                shown.append(self.text(word))
        return shown

    def everything(self, value: object, key: str = "") -> object:
        """The same for all strings in the facts."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            if key == "env":
                return {name: self.value(str(name), str(item)) for name, item in value.items()}
            return {name: self.everything(item, name) for name, item in value.items()}
        if isinstance(value, list):
            if key in _LISTS and all(isinstance(item, str) for item in value):
                return self.argv(value)
            return [self.everything(item) for item in value]
        return value

    def _detected(self, text: str) -> str:
        if not self._detectors:
            return text
        masked = self._detectors.mask(text.encode("utf-8", "replace"))
        return HIDDEN if masked is None else masked.decode("utf-8", "replace")


def _hidden(found: re.Match[str]) -> str:
    parts = found.groups()
    return "".join(part or "" for part in parts[:-1]) + HIDDEN
