"""The checked syntax tree of an expression, as the engine itself understood it: read, and rewritten for evaluation.

`Expression.serialize()` gives `google.protobuf.Any` around `cel.expr.CheckedExpr` (cel-spec, proto/cel/expr). Working
on the engine's own tree, not on a second parser's, leaves no room for the two to understand a text differently.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory

_FIELD_TYPES = {"string": 9, "int64": 3, "int32": 5, "uint64": 4, "double": 1, "bool": 8, "bytes": 12, "enum": 5}

_SCHEMA = """
Constant: null_value=1 enum, bool_value=2 bool, int64_value=3 int64, uint64_value=4 uint64, double_value=5 double,
  string_value=6 string, bytes_value=7 bytes
Ident: name=1 string
Select: operand=1 Expr, field=2 string, test_only=3 bool
Call: target=1 Expr, function=2 string, args=3 *Expr
CreateList: elements=1 *Expr, optional_indices=2 *int32
Entry: id=1 int64, field_key=2 string, map_key=3 Expr, value=4 Expr, optional_entry=5 bool
CreateStruct: message_name=1 string, entries=2 *Entry
Comprehension: iter_var=1 string, iter_range=2 Expr, accu_var=3 string, accu_init=4 Expr, loop_condition=5 Expr,
  loop_step=6 Expr, result=7 Expr, iter_var2=8 string
Expr: id=2 int64, const_expr=3 Constant, ident_expr=4 Ident, select_expr=5 Select, call_expr=6 Call,
  list_expr=7 CreateList, struct_expr=8 CreateStruct, comprehension_expr=9 Comprehension
Reference: name=1 string, overload_id=3 *string
ReferenceEntry: key=1 int64, value=2 Reference
Unit: none=1 bool
ListType: elem_type=1 Type
MapType: key_type=1 Type, value_type=2 Type
AbstractType: name=1 string, parameter_types=2 *Type
Type: dyn=1 Unit, null=2 enum, primitive=3 enum, wrapper=4 enum, well_known=5 enum, list_type=6 ListType,
  map_type=7 MapType, message_type=9 string, type_param=10 string, type=11 Type, error=12 Unit,
  abstract_type=14 AbstractType
