"""What every resource shares: the base model, metadata, conditions, references, selectors, durations, quantities."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StrictBool,
    StrictInt,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from ostiary_api.canonical import revision

GROUP = "ostiary.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

_UPPER = frozenset({"ttl", "ca"})


def to_alias(name: str) -> str:
    """The JSON name of an attribute: `pending_ttl` is `pendingTTL`, `host_ca_ref` is `hostCARef`."""
    first, *rest = name.rstrip("_").split("_")
    return first + "".join(part.upper() if part in _UPPER else part.capitalize() for part in rest)


@dataclass(frozen=True, slots=True)
class Validation:
    """A rule over several fields, said twice: in CEL for the API server, in Python for everybody else.

    `holds` is None for rules on a transition (they read `oldSelf`): only the API server sees both objects.
    """

    cel: str
    message: str
    holds: Callable[[Any], bool] | None


class Model(BaseModel):
    """Base of all parts of a resource: camelCase in JSON, frozen, an unknown field is an error."""

    model_config = ConfigDict(
        alias_generator=to_alias,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        validate_default=True,
        hide_input_in_errors=True,
        ignored_types=(cached_property,),
    )

    validations: ClassVar[tuple[Validation, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: object) -> object:
        """A null is an absent field, as in the API server, which prunes it before it fills in defaults."""
        if isinstance(value, Mapping):
            return {key: item for key, item in value.items() if item is not None}
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, field in type(self).model_fields.items():
            extra = field.json_schema_extra
            keys = extra.get("x-kubernetes-list-map-keys") if isinstance(extra, dict) else None
            if isinstance(keys, list):
                _refuse_duplicates(field.alias or name, [str(key) for key in keys], getattr(self, name))
        for validation in self.validations:
            if validation.holds is not None and not validation.holds(self):
                raise PydanticCustomError("rule", "{rule}", {"rule": validation.message})
        return self


def _refuse_duplicates(field: str, keys: list[str], items: tuple[BaseModel, ...]) -> None:
    seen: set[tuple[object, ...]] = set()
    for item in items:
        dumped = item.model_dump(mode="json", by_alias=True)
        key = tuple(dumped.get(name) for name in keys)
        if key in seen:
            text = ", ".join(f"{name} {value!r}" for name, value in zip(keys, key, strict=True))
            raise PydanticCustomError(
                "duplicate", "{field} has two items with {key}; each may stand once", {"field": field, "key": text}
            )
        seen.add(key)


class StatusModel(Model):
    """Base of all parts of a status. What is unknown is passed over: a newer program may have written it."""

    model_config = ConfigDict(extra="ignore")


def list_map(*keys: str) -> dict[str, Any]:
    """Schema extras of a list whose items are told apart by `keys`."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


LIST_SET: dict[str, Any] = {"x-kubernetes-list-type": "set"}
LIST_ATOMIC: dict[str, Any] = {"x-kubernetes-list-type": "atomic"}

DnsName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=253, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"),
]
"""Name of a Kubernetes object: lower case, digits, `-` and `.`."""

DnsLabel = Annotated[
    str,
    StringConstraints(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"),
]
"""Name of a namespace, a rule or a condition: lower case, digits and `-`."""

SecretKey = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
Username = Annotated[str, StringConstraints(min_length=1, max_length=512)]
GroupName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Port = Annotated[StrictInt, Field(ge=1, le=65535)]


# Durations

_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h))+")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000}
DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"


def parse_duration(text: str) -> float:
    """Seconds of a duration like `15m`, `1h30m` or `500ms`. Raises ValueError."""
    if len(text) > 32 or not _DURATION.fullmatch(text):
        raise ValueError("not a duration; write it like 30s, 15m, 1h30m or 500ms")
    return sum(float(number) * _MILLISECONDS[unit] for number, unit in _DURATION_PART.findall(text)) / 1000


def format_duration(seconds: float) -> str:
    """The shortest text of a duration: 900.0 is `15m`, 5400.0 is `1h30m`. Whole milliseconds."""
    rest = round(seconds * 1000)
    parts: list[str] = []
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def _to_seconds(value: object) -> float:
    if isinstance(value, str):
        return parse_duration(value)
    if isinstance(value, float) and 0 <= value < 1e9:
        return value
    raise ValueError("not a duration; write it like 30s, 15m, 1h30m or 500ms")


