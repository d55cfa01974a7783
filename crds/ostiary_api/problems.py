"""What is wrong in a manifest, and where: pydantic's errors said for people, with file, line and field."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from ostiary_api.yamltree import Node

_PATH = re.compile(r'\.?([^.\[\]"]+)|\[(\d+)\]|\["([^"]*)"\]|\[([^\]]*)\]')
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")

Path = Sequence[str | int]


@dataclass(frozen=True, slots=True)
class Location:
    """A place in a file. Lines and columns count from 1; 0 says not known."""

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong (or worth a notice). `field` is a path like `spec.rules[0].action`; may be empty."""

    location: Location
    message: str
    kind: str = ""
    namespace: str = ""
    name: str = ""
    field: str = ""

    def __str__(self) -> str:
        place = "/".join(part for part in (self.namespace, self.name) if part)
        what = " ".join(part for part in (self.kind, place) if part)
        return ": ".join(part for part in (str(self.location), what, self.field, self.message) if part)


def format_path(path: Path) -> str:
    """`("spec", "rules", 0, "name")` is `spec.rules[0].name`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f'["{part}"]'
    return text


def parse_path(text: str) -> list[str | int]:
    """The parts of a path like `spec.rules[0].name`; `[drop]` is the list item with that name."""
    return [
        int(match[2]) if match[2] is not None else match[1] or match[3] or match[4] or ""
        for match in _PATH.finditer(text)
    ]


def find(root: Node, path: Path) -> tuple[Node, int, int]:
    """The deepest node on the path that is there, and the line and column of its key (or of the node itself)."""
    node, line, column = root, root.line, root.column
    for part in path:
        if isinstance(node.value, dict) and isinstance(part, str) and part in node.value:
            line, column = node.keys[part]
            node = node.value[part]
        elif isinstance(node.value, list) and (item := _item(node.value, part)) is not None:
            node, line, column = item, item.line, item.column
        else:
            break
    return node, line, column


def _item(items: list[Node], part: str | int) -> Node | None:
    if isinstance(part, int):
        return items[part] if part < len(items) else None
    named = (item for item in items if (name := item.get("name")) is not None and name.value == part)
    return next(named, None)


def explain(error: ValidationError, model: type[BaseModel], *, secret: bool) -> list[tuple[list[str | int], str]]:
    """Each error as the path of its field and a sentence. `secret`: no value of the input may be in it."""
    return [
        (_clean(item["loc"]), _sentence(item, model, secret))
        for item in error.errors(include_url=False)
        if not _is_echo(item)
    ]


def _is_echo(item: Any) -> bool:
    """Pydantic counts the good items of a list only: too few of them is an echo of what is wrong with the others."""
    value = item.get("input")
    return item["type"] == "too_short" and isinstance(value, list) and len(value) >= item["ctx"]["min_length"]


def _clean(location: Iterable[str | int]) -> list[str | int]:
    return [part for part in location if part != "[key]"]


def _sentence(item: Any, model: type[BaseModel], secret: bool) -> str:
    kind: str = item["type"]
    path: list[str | int] = list(item["loc"])
    context: dict[str, Any] = item.get("ctx", {})
    value = item.get("input")
    match kind:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return "is not a field here" + suggest(str(path[-1]), _fields(model, path[:-1]))
        case "literal_error" if not secret:
            choices = re.findall(r"'([^']*)'", str(context.get("expected", "")))
            shown = (
                f"{value[:64]!r} is not allowed" if isinstance(value, str) else f"must be text, not {_json_type(value)}"
            )
            return f"{shown}; must be {_one_of(choices)}" + suggest(value if isinstance(value, str) else "", choices)
        case "string_type":
            quote = "; put it in quotes" if isinstance(value, bool | int | float) else ""
            return f"must be text, not {_json_type(value)}{quote}"
        case "int_type":
            return "must be a whole number" + ("" if isinstance(value, float) else f", not {_json_type(value)}")
        case "bool_type":
            return f"must be true or false, not {_json_type(value)}"
        case "tuple_type" | "list_type":
            return f"must be a list, not {_json_type(value)}"
        case "dict_type" | "model_type" | "model_attributes_type":
            return f"must be an object, not {_json_type(value)}"
        case "too_short":
            return f"must have at least {context.get('min_length')} item(s)"
        case "too_long":
            return f"must have at most {context.get('max_length')} items"
        case "string_too_short":
            return (
                "must not be empty"
                if context.get("min_length") == 1
                else f"must have at least {context.get('min_length')} characters"
            )
        case "string_too_long":
            return f"must have at most {context.get('max_length')} characters"
        case "string_pattern_mismatch":
            return f"must match {context.get('pattern')}"
        case "value_error":
            return str(context.get("error", "is not valid"))
        case _:
            return str(item["msg"])


def _json_type(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case list() | tuple():
            return "a list"
        case _:
            return "an object"


def _one_of(choices: Sequence[str]) -> str:
    return (
        choices[0]
        if len(choices) == 1
        else f"{', '.join(choices[:-1])} or {choices[-1]}"
        if choices
        else "another value"
    )


def suggest(word: str, choices: Iterable[str]) -> str:
    """`; did you mean X?` for a word close to one of the choices, whatever its case."""
    by_lower = {choice.lower().replace("_", ""): choice for choice in choices}
    close = difflib.get_close_matches(word.lower().replace("_", ""), by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[close[0]]}?" if close else ""


def _fields(model: type[BaseModel], path: Path) -> list[str]:
    """JSON names of the fields that the model at this path has."""
    current: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, str) and current is not None:
            field = next((f for name, f in current.model_fields.items() if part in (f.alias, name)), None)
            current = _model_in(field.annotation) if field else None
    return [field.alias or name for name, field in current.model_fields.items()] if current else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for inner in get_args(annotation) if (found := _model_in(inner))), None)
