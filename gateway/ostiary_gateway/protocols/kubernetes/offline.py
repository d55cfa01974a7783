"""Facts of a Kubernetes request without an API server, for the tests of policies and for explaining.

The request is written as its URL, and the URL read as that of a real one is. What an API server would be asked for,
the object before and after, stands in the test: as the API server would give it, so with its defaults filled in as far
as a rule reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ostiary_api.cases import KubernetesTest
from ostiary_policy.facts import KubernetesFacts

from .facts import CONNECT, OWN_VERBS, kubernetes_facts
from .kinds import Kind, of_kind, of_name, of_resource, plural
from .request_info import RequestInfo, request_info
from .wire import METHODS as HTTP_METHODS
from .wire import WireError

_METHODS = {
    "get": "GET",
    "list": "GET",
    "watch": "GET",
    "create": "POST",
    "update": "PUT",
    "patch": "PATCH",
    "delete": "DELETE",
    "deletecollection": "DELETE",
    "connect": "POST",
    "evict": "POST",
    "token": "POST",
    "debug": "PATCH",
}
_SUBRESOURCES = {verb: (resource, sub) for (resource, sub), (verb, _) in OWN_VERBS.items()}
"""The verbs of policy that are one subresource: `evict` is pods/eviction."""
_READING = frozenset(("get", "list", "watch"))
_COLLECTIONS = frozenset(("list", "watch", "deletecollection"))
_WITHOUT_OBJECT = frozenset(("delete", "deletecollection", "evict", "token"))
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~:@,=/")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Target:
    """What a test is about, as far as its URL says. `kind`: if it is one that is known."""

    group: str
    version: str
    resource: str
    subresource: str
    namespace: str
    name: str
    kind: Kind | None


def offline_facts(case: KubernetesTest) -> KubernetesFacts:
    """The facts of a test's request, those of its objects included. Raises ValueError for what no request can be."""
    target = None if case.path else _target(case)
    method, url = _request_line(case, target)
    try:
        info = request_info(method, url.encode())
    except WireError as error:
        raise ValueError(f"{method} {url}: {error.message}") from None
    facts = kubernetes_facts(info, dry_run=case.dry_run)
    _check_verb(case, info, facts)
    if case.dry_run and not facts["dryRun"]:
        raise ValueError(f"the API server knows no dry run of {facts['verb']}: leave out dryRun")
    if case.exec is not None and info.subresource not in ("exec", "attach"):
        raise ValueError("exec is for the subresources exec and attach")
    return _with_objects(facts, case, target)


def _target(case: KubernetesTest) -> _Target:
    """What the test says, and what follows from its objects and from the kinds that are known."""
    example = case.object or case.old_object or (case.old_objects[0] if case.old_objects else None) or {}
    resource, subresource = case.resource, case.subresource
    own = _SUBRESOURCES.get(case.verb)
    if own is not None:
        if resource not in ("", own[0]) or subresource not in ("", own[1]):
            raise ValueError(f"{case.verb} is {own[0]}/{own[1]}, not {resource or own[0]}/{subresource or own[1]}")
        resource, subresource = own
    if "/" in resource:
        raise ValueError(f"{resource}: say resource and subresource each by itself")
    group, version, known = _kind(case, example, resource)
    resource = known.resource if known is not None else resource or plural(str(example["kind"]))
    if example.get("kind") == "Scale" and subresource == "scale":
        raise ValueError(f"the object of {resource}/scale is the one that is scaled, with spec.replicas, not a Scale")
    name, namespace = _said(case.name, example, "name"), _said(case.namespace, example, "namespace")
    if not case.name and (case.verb in _COLLECTIONS or (case.verb == "create" and not subresource)):
        name = ""  # the objects have names, but the URL has none
    if resource == "namespaces" and namespace not in ("", name):
        raise ValueError(f"a namespace has its name in name, not in namespace, which is {namespace}")
    if known is not None and not known.namespaced and namespace and resource != "namespaces":
        raise ValueError(f"{resource} are in no namespace, so there is none of namespace {namespace}")
    if known is not None and known.namespaced and not namespace and case.verb not in ("list", "watch"):
        raise ValueError(f"{resource} are in a namespace: say which, with namespace or in the object's metadata")
    return _Target(group, version, resource, subresource, namespace, name, known)