def duration(shortest: str, longest: str) -> Any:
    """Annotations of a duration field: seconds (float) in Python, text like `15m` in JSON, with bounds."""
    low, high = parse_duration(shortest), parse_duration(longest)
    message = f"must be from {shortest} to {longest}"

    def bounded(seconds: float) -> float:
        if not low <= seconds <= high:
            raise ValueError(message)
        return seconds

    rule = f"duration(self) >= duration('{shortest}') && duration(self) <= duration('{longest}')"
    return (
        BeforeValidator(_to_seconds),
        AfterValidator(bounded),
        PlainSerializer(format_duration, return_type=str),
        WithJsonSchema(
            {
                "type": "string",
                "minLength": 2,
                "maxLength": 32,
                "pattern": DURATION_PATTERN,
                "x-kubernetes-validations": [{"rule": rule, "message": message}],
            }
        ),
    )


# Quantities

_QUANTITY = re.compile(r"([0-9]+)(Ki|Mi|Gi|Ti|k|M|G|T)?")
_BYTES = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
QUANTITY_PATTERN = r"^[0-9]+(Ki|Mi|Gi|Ti|k|M|G|T)?$"


def parse_quantity(text: str) -> int:
    """Bytes of a quantity like `512`, `64Ki`, `1Mi` or `1G`. Raises ValueError."""
    match = _QUANTITY.fullmatch(text) if len(text) <= 24 else None
    if match is None:
        raise ValueError("not a size in bytes; write it like 1048576, 64Ki, 1Mi or 1Gi")
    return int(match[1]) * _BYTES[match[2] or ""]


def format_quantity(count: int) -> str:
    """The shortest exact text with a binary suffix: 1048576 is `1Mi`."""
    for suffix in ("Ti", "Gi", "Mi", "Ki"):
        if count and count % _BYTES[suffix] == 0:
            return f"{count // _BYTES[suffix]}{suffix}"
    return str(count)


def _to_bytes(value: object) -> int:
    if isinstance(value, str):
        return parse_quantity(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError("not a size in bytes; write it like 1048576, 64Ki, 1Mi or 1Gi")


def quantity(least: str, most: str) -> Any:
    """Annotations of a size field: bytes (int) in Python, a number or text like `1Mi` in JSON, with bounds."""
    low, high = parse_quantity(least), parse_quantity(most)
    message = f"must be from {least} to {most}"

    def bounded(count: int) -> int:
        if not low <= count <= high:
            raise ValueError(message)
        return count

    rule = (
        f"quantity(string(self)).compareTo(quantity('{least}')) >= 0 && "
        f"quantity(string(self)).compareTo(quantity('{most}')) <= 0"
    )
    return (
        BeforeValidator(_to_bytes),
        AfterValidator(bounded),
        PlainSerializer(format_quantity, return_type=str),
        WithJsonSchema(
            {
                "x-kubernetes-int-or-string": True,
                "anyOf": [{"type": "integer"}, {"type": "string"}],
                "maxLength": 24,
                "pattern": QUANTITY_PATTERN,
                "x-kubernetes-validations": [{"rule": rule, "message": message}],
            }
        ),
    )


# Times

_TIMESTAMP = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def _to_datetime(value: object) -> datetime:
    if isinstance(value, str) and _TIMESTAMP.fullmatch(value):
        return datetime.fromisoformat(value.upper())
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value
    raise ValueError("not a time; write it in RFC 3339 with a zone, like 2027-01-01T00:00:00Z")


def format_timestamp(value: datetime) -> str:
    """RFC 3339 in UTC, `2027-01-01T00:00:00Z`."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


Timestamp = Annotated[
    datetime,
    BeforeValidator(_to_datetime),
    PlainSerializer(format_timestamp, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "maxLength": 64}),
]
"""A moment, with a zone. RFC 3339 in JSON."""


# References and selectors


class SecretRef(Model):
    """A Secret in the same namespace."""

    name: DnsName = Field(description="Name of the Secret.")


class SecretKeyRef(Model):
    """One key of a Secret in the same namespace."""

    name: DnsName = Field(description="Name of the Secret.")
    key: SecretKey = Field(description="Key in the Secret's data.")


LabelValue = Annotated[str, StringConstraints(max_length=63, pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")]
LabelKey = Annotated[str, StringConstraints(min_length=1, max_length=317)]


class LabelRequirement(Model):
    """One condition on one label."""

    key: LabelKey = Field(description="Key of the label.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(description="How the label is compared.")
    values: tuple[LabelValue, ...] = Field(
        default=(),
        max_length=64,
        description="Values for In and NotIn; none for Exists and DoesNotExist.",
        json_schema_extra=LIST_ATOMIC,
    )

    validations = (
        Validation(
            "self.operator in ['In', 'NotIn'] ? size(self.values) > 0 : size(self.values) == 0",
            "values are needed for In and NotIn, and not allowed for Exists and DoesNotExist",
            lambda self: (self.operator in ("In", "NotIn")) == bool(self.values),
        ),
    )

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is selected, as Kubernetes does it."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels


class LabelSelector(Model):
    """Selects objects by their labels. All conditions must hold; an empty selector selects everything."""

    match_labels: dict[LabelKey, LabelValue] = Field(
        default={}, max_length=64, description="Labels that must be there with exactly these values."
    )
    match_expressions: tuple[LabelRequirement, ...] = Field(
        default=(), max_length=64, description="More conditions on labels.", json_schema_extra=LIST_ATOMIC
    )

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels is selected."""
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            requirement.matches(labels) for requirement in self.match_expressions
        )


