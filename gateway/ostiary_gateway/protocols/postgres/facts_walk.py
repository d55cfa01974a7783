"""One pass over a parse tree: what queries, expressions and data changes say. Utility commands: facts_statements.

Every node type is either read by a handler, known to hold nothing by itself (PLAIN: what is inside is read), or a
leaf. Any other is conceded as opaque; nothing is skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from postgast import pg_query_pb2

from .facts_model import Call, Draft, Level, RelationUse
from .facts_parse import Unparsable, parse_statements

Tree = dict[str, Any]
"""A node of the parser's JSON: its shape is the grammar's."""
Handler = Callable[["Walk", Tree], None]
Special = Callable[["Walk", str, list[Tree]], None]

UNEXPECTED = (KeyError, IndexError, TypeError, AttributeError, ValueError)
"""What reading a tree raises if the parser's JSON is not what the grammar says: conceded as opaque, never passed."""

MAX_BODY_DEPTH = 8
"""SQL inside SQL inside SQL …: deeper is opaque."""

HANDLERS: Final[dict[str, Handler]] = {}
SPECIAL: Final[dict[str, Special]] = {}
"""Functions of pg_catalog that do more than compute: called with the name and the arguments' nodes."""

PLAIN = frozenset(
    """
    A_ArrayExpr A_Indices BoolExpr BooleanTest CaseWhen CoalesceExpr CollateClause ColumnDef Constraint
    CTECycleClause CTESearchClause DefElem GroupingFunc GroupingSet IndexElem InferClause JsonAggConstructor
    JsonArgument JsonArrayAgg JsonArrayConstructor JsonArrayQueryConstructor JsonBehavior JsonFuncExpr
    JsonIsPredicate JsonKeyValue JsonObjectAgg JsonObjectConstructor JsonOutput JsonParseExpr JsonReturning
    JsonScalarExpr JsonSerializeExpr JsonTable JsonTableColumn JsonTablePathSpec JsonValueExpr List MinMaxExpr
    MultiAssignRef NamedArgExpr NullTest PartitionBoundSpec PartitionElem PartitionRangeDatum PartitionSpec
    RangeFunction RangeSubselect RangeTableFunc RangeTableFuncCol ResTarget ReturningClause ReturnStmt RowExpr
    StatsElem WindowDef XmlExpr XmlSerialize FunctionParameter ObjectWithArgs PartitionCmd VacuumRelation
    PublicationObjSpec PublicationTable CreateOpClassItem TriggerTransition
    """.split()  # noqa: SIM905
)
LEAVES = frozenset(
    """
    A_Const A_Star AccessPriv Alias BitString Boolean CurrentOfExpr Float IntList Integer JsonFormat MergeSupportFunc
    OidList
    ReplicaIdentityStmt ReturningOption RoleSpec SetToDefault SQLValueFunction String ATAlterConstraint
    """.split()  # noqa: SIM905
)
BARE: dict[tuple[str, str], str] = {
    (message.name, field.json_name): field.message_type.name
    for message in pg_query_pb2.DESCRIPTOR.message_types_by_name.values()
    for field in message.fields
    if field.message_type is not None and field.message_type.name != "Node"
}
"""Fields whose node stands without its type's name: (node type, field) → type."""

_BETWEEN = (("", "<="), ("", ">="), ("", "<"), ("", ">"))


def handles(*kinds: str) -> Callable[[Handler], Handler]:
    """Register the handler of node types."""

    def register(handler: Handler) -> Handler:
        for kind in kinds:
            HANDLERS[kind] = handler
        return handler

    return register


