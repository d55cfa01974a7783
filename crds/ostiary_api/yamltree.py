"""YAML text to JSON values that know their lines. Reads scalars as kubectl does; a duplicate key is an error.

Built from the parser's events, not by PyYAML's constructors: those forget lines, take the last of two equal keys,
read `1:30` as ninety, recurse as deep as the text says, and expand aliases without end.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import yaml

MAX_TEXT = 16 * 2**20
"""Characters of one file. A bundle of a thousand policies is far smaller."""
MAX_DEPTH = 64
MAX_NODES = 1_000_000
"""Values of one file, aliases expanded."""

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLS = {
    word: value
    for value, words in ((True, "y yes true on"), (False, "n no false off"))
    for plain in words.split()
    for word in (plain, plain.capitalize(), plain.upper())
}
_INT = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0[bB][01]+|0|[1-9][0-9]*)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_SURROGATE = re.compile("[\ud800-\udfff]")
_TAG = "tag:yaml.org,2002:"

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class YamlProblem(Exception):
    """The text is not what it should be. Lines and columns count from 1."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


@dataclass(slots=True)
class Node:
    """One value and where it stands. `value` is a scalar, a list of nodes, or a dict of nodes."""

    line: int
    column: int
    value: bool | int | float | str | list[Node] | dict[str, Node] | None
    style: str = ""
    """Of a scalar: `|`, `>`, `'`, `"`, or empty for plain."""
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Of a dict: where its keys stand."""
    open: bool = False

    def get(self, key: str) -> Node | None:
        """The value under a key of a dict; None if there is none."""
        return self.value.get(key) if isinstance(self.value, dict) else None

    def plain(self) -> Json:
        """The JSON value. Raises YamlProblem if aliases blow it up."""
        return _plain(self, [MAX_NODES], 0)


def read_documents(text: str) -> Iterator[Node]:
    """The documents of a text, in order; empty ones are left out. Raises YamlProblem at the first fault."""
    if len(text) > MAX_TEXT:
        raise YamlProblem(f"the file is larger than {MAX_TEXT // 2**20} MiB; split it", 1, 1)
    try:
        yield from _compose(_Events(text))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = _at(mark)
        raise YamlProblem(f"not YAML: {_say(error)}", line, column) from None
    except (yaml.YAMLError, UnicodeError):
        raise YamlProblem(
            "not YAML: it holds characters that YAML does not allow; save it as UTF-8 text", 1, 1
        ) from None


class _Mark(Protocol):
    """A place as PyYAML's two parsers (in C and in Python) give it, from 0."""

    @property
    def line(self) -> int: ...

    @property
    def column(self) -> int: ...


def _at(mark: _Mark | None) -> tuple[int, int]:
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _say(error: yaml.MarkedYAMLError) -> str:
    # Only what comes before the first quotation: a quoted part of the text may be part of a secret.
    return (error.problem or error.context or "cannot be parsed").split("'")[0].split('"')[0].strip()


class _Events:
    """The parser's events, with one place to count depth."""

    def __init__(self, text: str) -> None:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        self._events: Iterator[yaml.Event] = iter(yaml.parse(text, Loader=loader))

    def next(self) -> yaml.Event:
        return next(self._events)


def _compose(events: _Events) -> Iterator[Node]:
    while True:
        event = events.next()
        if isinstance(event, yaml.StreamEndEvent):
            return
        if isinstance(event, yaml.DocumentStartEvent):
            node = _node(events, events.next(), {}, 0)
            events.next()  # DocumentEnd
            if node.value is not None:
                yield node


def _node(events: _Events, event: yaml.Event, anchors: dict[str, Node], depth: int) -> Node:
    line, column = _at(event.start_mark)
    if depth > MAX_DEPTH:
        raise YamlProblem(f"nested deeper than {MAX_DEPTH}", line, column)
    if isinstance(event, yaml.AliasEvent):
        node = anchors.get(event.anchor or "")
        if node is None:
            raise YamlProblem(
                "an alias (*) to an anchor (&) that is not there; put text that begins with * in quotes", line, column
            )
        if node.open:
            raise YamlProblem("an alias (*) inside of what it stands for", line, column)
        return node
    if not isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
        raise YamlProblem("not YAML: a value is missing", line, column)
    node = Node(line, column, None)
    if event.anchor is not None:
        anchors[event.anchor] = node
    if isinstance(event, yaml.ScalarEvent):
        node.style = event.style or ""
        node.value = _scalar(event, line, column)
        return node
    if event.tag not in (None, "!", f"{_TAG}seq", f"{_TAG}map"):
        raise YamlProblem("this tag (!) is not supported", line, column)
    node.open = True
    if isinstance(event, yaml.SequenceStartEvent):
        items: list[Node] = []
        while not isinstance(item := events.next(), yaml.SequenceEndEvent):
            items.append(_node(events, item, anchors, depth + 1))
        node.value = items
    else:
        _mapping(events, node, anchors, depth)
    node.open = False
    return node


