"""The reference page of the resources, docs/resources.md: its tables come from the schemas, its introduction stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ostiary_api.meta import API_VERSION, Resource
from ostiary_api.schema import KINDS, Schema, structural_schema

MARKER = "<!-- generated from here on by `python -m ostiary_api.generate`; do not edit below -->"


def page(introduction: str) -> str:
    """The whole page. `introduction` is the page as it is: what stands before MARKER is kept."""
    head = introduction.partition(MARKER)[0].rstrip("\n")
    return "\n".join([head, "", MARKER, *(line for kind in KINDS for line in _kind(kind))]) + "\n"


def _kind(kind: type[Resource]) -> Iterator[str]:
    schema = structural_schema(kind)
    names = ", ".join(f"`{name}`" for name in (kind.plural, *kind.short_names))
    yield from ("", f"## {kind.__name__}", "", schema["description"], "")
    yield f"`apiVersion: {API_VERSION}`, `kind: {kind.__name__}`; for kubectl: {names}."
    yield from _rules(schema)
    for name in ("spec", "status"):
        yield from _object(name, schema["properties"][name])


def _object(path: str, schema: Schema) -> Iterator[str]:
    yield from ("", f"### {path}", "")
    if description := schema.get("description"):
        yield from (description, "")
    properties: Schema = schema.get("properties", {})
    if properties:
        yield from ("| field | type | default | |", "| --- | --- | --- | --- |")
        required = schema.get("required", [])
        for name, item in properties.items():
            description = item.get("description", "").replace("|", "\\|")
            yield f"| `{name}` | {_type(item)} | {_default(name, item, required)} | {description} |"
    yield from _rules(schema)
    for name, item in properties.items():
        inner, suffix = (item["items"], "[]") if item.get("type") == "array" else (item, "")
        if "properties" in inner or (inner.get("type") == "object" and _is_empty(inner)):
            yield from _object(f"{path}.{name}{suffix}", inner)


def _rules(schema: Schema) -> Iterator[str]:
    rules = [rule["message"] for rule in schema.get("x-kubernetes-validations", [])]
    if rules:
        yield from ("", "Rules:", "", *(f"- {rule}" for rule in rules))


def _is_empty(schema: Schema) -> bool:
    return "additionalProperties" not in schema and "x-kubernetes-preserve-unknown-fields" not in schema


def _type(schema: Schema) -> str:
    if schema.get("x-kubernetes-int-or-string"):
        return f"size{_stated(schema)}"
    kind: str = schema.get("type", "")
    if kind == "array":
        return f"list of {_type(schema['items'])}" + _bounds(schema, "minItems", "maxItems", " items")
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if kind == "object":
        if "additionalProperties" in schema:
            return f"map of {_type(schema['additionalProperties'])}"
        return "any object" if "x-kubernetes-preserve-unknown-fields" in schema else "object"
    if kind == "string":
        if schema.get("format") == "date-time":
            return "time"
        stated = _stated(schema)
        return f"duration{stated}" if stated else "text" + _bounds(schema, "minLength", "maxLength", " characters")
    return f"{kind}{_bounds(schema, 'minimum', 'maximum')}"


def _stated(schema: Schema) -> str:
    """The bounds of a duration or a size, which its rule states in words."""
    return "".join(rule["message"].replace("must be from", ",") for rule in schema.get("x-kubernetes-validations", []))


def _bounds(schema: Schema, low: str, high: str, unit: str = "") -> str:
    match schema.get(low), schema.get(high):
        case None, None:
            return ""
        case None, most:
            return f", up to {most}{unit}"
        case least, None:
            return f", at least {least}{unit}"
        case least, most:
            return f", {least}{unit}" if least == most else f", {least} to {most}{unit}"


def _default(name: str, schema: Schema, required: list[str]) -> str:
    if name in required:
        return "*required*"
    value: Any = schema.get("default")
    if value is None or schema.get("type") == "object":
        return ""
    return f"`{value if isinstance(value, str) else json.dumps(value)}`"
