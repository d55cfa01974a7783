"""Which columns of a query may carry what a masked column holds: a walk of the parse tree, over-careful.

A column is followed through aliases, sub-queries, CTEs, set operations, joins, RETURNING and whole rows. An
expression carries what any part of it carries, but for parts that give only a yes, a no or a count. Names are
matched in all scopes at once: this may taint too much, never too little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ostiary_gateway.protocols.postgres.facts_parse import Json, Tree
from ostiary_policy.masking import Strategy, stronger

REDACT = Strategy("Redact")
MARK = Strategy("Partial", keep_first=1 << 30)
"""Stands for a column that detectors have hit: weaker than any mask, and hides nothing where the column is plain."""
_VERBATIM = frozenset(
    ("row_to_json", "to_json", "to_jsonb", "json_agg", "jsonb_agg", "array_agg", "min", "max", "unnest")
) | frozenset(("json_build_object", "jsonb_build_object", "json_build_array", "jsonb_build_array", "lag", "lead"))
_VERBATIM |= frozenset(("json_object_agg", "jsonb_object_agg", "first_value", "last_value", "nth_value"))
"""Functions that show their arguments as they are, so that detectors find in them what they would find alone."""
_PARTS_OF_JSON = (["->"], ["->>"], ["#>"], ["#>>"])
_WHOLE_TYPES = frozenset(("text", "varchar", "json", "jsonb"))

_YES_OR_NO = frozenset(
    f"AEXPR_{kind}"
    for kind in (
        *("OP_ANY", "OP_ALL", "DISTINCT", "NOT_DISTINCT", "IN"),
        *("BETWEEN", "NOT_BETWEEN", "BETWEEN_SYM", "NOT_BETWEEN_SYM"),
    )
)
"""Comparisons that the server makes sure are bool. Plain operators, LIKE among them, may be a user's and give anything;
where they do give a bool, its type tells."""
_COUNTS = frozenset(
    ("count", "row_number", "rank", "dense_rank", "percent_rank", "cume_dist", "ntile", "pg_typeof", "bool_and")
) | frozenset(("bool_or", "every", "num_nulls", "num_nonnulls", "pg_column_size"))
_CARRIED_AWAY = frozenset(("set_config", "pg_notify", "lo_from_bytea", "lo_put", "lowrite", "pg_logical_emit_message"))
"""Functions that keep their argument where no column's mask follows."""
_NO_VALUE = frozenset(("NullTest", "BooleanTest", "BoolExpr", "GroupingFunc", "SQLValueFunction", "MergeSupportFunc"))
_NO_VALUE |= frozenset(("JsonIsPredicate", "CurrentOfExpr", "SetToDefault", "ParamRef", "A_Const", "TypeName"))
_SKIPPED = frozenset(("over", "agg_filter", "typeName", "typename", "alias", "windowClause", "sortClause"))
_CONDITIONS = frozenset(("whereClause", "groupClause", "havingClause", "windowClause", "sortClause", "limitOffset"))
_CONDITIONS |= frozenset(("limitCount", "distinctClause"))
_MAX_DEPTH = 200
_MAX_STEPS = 500_000


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a query. `name` None: any name may mean it. `gap`: stands for a number of columns not known."""

    name: str | None
    taint: Strategy | None = None
    gap: bool = False


Columns = tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """One item of FROM: what its alias and its columns mean."""

    alias: str
    columns: Columns

    def taint(self) -> Strategy | None:
        return strongest(column.taint for column in self.columns)


@dataclass(frozen=True, slots=True)
class Scope:
    """What names mean at one place: sources of this query and of those around it, and CTEs."""

    sources: tuple[Source, ...] = ()
    star: Columns = ()
    ctes: Mapping[str, Columns] = field(default_factory=dict)
    depth: int = 0


class TooDeep(Exception):
    """The tree is deeper or wider than is followed."""


def strongest(taints: Iterable[Strategy | None]) -> Strategy | None:
    """Of all, None if none is tainted."""
    result: Strategy | None = None
    for taint in taints:
        if taint is not None:
            result = taint if result is None else stronger(result, taint)
    return result


def derived(taint: Strategy | None) -> Strategy | None:
    """A part of a value, or a value of many, is not hidden by what hides the whole: only Redact and Null hold."""
    if taint is None or taint.type in ("Null", "Redact"):
        return taint
    return REDACT


class Taint:
    """Follows masked columns through statements.

    `relation` gives the columns of a relation by schema (empty: by search_path) and name; `carries` says of a function
    (schema, name, number of arguments) whether its result may hold more than its arguments.
    """

    def __init__(
        self,
        relation: Callable[[str, str], Columns],
        carries: Callable[[str, str, int], bool],
        *,
        marks: bool = False,
    ) -> None:
        """`marks`: an expression that shows a column's values as they are is not derived from it."""
        self._marks = marks
        self._relation = relation
        self._carries = carries
        self._steps = 0
        self._carried = False
        self.copies = False
        """The statement writes what a masked column holds to where no mask follows."""

    def statement(self, kind: str, tree: Tree, scope: Scope | None = None) -> Columns | None:
        """The result's columns; None if the statement has a result that is not followed."""
        scope = scope or Scope()
        match kind:
            case "SelectStmt":
                columns = self.query(tree, scope)
                if "intoClause" in tree and strongest(column.taint for column in columns):
                    self.copies = True
                return columns
            case "InsertStmt" | "UpdateStmt" | "DeleteStmt" | "MergeStmt":
                return self._write(kind, tree, scope)
            case "CopyStmt" if "filename" in tree and not tree.get("is_from"):
                # A file of the server, or a program's input: no mask follows there.
                columns_or_none = self.statement("CopyStmt", {k: v for k, v in tree.items() if k != "filename"}, scope)
                self.copies |= columns_or_none is None or strongest(c.taint for c in columns_or_none) is not None
                return columns_or_none
            case "CopyStmt" if "query" not in tree:
                columns = self._table(_tree(tree["relation"]), replace(scope, ctes={})).columns
                names = [_string(name) for name in _list(tree, "attlist")]
                named = {column.name: column for column in columns}
                return tuple(named.get(name, Column(name, REDACT)) for name in names) or columns
            case "CopyStmt":
                return self.statement(*_unwrap(tree["query"]), scope)
            case "DeclareCursorStmt" | "PrepareStmt" | "CreateTableAsStmt":
                columns_or_none = self.statement(*_unwrap(tree["query"]), scope)
                if kind == "CreateTableAsStmt":
                    kept = tree.get("objtype") != "OBJECT_MATVIEW"
                    if kept and (columns_or_none is None or strongest(c.taint for c in columns_or_none)):
                        self.copies = True
                return columns_or_none
            case "ExplainStmt":
                self.statement(*_unwrap(tree["query"]), scope)
                # What a function gives may be worked out for the plan, and shown in it.
                return (Column("QUERY PLAN", REDACT if self._carried else None),)
            case "VariableShowStmt":
                return (Column(None, None, gap=True),)
            case _:
                return None

    def query(self, select: Tree, scope: Scope) -> Columns:
        """The columns of a SELECT, VALUES, TABLE or set operation."""
        scope = self._with(select, self._deeper(scope))
        if "larg" in select:
            left, right = self.query(_tree(select["larg"]), scope), self.query(_tree(select["rarg"]), scope)
            return _united(left, right)
        if "valuesLists" in select:
            rows = [
                tuple(
                    Column(None, derived(self.expression(item, scope))) for item in _list(_tree(row), "List", "items")
                )
                for row in _list(select, "valuesLists")
            ]
            columns = rows[0]
            for row in rows[1:]:
                columns = _united(columns, row)
            return tuple(replace(column, name=f"column{index + 1}") for index, column in enumerate(columns))
        inner = self._from(_list(select, "fromClause"), scope)
        self._look_for_copies([value for key, value in select.items() if key in _CONDITIONS], inner)
        return self._targets(_list(select, "targetList"), inner)

    # FROM

    def _from(self, items: Sequence[Json], scope: Scope) -> Scope:
        star: list[Column] = []
        for item in items:
            sources, columns = self._item(item, scope)
            star += columns
            # Later items may be LATERAL: they see the earlier ones.
            scope = replace(scope, sources=(*scope.sources, *sources))
        return replace(scope, star=tuple(star))

    def _item(self, item: Json, scope: Scope) -> tuple[tuple[Source, ...], Columns]:
        kind, tree = _unwrap(item)
        if kind == "RangeVar":
            source = self._table(tree, scope)
            return (source,), source.columns
        if kind == "RangeTableSample":
            return self._item(tree.get("relation"), scope)
        if kind == "JoinExpr":
            return self._join(tree, scope)
        if kind == "RangeSubselect":
            columns = self.statement(*_unwrap(tree["subquery"]), scope) or (Column(None, REDACT, gap=True),)
        else:
            # Functions, XMLTABLE, JSON_TABLE: all of their columns carry what goes into them.
            taint = derived(self.expression({key: value for key, value in tree.items() if key != "alias"}, scope))
            defined = [str(_unwrap(column)[1].get("colname", "")) for column in _list(tree, "coldeflist")]
            columns = tuple(Column(name, taint) for name in defined) or (Column(None, taint, gap=True),)
        source = _aliased(_tree(tree.get("alias")), "", columns)
        return (source,), source.columns

    def _table(self, tree: Tree, scope: Scope) -> Source:
        schema, name = str(tree.get("schemaname", "")), str(tree.get("relname", ""))
        columns = scope.ctes.get(name) if not schema else None
        if columns is None:
            columns = self._relation(schema, name)
        return _aliased(_tree(tree.get("alias")), name, columns)

    def _join(self, tree: Tree, scope: Scope) -> tuple[tuple[Source, ...], Columns]:
        left_sources, left = self._item(tree["larg"], scope)
        scope = replace(scope, sources=(*scope.sources, *left_sources))
        right_sources, right = self._item(tree["rarg"], scope)
        self._look_for_copies(tree.get("quals"), replace(scope, sources=(*scope.sources, *right_sources)))
        using = [_string(name) for name in _list(tree, "usingClause")]
        if tree.get("isNatural"):
            names = {column.name for column in right}
            using = [column.name for column in left if column.name is not None and column.name in names]
        if (using or tree.get("isNatural")) and any(column.gap or not column.name for column in (*left, *right)):
            star: Columns = (Column(None, strongest(column.taint for column in (*left, *right)), gap=True),)
        else:
            merged = tuple(
                Column(name, strongest(column.taint for column in (*left, *right) if column.name == name))
                for name in using
            )
            star = (*merged, *(column for column in (*left, *right) if column.name not in using))
        if alias := _tree(tree.get("alias")):
            source = _aliased(alias, "", star)
            return (source,), source.columns
        sources = (*left_sources, *right_sources)
        if shared := _tree(tree.get("join_using_alias")):
            sources = (*sources, Source(str(shared.get("aliasname", "")), star[: len(using)] or star))
        return sources, star

    # WITH

    def _with(self, tree: Tree, scope: Scope) -> Scope:
        clause = _tree(tree.get("withClause"))
        if not clause:
            return scope
        ctes = [_unwrap(item)[1] for item in _list(clause, "ctes")]
        known = dict(scope.ctes)
        if clause.get("recursive"):
            # A fixpoint: every round can only add taint, and a chain of n CTEs needs n rounds.
            for cte in ctes:
                known[str(cte["ctename"])] = (Column(None, None, gap=True),)
        for _ in range(len(ctes) + 3 if clause.get("recursive") else 1):
            before = dict(known)
            for cte in ctes:
                known[str(cte["ctename"])] = self._cte(cte, replace(scope, ctes=dict(known)))
            if known == before:
                break
        return replace(scope, ctes=known)

    def _cte(self, cte: Tree, scope: Scope) -> Columns:
        columns = self.statement(*_unwrap(cte["ctequery"]), scope)
        if columns is None:
            columns = (Column(None, REDACT, gap=True),)
        columns = _renamed(columns, [_string(name) for name in _list(cte, "aliascolnames")])
        taint = derived(strongest(column.taint for column in columns))
        search, cycle = _tree(cte.get("search_clause")), _tree(cte.get("cycle_clause"))
        if search:
            columns = (*columns, Column(str(search.get("search_seq_column")), taint))
        if cycle:
            mark = Column(str(cycle.get("cycle_mark_column")), taint)
            columns = (*columns, mark, Column(str(cycle.get("cycle_path_column")), taint))
        return columns

    # Expressions

    def _targets(self, targets: Sequence[Json], scope: Scope) -> Columns:
        columns: list[Column] = []
        for target in targets:
            _, tree = _unwrap(target)
            kind, value = _unwrap(tree.get("val"))
            fields = _list(value, "fields")
            if kind == "ColumnRef" and "A_Star" in _tree(fields[-1]):
                columns += self._expand([_string(name) for name in fields[:-1]], scope)
                continue
            if kind == "A_Indirection" and "A_Star" in _tree(_list(value, "indirection")[-1]):
                columns.append(Column(None, derived(self.expression(tree.get("val"), scope)), gap=True))
                continue
            taint = self.expression(tree.get("val"), scope)
            name: str | None = str(tree["name"]) if "name" in tree else None
            if kind == "ColumnRef":
                last = _string(fields[-1])
                plain = any(column.name == last for source in scope.sources for column in source.columns)
                name, taint = name or last, taint if plain or self._marks else derived(taint)
            elif not (self._marks and self._verbatim(tree.get("val"), scope)):
                taint = derived(taint)
            columns.append(Column(name, taint))
        return tuple(columns)

    def _expand(self, names: list[str], scope: Scope) -> Columns:
        if not names:
            return scope.star
        for source in reversed(scope.sources):
            if source.alias == names[-1]:
                return source.columns
        return (Column(None, strongest(source.taint() for source in scope.sources), gap=True),)

    def _verbatim(self, node: Json, scope: Scope) -> bool:
        """True if whatever marked columns hold is shown as it is."""
        kind, value = _unwrap(node)
        match kind:
            case "ColumnRef" | "SubLink":
                return True
            case "FuncCall":
                names = [_string(name) for name in _list(value, "funcname")]
                known = names[-1] in _VERBATIM and names[:-1] in ([], ["pg_catalog"])
                if known and all(self._verbatim(item, scope) for item in _list(value, "args")):
                    return True
            case "CoalesceExpr" | "MinMaxExpr" | "RowExpr":
                if all(self._verbatim(item, scope) for item in _list(value, "args")):
                    return True
            case "A_ArrayExpr":
                if all(self._verbatim(item, scope) for item in _list(value, "elements")):
                    return True
            case "A_Indirection":
                steps = all({"String", "A_Indices"} & _tree(step).keys() for step in _list(value, "indirection"))
                if steps and self._verbatim(value.get("arg"), scope):
                    return True
            case "A_Expr":
                operator = [_string(name) for name in _list(value, "name")]
                if operator[-1:] in _PARTS_OF_JSON and self._verbatim(value.get("lexpr"), scope):
                    return True
            case "TypeCast":
                wanted = _tree(value.get("typeName"))
                name = _string(_list(wanted, "names")[-1]) if _list(wanted, "names") else ""
                if name in _WHOLE_TYPES and "typmods" not in wanted and self._verbatim(value.get("arg"), scope):
                    return True
        return self.expression(node, scope) is None

    def expression(self, node: Json, scope: Scope) -> Strategy | None:
        """What an expression may carry."""
        scope = self._deeper(scope)
        if isinstance(node, list):
            return strongest(self.expression(item, scope) for item in node)
        if not isinstance(node, dict):
            return None
        return strongest(self._part(key, value, scope) for key, value in node.items())

    def _part(self, kind: str, value: Json, scope: Scope) -> Strategy | None:
        if kind in _SKIPPED or not isinstance(value, (dict, list)):
            return None
        if isinstance(value, list):
            return self.expression(value, scope)
        if kind in _NO_VALUE:
            self._look_for_copies(value, scope)
            return None
        match kind:
            case "ColumnRef":
                return self._column(_list(value, "fields"), scope)
            case "FuncCall":
                return self._call(value, scope)
            case "SubLink":
                return self._sub_select(value, scope)
            case "A_Expr" if value.get("kind") in _YES_OR_NO:
                self._look_for_copies(value, scope)
                return None
            case "CaseExpr":
                whens = [_unwrap(when)[1] for when in _list(value, "args")]
                self._look_for_copies([value.get("arg"), *(when.get("expr") for when in whens)], scope)
                return self.expression([*(when.get("result") for when in whens), value.get("defresult")], scope)
            case _:
                return self.expression(value, scope)

    def _column(self, fields: Sequence[Json], scope: Scope) -> Strategy | None:
        star = "A_Star" in _tree(fields[-1])
        names = [_string(name) for name in fields if "A_Star" not in _tree(name)]
        if not names:
            return strongest(source.taint() for source in scope.sources)
        if len(names) > 1 and not star:
            matched = [source for source in scope.sources if source.alias == names[-2]]
            if matched:
                return strongest(_in_source(source, names[-1]) for source in matched)
        found: list[Strategy | None] = []
        for source in scope.sources:
            found += [column.taint for column in source.columns if column.gap or column.name in (None, *names)]
            if source.alias in names:
                found.append(source.taint())
        return strongest(found)

    def _call(self, call: Tree, scope: Scope) -> Strategy | None:
        names = [_string(name) for name in _list(call, "funcname")]
        schema, name = names[-2] if len(names) > 1 else "", names[-1]
        arguments = _list(call, "args")
        # WITHIN GROUP (ORDER BY …) holds an argument; any other ORDER BY only an order.
        ordered = _list(call, "agg_order") if call.get("agg_within_group") else []
        inside = self.expression([*arguments, *ordered], scope)
        if name in _CARRIED_AWAY and inside is not None:
            self.copies = True
        if self._carries(schema, name, len(arguments)):
            self._carried = True
            return REDACT
        if name in _COUNTS:
            return None
        return inside

    def _sub_select(self, link: Tree, scope: Scope) -> Strategy | None:
        columns = self.statement(*_unwrap(link.get("subselect")), scope)
        if link.get("subLinkType") not in ("EXPR_SUBLINK", "ARRAY_SUBLINK", "MULTIEXPR_SUBLINK"):
            return None
        return REDACT if columns is None else strongest(column.taint for column in columns)

    def _look_for_copies(self, node: Json, scope: Scope) -> None:
        """A call that keeps a value elsewhere does so in a condition, too."""
        if isinstance(node, list):
            for item in node:
                self._look_for_copies(item, scope)
        elif isinstance(node, dict):
            for kind, value in node.items():
                if kind in ("FuncCall", "SubLink") and isinstance(value, dict):
                    self.expression({kind: value}, scope)
                else:
                    self._look_for_copies(value, scope)

    # INSERT, UPDATE, DELETE, MERGE

    def _write(self, kind: str, tree: Tree, scope: Scope) -> Columns:
        scope = self._with(tree, self._deeper(scope))
        target = self._table(_tree(tree["relation"]), replace(scope, ctes={}))
        values: list[tuple[str | None, Strategy | None]] = []
        items = [*_list(tree, "fromClause"), *_list(tree, "usingClause")]
        if "sourceRelation" in tree:
            items.append(tree["sourceRelation"])
        aliases = {"old": "old", "new": "new"}
        returning = _tree(tree.get("returningClause"))
        for option in _list(returning, "options"):
            _, written = _unwrap(option)
            aliases["old" if "OLD" in str(written.get("option")) else "new"] = str(written.get("value"))
        outer = scope
        scope = self._from(items, scope)
        excluded = Source("excluded", target.columns)
        inner = replace(scope, sources=(*scope.sources, target, excluded))
        if "selectStmt" in tree:
            names = [str(_unwrap(column)[1].get("name")) for column in _list(tree, "cols")]
            columns = self.statement(*_unwrap(tree["selectStmt"]), outer) or (Column(None, REDACT, gap=True),)
            gap = any(column.gap for column in columns)
            names = names or [column.name or "" for column in target.columns]
            for index, column in enumerate(columns):
                values.append((None if gap or index >= len(names) else names[index], column.taint))
        values += self._assigned(tree, inner)
        for clause in _list(tree, "mergeWhenClauses"):
            _, when = _unwrap(clause)
            values += self._assigned(when, inner)
            values.append((None, self.expression(when.get("values"), inner)))
        self._look_for_copies([tree.get("whereClause"), tree.get("joinCondition")], inner)
        written_columns = self._written(target.columns, values)
        sources = tuple(Source(alias, written_columns) for alias in (target.alias, *aliases.values()))
        star = (*scope.star, *written_columns) if kind == "MergeStmt" else (*written_columns, *scope.star)
        final = replace(scope, sources=(*scope.sources, *sources), star=star)
        return self._targets(_list(returning, "exprs"), final)

    def _assigned(self, tree: Tree, scope: Scope) -> list[tuple[str | None, Strategy | None]]:
        conflict = _tree(tree.get("onConflictClause"))
        return [
            (str(target.get("name")), self.expression(target.get("val"), scope))
            for item in (*_list(tree, "targetList"), *_list(conflict, "targetList"))
            for target in (_unwrap(item)[1],)
        ]

    def _written(self, columns: Columns, values: Sequence[tuple[str | None, Strategy | None]]) -> Columns:
        result = []
        for column in columns:
            taint = derived(
                strongest(taint for name, taint in values if name is None or column.gap or name == column.name)
            )
            if taint is not None and (column.taint is None or column.gap):
                self.copies = True
            result.append(replace(column, taint=strongest((column.taint, taint))))
        return tuple(result)

    def _deeper(self, scope: Scope) -> Scope:
        self._steps += 1
        if scope.depth > _MAX_DEPTH or self._steps > _MAX_STEPS:
            raise TooDeep
        return replace(scope, depth=scope.depth + 1)


