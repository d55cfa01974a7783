"""A second engine, cel-python: slow, and independent. It gives the value of every sub-expression for explanations.

It never decides. Where it differs from the engine that does, the explanation says so.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import lark
from celpy import celtypes
from celpy.adapter import json_to_cel
from celpy.celparser import CELParser
from celpy.evaluation import Activation, CELEvalError, Evaluator, base_functions

from ostiary_policy.schema import FACTS, Fact

Bound = Mapping[str, celtypes.Value]
"""What the names that macros bind stand for."""
Json = dict[str, Any] | list[Any] | bool | float | int | str | None

MAX_PARTS = 200
"""Sub-expressions that one expression is taken apart into."""
MAX_ELEMENTS = 8
"""Elements of a list for which the body of a macro is shown."""

_MACROS = ("all", "exists", "exists_one", "filter", "map")
_LEVELS = frozenset(
    ("expr", "conditionalor", "conditionaland", "relation", "addition", "multiplication", "unary", "member", "primary")
    + ("paren_expr",)
)
_KNOWN_FUNCTIONS = frozenset((*base_functions, *_MACROS, "has", "dyn"))
_TOKEN = re.compile(r"Token\('RULE', '([^']*)'\)")
_CLASS = re.compile(r"<class '(?:\w+\.)*(\w+?)(?:Type)?'>")


@dataclass(frozen=True, slots=True)
class Opinion:
    """A value, or why there is none. `able`: False if the engine does not know a function, and so has no opinion."""

    value: object = None
    error: str = ""
    able: bool = True


@dataclass(frozen=True, slots=True)
class Part:
    """A sub-expression: its text, where it begins and ends in the whole, what it gave, and its own parts.

    `element` says for which element of a list the body of a macro was evaluated: `s = sql.statements[0]`.
    """

    text: str
    start: int
    end: int
    opinion: Opinion
    parts: tuple[Part, ...] = ()
    element: str = ""


class Context:
    """The facts and variables of one request, as cel-python takes them."""

    def __init__(self, facts: Mapping[str, object]) -> None:
        self._values: dict[str, celtypes.Value] = {
            name: _convert(fact, facts[name]) for name, fact in FACTS.items() if name in facts
        }

    def with_variables(self, variables: Mapping[str, str]) -> Context:
        """The same with the variables of a policy, in their order; one that errs is left out."""
        context = Context({})
        context._values = dict(self._values)
        known: dict[celtypes.Value, celtypes.Value] = {}
        for name, text in variables.items():
            context._values["variables"] = celtypes.MapType(known)
            try:
                known[celtypes.StringType(name)] = context.run(parse(text), {})
            except Failed:
                continue
        context._values["variables"] = celtypes.MapType(known)
        return context

    def evaluate(self, text: str) -> Opinion:
        """What it makes of an expression."""
        return self._opinion(parse(text), {})

    def take_apart(self, text: str) -> Part:
        """The value of an expression and of every sub-expression."""
        tree = parse(text)
        budget = iter(range(MAX_PARTS))
        return Part(text, 0, len(text), self._opinion(tree, {}), tuple(self._below(text, tree, {}, budget)))

    def _below(self, text: str, tree: lark.Tree[lark.Token], bound: Bound, budget: Iterator[int]) -> Iterator[Part]:
        tree = innermost(tree)
        if tree.data == "literal":
            return
        macro = macro_of(tree)
        children = [tree.children[0]] if macro is not None else list(operands(tree))
        for child in children:
            if isinstance(child, lark.Tree):
                yield from self._part(text, child, bound, budget)
        if macro is not None:
            yield from self._elements(text, tree, macro, bound, budget)

    def _part(
        self,
        text: str,
        tree: lark.Tree[lark.Token],
        bound: Bound,
        budget: Iterator[int],
        element: str = "",
    ) -> Iterator[Part]:
        inner = innermost(tree)
        if inner.data == "literal" or next(budget, None) is None:
            return
        if inner.data in ("list_lit", "map_lit") and not any(inner.find_data("ident")):
            return
        if inner.data == "ident" and not element and str(inner.children[0]) in (*FACTS, "variables", *bound):
            return
        start, end = tree.meta.start_pos, tree.meta.end_pos
        below = tuple(self._below(text, tree, bound, budget))
        yield Part(text[start:end], start, end, self._opinion(tree, bound), below, element)

    def _elements(
        self,
        text: str,
        tree: lark.Tree[lark.Token],
        macro: tuple[str, lark.Tree[lark.Token]],
        bound: Bound,
        budget: Iterator[int],
    ) -> Iterator[Part]:
        name, body = macro
        ranged = tree.children[0]
        assert isinstance(ranged, lark.Tree)
        try:
            elements = self.run(ranged, bound)
        except Failed:
            return
        if not isinstance(elements, list):
            return
        source = text[ranged.meta.start_pos : ranged.meta.end_pos]
        for index, element in enumerate(elements[:MAX_ELEMENTS]):
            label = f"{name} = {source}[{index}]"
            yield from self._part(text, body, {**bound, name: element}, budget, label)

    def _opinion(self, tree: lark.Tree[lark.Token], bound: Bound) -> Opinion:
        try:
            return Opinion(plain(self.run(tree, bound)))
        except Failed as failed:
            return Opinion(error=failed.text, able=failed.able)

    def run(self, tree: lark.Tree[lark.Token], bound: Bound) -> celtypes.Value:
        """The value of one sub-tree. Raises Failed."""
        try:
            value = Evaluator(ast=tree, activation=Activation()).evaluate({**self._values, **bound})
        except CELEvalError as error:
            raise Failed(_first_words(str(error.args[0]) if error.args else ""), able=_knows(tree)) from None
        except (ValueError, TypeError, KeyError, ArithmeticError, AttributeError, RecursionError) as error:
            # Not all of its own mistakes are wrapped; none of them may end an explanation.
            raise Failed(f"{type(error).__name__}: {_first_words(str(error))}", able=False) from None
        if isinstance(value, CELEvalError):
            raise Failed(_first_words(str(value.args[0]) if value.args else ""), able=_knows(tree))
        return value


class Failed(Exception):
    """There is no value. `able`: as in Opinion."""

    def __init__(self, text: str, *, able: bool) -> None:
        super().__init__(text)
        self.text = text
        self.able = able


def _first_words(text: str) -> str:
    text = text.split(" (in activation", 1)[0].split("\n", 1)[0][:300]
    return _CLASS.sub(r"\1", _TOKEN.sub(r"\1", text))


def _knows(tree: lark.Tree[lark.Token]) -> bool:
    """Whether it has all the functions that are called; those of the extensions it has not."""
    called = {str(call.children[0]) for call in tree.find_data("ident_arg")}
    called |= {str(call.children[1]) for call in tree.find_data("member_dot_arg")}
    return called <= _KNOWN_FUNCTIONS


@functools.lru_cache(maxsize=256)
def parse(text: str) -> lark.Tree[lark.Token]:
    """The tree of an expression. Raises CELParseError."""
    return CELParser().parse(text)


def innermost(tree: lark.Tree[lark.Token]) -> lark.Tree[lark.Token]:
    """Through the grammar's levels and parentheses, down to where something happens."""
    while tree.data in _LEVELS and len(tree.children) == 1 and isinstance(tree.children[0], lark.Tree):
        tree = tree.children[0]
    return tree


