"""What a statement does in one session: its draft, with every name followed through search_path and the catalog."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from ostiary_policy.facts import RelationFacts, StatementFacts

from . import functions, plpgsql
from .catalog import Catalog, Wanted
from .catalog_model import FIRST_USER_OID, Function, Relation, TreeUse
from .facts_model import Call, Draft, Effects, Parsed, ParsedStatement, RelationUse, Scope, Statement
from .facts_names import mentioned, quote, search, split_path
from .facts_walk import UNEXPECTED, Walk

MAX_DEPTH = 16
"""Views over functions over views …: deeper is opaque."""

MAX_RELATIVES = 4096
"""Partitions of one table that are listed; more are opaque."""

_TRIGGER_BITS = {"INSERT": 4, "DELETE": 8, "UPDATE": 16, "TRUNCATE": 32, "TRUNCATE CASCADE": 32}
_EVALUATES = frozenset(("INSERT", "UPDATE", "MAINTAIN"))
"""What works out defaults, generated columns, checks and indexes."""
_INSTEAD = 64
_TRIGGER_TYPES = frozenset(("trigger", "event_trigger"))


class Resolver:
    """Follows the names of one text's statements. Collects what the catalog must be asked for."""

    def __init__(
        self, catalog: Catalog, prepared: Callable[[str], Parsed | None], cursors: Callable[[str], Parsed | None],
        *, fingerprints: bool = True,
    ) -> None:  # fmt: skip
        self.fingerprints = fingerprints
        self.catalog = catalog
        self.prepared = prepared
        self.cursors = cursors
        self.relation_names: set[str] = set()
        self.relation_oids: set[int] = set()
        self.function_names: set[str] = set()
        self.function_oids: set[int] = set()

    @staticmethod
    def missing(catalog: Catalog) -> Wanted | None:
        """What every analysis needs."""
        if catalog.builtins and catalog.ambient is not None:
            return None
        return Wanted(builtins=not catalog.builtins, ambient=catalog.ambient is None)

    def wanted(self) -> Wanted | None:
        """What was not known; None if nothing was missing."""
        if self.relation_names or self.relation_oids or self.function_names or self.function_oids:
            return Wanted(
                frozenset(self.relation_names),
                frozenset(self.relation_oids),
                frozenset(self.function_names),
                frozenset(self.function_oids),
            )
        return None

    def statement(self, parsed: ParsedStatement, scope: Scope) -> Statement:
        """The facts and effects of one statement."""
        draft = parsed.draft
        found = _Findings(self, draft)
        found.take(draft, scope, 0)
        if found.ddl:
            found.event_triggers(scope)
        found.ambient(scope)
        return Statement(found.facts(parsed), found.effects(draft))