def _kind(case: KubernetesTest, example: Mapping[str, Any], resource: str) -> tuple[str, str, Kind | None]:
    """Group, version, and the kind if it is known."""
    api, kind = str(example.get("apiVersion", "")), str(example.get("kind", ""))
    own_group, _, own_version = api.rpartition("/")
    if not resource and not kind:
        raise ValueError("say what it is about: resource, or an object with its apiVersion and kind")
    group = case.group if case.group is not None else own_group if api else None
    if group is None:
        guess = of_resource("", resource) or of_name(resource or kind)
        if guess is not None and resource not in ("", guess.resource):
            raise ValueError(f"say {guess.resource}, not {resource}")
        group = guess.group if guess is not None else None
    if group is None:
        raise ValueError(f"{resource or kind} is nothing that Kubernetes itself has: say its group and version")
    known = of_resource(group, resource) if resource else of_kind(group, kind)
    if known is None and not group:
        raise ValueError(f"the core group has no {resource or kind}: say its group")
    meant = of_kind(group, kind)
    if resource and meant is not None and meant.resource != resource and case.subresource != "binding":
        raise ValueError(f"resource is {resource}, but a {kind} is one of {meant.resource}")
    version = case.version or own_version or (known.version if known is not None else "")
    if not version:
        raise ValueError(f"which version of {group}? Say version, or apiVersion in the object")
    return group, version, known


def _said(said: str, example: Mapping[str, Any], field: str) -> str:
    """What the test says, or else its object."""
    metadata = example.get("metadata")
    inside = str(metadata.get(field, "")) if isinstance(metadata, Mapping) else ""
    if said and inside and said != inside:
        raise ValueError(f"{field} is {said}, but the object's metadata has {inside}")
    return said or inside


def _request_line(case: KubernetesTest, target: _Target | None) -> tuple[str, str]:
    if target is None:
        return _given_line(case)
    method = _METHODS.get(case.verb)
    if method is None:
        raise ValueError(f"there is no verb {case.verb!r}: one of {', '.join(_METHODS)}")
    if case.verb == "connect":
        if target.subresource not in CONNECT:
            raise ValueError(f"connect is one of the subresources {', '.join(sorted(CONNECT))}")
        method = "GET" if target.subresource == "proxy" else "POST"
    steps = ["api", target.version] if not target.group else ["apis", target.group, target.version]
    if target.namespace and target.resource != "namespaces":
        steps += ["namespaces", target.namespace]
    steps += [target.resource, target.name, target.subresource]
    if target.subresource and not target.name:
        raise ValueError(f"{target.resource}/{target.subresource} is of one object: say its name")
    for step in steps:
        if set(step) & set("/?#%\\") or step in (".", ".."):
            raise ValueError(f"{step!r} cannot be a part of a URL")
    query = [*_selectors(case), *_command(case)]
    if case.verb == "watch":
        query.append(("watch", "true"))
    path = "/" + "/".join(_encoded(step) for step in steps if step)
    return method, path + ("?" + "&".join(f"{name}={_encoded(value)}" for name, value in query) if query else "")


def _given_line(case: KubernetesTest) -> tuple[str, str]:
    """The path as it was given. The verb may be a method in capitals there, and is then what the path makes of it."""
    given = {
        "group": case.group, "version": case.version, "resource": case.resource, "subresource": case.subresource,
        "namespace": case.namespace, "name": case.name, "labelSelector": case.label_selector,
        "fieldSelector": case.field_selector, "exec": case.exec,
    }  # fmt: skip
    also = [name for name, value in given.items() if value]
    if also:
        raise ValueError(f"{' and '.join(also)} stand in the path already: leave them out")
    if not case.path.startswith("/"):
        raise ValueError(f"a path begins with /, not {case.path[:40]!r}")
    method = case.verb if case.verb.isupper() else _METHODS.get(case.verb, case.verb.upper())
    if method not in HTTP_METHODS:
        raise ValueError(f"there is no method {method}: one of {', '.join(sorted(HTTP_METHODS))}")
    return method, case.path


def _selectors(case: KubernetesTest) -> list[tuple[str, str]]:
    selectors = [("labelSelector", case.label_selector), ("fieldSelector", case.field_selector)]
    found = [(name, value) for name, value in selectors if value]
    if found and case.verb not in _COLLECTIONS:
        raise ValueError(f"{found[0][0]} is for {', '.join(sorted(_COLLECTIONS))}")
    return found


