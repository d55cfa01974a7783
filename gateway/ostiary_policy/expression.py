"""One CEL expression: checked with types, analysed, made ready to evaluate. What is wrong with it has a place."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from cel_expr_python import cel

from ostiary_policy import second_parser
from ostiary_policy.checked import CheckedTree, Node
from ostiary_policy.environment import (
    FRAME,
    MATCHES_FUNCTION,
    PACKAGE,
    RUNTIME,
    VARIABLE_FUNCTION,
    VariableError,
    compile_re2,
    pattern_index,
    typed,
)
from ostiary_policy.reads import Reads, reads
from ostiary_policy.schema import FACTS, PROTOCOL_OF

MAX_NODES = 4_000
"""Sub-expressions of one expression, its macros expanded."""
MAX_RANGE = 1_000
"""Length of a list that an expression may count up to with lists.range."""

Wanted = Literal["bool", "string", "any"]

_ERROR = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_UNDEFINED_FIELD = re.compile(r"undefined field '([^']*)' not found in struct '([^']*)'")
_UNDECLARED = re.compile(r"undeclared reference to '([^']*)' \(in container ''\)")
_REGEX_ARGUMENT = {"matches": -1, "regex.extract": 1, "regex.extractAll": 1, "regex.replace": 1}
_FUNCTION_NAMES = """
all bool bytes double duration dyn exists exists_one filter getDate getDayOfMonth getDayOfWeek getDayOfYear
getFullYear getHours getMinutes getMonth getSeconds has int map matches size string timestamp type uint contains
endsWith startsWith lowerAscii upperAscii split join replace trim substring indexOf lastIndexOf format sets math
lists regex cel optional
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with an expression. `line` and `column` count from 1, in characters."""

    line: int
    column: int
    message: str
    hint: str = ""


class ExpressionError(Exception):
    """An expression was refused."""

    def __init__(self, *findings: Finding) -> None:
        super().__init__("; ".join(f"{finding.line}:{finding.column}: {finding.message}" for finding in findings))
        self.findings = findings


@dataclass(frozen=True, slots=True)
class VariableType:
    """A variable that later expressions may read. `index` is its number at run time."""

    name: str
    index: int
    type: cel.Type
    reads: Reads


class Expression:
    """A checked expression. `type` is its static type, `reads` what it reads, the value itself counted."""

    __slots__ = ("own_reads", "reads", "run", "text", "type", "uses_frame")

    def __init__(self, text: str, kind: cel.Type, program: cel.Expression, own_reads: Reads) -> None:
        self.text = text
        self.type = kind
        self.own_reads = own_reads
        self.reads = own_reads.consumed()
        self.uses_frame = bool(own_reads.variables)
        self.run = program.eval
        """The engine's own call, for where every microsecond counts. Only a plain value that `is` a bool is a bool."""

    def limited(self, over: Callable[[], bool]) -> Expression:
        """The same, which errs as soon as `over` says that there is no time left."""
        limited, run = copy.copy(self), self.run

        def run_in_time(activation: cel.Activation) -> cel.Value:
            if over():
                raise RuntimeError("there is no time left")
            return run(activation)

        limited.run = run_in_time
        return limited

    def evaluate(self, activation: cel.Activation) -> object:
        """The plain value. Raises EvaluationError: an error has a truthy string for a value, so only its type tells."""
        try:
            result = self.run(activation)
            value: object = result.plain_value()
        except ENGINE_RAISES as error:
            raise EvaluationError(readable_error(str(error))) from None
        # The constant singletons come only from a BOOL: an ERROR's value is a string.
        if value is True or value is False:
            return value
        kind = result.type()
        if kind in (_ERROR_TYPE, _UNKNOWN_TYPE):
            raise EvaluationError(readable_error(str(value)))
        return value

    def evaluate_for_variable(self, activation: cel.Activation) -> object:
        """The same, as a value that the engine takes back: times and durations as their text."""
        try:
            value = self.evaluate(activation)
        except EvaluationError as error:
            raise VariableError(str(error)) from None
        if isinstance(value, datetime):
            return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
        if isinstance(value, timedelta):
            microseconds = value // timedelta(microseconds=1)
            sign, size = ("-", -microseconds) if microseconds < 0 else ("", microseconds)
            return f"{sign}{size // 1_000_000}.{size % 1_000_000:06d}s"
        return bytes(value) if isinstance(value, bytearray) else value


