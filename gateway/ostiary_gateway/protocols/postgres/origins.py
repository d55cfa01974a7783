"""Where the masked columns of one plan are, in one state of the catalog: the tables' own, and the views on them."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from ostiary_policy.facts import RelationFacts
from ostiary_policy.masking import Strategy

from .catalog import Catalog
from .catalog_model import FIRST_USER_OID, Relation
from .facts import Scope
from .facts_names import search
from .lineage import Lineage, RelationView, lineage_of
from .rows import Field
from .taint import MARK

MAX_LINEAGES: Final = 1024
MAX_LONG: Final = 8192
"""Characters; of a longer text nothing is kept."""

MASKED_VIEWS: Final = """
WITH RECURSIVE reading AS (
    SELECT unnest($1::pg_catalog.oid[]) AS oid
    UNION
    SELECT r.ev_class FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_rewrite r ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
    JOIN reading t ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = t.oid
    WHERE d.deptype = 'n' AND r.ev_class <> t.oid
)
SELECT c.oid::text, n.nspname, c.relname,
    (SELECT pg_catalog.json_agg(pg_catalog.json_build_array(a.attnum, a.attname) ORDER BY a.attnum)::text
     FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    CASE WHEN c.relkind IN ('v', 'm') THEN pg_catalog.pg_get_viewdef(c.oid) ELSE '' END
FROM reading JOIN pg_catalog.pg_class c USING (oid) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
"""
"""The masked relations ($1, oid[]) and the views on them, at any depth: OID, schema, name, columns, SELECT.
Run with search_path pg_catalog, so that definitions name their relations in full."""

_READS_RELATIONS: Final = (
    "to_xml", "to_xmlschema", "to_xml_and_xmlschema", "ts_stat", "ts_rewrite", "lo_get", "loread", "_changes",
)  # fmt: skip
"""Ends of the names of PostgreSQL's own functions that read what is not in their arguments."""

Targets = Mapping[tuple[int, int], Strategy]


class Origins:
    """The targets of a plan, and how they come out elsewhere."""

    def __init__(
        self,
        targets: Targets,
        rows: list[tuple[str | None, ...]],
        catalog: Catalog,
        marked: frozenset[tuple[int, int]] = frozenset(),
    ) -> None:
        """`rows`: of MASKED_VIEWS. `marked`: columns that detectors have hit."""
        self.targets = targets
        self.marked = marked
        self._marks = dict.fromkeys(marked, MARK)
        self._derived: OrderedDict[tuple[str, Scope], Lineage] = OrderedDict()
        self._catalog = catalog
        self._views: dict[int, RelationView] = {}
        self._lineages: OrderedDict[tuple[str, Scope], Lineage] = OrderedDict()
        for oid, schema, name, columns, definition in rows:
            pairs = tuple((int(number), str(column)) for number, column in json.loads(columns or "[]"))
            view = RelationView(int(oid or 0), schema or "", name or "", pairs, definition or "")
            self._views[view.oid] = view

    def read_by(self, relations: Iterable[RelationFacts]) -> bool:
        """True if a masked column, or a view on one, is among what these relations are read for."""
        read = [each for each in relations if each["access"] == "read"]
        for view in self._views.values():
            masked = {name for number, name in view.columns if view.definition or (view.oid, number) in self.targets}
            for each in read:
                named = (each["schema"], each["name"]) == (view.schema, view.name)
                if named and ("*" in each["columns"] or not masked.isdisjoint(each["columns"])):
                    return True
        return False

    def lineage(self, text: str, scope: Scope) -> Lineage:
        """Of one statement's text. Kept by text and scope: the catalog is the same for the life of this object."""
        found = self._lineages.get((text, scope))
        if found is None:
            found = lineage_of(text, self.targets, _Seen(self._catalog, self._views, scope))
            _keep(self._lineages, text, scope, found)
        return found

    def derived_from_marked(self, text: str, scope: Scope, fields: tuple[Field, ...]) -> dict[int, Strategy]:
        """The result's columns that are made of what detectors have hit before, by index; not those that show it as it
        is, where they will hit again."""
        found = self._derived.get((text, scope))
        if found is None:
            found = lineage_of(text, self._marks, _Marked(self._catalog, self._views, scope), marks=True)
            _keep(self._derived, text, scope, found)
        return found.derived_of_marks(fields)


def _keep(kept: OrderedDict[tuple[str, Scope], Lineage], text: str, scope: Scope, found: Lineage) -> None:
    if len(text) <= MAX_LONG:
        kept[text, scope] = found
        if len(kept) > MAX_LINEAGES:
            kept.popitem(last=False)


def _unmasked(relation: Relation) -> RelationView:
    """A relation that reads no masked one by name. A view that calls functions of users may do so through them."""
    calls = relation.kind in ("v", "m") and any(oid >= FIRST_USER_OID for oid in relation.view.functions)
    columns = tuple(sorted(relation.columns.items()))
    return RelationView(relation.oid, relation.schema, relation.name, columns, None if calls else "")


class _Seen:
    """The catalog as one scope sees it."""

    def __init__(self, catalog: Catalog, views: Mapping[int, RelationView], scope: Scope) -> None:
        self._catalog = catalog
        self._views = views
        self._scope = scope

    def relation(self, schema: str, name: str) -> RelationView | None:
        if self._scope.has_temp and schema in ("", "pg_temp"):
            # It may mean a temporary relation, which only its own session sees: not known, so withheld.
            return None
        for candidate in [schema] if schema else search(self._scope):
            found = self._catalog.relations.get(name)
            for relation in found if found is not None else self._by_oid(name):
                if relation.schema == candidate:
                    return self._views.get(relation.oid) or _unmasked(relation)
            for view in self._views.values():
                if (view.schema, view.name) == (candidate, name):
                    return view
        return None

    def _by_oid(self, name: str) -> Iterator[Relation]:
        """What views read was looked up by OID."""
        return (found for found in self._catalog.relations_by_oid.values() if found is not None and found.name == name)

    def carries(self, schema: str, name: str, arguments: int) -> bool:
        """Only PostgreSQL's own functions are known not to read anything but their arguments."""
        if schema not in ("", "pg_catalog") or name not in self._catalog.builtins:
            return True
        if any(function.schema != "pg_catalog" for function in self._catalog.functions.get(name, ())):
            return True
        return name.endswith(_READS_RELATIONS)


class _Marked(_Seen):
    """The same for marked columns: what is not known is not taken for one of them."""

    def __init__(self, catalog: Catalog, views: Mapping[int, RelationView], scope: Scope) -> None:
        # A temporary table of the same name would hide the marked one; nobody shall get past by making another.
        super().__init__(catalog, views, replace(scope, has_temp=False))

    def relation(self, schema: str, name: str) -> RelationView | None:
        found = super().relation(schema, name)
        if found is None:
            return RelationView(0, schema, name, ())
        return replace(found, definition="") if found.definition is None else found

    def carries(self, schema: str, name: str, arguments: int) -> bool:
        return False
