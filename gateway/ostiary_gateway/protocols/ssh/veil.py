"""Hides secrets in what people are shown of command lines. No I/O.

Only plain words that stand where passwords stand are hidden, and what a detector of the policy finds: a word that the
shell would expand or run is shown, whatever it stands behind. Every text is gone over once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ostiary_gateway.masking.detectors import Detectors
from ostiary_policy.masking import MaskPlan

HIDDEN: Final = "[redacted]"
LONGEST_NAME: Final = 64

_TOKEN: Final = re.compile(
    r"""
      (?P<blank>[ \t]++)
    | (?P<between>[\n;&|<>()]++)
    | (?P<word>(?:'[^']*+(?:'|\Z)|"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|\\.|[^\s;&|<>()'"\\])++)
    | (?P<other>.)
    """,
    re.DOTALL | re.VERBOSE,
)
"""As a shell cuts a line, as far as it takes to know where a word ends."""
_SPACE: Final = re.compile(r"\s")
_RUNS: Final = re.compile(r"'[^']*+'|(?P<runs>[$`\\])")
_SECRET: Final = re.compile(
    r"password|passwd|passphrase|secret|api[_-]?key|access[_-]?key|token|credential|\A(?:MYSQL_PWD|SSHPASS|REDISCLI_AUTH)\Z",
    re.IGNORECASE,
)
_NAME: Final = re.compile(r"-{0,2}[A-Za-z_][\w.-]*")
_BEARER: Final = re.compile(r"\b(Bearer|Basic)\s([A-Za-z0-9._~+/=-]{8,})", re.IGNORECASE)
_MYSQL: Final = frozenset(("mysql", "mysqldump", "mysqladmin", "mariadb", "mariadb-dump", "mariadb-admin"))
_LOGINS: Final = ("-u", "--user", "--proxy-user")
"""Options of curl whose value is `user:password`."""


@dataclass(slots=True)
class _Place:
    """Where a word stands in a simple command. `awaits`: whether it is a secret, or one behind a colon."""

    programs: set[str]
    awaits: str = ""


class Veil:
    """Hides secrets in texts; `touched` tells whether there was any."""

    def __init__(self, plan: MaskPlan) -> None:
        self._detectors = Detectors(plan.detectors)
        self.touched = False

    def text(self, text: str) -> str:
        """A command line, or words about one, as a person may see it."""
        pieces: list[str] = []
        place = _Place(set())
        for found in _TOKEN.finditer(text):
            token = found[0]
            if found.lastgroup == "word":
                pieces.append(_word(token, place, plain=_is_plain(token)))
            else:
                if found.lastgroup == "between":
                    place = _Place(set())
                pieces.append(token)
        return self._seen(text, self._detected("".join(pieces)))

    def value(self, name: str, value: str) -> str:
        """The value of a variable."""
        if value and _SECRET.search(name):
            self.touched = True
            return HIDDEN
        return self._seen(value, self._detected(_in_texts(value)))

    def argv(self, words: Sequence[str], *, exact: bool = True) -> list[str]:
        """A program and its arguments, quotes removed. `exact`: nothing in them is expanded."""
        place = _Place(set())
        shown = [_word(word, place, plain=exact and not _SPACE.search(word)) for word in words]
        return [self._seen(word, self._detected(seen)) for word, seen in zip(words, shown, strict=True)]

    def everything(self, value: object, key: str = "") -> object:
        """The same for all strings in the facts."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            if key == "env":
                return {name: self.value(str(name), str(item)) for name, item in value.items()}
            if "argv" in value:
                return self._command(value)
            return {name: self.everything(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [self.everything(item) for item in value]
        return value

    def _command(self, command: Mapping[str, object]) -> dict[str, object]:
        words = command["argv"]
        assert isinstance(words, list)
        argv = self.argv(words, exact=bool(command["exact"]))
        rest = {name: item for name, item in command.items() if name not in ("argv", "flags")}
        found = {name: self.everything(item, name) for name, item in rest.items()}
        flags = command["flags"]
        if argv != words and isinstance(flags, list):
            # Letters of a password behind -p are taken for flags.
            flags = [flag for flag in flags if any(word.partition("=")[0] == flag for word in argv)]
        return {**{name: found.get(name) for name in command}, "argv": argv, "flags": flags}

    def _detected(self, text: str) -> str:
        if not self._detectors:
            return text
        masked = self._detectors.mask(text.encode("utf-8", "replace"))
        return HIDDEN if masked is None else masked.decode("utf-8", "replace")

    def _seen(self, text: str, shown: str) -> str:
        self.touched = self.touched or shown != text
        return shown


def _is_plain(word: str) -> bool:
    """Whether the shell takes a word as it stands: nothing in it is expanded or run. With a space in it, it may be a
    command for another shell."""
    return not any(found["runs"] for found in _RUNS.finditer(word)) and not _SPACE.search(word)


def _word(word: str, place: _Place, *, plain: bool) -> str:
    """One word of a command as it may be seen, and what it says of those that follow."""
    awaits, place.awaits = place.awaits, ""
    if awaits and plain and not word.startswith("-"):
        return HIDDEN if awaits == "all" else _behind(word, ":")
    name, equals, value = word.partition("=")
    named = len(name) <= LONGEST_NAME and _NAME.fullmatch(name) is not None
    if named and _SECRET.search(name):
        if equals:
            return f"{name}={HIDDEN}" if value and plain else word
        if name.startswith("-"):
            place.awaits = "all"
            return word
    programs = place.programs
    if plain and word.startswith("-p") and len(word) > 2:
        if programs & _MYSQL or "sshpass" in programs:
            return f"-p{HIDDEN}"
    elif word == "-p" and "sshpass" in programs:
        place.awaits = "all"
        return word
    if "curl" in programs:
        if word in _LOGINS:
            place.awaits = "colon"
            return word
        if plain and word.startswith(_LOGINS):
            return _behind(word, ":")
    if not word.startswith("-"):
        programs.add(word.rpartition("/")[2].strip("'\""))
    return _in_texts(word) if plain else _BEARER.sub(rf"\1 {HIDDEN}", word)


def _behind(word: str, mark: str) -> str:
    before, found, after = word.partition(mark)
    return f"{before}{mark}{HIDDEN}" if found and after else word


def _in_texts(text: str) -> str:
    """What reads like a secret wherever it stands: a bearer token, a password in a URL."""
    shown = _BEARER.sub(rf"\1 {HIDDEN}", text)
    scheme, found, rest = shown.partition("://")
    login, at, host = rest.partition("@")
    if not (found and at) or "/" in login:
        return shown
    return f"{scheme}://{_behind(login, ':')}@{host}"
