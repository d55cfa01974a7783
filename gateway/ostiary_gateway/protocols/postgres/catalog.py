"""What the gateway knows of the target's catalog: plain data, filled by the I/O side, asked for in batches.

Loop of the I/O side: `resolve()` gives a Wanted; run each of `queries(wanted)` upstream with text results; `load()`
each; resolve again. What is not there is remembered as well. Built-in functions are read from the target itself,
once: they differ by version, and a superuser can add to pg_catalog. `offline()` has those of PostgreSQL 18 for
judging a text where there is no target.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from . import catalog_builtins as builtins
from .catalog_model import Ambient, Function, Relation, read_tree
from .catalog_queries import AMBIENT, BUILTINS, FUNCTIONS, RELATIONS
from .facts_model import Draft

Row = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What must be looked up before facts can be told. Names hold in every schema."""

    relations: frozenset[str] = frozenset()
    relation_oids: frozenset[int] = frozenset()
    functions: frozenset[str] = frozenset()
    function_oids: frozenset[int] = frozenset()
    builtins: bool = False
    ambient: bool = False


@dataclass(frozen=True, slots=True)
class CatalogQuery:
    """One query for the target. `params` are text (arrays in PostgreSQL's notation); results are text."""

    sql: str
    params: tuple[str | None, ...]
    kind: str
    wanted: Wanted


def _array(items: frozenset[str] | frozenset[int]) -> str:
    quoted = ('"' + str(item).replace("\\", "\\\\").replace('"', '\\"') + '"' for item in sorted(items, key=str))
    return "{" + ",".join(quoted) + "}"


def _integers(text: str | None) -> tuple[int, ...]:
    return tuple(int(item) for item in json.loads(text)) if text else ()


class Catalog:
    """The catalog of one target database. Not for several threads at once."""

    def __init__(self, server_version: int) -> None:
        self.server_version = server_version
        self.generation = 0
        """Rises with every `forget()`: whatever was derived before is stale."""
        self.builtins: dict[str, tuple[Function, ...]] = {}
        self.builtins_by_oid: dict[int, Function] = {}
        self.types: frozenset[str] = frozenset()
        self._empty()

    def _empty(self) -> None:
        self.relations: dict[str, tuple[Relation, ...]] = {}
        self.relations_by_oid: dict[int, Relation | None] = {}
        self.functions: dict[str, tuple[Function, ...]] = {}
        self.functions_by_oid: dict[int, Function | None] = {}
        self.user_types: dict[str, bool] = {}
        self.ambient: Ambient | None = None
        self.bodies: dict[int, Draft] = {}
        """What the bodies of functions say, by OID."""

    @property
    def names(self) -> int:
        """How many names it is known of what they are, or that there are none such."""
        return len(self.relations) + len(self.functions)

    def forget(self) -> None:
        """Forget all that DDL can change."""
        self.generation += 1
        self._empty()

    def queries(self, wanted: Wanted) -> list[CatalogQuery]:
        """The queries that answer `wanted`, at most four."""
        queries = []
        if wanted.builtins:
            queries.append(CatalogQuery(BUILTINS, (), "builtins", wanted))
        if wanted.ambient:
            queries.append(CatalogQuery(AMBIENT, (), "ambient", wanted))
        if wanted.relations or wanted.relation_oids:
            params = (_array(wanted.relations), _array(wanted.relation_oids))
            queries.append(CatalogQuery(RELATIONS, params, "relations", wanted))
        if wanted.functions or wanted.function_oids:
            params = (_array(wanted.functions), _array(wanted.function_oids))
            queries.append(CatalogQuery(FUNCTIONS, params, "functions", wanted))
        return queries

    def load(self, query: CatalogQuery, rows: list[Row]) -> None:
        """Take the answer of a query. Raises ValueError if it is not of the expected shape."""
        if query.kind == "builtins":
            self._load_builtins(rows)
        elif query.kind == "ambient":
            self._load_ambient(rows)
        elif query.kind == "relations":
            self._load_relations(query.wanted, rows)
        else:
            self._load_functions(query.wanted, rows)

    def _load_builtins(self, rows: list[Row]) -> None:
        by_name: dict[str, list[Function]] = {}
        types = set()
        for row in rows:
            what, oid, name, arguments, defaults, variadic, volatility, kind = (item or "" for item in row)
            if what == "type":
                types.add(name)
                continue
            function = Function(
                int(oid), "pg_catalog", name, int(arguments), int(defaults), variadic == "t", volatility, kind=kind
            )
            by_name.setdefault(name, []).append(function)
            self.builtins_by_oid[function.oid] = function
        self.builtins = {name: tuple(functions) for name, functions in by_name.items()}
        self.types = frozenset(types)

    def _load_ambient(self, rows: list[Row]) -> None:
        operators: dict[str, list[tuple[str, int]]] = {}
        casts: dict[str, list[int]] = {}
        columns: dict[str, list[int]] = {}
        implicit: set[int] = set()
        triggers = []
        for row in rows:
            what, schema, name, oid, tree = (item or "" for item in row)
            if what == "operator":
                operators.setdefault(name, []).append((schema, int(oid)))
            elif what == "cast":
                casts.setdefault(name, []).append(int(oid))
                if tree in ("i", "a"):
                    implicit.add(int(oid))
            elif what == "domain":
                implicit.update(oid for oid in read_tree(tree).functions if oid not in self.builtins_by_oid)
            elif what == "column":
                columns.setdefault(name, []).append(int(oid))
            else:
                triggers.append(int(oid))
        self.ambient = Ambient(
            {name: tuple(found) for name, found in operators.items()},
            {name: tuple(found) for name, found in casts.items()},
            frozenset(implicit),
            {name: tuple(found) for name, found in columns.items()},
            tuple(triggers),
        )

    def _load_relations(self, wanted: Wanted, rows: list[Row]) -> None:
        for oid in wanted.relation_oids:
            self.relations_by_oid.setdefault(oid, None)
        named: dict[str, list[Relation]] = {name: [] for name in wanted.relations}
        for row in rows:
            relation = _relation(row)
            self.relations_by_oid[relation.oid] = relation
            if relation.name in named:
                named[relation.name].append(relation)
        self.relations.update((name, tuple(found)) for name, found in named.items())

    def _load_functions(self, wanted: Wanted, rows: list[Row]) -> None:
        for oid in wanted.function_oids:
            self.functions_by_oid.setdefault(oid, None)
        named: dict[str, list[Function]] = {name: [] for name in wanted.functions}
        for name in wanted.functions:
            self.user_types[name] = False
        for row in rows:
            if row[0] == "type":
                self.user_types[row[3] or ""] = True
                continue
            function = _function(row)
            self.functions_by_oid[function.oid] = function
            if function.name in named:
                named[function.name].append(function)
        self.functions.update((name, tuple(found)) for name, found in named.items())

    @classmethod
    def offline(cls) -> Catalog:
        """A catalog without a target: PostgreSQL 18's own functions, and no relation or function besides."""
        catalog = _Offline(180000)
        catalog.load(catalog.queries(Wanted(builtins=True))[0], _offline_builtins())
        catalog.ambient = Ambient()
        return catalog


