"""The kinds of object that a gateway reads and writes, and where the API server has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import quote

Object = dict[str, Any]
"""An object as the API server gives it, decoded JSON."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A resource of the API. `group` is empty for the core group."""

    group: str
    version: str
    plural: str

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """Its path in URLs; without a namespace that of a cluster-wide resource, without a name that of all."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        parts += [part for part in (name, subresource) if part]
        return "/" + "/".join(quote(part, safe="") for part in parts)


CONFIG_MAPS: Final = Kind("", "v1", "configmaps")
SECRETS: Final = Kind("", "v1", "secrets")
APPROVAL_REQUESTS: Final = Kind("ostiary.dev", "v1alpha1", "approvalrequests")
SERVICE_ACCOUNTS: Final = Kind("", "v1", "serviceaccounts")
TOKEN_REVIEWS: Final = Kind("authentication.k8s.io", "v1", "tokenreviews")

EventType = Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One event of a watch. A BOOKMARK's object has its resourceVersion only."""

    type: EventType
    object: Object = field(repr=False)


@dataclass(frozen=True, slots=True)
class Listed:
    """All objects of a list, and the resourceVersion to watch from."""

    items: tuple[Object, ...] = field(repr=False)
    resource_version: str


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What a TokenReview says. Without `authenticated` nothing else counts; `error` says why, if the server does."""

    authenticated: bool
    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    audiences: tuple[str, ...] = ()
    """Those of the ones asked for that the token is for."""
    error: str = ""


def metadata(item: Object) -> Mapping[str, Any]:
    """An object's metadata, empty if it has none."""
    found = item.get("metadata")
    return found if isinstance(found, dict) else {}


def name_of(item: Object) -> tuple[str, str]:
    """Namespace and name of an object."""
    found = metadata(item)
    return str(found.get("namespace", "")), str(found.get("name", ""))


def version_of(item: Object) -> str:
    """The resourceVersion of an object."""
    return str(metadata(item).get("resourceVersion", ""))