class Walk:
    """Fills one Draft from one statement's tree."""

    __slots__ = ("bodies", "ctes", "draft", "inner", "level", "text")

    def __init__(self, draft: Draft, text: str, inner: bool = False, bodies: int = 0) -> None:
        self.draft = draft
        self.text = text
        self.inner = inner
        self.bodies = bodies
        self.ctes: frozenset[str] = frozenset()
        self.level: Level | None = None

    def node(self, wrapped: Tree) -> None:
        """Read a node that stands under its type's name."""
        for kind, body in wrapped.items():
            handler = HANDLERS.get(kind)
            if handler is not None:
                handler(self, body)
            elif kind in PLAIN:
                self.inside(kind, body)
            elif kind not in LEAVES:
                self.draft.concede(f"syntax that is not known: {kind}")

    def bare(self, kind: str, body: Tree) -> None:
        """Read a node that stands without its type's name."""
        self.node({kind: body})

    def inside(self, kind: str, body: Tree, *skip: str) -> None:
        """Read all fields of a node, except those of `skip`."""
        for key, value in body.items():
            if key in skip:
                continue
            shape = type(value)
            if shape is dict:
                bare = BARE.get((kind, key))
                if bare is None:
                    self.node(value)
                else:
                    self.node({bare: value})
            elif shape is list:
                for item in value:
                    self.node(item)

    def changes(self) -> None:
        """This statement changes data or schema, if it runs at all."""
        if self.draft.runs:
            self.draft.writes = True
            self.draft.read_only = False

    def touch(self, relation: Tree, access: str, **more: Any) -> RelationUse:
        """Note a relation that is named by a RangeVar."""
        schema = relation.get("schemaname", "")
        if relation.get("relpersistence") == "t" and not schema:
            schema = "pg_temp"
        use = RelationUse(schema, relation["relname"], access, alias_of(relation), only="inh" not in relation, **more)
        self.draft.relations.append(use)
        return use

    def row_free(self) -> None:
        """The statement itself touches no rows."""
        if not self.inner:
            self.draft.effect(row_free=True)

    def call(self, schema: str, name: str, count: int) -> None:
        """Note a function call."""
        self.draft.calls[Call(schema, name, count)] = None

    def setting(self, name: str) -> None:
        """Note a setting that changes."""
        self.draft.settings[name] = None
        if self.draft.runs:
            self.draft.read_only = False
            self.draft.effect(may_change_session=True)

    def body(self, sql: str, what: str) -> None:
        """Read SQL that stands inside the statement and runs with it. `what` it is, for people."""
        if self.bodies >= MAX_BODY_DEPTH:
            self.draft.concede(f"{what} nests SQL more than {MAX_BODY_DEPTH} deep")
            return
        try:
            statements = parse_statements(sql)
        except Unparsable as error:
            self.draft.concede(f"{what} cannot be read: {error}")
            return
        for statement in statements:
            walk = Walk(self.draft, statement.text, inner=True, bodies=self.bodies + 1)
            walk.node({statement.type: statement.tree})


def alias_of(relation: Tree) -> str:
    """The name that columns of a RangeVar are qualified with."""
    alias = relation.get("alias")
    name: str = alias["aliasname"] if alias else relation["relname"]
    return name


def words(names: list[Tree]) -> list[str]:
    """The strings of a dotted name."""
    return [name["String"].get("sval", "") for name in names if "String" in name]


def qualified(names: list[Tree]) -> tuple[str, str]:
    """(schema or "", name) of a dotted name; a database in front is dropped: it can only be the current one."""
    parts = words(names)
    if not parts:
        return "", ""
    return (parts[-2] if len(parts) > 1 else ""), parts[-1]


def constant(node: Tree | None) -> str | None:
    """The text of a constant: a literal, cast or not, or literals put together with ||. None if it is none."""
    if not node:
        return None
    for kind, body in node.items():
        if kind == "A_Const":
            if "sval" in body:
                return str(body["sval"].get("sval", ""))
            if "ival" in body:
                return str(body["ival"].get("ival", 0))
            if "fval" in body:
                return str(body["fval"].get("fval", ""))
            if "boolval" in body:
                return "true" if body["boolval"].get("boolval") else "false"
        elif kind == "TypeCast":
            names = words(body["typeName"].get("names", []))
            if names and names[-1] in ("text", "varchar", "regclass", "name", "unknown", "bpchar"):
                return constant(body["arg"]) if not body["typeName"].get("typmods") else None
        elif kind == "A_Expr" and body.get("kind") == "AEXPR_OP" and words(body["name"])[-1:] == ["||"]:
            left, right = constant(body.get("lexpr")), constant(body.get("rexpr"))
            return None if left is None or right is None else left + right
    return None


