"""The grounds of a verdict: the fewest conditions of an expression that made it true or false, and the facts in them.

`sql.statements.exists(s, s.verb in ['DELETE', 'UPDATE'] && !s.hasWhere)` is true on the ground that
`sql.statements[0].verb` is DELETE and `sql.statements[0].hasWhere` is false.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import lark
from celpy import celtypes

from ostiary_policy.schema import FACTS
from ostiary_policy.second_opinion import Bound, Context, Failed, innermost, macro_of, operands, parse

Tree = lark.Tree[lark.Token]

MAX_GROUNDS = 6
"""Conditions that are given for one expression."""
MAX_ELEMENTS = 16
"""Elements of a list that are looked at."""
_SHOWN_ELEMENTS = 2
"""Elements of a list whose conditions are given."""


@dataclass(frozen=True, slots=True)
class Ground:
    """One condition: its text, what it gave (None: it erred), and the facts in it by their whole paths."""

    text: str
    value: bool | None
    facts: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a sub-tree stands: the text it is of, what its names stand for, and the paths of those."""

    text: str
    bound: Bound = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Weighed:
    """A sub-expression's truth (None: it erred, or is no bool), and the grounds for it."""

    truth: bool | None
    grounds: tuple[Ground, ...]


class _Scales:
    """For the expressions of one policy. `facts` as they were decided by; `variables`: the policy's, as expressions."""

    def __init__(self, context: Context, facts: Mapping[str, object], variables: Mapping[str, str]) -> None:
        self._context = context
        self._facts = facts
        self._variables = variables

    def weigh(self, tree: Tree, place: _Place) -> _Weighed:
        outer, tree = tree, innermost(tree)
        if tree.data in _JUNCTIONS:
            sides = [self.weigh(side, place) for side in _sides(tree, str(tree.data))]
            return _join(sides, decides=tree.data == "conditionalor")
        below = _negated(tree)
        if below is not None and _is_compound(innermost(below)):
            weighed = self.weigh(below, place)
            return _Weighed(None if weighed.truth is None else not weighed.truth, weighed.grounds)
        name = _path(tree, place).removeprefix("variables.")
        if name in self._variables:
            return self.weigh(parse(self._variables[name]), _Place(self._variables[name]))
        macro = macro_of(tree)
        if macro is not None and str(tree.children[1]) in ("all", "exists"):
            elements = list(self._elements(tree, macro, place))
            if elements:
                return _join(elements, decides=str(tree.children[1]) == "exists", shown=_SHOWN_ELEMENTS)
        text = place.text[outer.meta.start_pos : outer.meta.end_pos]
        truth = self._truth(tree, place)
        return _Weighed(truth, (Ground(text, truth, dict(self._read(tree, place))),))

    def _elements(self, tree: Tree, macro: tuple[str, Tree], place: _Place) -> Iterator[_Weighed]:
        name, body = macro
        ranged = tree.children[0]
        assert isinstance(ranged, lark.Tree)
        try:
            elements = self._context.run(ranged, place.bound)
        except Failed:
            return
        if not isinstance(elements, list):
            return
        path = _path(innermost(ranged), place) or place.text[ranged.meta.start_pos : ranged.meta.end_pos]
        for index, element in enumerate(elements[:MAX_ELEMENTS]):
            inside = _Place(place.text, {**place.bound, name: element}, {**place.paths, name: f"{path}[{index}]"})
            yield self.weigh(body, inside)

    def _truth(self, tree: Tree, place: _Place) -> bool | None:
        path = _path(tree, place)
        value: object
        try:
            value = fact_at(self._facts, path) if path else self._context.run(tree, place.bound)
        except (Failed, LookupError):
            return None
        return bool(value) if isinstance(value, (bool, celtypes.BoolType)) else None

    def _read(self, tree: Tree, place: _Place) -> Iterator[tuple[str, object]]:
        """The facts that stand in a condition, and their values. What the macros inside it bind is theirs."""
        tree = innermost(tree)
        path = _path(tree, place)
        if path:
            try:
                yield path, fact_at(self._facts, path)
            except LookupError:
                pass
            return
        children = [tree.children[0]] if macro_of(tree) is not None else list(operands(tree))
        for child in children:
            if isinstance(child, lark.Tree):
                yield from self._read(child, place)


def _join(sides: list[_Weighed], *, decides: bool, shown: int = MAX_ELEMENTS) -> _Weighed:
    """`a && b` is true by both, and false by those that are false; `a || b` the other way round."""
    truths = [side.truth for side in sides]
    truth = decides if decides in truths else None if None in truths else not decides
    chosen = [side for side in sides if side.truth is truth][:shown]
    return _Weighed(truth, tuple(ground for side in chosen for ground in side.grounds))


def grounds(
    context: Context, facts: Mapping[str, object], text: str, variables: Mapping[str, str]
) -> list[Ground]:
    """Of one expression that gives a bool. `context` has the same facts, and the policy's `variables`, by name."""
    found: dict[tuple[str, str], Ground] = {}
    for ground in _Scales(context, facts, variables).weigh(parse(text), _Place(text)).grounds:
        found.setdefault((ground.text, str(sorted(ground.facts))), ground)
        if len(found) == MAX_GROUNDS:
            break
    return list(found.values())


def fact_at(facts: Mapping[str, object], path: str) -> object:
    """The fact at a path like `sql.statements[0].verb`. Raises LookupError if there is none."""
    value: object = facts
    for step in path.replace("[", ".").replace("]", "").split("."):
        if isinstance(value, list) and step.isdecimal():
            value = value[int(step)]
        elif isinstance(value, Mapping):
            value = value[step]
        else:
            raise LookupError(path)
    return value


_JUNCTIONS = ("conditionaland", "conditionalor")


def _sides(tree: Tree, kind: str) -> Iterator[Tree]:
    """`a && b && c` is one junction of three."""
    for child in tree.children:
        if isinstance(child, lark.Tree):
            inner = innermost(child)
            if inner.data == kind:
                yield from _sides(inner, kind)
            else:
                yield child


def _negated(tree: Tree) -> Tree | None:
    """The operand of `!`."""
    if tree.data != "unary":
        return None
    first, below = tree.children[0], tree.children[-1]
    negated = isinstance(first, lark.Tree) and first.data == "unary_not"
    return below if negated and isinstance(below, lark.Tree) else None


def _is_compound(tree: Tree) -> bool:
    return tree.data in (*_JUNCTIONS, "unary") or macro_of(tree) is not None


def _path(tree: Tree, place: _Place) -> str:
    """`s.verb` as `sql.statements[0].verb`; empty if it is no fact."""
    if tree.data == "ident":
        name = str(tree.children[0])
        return place.paths.get(name, name if name in (*FACTS, "variables") else "")
    if tree.data == "member_dot" and isinstance(tree.children[0], lark.Tree):
        below = _path(innermost(tree.children[0]), place)
        return f"{below}.{tree.children[1]}" if below else ""
    return ""