class _Findings:
    """What one statement does, as far as it is known yet."""

    def __init__(self, resolver: Resolver, draft: Draft) -> None:
        self.resolver = resolver
        self.catalog = resolver.catalog
        self.top = draft
        self.runs = True
        self.relations: dict[tuple[str, str, str], set[str]] = {}
        self.called: dict[str, None] = {}
        self.settings: dict[str, None] = {}
        self.commands: dict[str, None] = {}
        self.reasons: dict[str, None] = {}
        self.reads: set[int] = set()
        self.wheres: list[bool] = []
        self.read_only = True
        self.writes = False
        self.session = False
        self.pinned = ""
        self.rebinds = False
        self.ddl = False
        self.copied: Relation | None = None
        self.seen: set[tuple[object, ...]] = set()
        self.definitions: set[str] = set()
        self.path: tuple[str, ...] = ()

    def concede(self, reason: str) -> None:
        self.reasons[reason] = None
        self.read_only = False
        self.writes = True
        self.session = True

    def take(self, draft: Draft, scope: Scope, depth: int) -> None:
        """Add what a draft says, and all that it reaches."""
        if depth > MAX_DEPTH:
            self.concede(f"it reaches through more than {MAX_DEPTH} views and functions")
            return
        self.path = search(scope)
        self.read_only &= draft.read_only
        self.writes |= draft.writes
        self.ddl |= draft.ddl
        self.rebinds |= draft.rebinds
        self.session |= "may_change_session" in draft.static
        self.pinned = self.pinned or draft.static.get("pinned", "")
        self.wheres.extend(draft.wheres)
        self.settings.update(draft.settings)
        if self.runs:
            self.commands.update(draft.commands)
        for reason in draft.opaque:
            self.concede(reason)
        if draft.path_changed:
            self.concede("it changes what names mean while it runs")
        outer, self.runs = self.runs, self.runs and draft.runs
        if scope.rebound and (draft.relations or draft.calls or draft.operators or draft.casts):
            self.concede("names may mean something else since an earlier statement of this transaction")
        for use in draft.relations:
            self.use(use, scope, depth)
        for call in draft.calls:
            self.call(call, scope, depth)
        ambient = self.catalog.ambient
        if ambient is not None:
            if ambient.operators:
                self.operators(draft, ambient.operators, scope, depth)
            if ambient.column_functions:
                for name in draft.column_calls:
                    for oid in ambient.column_functions.get(name, ()):
                        self.function_by_oid(oid, scope, depth, listed=True)
            if ambient.casts:
                for name in draft.casts:
                    for oid in ambient.casts.get(name, ()):
                        self.function_by_oid(oid, scope, depth, listed=True)
        for name in draft.executes:
            self.inner(self.resolver.prepared(name), f"the prepared statement {name} is not known", scope, depth)
        for name in draft.fetches:
            self.inner(self.resolver.cursors(name), f"the cursor {name} is not known", scope, depth)
        self.runs = outer
        self.path = search(scope)

    def inner(self, parsed: Parsed | None, reason: str, scope: Scope, depth: int) -> None:
        if parsed is None:
            self.concede(reason)
            return
        for statement in parsed.statements:
            self.take(statement.draft, scope, depth + 1)

    # Relations

    def use(self, use: RelationUse, scope: Scope, depth: int) -> None:
        """A relation that the text names."""
        if use.event == "CREATE":
            schema = use.schema or (scope.search_path[0] if scope.search_path else "")
            self.note(schema, use.name, use.access, use.columns or ())
            return
        relation = self.find(use.schema, use.name, scope)
        if relation is None:
            columns = use.columns if use.columns is not None else mentioned(use, None)
            if use.event == "*" and not columns:
                return
            temporary = scope.has_temp and use.schema in ("", "pg_temp")
            self.note("pg_temp" if temporary else "", use.name, use.access, columns)
            if scope.uncommitted_ddl and use.name in self.catalog.relations:
                self.concede(f"{use.name} cannot be resolved: created or renamed in this transaction")
            return
        columns = use.columns if use.columns is not None else mentioned(use, relation)
        if use.event == "*" and not columns:
            return
        if use is self.top.copy_relation:
            self.copied = relation
        self.relation(relation, use.access, columns, use.event, scope, depth, use.only)

    def find(self, schema: str, name: str, scope: Scope) -> Relation | None:
        """The relation that a name means; None if there is none, or if it must be asked for first."""
        found = self.catalog.relations.get(name)
        if found is None:
            self.resolver.relation_names.add(name)
            return None
        if schema:
            return next((relation for relation in found if relation.schema == schema), None)
        if len(found) == 1 and found[0].schema in self.path:
            return found[0]
        for each in self.path:
            for relation in found:
                if relation.schema == each:
                    return relation
        return None

    def note(self, schema: str, name: str, access: str, columns: Iterable[str]) -> None:
        known = self.relations.get((schema, name, access))
        if known is None:
            self.relations[schema, name, access] = set(columns)
        else:
            known.update(columns)

    def by_oid(self, oid: int) -> Relation | None:
        if oid not in self.catalog.relations_by_oid:
            self.resolver.relation_oids.add(oid)
            return None
        relation = self.catalog.relations_by_oid[oid]
        if relation is None:
            self.concede("it reaches a relation that the catalog does not show")
        return relation

    def relation(
        self,
        relation: Relation,
        access: str,
        columns: Iterable[str],
        event: str,
        scope: Scope,
        depth: int,
        only: bool = False,
    ) -> None:
        """A relation, and what reading, writing or maintaining it reaches."""
        self.note(relation.schema, relation.name, access, columns)
        if access != "define":
            self.reads.add(relation.oid)
        if access == "write" and relation.schema == "pg_catalog":
            self.system_write(relation)
        key = (relation.oid, access, event, only)
        if key in self.seen or relation.built_in:
            return
        self.seen.add(key)
        self.definitions.add(relation.definition)
        if depth > MAX_DEPTH:
            self.concede(f"it reaches through more than {MAX_DEPTH} views and functions")
            return
        reads, writes = access == "read", access == "write"
        if (relation.kind == "v" and reads) or (relation.kind == "m" and event == "REFRESH"):
            self.tree(relation.view, scope, depth + 1)
        if reads or writes:
            self.tree(relation.policies, scope, depth + 1)
            self.relatives(relation, access, event, scope, depth, only)
        if writes:
            self.written(relation, event, scope, depth)
        if event in _EVALUATES:
            self.tree(relation.expressions, scope, depth + 1)
        elif reads:
            self.folded(relation.expressions, scope, depth + 1)

    def relatives(self, relation: Relation, access: str, event: str, scope: Scope, depth: int, only: bool) -> None:
        """Parents, by name only, and children, which are read or written as well."""
        for oid in relation.ancestors:
            parent = self.by_oid(oid)
            if parent is not None:
                self.note(parent.schema, parent.name, access, ("*",))
        if only:
            return
        if len(relation.descendants) > MAX_RELATIVES:
            self.concede(f"{relation.name} has more than {MAX_RELATIVES} partitions")
            return
        for oid in relation.descendants:
            child = self.by_oid(oid)
            if child is not None:
                self.relation(child, access, ("*",), event, scope, depth, only=True)

    def written(self, relation: Relation, event: str, scope: Scope, depth: int) -> None:
        """Triggers, rules, what an updatable view leads to, and what foreign keys carry on."""
        bit = _TRIGGER_BITS.get(event, 0)
        instead = False
        for oid, kind, condition in relation.triggers:
            if kind & bit:
                instead |= bool(kind & _INSTEAD)
                self.tree(condition, scope, depth + 1)
                self.function_by_oid(oid, scope, depth + 1, listed=True)
        for rule_event, tree in relation.rules:
            if rule_event == event:
                self.tree(tree, scope, depth + 1)
        if relation.kind == "v" and not instead:
            self.tree(relation.view, scope, depth + 1)
            for oid, _ in relation.view.reads:
                base = self.by_oid(oid)
                if base is not None:
                    self.relation(base, "write", ("*",), event, scope, depth + 1)
        for oid, on_delete, on_update in relation.references:
            carried = {
                "DELETE": {"c": "DELETE", "n": "UPDATE", "d": "UPDATE"}.get(on_delete),
                "UPDATE": "UPDATE" if on_update in "cnd" else None,
                "TRUNCATE CASCADE": "TRUNCATE CASCADE",
            }.get(event)
            if carried is not None:
                other = self.by_oid(oid)
                if other is not None:
                    self.relation(other, "write", ("*",), carried, scope, depth + 1)

    def system_write(self, relation: Relation) -> None:
        """Writing system catalogs by hand: all that is known may change. pg_settings is set_config in disguise."""
        if self.runs:
            self.session = True
        if relation.name == "pg_settings":
            self.settings["*"] = None
            self.pinned = self.pinned or "it changes settings through pg_settings: use SET"
        else:
            self.ddl = self.rebinds = True

    def tree(self, tree: TreeUse, scope: Scope, depth: int) -> None:
        """What a stored expression or query reaches."""
        if tree.conceded:
            self.concede(tree.conceded)
        for oid in tree.functions:
            self.function_by_oid(oid, scope, depth, listed=False)
        for oid, attributes in tree.reads:
            relation = self.by_oid(oid)
            if relation is not None:
                names = [relation.columns.get(number, "") for number in attributes]
                columns = [name for name in names if name] if all(number > 0 for number in attributes) else ["*"]
                self.relation(relation, "read", columns, "", scope, depth)
        for oid, event in tree.writes:
            relation = self.by_oid(oid)
            if relation is not None:
                self.does_write()
                self.commands[event] = None
                self.relation(relation, "write", ("*",), event, scope, depth)

    def folded(self, tree: TreeUse, scope: Scope, depth: int) -> None:
        """The planner may run immutable functions of checks, partition keys and indexes when a table is only read."""
        for oid in tree.functions:
            if oid in self.catalog.builtins_by_oid:
                continue
            if oid not in self.catalog.functions_by_oid:
                if oid >= FIRST_USER_OID:
                    self.resolver.function_oids.add(oid)
                continue
            function = self.catalog.functions_by_oid[oid]
            if function is None or function.volatility == "i":
                self.function_by_oid(oid, scope, depth, listed=True)

    def does_write(self) -> None:
        if self.runs:
            self.read_only = False
            self.writes = True

    # Functions

    def call(self, call: Call, scope: Scope, depth: int) -> None:
        """A function that the text calls: all that the name may mean with so many arguments."""
        name, schema = call.name, call.schema
        matched = False
        if schema in ("", "pg_catalog"):
            found = self.catalog.builtins.get(name)
            if found is not None:
                volatility = ""
                for function in found:
                    if function.takes(call.count):
                        matched = True
                        volatility = max(volatility, function.volatility)
                if matched:
                    self.called[f"pg_catalog.{name}"] = None
                    self.builtin(name, volatility)
        users = self.catalog.functions.get(name)
        if users is None:
            self.resolver.function_names.add(name)
            return
        for function in users:
            if (function.schema == schema if schema else function.schema in self.path) and function.takes(call.count):
                matched = True
                self.function(function, scope, depth + 1, listed=True)
        if matched:
            return
        if call.count == 1 and (name in self.catalog.types or self.catalog.user_types.get(name)):
            ambient = self.catalog.ambient
            for oid in ambient.casts.get(name, ()) if ambient is not None else ():
                self.function_by_oid(oid, scope, depth + 1, listed=True)
            return
        self.called[f".{name}"] = None
        self.concede(f"the function {name} cannot be resolved")

    def builtin(self, name: str, volatility: str) -> None:
        does = functions.does(name, volatility)
        if does != "reads" and self.runs:
            self.read_only = False
            if does == "writes":
                self.writes = True

    def function_by_oid(self, oid: int, scope: Scope, depth: int, listed: bool) -> None:
        """A function that the catalog names by OID. Built-in ones that only read are not worth listing."""
        if not oid:
            return
        builtin = self.catalog.builtins_by_oid.get(oid)
        if builtin is not None:
            self.stored_builtin(builtin)
            return
        if oid not in self.catalog.functions_by_oid:
            if oid < FIRST_USER_OID:
                return
            self.resolver.function_oids.add(oid)
            return
        function = self.catalog.functions_by_oid[oid]
        if function is None:
            self.concede("it calls a function that the catalog does not show")
        else:
            self.function(function, scope, depth, listed=True)

    def stored_builtin(self, function: Function) -> None:
        """A built-in function inside a stored expression, whose arguments are not read."""
        name = function.name
        if (name in functions.RUNS_SQL and function.volatility == "v") or name in functions.READS_RELATION:
            self.concede(f"{name}() runs inside a view, rule or default, on what cannot be read there")
        elif name in functions.READS_UNNAMED:
            self.concede(f"{name}(): {functions.READS_UNNAMED[name]}")
        elif name == "set_config":
            self.settings["*"] = None
            self.session = True
            self.concede("set_config() runs inside a view, rule or default")
        self.builtin(name, function.volatility)
        if function.volatility == "v":
            self.called[f"pg_catalog.{name}"] = None

    def function(self, function: Function, scope: Scope, depth: int, listed: bool) -> None:
        """A function that users defined: its body, if it can be read."""
        label = f"{function.schema}.{function.name}"
        if listed:
            self.called[label] = None
        key = (function.oid, scope.search_path, self.runs)
        if key in self.seen:
            return
        self.seen.add(key)
        self.definitions.add(function.definition)
        if depth > MAX_DEPTH:
            self.concede(f"it reaches through more than {MAX_DEPTH} views and functions")
            return
        if function.kind == "a":
            for oid in function.support:
                self.function_by_oid(oid, scope, depth + 1, listed=True)
            return
        for setting in function.settings:
            name, _, value = setting.partition("=")
            if name in ("standard_conforming_strings", "client_encoding", "role", "session_authorization"):
                self.concede(f"{label} runs with its own {name}")
            elif name == "search_path":
                scope = replace(scope, search_path=split_path(value, scope))
        if function.language == "internal" and function.source in functions.CONSTRUCTORS:
            return
        if function.language in ("c", "internal"):
            if function.volatility == "v" or not function.extension:
                self.concede(f"{label} is written in {function.language}: what it does cannot be read")
            return
        if function.language not in ("sql", "plpgsql"):
            self.concede(f"{label} is written in {function.language}: what it does cannot be read")
            return
        if function.tree.functions or function.tree.reads or function.tree.writes or function.tree.conceded:
            self.tree(function.tree, scope, depth + 1)
            return
        if not function.source.strip():
            return
        before = dict(self.reasons)
        outer = self.path
        self.take(self.body(function), scope, depth + 1)
        self.path = outer
        for reason in [reason for reason in self.reasons if reason not in before]:
            if not reason.startswith(function.schema):
                del self.reasons[reason]
                self.reasons[f"{label}: {reason}"] = None

    def body(self, function: Function) -> Draft:
        """What a function's body says. Kept with the catalog."""
        known = self.catalog.bodies.get(function.oid)
        if known is None:
            known = Draft()
            walk = Walk(known, "", inner=True)
            try:
                if function.language == "sql":
                    walk.body(function.source, "its body")
                else:
                    plpgsql.read_source(
                        walk,
                        function.source,
                        function.returns,
                        function.returns_set,
                        list(function.names),
                        function.kind == "p",
                    )
            except RecursionError:
                known.concede("its body nests too deeply")
            except UNEXPECTED as error:
                known.concede(f"its body's parse tree is not of the expected shape: {error!r}")
            self.catalog.bodies[function.oid] = known
        return known

    def operators(self, draft: Draft, known: dict[str, tuple[tuple[str, int], ...]], scope: Scope, depth: int) -> None:
        for schema, name in draft.operators:
            for owner, oid in known.get(name, ()):
                if owner == schema if schema else owner in self.path:
                    self.function_by_oid(oid, scope, depth + 1, listed=True)

    def ambient(self, scope: Scope) -> None:
        """Functions that run without being named: they count only if they may do more than compute."""
        ambient = self.catalog.ambient
        if ambient is None or not ambient.implicit:
            return
        probe = _Findings(self.resolver, Draft())
        probe.path = self.path
        for oid in ambient.implicit:
            probe.function_by_oid(oid, scope, 1, listed=True)
        self.definitions |= probe.definitions
        if not probe.read_only or probe.writes:
            for reason in probe.reasons or {"an implicit cast or a domain's check calls a function that writes": None}:
                self.concede(reason)
            self.called.update(probe.called)

    def event_triggers(self, scope: Scope) -> None:
        ambient = self.catalog.ambient
        for oid in ambient.event_triggers if ambient is not None else ():
            self.function_by_oid(oid, scope, 1, listed=True)

    # The answer

    def facts(self, parsed: ParsedStatement) -> StatementFacts:
        draft = self.top
        relations: list[RelationFacts] = [
            {"schema": schema, "name": name, "access": access, "columns": sorted(columns)}
            for (schema, name, access), columns in self.relations.items()
        ]
        opaque = bool(self.reasons)
        return {
            "verb": draft.verb,
            "kind": draft.kind,
            "commands": list(self.commands),
            "readOnly": self.read_only and not opaque and not self.writes,
            "writes": self.writes or opaque,
            "opaque": opaque,
            "opaqueReason": "; ".join(self.reasons),
            "relations": relations,
            "functions": list(self.called),
            "hasWhere": all(self.wheres) if self.wheres else draft.where,
            "hasLimit": draft.limit,
            "settings": list(self.settings),
            "text": parsed.text,
            "fingerprint": parsed.fingerprint if self.resolver.fingerprints else "",
        }

    def effects(self, draft: Draft) -> Effects:
        static = dict(draft.static)
        copy = static.get("copy")
        if copy is not None and draft.copy_relation is not None:
            copy = static["copy"] = replace(copy, select_text=self.copied_select(draft))
        if copy is not None and copy.select_text:
            static["estimable"], static["explain_text"] = True, copy.select_text
        if draft.truncates:
            static["truncates"] = tuple(
                (each.schema, each.name)
                for use in draft.truncates
                for each in self.catalog.relations.get(use.name, ())
                if (each.schema, each.name, use.access) in self.relations
            )
        opaque = bool(self.reasons)
        static["may_change_session"] = self.session or opaque
        static["pinned"] = self.pinned
        static["ddl"] = self.ddl or opaque
        static["rebinds"] = self.rebinds or opaque
        static["masked_reads"] = frozenset(self.reads)
        static["definitions"] = frozenset(self.definitions)
        return Effects(**static)

    def copied_select(self, draft: Draft) -> str:
        """A SELECT of what COPY relation TO copies: no child tables, and by default no generated columns."""
        relation, use = self.copied, draft.copy_relation
        if use is None:
            return ""
        columns = draft.copy_columns
        if relation is not None and not columns:
            columns = tuple(name for name in relation.columns.values() if name not in relation.generated)
        listed = ", ".join(map(quote, columns)) if columns else "" if relation is not None else "*"
        schema = relation.schema if relation is not None else use.schema
        name = f"{quote(schema)}.{quote(use.name)}" if schema else quote(use.name)
        return f"SELECT {listed} FROM ONLY {name}"
