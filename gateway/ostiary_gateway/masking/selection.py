"""JSON paths as an automaton: from the state of a node and a member's name to the state of the member.

A position is (target, how many of its segments are behind us); a node's state is the set of its positions. States are
made when a document first needs them and kept, so that walking costs a comparison of names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from ostiary_gateway.masking.json_paths import (
    Both,
    Compare,
    Condition,
    Either,
    Every,
    Exists,
    Filter,
    JsonPath,
    Literal,
    Not,
    Segment,
    Selector,
)
from ostiary_gateway.masking.json_walk import State, Walker, unescape
from ostiary_gateway.masking.strategies import MaskError

MAX_STATES: Final = 10_000
_Positions = frozenset[tuple[int, int]]


class Selection:
    """Targets by path, each with a tag that says what is to be done there."""

    def __init__(self, targets: Sequence[tuple[JsonPath, object]], *, loose: bool = False) -> None:
        """`loose`: indices and filters pick every element, for documents in which elements may stand elsewhere."""
        self._paths = [_loosened(path) if loose else path for path, _ in targets]
        self._tags = [tag for _, tag in targets]
        self._states: dict[_Positions, State] = {}
        self._loose = loose
        self.dead = self._state(frozenset())
        self.root = self._state(frozenset((number, 0) for number in range(len(targets))))

    def _state(self, positions: _Positions) -> State:
        found = self._states.get(positions)
        if found is not None:
            return found
        if len(self._states) >= MAX_STATES:
            raise MaskError("the paths of the masks together are too complicated; use fewer `..`")
        state = State(self._make)
        state.positions = positions
        live = [self._paths[path][index] for path, index in positions if index < len(self._paths[path])]
        state.tags = frozenset(self._tags[path] for path, index in positions if index == len(self._paths[path]))
        state.acts = bool(state.tags)
        state.alive = bool(live)
        selectors = [selector for segment in live for selector in segment.selectors]
        state.filtered = any(isinstance(selector, Filter) for selector in selectors)
        state.names = tuple(sorted({one.encode() for one in selectors if isinstance(one, str)}))
        state.targets = [None] * len(state.names)
        state.indices = dict.fromkeys(one for one in selectors if isinstance(one, int))
        self._states[positions] = state
        return state

    def _make(self, state: State, key: bytes | int | None, value: bytes | None) -> State:
        below: set[tuple[int, int]] = set()
        for path, index in state.positions:
            if index == len(self._paths[path]):
                continue
            segment = self._paths[path][index]
            if segment.descendant:
                below.add((path, index))
            if any(_selects(selector, key, value) for selector in segment.selectors):
                below.add((path, index + 1))
        return self._state(frozenset(below))

    def child(self, state: State, key: bytes | int) -> State:
        """The state of a member or an element; a filter picks it in any case."""
        return self._make(state, key, None)

    def below(self, state: State) -> set[object]:
        """The tags of all targets that a node has, or that something below it may have."""
        return {self._tags[path] for path, _ in state.positions}

    def after(self, state: State, token: bytes) -> State:
        """Where a step of a JSON pointer (RFC 6901) leads, that may be a name as well as an index. Loose only."""
        by_name = self._make(state, token, None)
        by_index = self._make(state, None, None)
        return self._state(by_name.positions | by_index.positions)


def _loosened(path: JsonPath) -> JsonPath:
    def loosened(selector: Selector) -> Selector:
        return Every() if isinstance(selector, (int, Filter)) else selector

    return tuple(Segment(tuple(map(loosened, each.selectors)), each.descendant) for each in path)


def _selects(selector: Selector, key: bytes | int | None, value: bytes | None) -> bool:
    match selector:
        case Every():
            return True
        case str():
            return isinstance(key, bytes) and key == selector.encode()
        case int():
            return isinstance(key, int) and key == selector
        case Filter():
            # Who cannot look must not pass.
            return value is None or _holds(selector.condition, value)


def _holds(condition: Condition, value: bytes) -> bool:
    match condition:
        case Both():
            return all(_holds(term, value) for term in condition.terms)
        case Either():
            return any(_holds(term, value) for term in condition.terms)
        case Not():
            return not _holds(condition.term, value)
        case Exists():
            return bool(members(value, condition.member))
        case Compare():
            found = members(value, condition.member)
            return any(_equals(each, condition.literal) == condition.equal for each in found)


class _Collector:
    """Keeps what a selection picks."""

    def __init__(self) -> None:
        self.found: list[bytes] = []

    def value(self, _state: State, raw: bytes, _begin: int) -> bytes:
        self.found.append(raw)
        return raw

    def text(self, raw: bytes, _key: bool) -> bytes:
        return raw

    def number(self, raw: bytes) -> bytes:
        return raw

    def between(self) -> None:
        """Values are looked into one by one."""


_MEMBERS: Final[dict[tuple[str, ...], Selection]] = {}
_KEPT_MEMBERS: Final = 256


def members(value: bytes, member: tuple[str, ...]) -> list[bytes]:
    """All values of a member, as JSON text: more than one if a name stands twice."""
    if not member:
        return [value]
    selection = _MEMBERS.get(member)
    if selection is None:
        if len(_MEMBERS) >= _KEPT_MEMBERS:
            _MEMBERS.clear()
        selection = _MEMBERS[member] = Selection([(tuple(Segment((name,)) for name in member), True)])
    collector = _Collector()
    Walker(collector, None, selection.dead, False, False).walk(value, 0, len(value), selection.root)
    return collector.found


def _equals(raw: bytes, literal: Literal) -> bool:
    match literal:
        case bool():
            return raw == (b"true" if literal else b"false")
        case None:
            return raw == b"null"
        case str():
            return raw[:1] == b'"' and unescape(raw) == literal.encode("utf-8", "surrogatepass")
        case _:
            return (raw[:1] == b"-" or raw[:1].isdigit()) and float(raw) == literal


def prefixed(prefixes: Iterable[JsonPath], path: JsonPath) -> list[JsonPath]:
    """The path below each of the prefixes."""
    return [prefix + path for prefix in prefixes]
