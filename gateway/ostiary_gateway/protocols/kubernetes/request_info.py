"""What a request's method and target say, as the Kubernetes API server computes it: RequestInfo.

Source: k8s.io/apiserver, pkg/endpoints/request/requestinfo.go, and Go's net/url, which reads the target before it. The
tests compare with both. A target that the API server would clean, redirect, read in part or refuse is refused here, so
that what is decided and what is done are always about the same path.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from ostiary_gateway.protocols.kubernetes.wire import WireError

MAX_PARAMETERS: Final = 1000
"""In one query."""

API_PREFIXES: Final = frozenset({"api", "apis"})
SPECIAL_VERBS: Final = frozenset({"proxy", "watch"})
"""Legacy: /api/v1/watch/pods. A verb in the path, before the resource."""
NAMESPACE_SUBRESOURCES: Final = frozenset({"status", "finalize"})
SELECTING: Final = frozenset({"list", "watch", "deletecollection"})

_VERBS: Final = {
    "POST": "create", "GET": "get", "HEAD": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete",
}  # fmt: skip
_PATH: Final = re.compile(rb"/[0-9A-Za-z._~!$&'()*+,;=:@/%-]*+")
"""What RFC 3986 allows in a path. Everything else is for encoding, and clients do."""
_QUERY: Final = re.compile(rb"[\x21\x22\x24-\x7e]*+")
_ESCAPE: Final = re.compile(rb"%([0-9A-Fa-f]{2})?")
_INTEGER: Final = re.compile(r"[+-]?[0-9]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """One request, as the API server's authorizer sees it. Empty strings stand for what there is not."""

    is_resource: bool
    path: str
    """Of the URL, percent-decoded."""
    verb: str
    """get, list, watch, create, update, patch, delete, deletecollection; proxy (legacy); '' for other methods on a
    resource; the lower-case method if it is no resource."""
    api_prefix: str = ""
    """api or apis."""
    group: str = ""
    version: str = ""
    namespace: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""
    """Of the path; for lists and watches that of a field selector for one metadata.name."""
    parts: tuple[str, ...] = ()
    """Resource, name, subresource and what follows them in the path."""
    label_selector: str = ""
    field_selector: str = ""
    query: tuple[tuple[str, str], ...] = ()
    """Names and values in their order, percent-decoded."""
    watch: bool = False
    dry_run: bool = False
    """The query has `dryRun=All`. Not every request's dry run is decided by its query."""

    @property
    def streams(self) -> bool:
        """The response goes on until somebody ends it: a watch, or a log that is followed."""
        return self.watch or (self.subresource == "log" and _is_true(_first(self.query, "follow")))

    def values(self, name: str) -> list[str]:
        """Those of a parameter, in their order."""
        return [value for key, value in self.query if key == name]

    def value(self, name: str) -> str:
        """The first one of a parameter, which is the one that counts; '' without any."""
        return next((value for key, value in self.query if key == name), "")


def request_info(method: str, target: bytes) -> RequestInfo:
    """Works it out from the method and an origin-form target. Raises WireError (400, 405). Pure, to be cached."""
    raw_path, _, raw_query = target.partition(b"?")
    path = _path(raw_path)
    query = _query(raw_query)
    dry_run = [value for name, value in query if name == "dryRun"]
    dry = bool(dry_run) and all(value == "All" for value in dry_run)

    parts = path.strip("/").split("/")
    if len(parts) < 3 or parts[0] not in API_PREFIXES or (parts[0] == "apis" and len(parts) < 4):
        prefix = parts[0] if len(parts) >= 3 and parts[0] in API_PREFIXES else ""
        return RequestInfo(False, path, method.lower(), prefix, query=query, dry_run=dry)
    prefix = parts[0]
    group, parts = ("", parts[1:]) if prefix == "api" else (parts[1], parts[2:])
    version, parts = parts[0], parts[1:]

    by_path = parts[0] in SPECIAL_VERBS
    if by_path:
        if len(parts) < 2:
            raise _bad(f"the path {path} names no resource behind {parts[0]}")
        verb, parts = parts[0], parts[1:]
        if verb == "watch" and method not in ("GET", "HEAD"):
            # To the API server's authorizer it would be a watch whatever the method is.
            raise WireError(405, "MethodNotAllowed", f"a watch is a GET, not a {method}")
    else:
        verb = _VERBS.get(method, "")

    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 1:
        namespace = parts[1]
        if len(parts) > 2 and parts[2] not in NAMESPACE_SUBRESOURCES:
            parts = parts[2:]

    resource = parts[0]
    name = parts[1] if len(parts) > 1 else ""
    subresource = parts[2] if len(parts) > 2 and verb != "proxy" else ""
    if not name and verb == "get":
        verb, name = _collection_read(query)
    if not name and verb == "delete":
        verb = "deletecollection"
    selecting = verb in SELECTING and not by_path
    return RequestInfo(
        True, path, verb, prefix, group, version, namespace, resource, subresource, name, tuple(parts),
        _first(query, "labelSelector") or "" if selecting else "",
        _first(query, "fieldSelector") or "" if selecting else "",
        query, verb == "watch", dry,
    )  # fmt: skip