def _mapping(events: _Events, node: Node, anchors: dict[str, Node], depth: int) -> None:
    members: dict[str, Node] = {}
    merged: list[Node] = []
    while not isinstance(event := events.next(), yaml.MappingEndEvent):
        line, column = _at(event.start_mark)
        if not isinstance(event, yaml.ScalarEvent):
            raise YamlProblem("a key must be plain text", line, column)
        key = str(event.value)
        value = _node(events, events.next(), anchors, depth + 1)
        if key == "<<" and not event.style:
            merged += value.value if isinstance(value.value, list) else [value]
            continue
        if key in members:
            first, _ = node.keys[key]
            raise YamlProblem(f"the key {key[:64]!r} is there twice; it stands in line {first} already", line, column)
        _refuse_surrogates(key, line, column)
        members[key] = value
        node.keys[key] = (line, column)
    for source in merged:
        if not isinstance(source.value, dict):
            raise YamlProblem("<< merges objects only", source.line, source.column)
        for key, value in source.value.items():
            if key not in members:
                members[key] = value
                node.keys[key] = source.keys[key]
    node.value = members


def _scalar(event: yaml.ScalarEvent, line: int, column: int) -> bool | int | float | str | None:
    text = str(event.value)
    _refuse_surrogates(text, line, column)
    tag = event.tag.removeprefix(_TAG) if event.tag else ""
    if tag in ("str", "!") or (not tag and event.style):
        return text
    if tag not in ("", "null", "bool", "int", "float"):
        raise YamlProblem("this tag (!) is not supported; put text that begins with ! in quotes", line, column)
    value = _resolve(text, line, column)
    fits = {"": True, "null": value is None, "bool": isinstance(value, bool)}
    fits["int"] = isinstance(value, int) and not isinstance(value, bool)
    fits["float"] = isinstance(value, float) or fits["int"]
    if not fits[tag]:
        raise YamlProblem(f"this is not of the type that its tag !!{tag} says", line, column)
    return value


def _resolve(text: str, line: int, column: int) -> bool | int | float | str | None:
    if text in _NULLS:
        return None
    if text in _BOOLS:
        return _BOOLS[text]
    bare = text.replace("_", "") if text[0] in "+-0123456789" else text
    if len(bare) <= 64 and _INT.fullmatch(bare):
        number = _integer(bare)
        if not -(2**63) <= number < 2**64:
            raise YamlProblem("a number of more than 64 bits; put it in quotes if it is text", line, column)
        return number
    if _NOT_FINITE.fullmatch(text):
        raise YamlProblem("infinity and NaN are not JSON; put it in quotes if it is text", line, column)
    if _FLOAT.fullmatch(bare):
        real = float(bare)
        if abs(real) == float("inf"):
            raise YamlProblem("the number is too large; put it in quotes if it is text", line, column)
        return real
    return text


def _integer(text: str) -> int:
    digits = text.lstrip("+-")
    base = 10
    if len(digits) > 1 and digits[0] == "0":
        base = {"x": 16, "X": 16, "b": 2, "B": 2}.get(digits[1], 8)
        digits = digits[1:].lstrip("xXbBoO")
    number = int(digits, base)
    return -number if text[0] == "-" else number


def _refuse_surrogates(text: str, line: int, column: int) -> None:
    if _SURROGATE.search(text):
        raise YamlProblem("a lone surrogate is not a character", line, column)


def _plain(node: Node, left: list[int], depth: int) -> Json:
    left[0] -= 1
    if left[0] < 0 or depth > 2 * MAX_DEPTH:
        raise YamlProblem("too many values; aliases (*) blow it up", node.line, node.column)
    if isinstance(node.value, dict):
        return {key: _plain(item, left, depth + 1) for key, item in node.value.items()}
    if isinstance(node.value, list):
        return [_plain(item, left, depth + 1) for item in node.value]
    return node.value