TypeEntry: key=1 int64, value=2 Type
PositionEntry: key=1 int64, value=2 int32
SourceInfo: line_offsets=3 *int32, positions=4 *PositionEntry
CheckedExpr: reference_map=2 *ReferenceEntry, type_map=3 *TypeEntry, expr=4 Expr, source_info=5 SourceInfo
"""
"""The part of cel/expr/{syntax,checked}.proto that is used; what is not named here is kept as unknown fields."""

_ONEOFS = {"Constant", "Expr", "Type"}


def _build() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="ostiary/checked.proto", package="ostiary.checked", syntax="proto2")
    for line in _SCHEMA.strip().replace(",\n ", ",").splitlines():
        name, fields = line.split(":", 1)
        message = file.message_type.add(name=name)
        if name in _ONEOFS:
            message.oneof_decl.add(name="kind")
        for part in fields.split(","):
            declared, kind = part.split()
            field_name, number = declared.split("=")
            field: Any = message.field.add(name=field_name, number=int(number), label=3 if kind.startswith("*") else 1)
            kind = kind.removeprefix("*")
            if kind in _FIELD_TYPES:
                field.type = _FIELD_TYPES[kind]
            else:
                field.type, field.type_name = 11, f".ostiary.checked.{kind}"
            if name in _ONEOFS and field_name != "id":
                field.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("ostiary.checked.CheckedExpr"))


_CheckedExpr = _build()
_TYPE_URL = "type.googleapis.com/cel.expr.CheckedExpr"
_WELL_KNOWN = {1: "any", 2: "timestamp", 3: "duration"}
_PRIMITIVE = {1: "bool", 2: "int", 3: "uint", 4: "double", 5: "string", 6: "bytes"}

Kind = Literal["const", "ident", "select", "call", "list", "struct", "comprehension"]


@dataclass(frozen=True, slots=True)
class Node:
    """One sub-expression. Which fields are set depends on `kind`.

    `name`: of an ident, a selected field, a function or a message. `parts`: operand of a select, target (if any) and
    arguments of a call, elements of a list, keys and values of a map; of a comprehension range, accu_init,
    loop_condition, loop_step, result. `variables` of a comprehension: iter_var, iter_var2, accu_var.
    """

    kind: Kind
    id: int
    offset: int
    type: str
    reference: str
    name: str = ""
    value: object = None
    test_only: bool = False
    member: bool = False
    parts: tuple[Node, ...] = ()
    variables: tuple[str, str, str] = ("", "", "")

    def walk(self) -> Iterator[Node]:
        """This node and everything below it."""
        yield self
        for part in self.parts:
            yield from part.walk()


def _type_name(kind: Any) -> str:
    which = kind.WhichOneof("kind")
    if which == "primitive":
        return _PRIMITIVE.get(kind.primitive, "unknown")
    if which == "well_known":
        return _WELL_KNOWN.get(kind.well_known, "unknown")
    if which == "message_type":
        return str(kind.message_type)
    if which == "list_type":
        return f"list({_type_name(kind.list_type.elem_type)})"
    if which == "map_type":
        return f"map({_type_name(kind.map_type.key_type)}, {_type_name(kind.map_type.value_type)})"
    if which == "abstract_type":
        return f"{kind.abstract_type.name}({', '.join(_type_name(p) for p in kind.abstract_type.parameter_types)})"
    return {"dyn": "dyn", "null": "null", "type": "type", "wrapper": "wrapper"}.get(which or "", "unknown")


class CheckedTree:
    """The tree of one checked expression."""

    def __init__(self, serialized: bytes) -> None:
        """Raise ValueError if `serialized` is not what this module understands."""
        envelope = any_pb2.Any.FromString(serialized)
        if envelope.type_url != _TYPE_URL:
            raise ValueError(f"the engine serialises {envelope.type_url!r}, expected {_TYPE_URL!r}")
        self._proto = _CheckedExpr.FromString(envelope.value)
        self._types = {entry.key: entry.value for entry in self._proto.type_map}
        self._references = {entry.key: entry.value for entry in self._proto.reference_map}
        self._positions = {entry.key: entry.value for entry in self._proto.source_info.positions}
        self._next_id = 1 + max((expr.id for expr in _exprs(self._proto.expr)), default=0)
        self.root = self._node(self._proto.expr)

    def _node(self, expr: Any) -> Node:
        which = expr.WhichOneof("kind")
        kind_type = self._types.get(expr.id)
        reference = self._references.get(expr.id)
        name, value, test_only, member = "", None, False, False
        variables = ("", "", "")
        parts = tuple(self._node(child) for child in _children(expr))
        kind: Kind
        if which == "const_expr":
            kind = "const"
            chosen = expr.const_expr.WhichOneof("kind")
            value = None if chosen in (None, "null_value") else getattr(expr.const_expr, chosen)
        elif which == "ident_expr":
            kind, name = "ident", expr.ident_expr.name
        elif which == "select_expr":
            kind, name, test_only = "select", expr.select_expr.field, expr.select_expr.test_only
        elif which == "call_expr":
            kind, name, member = "call", expr.call_expr.function, expr.call_expr.HasField("target")
        elif which == "list_expr":
            kind = "list"
        elif which == "struct_expr":
            kind, name = "struct", expr.struct_expr.message_name
        elif which == "comprehension_expr":
            kind = "comprehension"
            loop = expr.comprehension_expr
            variables = (loop.iter_var, loop.iter_var2, loop.accu_var)
        else:
            raise ValueError(f"the engine's tree holds a kind of expression that is not known here: {which}")
        return Node(
            kind=kind,
            id=expr.id,
            offset=self._positions.get(expr.id, 0),
            type=_type_name(kind_type) if kind_type is not None else "unknown",
            reference=reference.name if reference is not None else "",
            name=name,
            value=value,
            test_only=test_only,
            member=member,
            parts=parts,
            variables=variables,
        )

    def wrap(self, calls: Mapping[int, str]) -> None:
        """Put a call of a function with one argument around the expressions with these ids (`{id: function}`)."""
        for expr in list(_exprs(self._proto.expr)):
            function = calls.get(expr.id)
            if function is None:
                continue
            inner = type(expr)()
            inner.CopyFrom(expr)
            self._fresh(inner)
            expr.ClearField(expr.WhichOneof("kind"))
            expr.call_expr.function = function
            expr.call_expr.args.append(inner)
            self._forget_reference(expr.id)

    def replace(self, calls: Mapping[int, tuple[str, tuple[str | int, ...]]]) -> None:
        """Replace expressions by calls (`{id: (function, arguments)}`; a str is an ident, an int a constant)."""
        for expr in list(_exprs(self._proto.expr)):
            call = calls.get(expr.id)
            if call is None:
                continue
            function, arguments = call
            expr.ClearField(expr.WhichOneof("kind"))
            expr.call_expr.function = function
            for argument in arguments:
                added = expr.call_expr.args.add()
                added.id = self._new_id()
                if isinstance(argument, str):
                    added.ident_expr.name = argument
                else:
                    added.const_expr.int64_value = argument
            self._forget_reference(expr.id)

    def retarget(self, calls: Mapping[int, tuple[str, tuple[str | int, ...]]]) -> None:
        """Make calls go to another function: `{id: (function, leading arguments)}`; the target becomes an argument.

        The last argument of the old call is dropped.
        """
        for expr in list(_exprs(self._proto.expr)):
            call = calls.get(expr.id)
            if call is None:
                continue
            function, leading = call
            old = type(expr)()
            old.CopyFrom(expr)
            kept = ([old.call_expr.target] if old.call_expr.HasField("target") else []) + list(old.call_expr.args)[:-1]
            self.replace({expr.id: (function, leading)})
            expr.call_expr.args.extend(kept)

    def serialize(self) -> bytes:
        """What the engine can deserialise again."""
        envelope = any_pb2.Any(type_url=_TYPE_URL, value=self._proto.SerializeToString())
        return bytes(envelope.SerializeToString())

    def _new_id(self) -> int:
        self._next_id += 1
        return self._next_id

    def _fresh(self, expr: Any) -> None:
        """Give the copy of an expression its own id, and what was known of the old one."""
        old = expr.id
        expr.id = self._new_id()
        for entries, known in ((self._proto.reference_map, self._references), (self._proto.type_map, self._types)):
            if old in known:
                entries.add(key=expr.id).value.CopyFrom(known[old])

    def _forget_reference(self, identity: int) -> None:
        kept = [entry for entry in self._proto.reference_map if entry.key != identity]
        if len(kept) != len(self._proto.reference_map):
            copies = [type(entry).FromString(entry.SerializeToString()) for entry in kept]
            del self._proto.reference_map[:]
            self._proto.reference_map.extend(copies)
        self._references = {entry.key: entry.value for entry in self._proto.reference_map}


def _children(expr: Any) -> Iterator[Any]:
    which = expr.WhichOneof("kind")
    if which == "select_expr":
        yield expr.select_expr.operand
    elif which == "call_expr":
        if expr.call_expr.HasField("target"):
            yield expr.call_expr.target
        yield from expr.call_expr.args
    elif which == "list_expr":
        yield from expr.list_expr.elements
    elif which == "struct_expr":
        for entry in expr.struct_expr.entries:
            if entry.HasField("map_key"):
                yield entry.map_key
            yield entry.value
    elif which == "comprehension_expr":
        loop = expr.comprehension_expr
        yield from (loop.iter_range, loop.accu_init, loop.loop_condition, loop.loop_step, loop.result)


def _exprs(expr: Any) -> Iterator[Any]:
    """Every expression, innermost first, so that one may be replaced without disturbing the walk."""
    for child in _children(expr):
        yield from _exprs(child)
    yield expr