def operands(tree: lark.Tree[lark.Token]) -> Iterator[lark.Tree[lark.Token]]:
    """The operands of an operator, a call or a literal list; an operator's own node holds its left one."""
    for child in tree.children:
        if not isinstance(child, lark.Tree):
            continue
        if child.data in ("exprlist", "mapinits", "fieldinits") or _is_operator(child):
            yield from operands(child)
        else:
            yield child


def _is_operator(tree: lark.Tree[lark.Token]) -> bool:
    return str(tree.data).startswith(("relation_", "addition_", "multiplication_", "unary_"))


def macro_of(tree: lark.Tree[lark.Token]) -> tuple[str, lark.Tree[lark.Token]] | None:
    """For `list.exists(x, body)` and its like: the name x, and the body."""
    if tree.data != "member_dot_arg" or len(tree.children) != 3 or str(tree.children[1]) not in _MACROS:
        return None
    arguments = tree.children[2]
    if not isinstance(arguments, lark.Tree) or len(arguments.children) < 2:
        return None
    name, body = arguments.children[0], arguments.children[-1]
    if not isinstance(name, lark.Tree) or not isinstance(body, lark.Tree):
        return None
    name = innermost(name)
    return (str(name.children[0]), body) if name.data == "ident" else None


def _convert(fact: Fact, value: object) -> celtypes.Value:
    """A fact as cel-python's types, times included."""
    if fact.repeated and isinstance(value, list):
        return celtypes.ListType([_one(fact, item) for item in value])
    return _one(fact, value)


def _one(fact: Fact, value: object) -> celtypes.Value:
    if fact.shape == "object" and isinstance(value, Mapping):
        return celtypes.MapType(
            {
                celtypes.StringType(key): _convert(fact.fields[key], item) if key in fact.fields else json_to_cel(item)
                for key, item in value.items()
            }
        )
    if fact.shape == "timestamp" and isinstance(value, str):
        try:
            return celtypes.TimestampType(value)
        except ValueError:
            return celtypes.StringType(value)
    return json_to_cel(cast("Json", value))


def plain(value: object) -> object:
    """A value of cel-python as plain Python; times and durations as their text."""
    if isinstance(value, celtypes.BoolType):
        return bool(value)
    if isinstance(value, (celtypes.IntType, celtypes.UintType)):
        return int(value)
    if isinstance(value, celtypes.DoubleType):
        return float(value)
    if isinstance(value, celtypes.StringType):
        return str(value)
    if isinstance(value, Mapping):
        return {plain(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return plain_time(value)


def plain_time(value: object) -> object:
    """Times as RFC 3339, durations in seconds as text; anything else as it is."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    return value


def same(one: object, other: object) -> bool:
    """Whether two plain values are the same, types told apart: true is not 1. NaN is like NaN."""
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other):
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return one == other