ENGINE_RAISES = (RuntimeError, SystemError, TypeError, ValueError, LookupError, ArithmeticError)
"""Most errors are values of type ERROR; a spent budget, and values that have no form in Python, are raised."""
_ERROR_TYPE = cel.Type.ERROR
_UNKNOWN_TYPE = cel.Type.UNKNOWN


class EvaluationError(Exception):
    """An expression could not be evaluated."""


_MISSING_KEY = re.compile(r'Key not found in map : "?([^"]*)"?')
_STATUS = re.compile(r"^(?:[A-Z_]+: )+")


def readable_error(text: str) -> str:
    """The engine's error for people, without its status codes."""
    text = _STATUS.sub("", text.strip()).split(" [", 1)[0] if text.endswith("]") else _STATUS.sub("", text.strip())
    missing = _MISSING_KEY.fullmatch(text)
    if missing:
        return f"there is no {missing[1]!r}"
    if text.startswith("No value with name"):
        name = text.split('"')[1] if '"' in text else ""
        return f"there is no {name!r} in a request of this protocol" if name else text
    if text.startswith("No matching overloads found"):
        return text.replace("No matching overloads found", "no function takes these types").replace("@", "")
    return text


def compile_expression(
    text: str, *, facts: tuple[str, ...], variables: Mapping[str, VariableType], wanted: Wanted
) -> Expression:
    """Check and prepare an expression. Raises ExpressionError with everything that was found.

    `facts`: the top-level facts that are there (`request`, `sql` …). `variables`: those declared before it.
    """
    if "\0" in text or _has_surrogate(text):
        raise ExpressionError(Finding(1, 1, "an expression cannot have NUL or half a character in it"))
    environment = typed(facts, {name: variable.type for name, variable in variables.items()})
    try:
        checked = environment.compile(text)
        tree = CheckedTree(checked.serialize())
    except RuntimeError as error:
        raise ExpressionError(*_findings(text, str(error), facts, variables)) from None
    except ValueError as error:
        raise ExpressionError(Finding(1, 1, f"the engine's tree cannot be read: {error}")) from None
    if (place := second_parser.complaint(text)) is not None:
        raise ExpressionError(
            Finding(
                *place,
                "the second parser, which explains decisions, cannot read this",
                "Write it in plainer CEL: no optional syntax (?.), no back-quoted names.",
            )
        )
    kind = checked.return_type()
    nodes = list(tree.root.walk())
    _check(text, nodes)
    _check_result(kind, wanted)
    own = reads(tree.root, {name: variable.reads for name, variable in variables.items()})
    _rewrite(tree, nodes, variables)
    try:
        program = RUNTIME.deserialize(tree.serialize())
    except RuntimeError as error:
        raise ExpressionError(Finding(1, 1, readable_error(str(error)))) from None
    return Expression(text, kind, program, own)


def check_variable_type(kind: cel.Type) -> str:
    """Why a variable cannot have this type, or an empty string."""
    name = kind.name()
    inner = name if name not in ("TIMESTAMP", "DURATION", "UINT", "BYTES") else ""
    for word in ("TIMESTAMP", "DURATION", "UINT", "BYTES", "TYPE<", "OPTIONAL", "optional"):
        if word in inner:
            return f"a variable cannot hold {name.lower()}; use that expression where it is needed"
    return ""