class _Offline(Catalog):
    """Answers every name with nothing."""

    def _empty(self) -> None:
        super()._empty()
        self.relations = _Nothing()
        self.functions = _Nothing()


class _Nothing(dict[str, Any]):
    def get(self, key: str, default: Any = None) -> Any:
        return ()


def _offline_builtins() -> list[Row]:
    rows: list[Row] = []
    for volatility, text in (("i", builtins.IMMUTABLE), ("s", builtins.STABLE), ("v", builtins.VOLATILE)):
        for entry in text.split():
            name, _, arguments = entry.rpartition("/")
            variadic = "t" if arguments.endswith("*") else "f"
            count, _, defaults = arguments.rstrip("*").partition("-")
            rows.append(("function", "0", name, count, defaults or "0", variadic, volatility, "f"))
    rows.extend(("type", "0", name, "0", "0", "f", "", "") for name in builtins.TYPES.split())
    return rows


def _relation(row: Row) -> Relation:
    (
        oid, schema, name, kind, tuples, columns, generated, rules, triggers, policies, expressions,
        ancestors, descendants, references,
    ) = row  # fmt: skip
    stored = [(event, read_tree(tree)) for event, tree in json.loads(rules or "[]")]
    return Relation(
        int(oid or 0),
        schema or "",
        name or "",
        kind or "",
        float(tuples or -1),
        {int(number): column for number, column in json.loads(columns or "{}").items()},
        frozenset(json.loads(generated or "[]")),
        next((tree for event, tree in stored if event == "SELECT"), read_tree("")),
        tuple((event, tree) for event, tree in stored if event != "SELECT"),
        tuple((function, kind, read_tree(when or "")) for function, kind, when in json.loads(triggers or "[]")),
        read_tree(policies or ""),
        read_tree(expressions or ""),
        _integers(ancestors),
        _integers(descendants),
        tuple((int(other), delete, update) for other, delete, update in json.loads(references or "[]")),
        _digest(oid, schema, name, kind, columns, generated, rules, triggers, policies, expressions, references),
    )


def _function(row: Row) -> Function:
    (
        _, oid, schema, name, arguments, defaults, variadic, volatility, language, source, tree, definer, settings,
        kind, returns, returns_set, names, extension, support,
    ) = row  # fmt: skip
    return Function(
        int(oid or 0),
        schema or "",
        name or "",
        int(arguments or 0),
        int(defaults or 0),
        variadic == "t",
        volatility or "v",
        language or "",
        source or "",
        read_tree(tree or ""),
        definer == "t",
        tuple(json.loads(settings or "[]")),
        kind or "f",
        returns or "",
        returns_set == "t",
        tuple(item for item in json.loads(names or "[]") if item),
        extension == "t",
        _integers(support),
        _digest(*row),
    )


def _digest(*parts: str | None) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
