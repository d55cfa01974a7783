"""YAML bodies, read only as far as every reader of YAML agrees with every other.

The API server reads YAML 1.1 with changes of its own (sigs.k8s.io/yaml), other readers 1.1 or 1.2. What a plain scalar
is (`no`, `1_000`, `0o7`, `12:30`, `2026-01-01`), what a merge key or an anchor does, and which of two keys counts is
where they differ: such bodies are refused, with the words to send JSON. What is accepted is forwarded as JSON.
"""

from __future__ import annotations

import re
from typing import Final

import yaml

from ostiary_gateway.protocols.kubernetes.json_bodies import MAX_DEPTH, parse_json
from ostiary_gateway.protocols.kubernetes.messages import WireError

MAX_YAML: Final = 262_144
"""Bytes; reading YAML is slow. kubectl sends JSON, for apply as well, and that has the limits of JSON."""

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT: Final = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)
_FLOAT: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,17}", re.ASCII)
_DOTTED: Final = re.compile(r"[0-9]+(?:\.[0-9]+){2,}", re.ASCII)
"""An address or a version: of these, nobody makes a number."""
_DOUBTFUL: Final = re.compile(r"[-+.]?[0-9][0-9a-fA-FxXoO_:.,+\- TtZz]*|[-+]?\.(?:inf|nan)|=|<<|[-+.~]+", re.IGNORECASE)
"""What some reader takes for a number, a time or a key of its own."""
_WORDS: Final = {
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    "null": None, "~": None, "": None,
}  # fmt: skip
_DOUBTFUL_WORDS: Final = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
"""In any other spelling: a bool or a string, depending on who reads."""
_BREAKS: Final = re.compile("[\t\x85\u2028\u2029\ufeff]")


def parse_yaml(body: bytes) -> object:
    """What the body says, like `parse_json`. Raises WireError: 415 where readers may differ, 400 if it is no YAML.

    JSON is read as JSON, although to the API server it is YAML: forward `write_json_as_yaml` of the value.
    """
    if body.lstrip(b" \t\r\n")[:1] in (b"{", b"["):
        return parse_json(body)
    if len(body) > MAX_YAML:
        raise _doubtful(f"is longer than {MAX_YAML} bytes")
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise _bad("it is not UTF-8") from None
    if _BREAKS.search(text):
        raise _doubtful("has tabs, line separators of Unicode or a byte order mark")
    if "\\/" in text:
        raise _doubtful("has the escape \\/")
    try:
        return _document(text)
    except yaml.YAMLError as problem:
        raise _bad(" ".join(str(problem).split())) from None


def _bad(message: str) -> WireError:
    return WireError(400, "BadRequest", f"the body cannot be read as YAML: {message}")


def _doubtful(what: str) -> WireError:
    return WireError(
        415, "UnsupportedMediaType",
        f"the YAML of the body {what}; readers of YAML differ on that. Send JSON, or quote it",
    )  # fmt: skip


class _Node:
    """A mapping or a list that is not complete. `key` is that of the value which comes next; None: a key comes."""

    __slots__ = ("key", "value")

    def __init__(self, value: dict[str, object] | list[object]) -> None:
        self.value = value
        self.key: str | None = None

    def put(self, value: object, *, is_string: bool) -> None:
        if isinstance(self.value, list):
            self.value.append(value)
        elif self.key is not None:
            self.value[self.key] = value
            self.key = None
        elif not isinstance(value, str) or not is_string:
            raise _doubtful("has a key that is no string")
        elif value in self.value:
            raise _doubtful(f"has the key {value[:60]} twice in one mapping")
        else:
            self.key = value


def _document(text: str) -> object:
    root = _Node([])
    open_nodes = [root]
    documents = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise _doubtful("has an anchor or an alias")
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _doubtful("has several documents")
            if event.version is not None or event.tags:
                raise _doubtful("has a directive")
        elif isinstance(event, yaml.ScalarEvent):
            if event.tag is not None:
                raise _doubtful("has a tag")
            plain = event.style is None or event.style == ""
            value = _plain(event.value) if plain else event.value
            open_nodes[-1].put(value, is_string=isinstance(value, str))
        elif isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            if event.tag is not None:
                raise _doubtful("has a tag")
            node = _Node({} if isinstance(event, yaml.MappingStartEvent) else [])
            open_nodes[-1].put(node.value, is_string=False)
            open_nodes.append(node)
            if len(open_nodes) > MAX_DEPTH:
                raise _bad(f"it is nested more than {MAX_DEPTH} deep")
        elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            open_nodes.pop()
    assert isinstance(root.value, list)
    if not root.value:
        raise _bad("it is empty")
    return root.value[0]


def _plain(text: str) -> object:
    """The value of a scalar without quotes. Raises WireError if somebody would read it otherwise."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if text.lower() in _DOUBTFUL_WORDS or (_DOUBTFUL.fullmatch(text) and not _DOTTED.fullmatch(text)):
        raise _doubtful(f"has {text[:60]} without quotes")
    return text