def mentions_column(node: object) -> bool:
    """True if a column, or the row of a cursor, is mentioned anywhere inside."""
    stack = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if "ColumnRef" in item or "CurrentOfExpr" in item:
                return True
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
    return False


def selective(node: Tree | None) -> bool:
    """True if a condition can leave rows out: `true`, `1=1`, `id = id` and `x = 1 OR true` cannot."""
    if not node:
        return False
    for kind, body in node.items():
        if kind == "BoolExpr":
            arms = [selective(arm) for arm in body["args"]]
            return all(arms) if body.get("boolop") == "OR_EXPR" else any(arms)
        if kind == "A_Expr":
            left, right = body.get("lexpr", {}).get("ColumnRef"), body.get("rexpr", {}).get("ColumnRef")
            if left and right and left["fields"] == right["fields"]:
                return False
    return mentions_column(node)


# Expressions


@handles("ColumnRef")
def column_ref(walk: Walk, body: Tree) -> None:
    fields = body["fields"]
    level = walk.level
    last = fields[-1].get("String")
    if len(fields) == 1:
        if last is None:
            if level is not None:
                level.star = True
            return
        name = last.get("sval", "")
        while level is not None:
            level.names.add(name)
            level = level.parent
        return
    name = "*" if last is None else last.get("sval", "")
    if last is not None:
        walk.draft.column_calls.add(name)
    pair = (fields[-2]["String"].get("sval", ""), name)
    while level is not None:
        level.qualified.add(pair)
        level.names.add(pair[0])
        level = level.parent


@handles("A_Indirection")
def indirection(walk: Walk, body: Tree) -> None:
    walk.node(body["arg"])
    for step in body.get("indirection", ()):
        if "String" in step:
            walk.draft.column_calls.add(step["String"].get("sval", ""))
        else:
            walk.node(step)


@handles("ParamRef")
def param_ref(walk: Walk, body: Tree) -> None:
    if not walk.inner:
        walk.draft.static["has_params"] = True


@handles("A_Expr")
def a_expr(walk: Walk, body: Tree) -> None:
    if body["kind"].startswith("AEXPR_BETWEEN") or body["kind"].startswith("AEXPR_NOT_BETWEEN"):
        walk.draft.operators.update(_BETWEEN)
    else:
        walk.draft.operators.add(qualified(body["name"]))
    if "lexpr" in body:
        walk.node(body["lexpr"])
    if "rexpr" in body:
        walk.node(body["rexpr"])


@handles("CaseExpr")
def case_expr(walk: Walk, body: Tree) -> None:
    walk.draft.operators.add(("", "="))
    walk.inside("CaseExpr", body)


@handles("SubLink")
def sub_link(walk: Walk, body: Tree) -> None:
    if body["subLinkType"] in ("ANY_SUBLINK", "ALL_SUBLINK", "ROWCOMPARE_SUBLINK"):
        walk.draft.operators.add(qualified(body["operName"]) if "operName" in body else ("", "="))
    walk.inside("SubLink", body, "operName")


@handles("SortBy")
def sort_by(walk: Walk, body: Tree) -> None:
    if "useOp" in body:
        walk.draft.operators.add(qualified(body["useOp"]))
    walk.node(body["node"])


@handles("TypeCast")
def type_cast(walk: Walk, body: Tree) -> None:
    walk.node(body["arg"])
    type_name(walk, body["typeName"])


@handles("TypeName")
def type_name(walk: Walk, body: Tree) -> None:
    names = body.get("names")
    if names:
        walk.draft.casts.add(qualified(names)[1])
    for typmod in body.get("typmods", ()):
        walk.node(typmod)


