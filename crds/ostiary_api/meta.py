"""What every resource shares: the base model, metadata, conditions, references and selectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    StrictInt,
    StringConstraints,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError

from ostiary_api.canonical import revision
from ostiary_api.units import Timestamp

GROUP = "ostiary.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

_UPPER = frozenset({"ca", "cpu", "ttl", "url"})


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
        hide_input_in_errors=True,
        ignored_types=(cached_property,),
    )

    validations: ClassVar[tuple[Validation, ...]] = ()

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler.resolve_ref_schema(handler(core_schema))
        if cls.validations:
            schema["x-kubernetes-validations"] = [{"rule": v.cel, "message": v.message} for v in cls.validations]
        return schema

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, value: object) -> object:
        """A null is an absent field, as in the API server, which prunes it before it fills in defaults."""
        if isinstance(value, Mapping):
            return {key: item for key, item in value.items() if item is not None}
        return value

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, as pydantic makes it, without what was worked out from the original (a revision)."""
        copied = super().model_copy(update=update, deep=deep)
        for name in copied.__dict__.keys() - type(self).model_fields.keys():
            del copied.__dict__[name]
        return copied

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

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"

DnsName = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=rf"^{_LABEL}(\.{_LABEL})*$")]
"""Name of a Kubernetes object: lower case, digits, `-` and `.`."""

DnsLabel = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=rf"^{_LABEL}$")]
"""Name of a namespace, a rule or a condition: lower case, digits and `-`."""

SecretKey = Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
Username = Annotated[str, StringConstraints(min_length=1, max_length=512)]
GroupName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
Port = Annotated[StrictInt, Field(ge=1, le=65535)]


# References and selectors


class SecretRef(Model):
    """A Secret in the same namespace."""

    name: DnsName = Field(description="Name of the Secret, in the same namespace.")


class CARef(Model):
    """The certificates of the authorities to trust, in a Secret of the same namespace."""

    name: DnsName = Field(description="Name of the Secret, in the same namespace.")
    key: SecretKey = Field(default="ca.crt", description="Key that holds the certificates (PEM).")


class SecretKeyRef(Model):
    """One key of a Secret in the same namespace."""

    name: DnsName = Field(description="Name of the Secret, in the same namespace.")
    key: SecretKey = Field(description="Key in the Secret's data that holds the value.")


LabelValue = Annotated[str, StringConstraints(max_length=63, pattern=r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$")]
LabelKey = Annotated[
    str,
    StringConstraints(
        min_length=1,
        max_length=317,
        pattern=r"^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
    ),
]


class LabelRequirement(Model):
    """One condition on one label."""

    key: LabelKey = Field(description="Key of the label, for example env.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="How the label is compared. In, NotIn: with values. Exists, DoesNotExist: whether it is there."
    )
    values: tuple[LabelValue, ...] = Field(
        default=(),
        max_length=64,
        description="Values for In and NotIn; none for Exists and DoesNotExist.",
        json_schema_extra=LIST_ATOMIC,
    )

    validations = (
        Validation(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
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

    type: Annotated[str, StringConstraints(min_length=1, max_length=316)] = Field(
        description="What the condition is about, one word."
    )
    status: Literal["True", "False", "Unknown"] = Field(
        description="Whether the condition holds; Unknown while nobody can tell."
    )
    reason: Annotated[
        str, StringConstraints(min_length=1, max_length=1024, pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$")
    ] = Field(description="Why, as one word for programs.")
    message: Annotated[str, StringConstraints(max_length=32768)] = Field(
        default="", description="Why, and what to do about it, for people."
    )
    observed_generation: Annotated[StrictInt, Field(ge=0)] = Field(
        default=0, description="The generation of the spec that this was worked out from."
    )
    last_transition_time: Timestamp = Field(description="When the condition's status last changed.")


Conditions = tuple[Condition, ...]

PROBLEM_COLUMN: dict[str, Any] = {
    "name": "Problem",
    "type": "string",
    "jsonPath": ".status.conditions[?(@.status=='False')].message",
    "priority": 1,
}
"""For `kubectl get -o wide`: the message of the first condition that does not hold."""


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

    @property
    def identity(self) -> str:
        """What tells it from any other object: its uid, or `namespace/name` for an object from a file."""
        return self.metadata.uid or self.key

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
