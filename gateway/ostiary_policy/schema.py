"""The shape of the facts, worked out from their declarations: paths, types and documentation of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal, NotRequired, get_args, get_origin, get_type_hints, is_typeddict

from ostiary_policy.facts import PROTOCOL_VARIABLE, VARIABLES, Doc

Shape = Literal[
    "string", "int", "bool", "double", "timestamp", "dyn", "map(string, string)", "map(string, dyn)", "object"
]


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact, or an object of facts.

    `path`: dotted, without indexes: a field of every statement is `sql.statements.verb`. `repeated`: a list of
    `shape`. `optional`: may be absent. `type_name`: of an object, its name in error messages (`Statement`).
    """

    path: str
    shape: Shape
    repeated: bool
    optional: bool
    doc: Doc
    type_name: str = ""
    summary: str = ""
    fields: dict[str, Fact] = field(default_factory=dict)

    @property
    def cel(self) -> str:
        """Its CEL type, for people."""
        one = self.type_name if self.shape == "object" else self.shape
        return f"list({one})" if self.repeated else one

    def walk(self) -> Iterator[Fact]:
        """This fact and all below it."""
        yield self
        for below in self.fields.values():
            yield from below.walk()


_PLAIN: dict[object, Shape] = {str: "string", int: "int", bool: "bool", float: "double", object: "dyn"}
_MAPS: dict[object, Shape] = {dict[str, str]: "map(string, string)", dict[str, object]: "map(string, dyn)"}


def _fact(path: str, hint: object) -> Fact:
    optional = False
    if get_origin(hint) is NotRequired:
        optional, hint = True, get_args(hint)[0]
    doc = Doc("")
    if get_origin(hint) is Annotated:
        hint, *notes = get_args(hint)
        doc = next(note for note in notes if isinstance(note, Doc))
    repeated = get_origin(hint) is list
    if repeated:
        (hint,) = get_args(hint)
    if is_typeddict(hint):
        assert isinstance(hint, type)
        below = get_type_hints(hint, include_extras=True)
        fields = {name: _fact(f"{path}.{name}", below[name]) for name in below}
        name = hint.__name__.removesuffix("Facts")
        return Fact(path, "object", repeated, optional, doc, name, (hint.__doc__ or "").strip(), fields)
    shape = _PLAIN.get(hint) or _MAPS.get(hint)
    if shape is None:
        raise TypeError(f"{path}: a fact cannot be {hint!r}")
    if doc.cel is not None:
        assert (doc.cel, shape) == ("timestamp", "string"), f"{path}: only a string may be declared as a timestamp"
        shape = "timestamp"
    return Fact(path, shape, repeated, optional, doc)


FACTS: dict[str, Fact] = {name: _fact(name, shape) for name, shape in VARIABLES.items()}
"""Every variable."""

BY_PATH: dict[str, Fact] = {fact.path: fact for root in FACTS.values() for fact in root.walk()}
"""Every fact by its dotted path."""

COSTLY: frozenset[str] = frozenset(path for path, fact in BY_PATH.items() if fact.doc.costly)
OPTIONAL: frozenset[str] = frozenset(path for path, fact in BY_PATH.items() if fact.optional)
PROTOCOL_OF: dict[str, str] = {variable: protocol for protocol, variable in PROTOCOL_VARIABLE.items()}


def field_below(path: str, name: str) -> str:
    """The path of a selected field; below a map or a dynamic value it is the path of that value."""
    fact = BY_PATH.get(path)
    if fact is None or name not in fact.fields:
        return path
    return fact.fields[name].path


def everything_below(path: str) -> Iterator[str]:
    """The paths of a fact and of all below it."""
    fact = BY_PATH.get(path)
    if fact is None:
        yield path
    else:
        for below in fact.walk():
            yield below.path
