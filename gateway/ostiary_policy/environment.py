"""The CEL environments: a typed one that checks expressions, and a dynamic one that evaluates them.

The engine takes dicts only where a variable is dynamic, and checks types only where it is declared. So a text is
compiled in the typed environment, and its checked tree is evaluated in the dynamic one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import re2
from cel_expr_python import cel
from google.protobuf import descriptor_pb2, descriptor_pool, struct_pb2, timestamp_pb2

from ostiary_policy.schema import FACTS, Fact

PACKAGE = "ostiary"
FRAME = "@frame"
"""The variable that tells the functions below which evaluation they are in."""
VARIABLE_FUNCTION = "@variable"
MATCHES_FUNCTION = "@matches"

_EXTENSIONS = ("strings", "lists", "sets", "math", "optional", "bindings", "regex")
_SCALARS = {"string": 9, "int": 3, "bool": 8, "double": 1}
_WELL_KNOWN = {
    "timestamp": ".google.protobuf.Timestamp",
    "map(string, dyn)": ".google.protobuf.Struct",
    "dyn": ".google.protobuf.Value",
}


def _config() -> cel.EnvConfig:
    lines = "\n".join(f"- name: {name}" for name in _EXTENSIONS)
    return cel.NewEnvConfigFromYaml(f"name: {PACKAGE}\nextensions:\n{lines}\n")


def _add_message(file: descriptor_pb2.FileDescriptorProto, fact: Fact) -> None:
    if any(message.name == fact.type_name for message in file.message_type):
        return
    message = file.message_type.add(name=fact.type_name)
    for number, (name, below) in enumerate(fact.fields.items(), 1):
        field: Any = message.field.add(name=name, number=number, label=3 if below.repeated else 1)
        if below.shape == "object":
            field.type, field.type_name = 11, f".{PACKAGE}.{below.type_name}"
            _add_message(file, below)
        elif below.shape == "map(string, string)":
            entry = f"{name[0].upper()}{name[1:]}Entry"
            nested = message.nested_type.add(name=entry)
            nested.options.map_entry = True
            nested.field.add(name="key", number=1, type=9, label=1)
            nested.field.add(name="value", number=2, type=9, label=1)
            field.type, field.type_name, field.label = 11, f".{PACKAGE}.{fact.type_name}.{entry}", 3
        elif below.shape == "dyn" and below.repeated:
            field.type, field.type_name, field.label = 11, ".google.protobuf.ListValue", 1
        elif below.shape in _WELL_KNOWN:
            field.type, field.type_name = 11, _WELL_KNOWN[below.shape]
        else:
            field.type = _SCALARS[below.shape]


def _pool() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="ostiary/facts.proto", package=PACKAGE, syntax="proto3")
    file.dependency.extend(["google/protobuf/timestamp.proto", "google/protobuf/struct.proto"])
    for fact in FACTS.values():
        _add_message(file, fact)
    pool = descriptor_pool.DescriptorPool()
    for module in (timestamp_pb2, struct_pb2):
        pool.AddSerializedFile(module.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return pool


_CONFIG = _config()
_POOL = _pool()


def typed(facts: Sequence[str], variables: Mapping[str, cel.Type]) -> cel.Env:
    """An environment to check in: these facts (`request`, `sql` …), and these variables of the policy."""
    # An environment costs its first expression a millisecond, and policies are much alike.
    key = (*facts, *(f"{name}: {kind.name()}" for name, kind in variables.items()))
    known = _environments.get(key)
    if known is None:
        declared = {name: cel.Type(f"{PACKAGE}.{FACTS[name].type_name}") for name in facts}
        declared.update({f"variables.{name}": kind for name, kind in variables.items()})
        known = cel.NewEnv(descriptor_pool=_POOL, config=_CONFIG, variables=declared)
        if len(_environments) >= _KEPT_ENVIRONMENTS:
            _environments.clear()
        _environments[key] = known
    return known


_KEPT_ENVIRONMENTS = 64
_environments: dict[tuple[str, ...], cel.Env] = {}


class Frame:
    """One evaluation: the variables' values, worked out when first read, and once.

    `evaluate(index)` works out the variable with that index; what it raises becomes the error of the reader.
    """

    __slots__ = ("evaluate", "id", "values")

    def __init__(self, evaluate: Callable[[int], object]) -> None:
        self.id = next(_ids)
        self.evaluate = evaluate
        self.values: dict[int, object] = {}

    def __enter__(self) -> Frame:
        _frames[self.id] = self
        return self

    def __exit__(self, *_: object) -> None:
        del _frames[self.id]


_ids = itertools.count(1)
_frames: dict[int, Frame] = {}
_patterns: list[Any] = []
_pattern_index: dict[str, int] = {}


def _variable(frame_id: int, index: int) -> object:
    frame = _frames[frame_id]
    try:
        value = frame.values[index]
    except KeyError:
        try:
            value = frame.evaluate(index)
        except VariableError as error:
            value = error
        frame.values[index] = value
    if isinstance(value, VariableError):
        raise value
    return value


class VariableError(Exception):
    """A variable could not be worked out. The text is the engine's."""


def pattern_index(pattern: str) -> int:
    """The number of a constant regular expression, compiled once. Raises ValueError if RE2 refuses it."""
    known = _pattern_index.get(pattern)
    if known is None:
        compiled = compile_re2(pattern)
        known = _pattern_index[pattern] = len(_patterns)
        _patterns.append(compiled)
    return known


def compile_re2(pattern: str) -> Any:
    """Compile with RE2. Raises ValueError with RE2's message."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 8 << 20
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        detail = error.args[0] if error.args else b""
        raise ValueError(detail.decode(errors="replace") if isinstance(detail, bytes) else str(detail)) from None


def _matches(index: int, text: str) -> bool:
    return _patterns[index].search(text) is not None


def _function(name: str, parameters: list[cel.Type], result: cel.Type, call: Callable[..., object]) -> cel.FunctionDecl:
    return cel.FunctionDecl(name, [cel.Overload(name.replace("@", "ostiary_"), result, parameters, False, call)])


RUNTIME: cel.Env = cel.NewEnv(
    config=_CONFIG,
    variables=dict.fromkeys((*FACTS, FRAME), cel.Type.DYN),
    functions=[
        _function(VARIABLE_FUNCTION, [cel.Type.INT, cel.Type.INT], cel.Type.DYN, _variable),
        _function(MATCHES_FUNCTION, [cel.Type.INT, cel.Type.STRING], cel.Type.BOOL, _matches),
    ],
)
"""Where everything is evaluated."""
