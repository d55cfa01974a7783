"""Secrets: ordinary `v1/Secret` manifests, and the agents' tokens among them (type `ostiary.dev/token`)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, StrictBool, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from ostiary_api.meta import Model, ObjectMeta

TOKEN_TYPE = "ostiary.dev/token"  # noqa: S105 - the type of a Secret, not a secret
_SHA256 = re.compile(r"[0-9a-f]{64}")


def _decode(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        try:
            return base64.b64decode("".join(value.split()), validate=True)
        except (binascii.Error, ValueError):
            # Neither the value nor the decoder's message: both may hold parts of the secret.
            raise ValueError("not base64; plain text belongs in stringData") from None
    raise ValueError("not a string; data holds base64, stringData holds text")


SecretBytes = Annotated[
    bytes, BeforeValidator(_decode), PlainSerializer(lambda value: base64.b64encode(value).decode(), return_type=str)
]


@dataclass(frozen=True, slots=True)
class AgentToken:
    """Who an agent's token stands for. Only its sha256 is known, 64 lower-case hex digits."""

    username: str
    groups: tuple[str, ...]
    sha256: str = field(repr=False)


class Secret(Model):
    """A `v1/Secret`. `data` has everything, decoded; its values are in no repr, message or error."""

    api_version: Literal["v1"] = Field(default="v1", description="v1.")
    kind: Literal["Secret"] = Field(default="Secret", description="Secret.")
    metadata: ObjectMeta = Field(description="Name, namespace, labels.")
    type: Annotated[str, StringConstraints(max_length=253)] = Field(default="Opaque", description="Type of the Secret.")
    immutable: StrictBool = Field(default=False, description="Cannot be changed.")
    data: dict[str, SecretBytes] = Field(default={}, description="Values, base64.", repr=False)

    @model_validator(mode="before")
    @classmethod
    def _merge_string_data(cls, value: object) -> object:
        if not isinstance(value, Mapping):
            return value
        merged = {key: item for key, item in value.items() if item is not None}
        strings: Any = merged.pop("stringData", {})
        if not isinstance(strings, Mapping):
            raise PydanticCustomError("secret", "stringData must be an object of strings")
        if not strings:
            return merged
        data: Any = merged.get("data", {})
        if not isinstance(data, Mapping):
            raise PydanticCustomError("secret", "data must be an object of base64 strings")
        combined: dict[Any, Any] = dict(data)
        for key, text in strings.items():
            if not isinstance(text, str):
                raise PydanticCustomError(
                    "secret", "stringData.{key} is not a string; put it in quotes", {"key": str(key)}
                )
            combined[key] = text.encode()
        merged["data"] = combined
        return merged

    @model_validator(mode="after")
    def _check_token(self) -> Self:
        if self.type == TOKEN_TYPE:
            self._token()
        return self

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"

    def text(self, key: str) -> str:
        """The value of `key` as text. Raises KeyError if there is none, ValueError if it is not UTF-8."""
        try:
            return self.data[key].decode()
        except UnicodeDecodeError:
            raise ValueError(f"{key} of Secret {self.key} is not UTF-8 text") from None

    @cached_property
    def token(self) -> AgentToken | None:
        """The agent's token, if this is one."""
        return self._token() if self.type == TOKEN_TYPE else None

    def _token(self) -> AgentToken:
        values: dict[str, str] = {}
        for key in ("username", "groups", "sha256"):
            try:
                values[key] = self.data.get(key, b"").decode().strip()
            except UnicodeDecodeError:
                raise PydanticCustomError("secret", "{key} is not UTF-8 text", {"key": key}) from None
        if not 0 < len(values["username"]) <= 512:
            raise PydanticCustomError("secret", "a token needs a username of 1 to 512 characters")
        if not _SHA256.fullmatch(values["sha256"].lower()):
            raise PydanticCustomError("secret", "a token needs sha256: the hash of the token, 64 hex digits")
        groups = tuple(group.strip() for group in values["groups"].split(",") if group.strip())
        return AgentToken(values["username"], groups, values["sha256"].lower())