@handles("FuncCall")
def func_call(walk: Walk, body: Tree) -> None:
    schema, name = qualified(body["funcname"])
    args = body.get("args", ())
    count = len(args)
    if body.get("agg_within_group"):
        count += len(body.get("agg_order", ()))
    walk.draft.calls[Call(schema, name, count)] = None
    for arg in args:
        walk.node(arg)
    if len(body) > 4 or "location" not in body:
        walk.inside("FuncCall", body, "funcname", "args")
    if schema in ("", "pg_catalog") and name in SPECIAL:
        if any("NamedArgExpr" in arg for arg in args):
            # In which order they come is for the server to say.
            walk.draft.concede(f"{name}() is called with named arguments")
            if name == "set_config":
                SPECIAL[name](walk, name, [])
        else:
            SPECIAL[name](walk, name, list(args))


@handles("RangeTableSample")
def table_sample(walk: Walk, body: Tree) -> None:
    schema, name = qualified(body["method"])
    walk.call(schema, name, -1)
    walk.inside("RangeTableSample", body, "method")


# Queries


@handles("RangeVar")
def range_var(walk: Walk, body: Tree) -> None:
    name = body["relname"]
    if name in walk.ctes and "schemaname" not in body:
        return
    walk.touch(body, "read", level=walk.level, columns=None if walk.level is not None else ("*",))


@handles("JoinExpr")
def join_expr(walk: Walk, body: Tree) -> None:
    level = walk.level
    if level is not None:
        if body.get("isNatural"):
            level.star = True
        level.names.update(words(body.get("usingClause", ())))
    if body.get("isNatural") or "usingClause" in body:
        walk.draft.operators.add(("", "="))
    walk.inside("JoinExpr", body, "usingClause", "alias", "join_using_alias")


@handles("WithClause")
def with_clause(walk: Walk, body: Tree) -> None:
    ctes = [cte["CommonTableExpr"] for cte in body["ctes"]]
    if body.get("recursive"):
        walk.ctes = walk.ctes | {cte["ctename"] for cte in ctes}
    for cte in ctes:
        outer = walk.ctes
        walk.node(cte["ctequery"])
        walk.ctes = outer | {cte["ctename"]}
        for clause in ("search_clause", "cycle_clause"):
            if clause in cte:
                walk.bare("CTESearchClause" if clause == "search_clause" else "CTECycleClause", cte[clause])


@handles("SelectStmt")
def select(walk: Walk, body: Tree) -> None:
    ctes, outer = walk.ctes, walk.level
    if "withClause" in body:
        with_clause(walk, body["withClause"])
    walk.level = Level(outer)
    for key, value in body.items():
        shape = type(value)
        if shape is list:
            for item in value:
                walk.node(item)
        elif shape is dict and key != "withClause":
            if key in ("larg", "rarg"):
                select(walk, value)
            elif key == "intoClause":
                into(walk, value)
            else:
                walk.node(value)
    walk.level = outer
    walk.ctes = ctes


@handles("IntoClause")
def into(walk: Walk, body: Tree) -> None:
    """SELECT INTO and CREATE TABLE AS: a new relation."""
    walk.changes()
    walk.draft.ddl = True
    walk.touch(body["rel"], "define", columns=("*",), event="CREATE")
    walk.inside("IntoClause", body, "rel", "viewQuery")


@handles("LockingClause")
def locking(walk: Walk, body: Tree) -> None:
    if walk.draft.runs:
        walk.draft.read_only = False


def constant_option(option: Tree) -> str | None:
    """The value of a DefElem as text; None if it has none."""
    arg = option.get("arg")
    if not arg:
        return None
    for kind, body in arg.items():
        if kind == "String":
            return str(body.get("sval", ""))
        if kind == "Integer":
            return str(body.get("ival", 0))
        if kind == "Float":
            return str(body.get("fval", ""))
        if kind == "Boolean":
            return "true" if body.get("boolval") else "false"
        if kind == "TypeName":
            return words(body.get("names", []))[-1]
    return "?"