def _in_source(source: Source, name: str) -> Strategy | None:
    found = [column.taint for column in source.columns if column.gap or column.name in (None, name)]
    # No column of this name: `alias.function`, which takes the whole row.
    return strongest(found) if any(column.name == name for column in source.columns) else source.taint()


def _aliased(alias: Tree, name: str, columns: Columns) -> Source:
    names = [_string(item) for item in _list(alias, "colnames")]
    return Source(str(alias.get("aliasname", name)), _renamed(columns, names))


def _renamed(columns: Columns, names: Sequence[str]) -> Columns:
    if not names:
        return columns
    if any(column.gap for column in columns[: len(names)]) or len(names) > len(columns):
        return tuple(replace(column, name=None) for column in columns)
    return tuple(
        replace(column, name=names[index]) if index < len(names) else column for index, column in enumerate(columns)
    )


def _united(left: Columns, right: Columns) -> Columns:
    """Two arms of a set operation: names of the left, what either carries."""
    if any(column.gap for column in left) and not any(column.gap for column in right):
        taint = strongest(column.taint for column in left)
        return tuple(replace(column, name=None, taint=strongest((column.taint, taint))) for column in right)
    if any(column.gap for column in right) or len(left) != len(right):
        taint = strongest(column.taint for column in right)
        return tuple(replace(column, taint=strongest((column.taint, taint))) for column in left)
    return tuple(
        replace(one, taint=strongest((one.taint, other.taint))) for one, other in zip(left, right, strict=True)
    )


def _unwrap(node: Json) -> tuple[str, Tree]:
    """A node's kind and its fields; ("", {}) for what is none."""
    if isinstance(node, dict):
        for kind, value in node.items():
            if isinstance(value, dict):
                return kind, value
    return "", {}


def _tree(node: Json) -> Tree:
    return node if isinstance(node, dict) else {}


def _list(tree: Tree, *path: str) -> list[Json]:
    node: Json = tree
    for key in path:
        node = _tree(node).get(key)
    return node if isinstance(node, list) else []


def _string(node: Json) -> str:
    return str(_tree(_tree(node).get("String")).get("sval", ""))
