"""The facts of a Kubernetes request that its URL gives: what it is about, its verb, the command it runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ostiary_policy.facts import ExecFacts, KubernetesFacts

if TYPE_CHECKING:
    from .request_info import RequestInfo

CONNECT = frozenset(("attach", "exec", "portforward", "proxy"))
"""Subresources that lead into something that runs. RBAC has `create` or `get` for them."""
OWN_VERBS: Mapping[tuple[str, str], tuple[str, frozenset[str]]] = {
    ("pods", "eviction"): ("evict", frozenset(("create",))),
    ("pods", "ephemeralcontainers"): ("debug", frozenset(("update", "patch"))),
    ("serviceaccounts", "token"): ("token", frozenset(("create",))),
}
"""Other subresources of the core group that are verbs of their own: for which of RBAC's verbs."""

_READING = frozenset(("get", "list", "watch"))
_READABLE = frozenset(("", "approval", "ephemeralcontainers", "log", "resize", "scale", "status"))
"""Subresources of which a GET is known to do nothing but read; an aggregated API may put anything behind others."""
_REVIEWS = frozenset(
    (
        ("authentication.k8s.io", "selfsubjectreviews"),
        ("authentication.k8s.io", "tokenreviews"),
        ("authorization.k8s.io", "localsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectrulesreviews"),
        ("authorization.k8s.io", "subjectaccessreviews"),
    )
)
"""What is asked with a POST, and stored nowhere."""
_DRY_RUNS = frozenset(("create", "update", "patch", "delete", "deletecollection", "evict", "debug"))
"""Verbs whose dry run changes nothing. A `token` is issued even then, and the others have none."""
_DISCOVERY = frozenset(("api", "apis", "openapi", "version"))
_NO_EXEC: ExecFacts = {"container": "", "command": [], "stdin": False, "tty": False}


def policy_verb(info: RequestInfo) -> str:
    """What policies call the request: RBAC's verb, or one of its own where RBAC's says too little.

    Any API may serve the subresources of CONNECT (virtual machines do), so the group does not matter for them. `proxy`
    is RequestInfo's verb for the paths /api/v1/proxy/… of old API servers.
    """
    if info.is_resource:
        if info.subresource in CONNECT or info.verb == "proxy":
            return "connect"
        if not info.group:
            verb, of = OWN_VERBS.get((info.resource, info.subresource), ("", frozenset()))
            if info.verb in of:
                return verb
    return info.verb


def kubernetes_facts(info: RequestInfo, *, dry_run: bool) -> KubernetesFacts:
    """The facts of a request, without the costly ones. `dry_run`: whether query or body ask for a dry run."""
    verb = policy_verb(info)
    return {
        "verb": verb,
        "rbacVerb": info.verb,
        "group": info.group,
        "version": info.version,
        "resource": info.resource,
        "subresource": info.subresource,
        "namespace": info.namespace,
        "name": info.name,
        "path": info.path,
        "labelSelector": info.label_selector,
        "fieldSelector": info.field_selector,
        "dryRun": dry_run and info.is_resource and verb in _DRY_RUNS,
        "discovery": is_discovery(info),
        "readOnly": is_read_only(info, verb),
        "exec": exec_facts(info),
    }


def is_discovery(info: RequestInfo) -> bool:
    """Whether it reads what the API offers. /apis/apps/v1 does; /apis/apps/v1/deployments is about objects."""
    if info.is_resource or info.verb not in ("get", "head"):
        return False
    first, _, rest = info.path.strip("/").partition("/")
    return first in _DISCOVERY and not (first == "version" and rest)


def is_read_only(info: RequestInfo, verb: str) -> bool:
    """Whether it is known to change nothing. `verb`: policy_verb of it."""
    if not info.is_resource:
        return verb in ("get", "head")
    if verb in _READING:
        return info.subresource in _READABLE
    return verb == "create" and not info.subresource and (info.group, info.resource) in _REVIEWS


def exec_facts(info: RequestInfo) -> ExecFacts:
    """The command of exec, from the query as the API server reads it; that of attach is the container's own.

    The query is as long as a request's head may be, and so is this.
    """
    if not (info.is_resource and info.subresource in ("exec", "attach")):
        return {**_NO_EXEC, "command": []}
    first: dict[str, str] = {}
    command: list[str] = []
    for name, value in info.query:
        first.setdefault(name, value)
        if name == "command":
            command.append(value)
    return {
        "container": first.get("container", ""),
        "command": command if info.subresource == "exec" else [],
        "stdin": _flag(first.get("stdin")),
        "tty": _flag(first.get("tty")),
    }


def _flag(value: str | None) -> bool:
    """A bool of a query by Convert_Slice_string_To_bool of k8s.io/apimachinery: `?stdin` and `stdin=no` are true."""
    return value is not None and value != "0" and value.lower() != "false"
