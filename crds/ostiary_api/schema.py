"""The CustomResourceDefinitions, generated from the models: structural OpenAPI v3 schemas as Kubernetes wants them."""

from __future__ import annotations

import inspect
from typing import Any

from ostiary_api.approval import ApprovalRequest
from ostiary_api.connection import Connection
from ostiary_api.meta import GROUP, VERSION, Resource
from ostiary_api.policy import GatewayPolicy
from ostiary_api.units import DURATION_PATTERN, QUANTITY_PATTERN, format_duration, format_quantity

KINDS: tuple[type[Resource], ...] = (Connection, GatewayPolicy, ApprovalRequest)

_KEPT = (
    "type",
    "format",
    "enum",
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "required",
)
_REPLACED = ("title", "description", "default", "const", "anyOf", "items", "properties")
_MAPS = ("additionalProperties", "patternProperties", "propertyNames")
_DESCRIPTIONS = {
    "apiVersion": "Version of the schema of this object: ostiary.dev/v1alpha1.",
    "kind": "Kind of this object.",
}

Schema = dict[str, Any]


def custom_resource_definition(kind: type[Resource]) -> Schema:
    """The whole CustomResourceDefinition of one resource, as plain dicts and lists in a stable order."""
    name = kind.__name__
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{GROUP}", "labels": {"app.kubernetes.io/part-of": "ostiary"}},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": name,
                "listKind": f"{name}List",
                "plural": kind.plural,
                "singular": name.lower(),
                "shortNames": list(kind.short_names),
                "categories": ["ostiary"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [dict(column) for column in kind.printer_columns],
                    "schema": {"openAPIV3Schema": structural_schema(kind)},
                }
            ],
        },
    }


def structural_schema(kind: type[Resource]) -> Schema:
    """The structural schema of one resource."""
    document = kind.model_json_schema(mode="validation")
    definitions: Schema = document.get("$defs", {})
    properties: Schema = document["properties"]
    rules: Schema = {key: document[key] for key in ("x-kubernetes-validations",) if key in document}
    return {
        "description": _one_line(inspect.getdoc(kind) or ""),
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"description": _DESCRIPTIONS["apiVersion"], "type": "string"},
            "kind": {"description": _DESCRIPTIONS["kind"], "type": "string"},
            "metadata": {"type": "object"},
            "spec": _convert(properties["spec"], definitions, defaults=True),
            "status": _convert(properties["status"], definitions, defaults=False),
        },
        **rules,
    }


def _convert(source: Schema, definitions: Schema, *, defaults: bool) -> Schema:
    """One level of pydantic's JSON schema as a structural schema: references inlined, null told apart."""
    resolved, nullable = _resolve(source, definitions)
    lost = resolved.keys() - {*_KEPT, *_REPLACED, *_MAPS} - {key for key in resolved if key.startswith("x-")}
    if lost:
        raise ValueError(f"no structural form of {sorted(lost)} in {resolved}")
    result: Schema = {}
    if description := resolved.get("description"):
        result["description"] = _one_line(str(description))
    if "const" in resolved:
        resolved = {**resolved, "enum": [resolved["const"]]}
    result |= {key: resolved[key] for key in _KEPT if key in resolved}
    if nullable:
        result["nullable"] = True
    if resolved.get("x-kubernetes-int-or-string"):
        result["anyOf"] = resolved["anyOf"]
    if "items" in resolved:
        result["items"] = _convert(resolved["items"], definitions, defaults=defaults)
    if "properties" in resolved:
        result["properties"] = {
            name: _property(item, definitions, defaults=defaults) for name, item in resolved["properties"].items()
        }
    elif values := _map_values(resolved):
        result["additionalProperties"] = _convert(values, definitions, defaults=defaults)
    result |= {key: value for key, value in resolved.items() if key.startswith("x-kubernetes-")}
    return result


def _map_values(schema: Schema) -> Schema:
    """Schema of the values of a map; empty if it is none, or of anything. Rules on its keys are not structural."""
    for values in (schema.get("additionalProperties"), *schema.get("patternProperties", {}).values()):
        if isinstance(values, dict) and values.get("type"):
            return values
    return {}


def _property(source: Schema, definitions: Schema, *, defaults: bool) -> Schema:
    # An optional field is absent, not null: its default of None is no default, and it is not nullable.
    resolved, _ = _resolve(source, definitions)
    result = _convert(resolved, definitions, defaults=defaults)
    default = source.get("default")
    if not defaults or default is None:
        return result
    if "properties" in result:
        # The API server wants the default of an object to be valid by itself, its own defaults filled in.
        default = {name: item["default"] for name, item in result["properties"].items() if "default" in item}
    elif result.get("pattern") == DURATION_PATTERN:
        default = format_duration(default)
    elif result.get("pattern") == QUANTITY_PATTERN:
        default = format_quantity(default)
    if default or (default == 0 and default is not False) or source.get("x-default"):
        result["default"] = default
    return result


def _resolve(source: Schema, definitions: Schema) -> tuple[Schema, bool]:
    """The schema without `$ref` and without the alternative null, and whether it had that."""
    schema, nullable = source, False
    while True:
        if "$ref" in schema:
            target: Schema = definitions[schema["$ref"].removeprefix("#/$defs/")]
            schema = target | {key: value for key, value in schema.items() if key != "$ref"}
        elif "anyOf" in schema and not schema.get("x-kubernetes-int-or-string"):
            nullable = any(option == {"type": "null"} for option in schema["anyOf"])
            options = [option for option in schema["anyOf"] if option != {"type": "null"}]
            if len(options) != 1:
                raise ValueError(f"a union is not structural: {schema}")
            # What the field says of itself goes before what its type says.
            schema = options[0] | {key: value for key, value in schema.items() if key != "anyOf"}
        else:
            return schema, nullable


def _one_line(text: str) -> str:
    return " ".join(text.split())