def _command(case: KubernetesTest) -> list[tuple[str, str]]:
    if case.exec is None:
        return []
    query = [("command", part) for part in case.exec.command]
    if case.exec.container:
        query.append(("container", case.exec.container))
    query += [(flag, "true") for flag, on in (("stdin", case.exec.stdin), ("tty", case.exec.tty)) if on]
    return query


def _encoded(text: str) -> str:
    return "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in text.encode())


def _check_verb(case: KubernetesTest, info: RequestInfo, facts: KubernetesFacts) -> None:
    """That the request is what the test calls it."""
    if case.verb in (facts["verb"], facts["rbacVerb"]) or (case.path and case.verb.isupper()):
        return
    if facts["verb"] == "deletecollection":
        raise ValueError("a delete is of one object: say its name; deletecollection takes many")
    if facts["verb"] == "list":
        raise ValueError("a get is of one object: say its name; list and watch take many")
    raise ValueError(f"with {info.path} the verb is {facts['verb']}, not {case.verb}")


def _with_objects(facts: KubernetesFacts, case: KubernetesTest, target: _Target | None) -> KubernetesFacts:
    """The costly facts: what follows from the verb, and what the test says. What neither tells stays absent."""
    verb = facts["verb"]
    if verb == "create" and facts["name"] and not facts["subresource"]:
        raise ValueError("what is created has no name in the URL; give it in the object's metadata")
    old_objects = [dict(each) for each in case.old_objects] if case.old_objects is not None else None
    if verb != "deletecollection" and (old_objects is not None or case.affected is not None):
        raise ValueError(f"oldObjects and affected are for deletecollection, not for {verb}")
    if facts["readOnly"] or verb in _READING or not facts["resource"]:
        _refuse(case, verb, "object", "old_object")
        return {**facts, "object": {}, "oldObject": {}, "oldObjects": [], "affected": 0}
    if verb == "deletecollection":
        _refuse(case, verb, "object", "old_object")
        return _collection({**facts, "object": {}}, case, old_objects)
    before, after = _filled(case.old_object, target), _filled(case.object, target)
    if verb in _WITHOUT_OBJECT:
        _refuse(case, verb, "object")
        after = {}
    elif verb == "connect":
        if before and after and before != after:
            raise ValueError("connect changes no object: object and oldObject are the same")
        before = after = before or after
    elif verb == "create" and not facts["subresource"]:
        _refuse(case, verb, "old_object")
        before = {}
    found: KubernetesFacts = {**facts, "affected": 1}
    if after is not None:
        found["object"] = after
    if before is not None:
        found["oldObject"] = before
        found["oldObjects"] = [before] if before else []
    return found


def _collection(facts: KubernetesFacts, case: KubernetesTest, old_objects: list[Json] | None) -> KubernetesFacts:
    found: KubernetesFacts = {**facts}
    if old_objects is not None:
        found["oldObjects"] = list(old_objects)
    affected = case.affected if case.affected is not None else None if old_objects is None else len(old_objects)
    if affected is not None:
        found["affected"] = affected
    return found


def _refuse(case: KubernetesTest, verb: str, *fields: str) -> None:
    names = {"object": "object", "old_object": "oldObject"}
    for field in fields:
        if getattr(case, field):
            raise ValueError(f"a {verb} has no {names[field]}: k8s.{names[field]} is empty for it")


def _filled(given: Mapping[str, Any] | None, target: _Target | None) -> Json | None:
    """An object with what every object of its URL has: kind, name and namespace."""
    if given is None or not given or target is None:
        return None if given is None else dict(given)
    metadata = given.get("metadata")
    inside = dict(metadata) if isinstance(metadata, Mapping) else {}
    if target.name:
        inside.setdefault("name", target.name)
    if target.namespace and target.resource != "namespaces":
        inside.setdefault("namespace", target.namespace)
    found = {**given, "metadata": inside}
    if target.kind is not None:
        api = f"{target.kind.group}/{target.version}" if target.kind.group else target.version
        found.setdefault("apiVersion", api)
        found.setdefault("kind", target.kind.kind)
    return found