# The envelope


class ObjectMeta(Model):
    """Metadata of an object, as Kubernetes has it."""

    name: DnsName = Field(description="Name, unique for its kind in the namespace.")
    namespace: DnsLabel = Field(default="default", description="Namespace.")
    labels: dict[LabelKey, LabelValue] = Field(default={}, description="Labels.")
    annotations: dict[str, str] = Field(default={}, description="Annotations.")
    uid: str = Field(default="", description="Given by the API server; empty for an object from a file.")
    generation: StrictInt = Field(default=0, description="Counts changes of the spec; 0 for an object from a file.")
    resource_version: str = Field(default="", description="Given by the API server.")
    generate_name: str | None = Field(default=None, description="Prefix for a generated name.")
    creation_timestamp: Timestamp | None = Field(default=None, description="When it was made.")
    deletion_timestamp: Timestamp | None = Field(default=None, description="When its deletion was asked for.")
    deletion_grace_period_seconds: StrictInt | None = Field(default=None, description="Time left for its deletion.")
    finalizers: tuple[str, ...] = Field(default=(), description="Who must agree before it goes.")
    owner_references: tuple[dict[str, Any], ...] = Field(default=(), description="Objects that own it.")
    managed_fields: tuple[dict[str, Any], ...] = Field(default=(), description="Who set which field.", repr=False)
    self_link: str | None = Field(default=None, description="Not used any more.")


class Condition(StatusModel):
    """One aspect of an object's state. `lastTransitionTime` moves only when `status` changes."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=316)] = Field(description="What it is about.")
    status: Literal["True", "False", "Unknown"] = Field(description="Whether it holds.")
    reason: Annotated[
        str, StringConstraints(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    ] = Field(description="Why, as one word for programs.")
    message: Annotated[str, StringConstraints(max_length=32768)] = Field(default="", description="Why, for people.")
    observed_generation: Annotated[StrictInt, Field(ge=0)] = Field(
        default=0, description="The generation of the spec that this was worked out from."
    )
    last_transition_time: Timestamp = Field(description="When status last changed.")


Conditions = tuple[Condition, ...]


class Resource(Model):
    """Base of the three resources."""

    plural: ClassVar[str]
    short_names: ClassVar[tuple[str, ...]]
    printer_columns: ClassVar[tuple[dict[str, Any], ...]]

    api_version: Literal["ostiary.dev/v1alpha1"] = Field(
        default="ostiary.dev/v1alpha1", description="Version of this schema."
    )
    metadata: ObjectMeta = Field(description="Name, namespace, labels.")

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    @cached_property
    def revision(self) -> str:
        """sha256 of the canonical spec, hex. Two specs that mean the same by defaults or notation share it."""
        spec: BaseModel = getattr(self, "spec")  # noqa: B009 - declared by each resource with its own type
        return revision(spec.model_dump(mode="json", by_alias=True, exclude_defaults=True))

    def to_manifest(self) -> dict[str, Any]:
        """The object as a manifest: plain dicts and lists, defaults left out."""
        dumped = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        kind: str = getattr(self, "kind")  # noqa: B009 - declared by each resource as its own literal
        return {"apiVersion": API_VERSION, "kind": kind, **dumped}


__all__ = [
    "API_VERSION",
    "GROUP",
    "VERSION",
    "Condition",
    "Conditions",
    "LabelRequirement",
    "LabelSelector",
    "Model",
    "ObjectMeta",
    "Port",
    "Resource",
    "SecretKeyRef",
    "SecretRef",
    "StatusModel",
    "StrictBool",
    "Timestamp",
    "Validation",
    "duration",
    "format_duration",
    "format_quantity",
    "format_timestamp",
    "parse_duration",
    "parse_quantity",
    "quantity",
]