def _bad(message: str) -> WireError:
    return WireError(400, "BadRequest", message)


def _path(raw: bytes) -> str:
    """The path, decoded. Raises WireError if there is more than one way to read it."""
    if _PATH.fullmatch(raw) is None:
        raise _bad("the path has characters that must be percent-encoded, or does not begin with a slash")
    decoded = _unescaped(raw)
    if b"%" in raw and (decoded.count(b"/") != raw.count(b"/") or b"%" in decoded or b"\\" in decoded):
        raise _bad("the path has an encoded slash, backslash or percent sign: API paths have none")
    if b"//" in decoded:
        raise _bad("the path has an empty segment (//)")
    text = _text(decoded, "path")
    if "/." in text and not {".", ".."}.isdisjoint(text.split("/")):
        raise _bad("the path has a segment . or ..")
    if not text.isprintable() and any(ord(letter) < 32 or ord(letter) == 127 for letter in text):
        raise _bad("the path has control characters")
    return text


def _query(raw: bytes) -> tuple[tuple[str, str], ...]:
    """Names and values. Raises WireError for what Go's net/url drops silently."""
    if not raw:
        return ()
    if _QUERY.fullmatch(raw) is None:
        raise _bad("the query has characters that must be percent-encoded")
    pairs = raw.split(b"&")
    if len(pairs) > MAX_PARAMETERS:
        raise _bad(f"the query has more than {MAX_PARAMETERS} parameters")
    if b";" in raw:
        raise _bad("the query has a semicolon: encode it as %3B")
    found = []
    for pair in pairs:
        if pair:
            name, _, value = pair.partition(b"=")
            found.append((_text(_unescaped(name, plus=True), "query"), _text(_unescaped(value, plus=True), "query")))
    return tuple(found)


def _unescaped(raw: bytes, *, plus: bool = False) -> bytes:
    if plus and b"+" in raw:
        raw = raw.replace(b"+", b" ")
    if b"%" not in raw:
        return raw
    return _ESCAPE.sub(_octet, raw)


def _octet(escape: re.Match[bytes]) -> bytes:
    if escape[1] is None:
        raise _bad("the request's target has a % that is not followed by two hexadecimal digits")
    return bytes((int(escape[1], 16),))


def _text(raw: bytes, where: str) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise _bad(f"the {where} is not UTF-8") from None
    if "\0" in text:
        raise _bad(f"the {where} has a NUL")
    return text


def _first(query: tuple[tuple[str, str], ...], name: str) -> str | None:
    return next((value for key, value in query if key == name), None)


def _collection_read(query: tuple[tuple[str, str], ...]) -> tuple[str, str]:
    """Verb and name of a GET that names no object in its path: list or watch, one object's if a selector says so.

    Options that do not parse leave it without a name, here as there; the API server then refuses the request.
    """
    verb = "watch" if _is_true(_first(query, "watch")) else "list"
    numbers = (_first(query, "timeoutSeconds"), _first(query, "limit"))
    name = _selected_name(_first(query, "fieldSelector") or "")
    if not name or name in (".", "..") or "/" in name or "%" in name:
        return verb, ""
    return verb, name if all(number is None or _is_int64(number) for number in numbers) else ""


def _is_true(value: str | None) -> bool:
    """A parameter as the API server takes it for a bool: whatever is there and not false is true."""
    return value is not None and value != "0" and value.casefold() != "false"


def _is_int64(text: str) -> bool:
    return len(text) < 100 and _INTEGER.fullmatch(text) is not None and -(1 << 63) <= int(text) < 1 << 63


def _selected_name(selector: str) -> str:
    """The metadata.name that a field selector requires; '' for none, or one that does not parse.

    Source: k8s.io/apimachinery, pkg/fields/selector.go. Of several names the first in sorted order counts.
    """
    if "metadata.name" not in selector:
        return ""
    name: str | None = None
    for term in sorted(_terms(selector)):
        if not term:
            continue
        # The first of !=, == and = that comes; the left side has no escapes.
        operator = re.search("!=|==?", term)
        if operator is None:
            return ""
        value = _unescaped_value(term[operator.end() :])
        if value is None:
            return ""
        if name is None and operator[0] != "!=" and term[: operator.start()] == "metadata.name":
            name = value
    return name or ""


def _terms(selector: str) -> list[str]:
    terms, start, escaped = [], 0, False
    for index, letter in enumerate(selector):
        if escaped:
            escaped = False
        elif letter == "\\":
            escaped = True
        elif letter == ",":
            terms.append(selector[start:index])
            start = index + 1
    return [*terms, selector[start:]]


def _unescaped_value(value: str) -> str | None:
    """None if it has escapes that there are not, or is not escaped where it must be."""
    if re.fullmatch(r"(?:[^\\,=]|\\[\\,=])*+", value, re.DOTALL) is None:
        return None
    return re.sub(r"\\(.)", r"\1", value)
