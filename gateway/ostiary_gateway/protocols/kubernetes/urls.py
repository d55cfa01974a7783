"""URLs of what the gateway asks of the API server to find out what a request would do. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .request_info import RequestInfo

_SCHEMES: Final = frozenset(("http", "https"))
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
"""Bytes that stand for themselves in a URL (RFC 3986, 2.3)."""


def dry_run(target: bytes) -> bytes:
    """The same request as a dry run. One that was asked for already stays one; a wrong value stays wrong."""
    return target + (b"&" if b"?" in target else b"?") + b"dryRun=All"


def collection(info: RequestInfo) -> str:
    """The path of the resource that the request is about, without names of objects."""
    base = f"/api/{_q(info.version)}" if info.api_prefix == "api" else f"/apis/{_q(info.group)}/{_q(info.version)}"
    own_namespace = info.resource == "namespaces" and not info.group
    scope = f"/namespaces/{_q(info.namespace)}" if info.namespace and not own_namespace else ""
    return f"{base}{scope}/{_q(info.resource)}"


def parent(info: RequestInfo, name: str = "") -> bytes:
    """The object that the request is about, or whose subresource."""
    return f"{collection(info)}/{_q(name or info.name)}".encode()


def proxied(name: str) -> str:
    """The object in the name of a proxy: `https:web:443` is the object web; empty if it is none.

    As SplitSchemeNamePort of k8s.io/apimachinery/pkg/util/net.
    """
    parts = name.split(":")
    if len(parts) == 3:
        return parts[1] if parts[0] in ("", *_SCHEMES) else ""
    return parts[0] if len(parts) in (1, 2) else ""


def template(info: RequestInfo) -> str:
    """The request's path as the OpenAPI document of its group version has it."""
    parts = [f"/apis/{info.group}/{info.version}"]
    if info.namespace:
        parts.append("namespaces/{namespace}")
    parts.append(info.resource)
    if info.name:
        parts.append("{name}")
    if info.subresource:
        parts.append(info.subresource)
    return "/".join(parts)


def openapi(info: RequestInfo) -> bytes:
    """The OpenAPI document of the request's group version (not of the core group's)."""
    return f"/openapi/v3/apis/{_q(info.group)}/{_q(info.version)}".encode()


def definition(info: RequestInfo) -> bytes:
    """The CustomResourceDefinition of the request's resource."""
    name = f"{info.resource}.{info.group}"
    return f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{_q(name)}".encode()


def with_query(path: bytes, pairs: Iterable[tuple[str, str]]) -> bytes:
    """A target with this query."""
    query = "&".join(f"{_q(name)}={_q(value)}" for name, value in pairs)
    return path + b"?" + query.encode() if query else path


def _q(text: str) -> str:
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in text.encode())
