"""What masks make of a document, worked out the simple way: the parsed document, walked recursively.

Written apart from what it is compared with: paths are matched by looking at the whole way down to each node. It takes
no text, so it knows nothing of chunks, escapes or twice named members.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

from ostiary_gateway.masking.detectors import Detectors
from ostiary_gateway.masking.json_paths import (
    Both,
    Compare,
    Condition,
    Either,
    Every,
    Exists,
    Filter,
    JsonPath,
    Not,
    Selector,
    parse_path,
)  # fmt: skip
from ostiary_gateway.masking.strategies import compile_strategy
from ostiary_policy.masking import MaskPlan, Strategy, stronger

Way = tuple[tuple[str | int, Any], ...]
"""The steps down to a node: a name or an index, and what it leads to."""

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
KEPT = [("apiVersion",), ("kind",), ("metadata", "resourceVersion"), ("metadata", "continue")]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)


def matches(path: JsonPath, way: Way) -> bool:
    """Whether a path selects the node at the end of a way."""
    if not path:
        return not way
    if not way:
        return False
    (key, value), *rest = way
    first = path[0]
    if first.descendant and matches(path, tuple(rest)):
        return True
    return any(selects(each, key, value) for each in first.selectors) and matches(path[1:], tuple(rest))


def selects(selector: Selector, key: str | int, value: Any) -> bool:
    match selector:
        case Every():
            return True
        case Filter(condition):
            return holds(condition, value)
        case _:
            return type(selector) is type(key) and selector == key


def holds(condition: Condition, value: Any) -> bool:
    match condition:
        case Both(terms):
            return all(holds(term, value) for term in terms)
        case Either(terms):
            return any(holds(term, value) for term in terms)
        case Not(term):
            return not holds(term, value)
        case Exists(member):
            return reached(value, member)[0]
        case Compare(member, equal, literal):
            found, there = reached(value, member)
            same = type(there) is type(literal) or (is_number(there) and is_number(literal))
            return found and (same and there == literal) == equal


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def reached(value: Any, member: tuple[str, ...]) -> tuple[bool, Any]:
    for name in member:
        if not isinstance(value, dict) or name not in value:
            return False, None
        value = value[name]
    return True, value


class Reference:
    """One plan, on objects of one resource."""

    def __init__(self, plan: MaskPlan, *, secret: bool = False, nested: bool = False) -> None:
        """`nested`: the objects stand in an annotation."""
        self.plan = plan
        self.nested = nested
        self.paths = [(parse_path(mask.path), mask.strategy) for mask in plan.json_paths]
        self.detectors = Detectors(plan.detectors)
        self.secret = secret

    def object(self, value: Any) -> Any:
        """An object as it is shown."""
        return self.node(value, ())

    def outside(self, value: Any) -> Any:
        """What belongs to no object: detectors only."""
        if isinstance(value, dict):
            return {self.key(name): self.outside(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self.outside(each) for each in value]
        return self.scalar(value)

    def listed(self, value: dict[str, Any]) -> Any:
        """A list as it is shown."""
        return {
            self.key(name): [self.object(each) for each in members] if name == "items" else self.around(name, members)
            for name, members in value.items()
        }

    def around(self, name: str, value: Any) -> Any:
        if name in ("kind", "apiVersion"):
            return value
        if name != "metadata" or not isinstance(value, dict):
            return self.outside(value)
        kept = ("resourceVersion", "continue")
        return {self.key(each): other if each in kept else self.outside(other) for each, other in value.items()}

    def node(self, value: Any, way: Way) -> Any:
        names = tuple(key for key, _ in way)
        if names in KEPT:
            return self.outside(value) if self.nested else value
        strategies = [strategy for path, strategy in self.paths if matches(path, way)]
        in_bytes = self.secret and len(names) == 2 and names[0] == "data" and isinstance(names[1], (str, int))
        if strategies:
            return self.masked(value, strategies, in_bytes)
        if isinstance(value, str):
            if names == ("metadata", "annotations", LAST_APPLIED):
                return self.annotation(value)
            if in_bytes and self.detectors:
                return self.inside(value)
            return self.scalar(value)
        if isinstance(value, dict):
            return {self.key(name): self.node(each, (*way, (name, each))) for name, each in value.items()}
        if isinstance(value, list):
            return [self.node(each, (*way, (index, each))) for index, each in enumerate(value)]
        return self.scalar(value)

    def masked(self, value: Any, strategies: list[Strategy], in_bytes: bool) -> Any:
        if not isinstance(value, str):
            return None
        strategy = strategies[0]
        for each in strategies[1:]:
            strategy = stronger(strategy, each)
        text = value.encode("utf-8", "surrogatepass")
        decoded = decoded_from(text) if in_bytes else None
        inner = text if decoded is None else decoded
        for mask in self.detectors._masks:
            if Detectors([mask]).hits(inner):
                strategy = stronger(strategy, mask.strategy)
        shown = compile_strategy(strategy)(inner)
        if shown is None or (decoded is None and TIME.fullmatch(value)):
            return None
        return (base64.b64encode(shown) if in_bytes else shown).decode("utf-8", "replace")

    def annotation(self, value: str) -> Any:
        try:
            held = json.loads(value)
        except ValueError:
            held = None
        if not isinstance(held, dict):
            return "[redacted]" if self.paths else self.scalar(value)
        shown = Reference(self.plan, secret=self.secret, nested=True).object(held)
        return value if shown == held else {"json": shown}

    def inside(self, value: str) -> Any:
        decoded = decoded_from(value.encode("utf-8", "surrogatepass"))
        if decoded is None or not value:
            return self.scalar(value)
        shown = self.detectors.mask(decoded)
        if shown == decoded:
            return value
        return None if shown is None else base64.b64encode(shown).decode()

    def scalar(self, value: Any) -> Any:
        if isinstance(value, str):
            shown = self.detectors.mask(value.encode("utf-8", "surrogatepass"))
            if shown == value.encode("utf-8", "surrogatepass"):
                return value
            return None if shown is None or TIME.fullmatch(value) else shown.decode("utf-8", "replace")
        if is_number(value) and self.detectors.finds_digits:
            text = str(int(value)) if float(value).is_integer() else str(value)
            return value if self.detectors.mask(text.encode()) == text.encode() else None
        return value

    def key(self, name: str) -> str:
        shown = self.detectors.mask(name.encode("utf-8", "surrogatepass"))
        if shown == name.encode("utf-8", "surrogatepass"):
            return name
        return "" if shown is None else shown.decode("utf-8", "replace")


def decoded_from(text: bytes) -> bytes | None:
    try:
        return base64.b64decode(text.replace(b"\r", b"").replace(b"\n", b""), validate=True)
    except (binascii.Error, ValueError):
        return None
