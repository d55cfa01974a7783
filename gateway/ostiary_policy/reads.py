"""Which facts an expression reads: static analysis of its checked tree.

Each sub-expression has an origin: the facts that its value is a part of. A fact counts as read where its value
matters; a whole object that is passed on counts as read with everything below it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ostiary_policy.checked import Node
from ostiary_policy.schema import BY_PATH, FACTS, OPTIONAL, everything_below, field_below

Origin = frozenset[str]
NOWHERE: Origin = frozenset()


@dataclass(frozen=True, slots=True)
class Reads:
    """What an expression reads.

    `facts`: dotted paths. `presence`: those optional facts whose absence gives another value instead of an error
    (`has()`, a whole object passed on): they must be there before the expression is evaluated. `variables`: names
    of the policy's variables, those that these read included. `origin`: what the value itself is a part of; not
    counted in `facts`.
    """

    facts: frozenset[str] = frozenset()
    presence: frozenset[str] = frozenset()
    variables: frozenset[str] = frozenset()
    origin: Origin = NOWHERE

    def consumed(self) -> Reads:
        """The same, with the value itself read in full."""
        found = _Found(set(self.facts), set(self.presence), set(self.variables))
        found.consume(self.origin)
        return Reads(frozenset(found.facts), frozenset(found.presence), self.variables)


@dataclass(slots=True)
class _Found:
    facts: set[str] = field(default_factory=set)
    presence: set[str] = field(default_factory=set)
    variables: set[str] = field(default_factory=set)

    def consume(self, origin: Origin) -> None:
        for path in origin:
            for below in everything_below(path):
                self.facts.add(below)
                if below != path and below in OPTIONAL:
                    self.presence.add(below)


def reads(root: Node, variables: Mapping[str, Reads]) -> Reads:
    """What the expression reads; `variables` is the same of the variables that it may use."""
    found = _Found()
    origin = _origin(root, found, variables, {})
    return Reads(frozenset(found.facts), frozenset(found.presence), frozenset(found.variables), origin)


def _origin(node: Node, found: _Found, variables: Mapping[str, Reads], scope: Mapping[str, Origin]) -> Origin:
    if node.kind in ("ident", "select") and node.reference.startswith("variables."):
        name = node.reference.removeprefix("variables.")
        of = variables[name]
        found.variables.update((name, *of.variables))
        found.facts |= of.facts
        found.presence |= of.presence
        return of.origin
    if node.kind == "const":
        return NOWHERE
    if node.kind == "ident":
        if node.name in scope:
            return scope[node.name]
        return frozenset({node.name}) if node.name in FACTS else NOWHERE
    if node.kind == "select":
        operand = _origin(node.parts[0], found, variables, scope)
        paths = frozenset(field_below(path, node.name) for path in operand)
        if node.test_only:
            found.facts |= paths
            # Inside a dynamic fact it is another matter: has(k8s.object.spec) errs without k8s.object.
            found.presence |= (paths - operand) & OPTIONAL
            return NOWHERE
        return paths
    if node.kind == "comprehension":
        return _comprehension(node, found, variables, scope)
    parts = [_origin(part, found, variables, scope) for part in node.parts]
    if node.kind == "list" or node.kind == "struct":
        return NOWHERE.union(*parts)
    return _call(node, parts, found)


def _call(node: Node, parts: list[Origin], found: _Found) -> Origin:
    if node.name == "_[_]":
        found.consume(parts[1])
        found.facts |= parts[0]
        return parts[0]
    if node.name == "_?_:_":
        found.consume(parts[0])
        return parts[1] | parts[2]
    if node.name == "_+_":
        return parts[0] | parts[1]
    if node.name == "size":
        for path in parts[0]:
            fact = BY_PATH.get(path)
            if fact is not None and fact.repeated and fact.shape == "object":
                found.facts.add(path)
            else:
                found.consume(frozenset({path}))
        return NOWHERE
    for part in parts:
        found.consume(part)
    return NOWHERE


def _comprehension(node: Node, found: _Found, variables: Mapping[str, Reads], scope: Mapping[str, Origin]) -> Origin:
    range_, init, condition, step, result = node.parts
    ranged = _origin(range_, found, variables, scope)
    found.facts |= ranged
    first, second, accumulator = node.variables
    inner = {**scope, first: ranged, accumulator: _origin(init, found, variables, scope)}
    if second:
        inner[second] = ranged
    # What is accumulated may become a part of what is accumulated next.
    while True:
        stepped = _origin(step, found, variables, inner)
        if stepped <= inner[accumulator]:
            break
        inner[accumulator] |= stepped
    found.consume(_origin(condition, found, variables, inner))
    return _origin(result, found, variables, inner)