def position(text: str, offset: int) -> tuple[int, int]:
    """Line and column, from 1, of a character."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _check(text: str, nodes: list[Node]) -> None:
    if len(nodes) > MAX_NODES:
        raise ExpressionError(
            Finding(1, 1, f"the expression has {len(nodes)} parts, more than {MAX_NODES}", "Split it into variables.")
        )
    findings = []
    for node in nodes:
        where = position(text, node.offset)
        if node.kind == "struct" and node.name:
            findings.append(Finding(*where, f"a {node.name} cannot be made in an expression"))
        if node.kind != "call":
            continue
        if node.name == "lists.range":
            length = node.parts[0].value if node.parts[0].kind == "const" else None
            if not isinstance(length, int) or length > MAX_RANGE:
                findings.append(Finding(*where, f"lists.range takes a literal number up to {MAX_RANGE} here"))
        argument = _REGEX_ARGUMENT.get(node.name)
        if argument is not None and isinstance(pattern := node.parts[argument].value, str):
            try:
                compile_re2(pattern)
            except ValueError as error:
                place = position(text, node.parts[argument].offset)
                hint = "The syntax is RE2's: no look-around, no \\1."
                findings.append(Finding(*place, f"not a regular expression: {error}", hint))
    if findings:
        raise ExpressionError(*findings)


def _check_result(kind: cel.Type, wanted: Wanted) -> None:
    name = kind.name()
    if wanted == "any" or name == "DYN" or name == wanted.upper():
        return
    hint = {
        "bool": "A condition must be true or false: compare the value with something.",
        "string": "Make a text of it with string(…), or join texts with +.",
    }[wanted]
    raise ExpressionError(Finding(1, 1, f"the expression gives {_type_text(name)}, not {wanted}", hint))


def _type_text(name: str) -> str:
    return name.lower().replace(f"{PACKAGE}.", "").replace("<", "(").replace(">", ")")


def _rewrite(tree: CheckedTree, nodes: list[Node], variables: Mapping[str, VariableType]) -> None:
    """Bridge what the checker was told and what is there at run time.

    Times are text in the facts; variables are worked out by a function when they are read; constant regular
    expressions are compiled once, by number.
    """
    wraps: dict[int, str] = {}
    values: dict[int, tuple[str, tuple[str | int, ...]]] = {}
    patterns: dict[int, tuple[str, tuple[str | int, ...]]] = {}
    for node in nodes:
        if node.kind in ("ident", "select") and node.reference.startswith("variables."):
            variable = variables[node.reference.removeprefix("variables.")]
            values[node.id] = (VARIABLE_FUNCTION, (FRAME, variable.index))
            conversion = {"TIMESTAMP": "timestamp", "DURATION": "duration", "UINT": "uint"}.get(variable.type.name())
            if conversion is not None:
                wraps[node.id] = conversion
        elif node.kind == "select" and node.type == "timestamp" and not node.test_only:
            if node.parts[0].type.startswith(f"{PACKAGE}."):
                wraps[node.id] = "timestamp"
        elif node.kind == "call" and node.name == "matches" and isinstance(node.parts[-1].value, str):
            patterns[node.id] = (MATCHES_FUNCTION, (pattern_index(node.parts[-1].value),))
    if values:
        tree.replace(values)
    if wraps:
        tree.wrap(wraps)
    if patterns:
        tree.retarget(patterns)


def _findings(text: str, error: str, facts: tuple[str, ...], variables: Mapping[str, VariableType]) -> list[Finding]:
    found = []
    for line, column, message in _ERROR.findall(error):
        message = message.removesuffix(" [INVALID_ARGUMENT]")
        found.append(Finding(int(line), int(column), *_readable(message, facts, variables)))
    return found or [Finding(1, 1, readable_error(error))]


def _readable(message: str, facts: tuple[str, ...], variables: Mapping[str, VariableType]) -> tuple[str, str]:
    field = _UNDEFINED_FIELD.search(message)
    if field is not None:
        owner = field[2].removeprefix(f"{PACKAGE}.")
        fields = next((f.fields for root in FACTS.values() for f in root.walk() if f.type_name == owner), {})
        return f"there is no field {field[1]!r} in {owner}", nearest(field[1], fields, "Its fields: ")
    name = _UNDECLARED.search(message)
    if name is not None:
        if name[1].startswith("variables."):
            short = name[1].removeprefix("variables.")
            hint = nearest(short, variables, "Variables declared before it: ")
            return f"there is no variable {short!r} here", hint or "No variable is declared before this expression."
        root = name[1].split(".")[0]
        if root in FACTS:
            return f"there is no {root!r} in this policy", f"{root!r} is for {PROTOCOL_OF[root]}; see match.protocols."
        return f"there is nothing called {name[1]!r}", nearest(
            name[1], (*facts, "variables", *_FUNCTION_NAMES.split()), ""
        )
    if message.startswith("Syntax error: "):
        return "syntax error: " + message.removeprefix("Syntax error: ").split(" expecting ")[0], ""
    return message.replace(f"{PACKAGE}.", ""), ""


def nearest(name: str, known: Mapping[str, object] | tuple[str, ...], listing: str) -> str:
    """A hint with the name that was probably meant; otherwise what there is, if `listing` says how to begin."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    if close:
        return f"Did you mean {close[0]!r}?"
    return f"{listing}{', '.join(known)}." if listing and known else ""
