"""JSON paths of masks: a subset of RFC 9535 with a grammar of its own, read when a policy is loaded.

    path      = "$" segment …             (1 to 32 segments, at most 3 of them descendant)
    segment   = "." name | ".*" | "[" selector *("," selector) "]"
              | ".." name | "..*" | "..[" selector *("," selector) "]"
    selector  = 'text' | "text" | "*" | number | "?" filter
    filter    = and *("||" and)           and = term *("&&" term)
    term      = ["!"] "(" filter ")" | ["!"] member | member ("==" | "!=") literal
    member    = "@" *("." name | "['text']")
    literal   = 'text' | number | true | false | null

`name` is letters, digits, `_`, `-` and what is not ASCII; every other key needs brackets. `*` selects the members of an
object and the elements of an array. A comparison holds if any value that the member selects is (or is not) the literal;
of what is not there nothing holds.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from ostiary_gateway.masking.strategies import MaskError

MAX_SEGMENTS: Final = 32
MAX_DESCENDANTS: Final = 3
MAX_NESTING: Final = 8

_NAME: Final = re.compile(r"[A-Za-z0-9_\-\u0080-\U0010ffff]+")
_TEXT: Final = re.compile(r"'((?:[^'\\\x00-\x1f]|\\.)*)'|\"((?:[^\"\\\x00-\x1f]|\\.)*)\"")
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,8}")
_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,15})?(?![0-9.])")
_WORD: Final = re.compile(r"(true|false|null)(?![A-Za-z0-9_])")

_AS_JSON: Final = {"\\'": "'", '"': '\\"'}

Literal = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Every:
    """`*`: each member or element."""


@dataclass(frozen=True, slots=True)
class Compare:
    """A member of the candidate and a literal. `equal` False: `!=`."""

    member: tuple[str, ...]
    equal: bool
    literal: Literal


@dataclass(frozen=True, slots=True)
class Exists:
    """The candidate has this member."""

    member: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Not:
    term: Condition


@dataclass(frozen=True, slots=True)
class Both:
    """`&&`."""

    terms: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Either:
    """`||`."""

    terms: tuple[Condition, ...]


Condition = Compare | Exists | Not | Both | Either


@dataclass(frozen=True, slots=True)
class Filter:
    """`?…`: each member or element for which the condition holds."""

    condition: Condition


Selector = str | int | Every | Filter
"""A member's name, an element's index, all of them, or some."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One step down; `descendant`: any number of steps down, then this one."""

    selectors: tuple[Selector, ...]
    descendant: bool = False


JsonPath = tuple[Segment, ...]


def parse_path(text: str) -> JsonPath:
    """The segments of a path. MaskError says where it cannot be read and what to write instead."""
    return _Parser(text).path()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def wrong(self, what: str) -> MaskError:
        return MaskError(f"{self.text!r} is no path that a mask can follow: {what} at character {self.at + 1}")

    def taken(self, token: str) -> bool:
        if not self.text.startswith(token, self.at):
            return False
        self.at += len(token)
        return True

    def space(self) -> None:
        while self.at < len(self.text) and self.text[self.at] == " ":
            self.at += 1

    def path(self) -> JsonPath:
        if not self.taken("$"):
            raise self.wrong("it must begin with `$`, the object, as in `$.data.*`; there are no braces")
        segments: list[Segment] = []
        while self.at < len(self.text):
            segments.append(self.segment())
        if not segments:
            raise self.wrong("`$` alone is the whole object; deny the request instead, or name what is to be hidden")
        if len(segments) > MAX_SEGMENTS:
            raise self.wrong(f"more than {MAX_SEGMENTS} steps")
        if sum(segment.descendant for segment in segments) > MAX_DESCENDANTS:
            raise self.wrong(f"`..` more than {MAX_DESCENDANTS} times")
        return tuple(segments)

    def segment(self) -> Segment:
        if self.taken(".."):
            if self.taken("["):
                return Segment(self.selectors(), descendant=True)
            return Segment((self.dotted(),), descendant=True)
        if self.taken("."):
            if self.text.startswith("[", self.at):
                raise self.wrong("write `['key']` without the dot before it")
            return Segment((self.dotted(),))
        if self.taken("["):
            return Segment(self.selectors())
        raise self.wrong("`.name`, `.*` or `['key']` is expected; other characters need brackets and quotes")

    def dotted(self) -> Selector:
        if self.taken("*"):
            return Every()
        return self.name()

    def name(self) -> str:
        match = _NAME.match(self.text, self.at)
        if match is None:
            raise self.wrong("a name or `*` is expected")
        self.at = match.end()
        return match.group()

    def selectors(self) -> tuple[Selector, ...]:
        found: list[Selector] = []
        while True:
            self.space()
            found.append(self.selector())
            self.space()
            if self.taken("]"):
                return tuple(found)
            if not self.taken(","):
                raise self.wrong("`,` or `]` is expected; slices are not supported")

    def selector(self) -> Selector:
        if self.taken("*"):
            return Every()
        if self.taken("?"):
            self.space()
            return Filter(self.either(0))
        if self.text[self.at : self.at + 1] in ("'", '"'):
            return self.quoted()
        match = _INDEX.match(self.text, self.at)
        if match is None:
            raise self.wrong("a key in quotes, `*`, a number from 0 on, or `?(@.name == 'text')` is expected")
        self.at = match.end()
        return int(match.group())

    def quoted(self) -> str:
        match = _TEXT.match(self.text, self.at)
        if match is None:
            raise self.wrong("a text in quotes is expected, that ends")
        self.at = match.end()
        if match.group(2) is not None:
            inner = match.group(2)
        else:
            # As JSON writes it: a double quote inside is escaped there, a single one is not.
            inner = re.sub(r"\\.|\"", lambda found: _AS_JSON.get(found.group(), found.group()), match.group(1))
        try:
            text: str = json.loads(f'"{inner}"')
            text.encode()
        except ValueError:
            raise self.wrong("the text before has an escape that JSON does not know") from None
        return text

    # -- filters

    def either(self, depth: int) -> Condition:
        terms = [self.both(depth)]
        while self.operator("||"):
            terms.append(self.both(depth))
        return terms[0] if len(terms) == 1 else Either(tuple(terms))

    def both(self, depth: int) -> Condition:
        terms = [self.term(depth)]
        while self.operator("&&"):
            terms.append(self.term(depth))
        return terms[0] if len(terms) == 1 else Both(tuple(terms))

    def operator(self, token: str) -> bool:
        self.space()
        return self.taken(token)

    def term(self, depth: int) -> Condition:
        if depth == MAX_NESTING:
            raise self.wrong(f"more than {MAX_NESTING} brackets in one another")
        self.space()
        if self.taken("!"):
            return Not(self.term(depth + 1))
        if self.taken("("):
            inner = self.either(depth + 1)
            self.space()
            if not self.taken(")"):
                raise self.wrong("`)` is expected; a filter compares with `==` and `!=` only")
            return inner
        member = self.member()
        self.space()
        for token, equal in (("==", True), ("!=", False)):
            if self.taken(token):
                self.space()
                return Compare(member, equal, self.literal())
        if not member:
            raise self.wrong("`@` alone is always there; compare it, or name a member of it")
        return Exists(member)

    def member(self) -> tuple[str, ...]:
        if not self.taken("@"):
            raise self.wrong("`@`, the element, is expected on the left, as in `[?(@.name == 'text')]`")
        names: list[str] = []
        while True:
            if self.taken("."):
                names.append(self.name())
            elif self.taken("["):
                names.append(self.quoted())
                if not self.taken("]"):
                    raise self.wrong("`]` is expected")
            else:
                return tuple(names)

    def literal(self) -> Literal:
        if self.text[self.at : self.at + 1] in ("'", '"'):
            return self.quoted()
        if (word := _WORD.match(self.text, self.at)) is not None:
            self.at = word.end()
            return {"true": True, "false": False, "null": None}[word.group(1)]
        number = _NUMBER.match(self.text, self.at)
        if number is None:
            raise self.wrong("a text in quotes, a number, true, false or null is expected")
        self.at = number.end()
        return float(number.group()) if "." in number.group() else int(number.group())
