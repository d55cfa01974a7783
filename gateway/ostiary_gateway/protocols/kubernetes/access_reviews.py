"""What an agent may do, and who it is: the API server's answer (RBAC) together with the policies' word. No I/O.

A SelfSubjectAccessReview is asked upstream as it is, by the gateway's credential; in its answer the policies then have
their say about the request that it describes, as far as that is known without an object. So `kubectl auth can-i` tells
the truth about both. Sources: Kubernetes API, authorization.k8s.io/v1 and authentication.k8s.io/v1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import orjson

from ostiary_policy.decision import Action, Decision, Needs
from ostiary_policy.facts import SubjectFacts

from .facts import kubernetes_facts
from .questions import Ask, BodyMask, Shaper, Unmaskable
from .request_info import RequestInfo

Document = dict[str, Any]
"""Decoded JSON of an object."""

MAX_ANSWER: Final = 8 << 20
"""Bytes of an answer; a list of rules has thousands."""
MAX_RULES: Final = 2000
"""Requests that the policies are asked about for one list."""
VERBS: Final = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
"""Of requests. RBAC has others (bind, use, escalate), which no request has: about those it alone decides."""
UPSTREAM_USER: Final = "ostiary.dev/upstream-user"
"""Key of a SelfSubjectReview's `extra`: as whom the gateway asks the API server for the agent."""

_PROTOBUF: Final = b"k8s\0"
_ALL: Final = "*"
_METHODS: Final = ("get", "head", "post", "put", "patch", "delete", "options")
_NO_IMPERSONATION: Final = "This gateway lets no agent impersonate anybody."
_ASK_ONE: Final = "Policies decide about each kind of object by itself: ask about one verb and one resource."
_LIST_HINT: Final = "policies of the gateway may say more: ask kubectl auth can-i VERB RESOURCE"


class Judge(Protocol):
    """What is asked of a Gate."""

    @property
    def identity(self) -> Who: ...

    def decide(self, protocol_facts: Mapping[str, object]) -> Decision | Needs: ...


class Who(Protocol):
    """An Identity."""

    @property
    def subject(self) -> SubjectFacts: ...


def shaper_for(ask: Ask, gate: Judge) -> Shaper | None:
    """What goes over the answer, where the request is such a review. The answer must be asked for as JSON."""
    info = ask.info
    if info.verb != "create" or info.name or info.subresource:
        return None
    change: Callable[[Document], None]
    match info.group, info.resource:
        case "authorization.k8s.io", "selfsubjectaccessreviews":
            change = _AccessReview(gate)
        case "authorization.k8s.io", "selfsubjectrulesreviews":
            change = _RulesReview(gate, _namespace(ask))
        case "authentication.k8s.io", "selfsubjectreviews":
            change = _SubjectReview(gate.identity.subject)
        case _:
            return None

    def shaper(status: int, content_type: bytes) -> BodyMask | None:
        if not 200 <= status < 300:
            return None
        if content_type.partition(b";")[0].strip().lower() != b"application/json":
            raise Unmaskable("the API server's answer to the review is no JSON")
        return _Rewritten(change)

    return shaper


class _Rewritten:
    """Holds the answer until it is whole, and changes it."""

    def __init__(self, change: Callable[[Document], None]) -> None:
        self.touched = True
        self._change = change
        self._held = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        self._held += data
        if len(self._held) > MAX_ANSWER:
            raise Unmaskable(f"the API server's answer to the review is larger than {MAX_ANSWER >> 20} MiB")
        return []

    def finish(self) -> list[bytes]:
        try:
            document = orjson.loads(self._held)
        except orjson.JSONDecodeError:
            raise Unmaskable("the API server's answer to the review is no JSON") from None
        if not isinstance(document, dict):
            raise Unmaskable("the API server's answer to the review is no object")
        self._change(document)
        return [orjson.dumps(document) + b"\n"]


class _AccessReview:
    def __init__(self, gate: Judge) -> None:
        self._gate = gate

    def __call__(self, document: Document) -> None:
        spec, status = _inside(document, "spec"), _inside(document, "status")
        if status.get("allowed") is not True:
            return  # RBAC says no, and policies only ever take away
        # The server's own reading of the question, in whatever encoding it came.
        if attributes := _inside(spec, "resourceAttributes"):
            verdict = self._about_resource(attributes)
        else:
            verdict = self._about_path(_inside(spec, "nonResourceAttributes"))
        if verdict is None:
            return
        allowed, denied, reason = verdict
        said = str(status.get("reason") or "")
        status["allowed"] = allowed
        status.pop("denied", None)
        if denied:
            status["denied"] = True
        status["reason"] = f"{reason} ({said})" if said and allowed else reason
        document["status"] = status

    def _about_resource(self, attributes: Mapping[str, Any]) -> tuple[bool, bool, str] | None:
        verb = _text(attributes, "verb")
        if verb == "impersonate":
            return False, True, _NO_IMPERSONATION
        if verb != _ALL and verb not in VERBS:
            return None
        if _ALL in (_text(attributes, "resource"), _text(attributes, "group"), _text(attributes, "subresource")):
            return False, False, _ASK_ONE
        return self._strictest(_request(attributes, each) for each in (VERBS if verb == _ALL else (verb,)))

    def _about_path(self, attributes: Mapping[str, Any]) -> tuple[bool, bool, str] | None:
        verb, path = _text(attributes, "verb"), _text(attributes, "path")
        if path.endswith(_ALL):
            return False, False, "Policies decide about each path by itself: ask about one."
        if verb != _ALL and verb not in _METHODS:
            return None
        return self._strictest(_path_request(path, each) for each in (_METHODS if verb == _ALL else (verb,)))

    def _strictest(self, requests: Iterator[RequestInfo]) -> tuple[bool, bool, str]:
        waits = depends = ""
        for request in requests:
            decision = self._gate.decide({"k8s": kubernetes_facts(request, dry_run=False)})
            if isinstance(decision, Needs):
                depends = f"allowed as far as it is known without the object: rules read {_listed(decision.facts)}"
            elif decision.action is Action.DENY:
                return False, True, _denied(decision)
            elif decision.action is Action.REQUIRE_APPROVAL:
                waits = _waits(decision)
        return True, False, waits or depends or "allowed by policy"


class _RulesReview:
    """The list of what RBAC allows, without what policies deny. What a `*` stands for is not known: it stays."""

    def __init__(self, gate: Judge, namespace: str | None) -> None:
        self._gate = gate
        self._namespace = namespace
        self._left = MAX_RULES

    def __call__(self, document: Document) -> None:
        status = _inside(document, "status")
        if self._namespace is not None:
            status["resourceRules"] = [
                rule for each in _objects(status, "resourceRules") for rule in self._resources(each)
            ]
            status["nonResourceRules"] = [
                rule for each in _objects(status, "nonResourceRules") for rule in self._paths(each)
            ]
        said = str(status.get("evaluationError") or "")
        status["incomplete"] = True
        status["evaluationError"] = f"{said}; {_LIST_HINT}" if said else _LIST_HINT
        document["status"] = status

    def _resources(self, rule: Document) -> Iterator[Document]:
        """The rule for each group, resource and name by itself, as far as something of it is denied; itself if not."""
        groups, resources, names = (_texts(rule, key) for key in ("apiGroups", "resources", "resourceNames"))
        verbs, kept, same = _texts(rule, "verbs"), [], True
        for group in groups:
            for resource in resources:
                for name in names or [""]:
                    left = self._left_of(verbs, group, resource, name)
                    same = same and left == verbs
                    if left:
                        part = {"verbs": left, "apiGroups": [group], "resources": [resource]}
                        kept.append({**part, "resourceNames": [name]} if names else part)
        yield from [rule] if same else kept

    def _left_of(self, verbs: list[str], group: str, resource: str, name: str) -> list[str]:
        if _ALL in (group, resource) or resource.startswith("*/") or _ALL in verbs:
            return verbs
        kind, _, subresource = resource.partition("/")
        where = {"group": group, "resource": kind, "subresource": subresource, "name": name}
        attributes = {**where, "namespace": self._namespace or ""}
        return [verb for verb in verbs if verb not in VERBS or self._passes(_request(attributes, verb))]

    def _paths(self, rule: Document) -> Iterator[Document]:
        verbs, kept, same = _texts(rule, "verbs"), [], True
        for path in _texts(rule, "nonResourceURLs"):
            known = not path.endswith(_ALL) and _ALL not in verbs
            left = [each for each in verbs if not known or self._passes(_path_request(path, each))]
            same = same and left == verbs
            if left:
                kept.append({"verbs": left, "nonResourceURLs": [path]})
        yield from [rule] if same else kept

    def _passes(self, request: RequestInfo) -> bool:
        self._left -= 1
        if self._left < 0:
            return True
        decision = self._gate.decide({"k8s": kubernetes_facts(request, dry_run=False)})
        return isinstance(decision, Needs) or decision.action is not Action.DENY


class _SubjectReview:
    """Who the agent is to the gateway, as policies see it; and as whom the gateway asks for it."""

    def __init__(self, subject: SubjectFacts) -> None:
        self._subject = subject

    def __call__(self, document: Document) -> None:
        subject, status = self._subject, _inside(document, "status")
        upstream = _text(_inside(status, "userInfo"), "username")
        info: Document = {"username": subject["username"], "groups": list(subject["groups"])}
        if subject["uid"]:
            info["uid"] = subject["uid"]
        if upstream and upstream != subject["username"]:
            info["extra"] = {UPSTREAM_USER: [upstream]}
        document["status"] = {"userInfo": info}


def _request(attributes: Mapping[str, Any], verb: str) -> RequestInfo:
    """A request as the attributes describe it. They often have no version, and then the path has none."""
    group, version, namespace, resource, subresource, name = (
        _text(attributes, key) for key in ("group", "version", "namespace", "resource", "subresource", "name")
    )
    version = "" if version == _ALL else version
    parts = tuple(part for part in (resource, name, subresource) if part)
    where = ("namespaces", namespace) if namespace else ()
    prefix = ("apis", group) if group else ("api",)
    selectors = (_text(_inside(attributes, key), "rawSelector") for key in ("labelSelector", "fieldSelector"))
    label, field = selectors if verb in ("list", "watch", "deletecollection") else ("", "")
    return RequestInfo(
        True, "/" + "/".join((*prefix, version or "v1", *where, *parts)), verb, prefix[0], group, version, namespace,
        resource, subresource, name, parts, label, field, watch=verb == "watch",
    )  # fmt: skip


def _path_request(path: str, verb: str) -> RequestInfo:
    return RequestInfo(False, path, verb)


def _namespace(ask: Ask) -> str | None:
    """Of a SelfSubjectRulesReview, whose answer does not repeat it; None if the request's body is not understood."""
    body = ask.request.body
    if body.startswith(_PROTOBUF):
        # runtime.Unknown{raw: 2} → SelfSubjectRulesReview{spec: 2} → its spec{namespace: 1}
        for field in (2, 2, 1):
            found = _field(body.removeprefix(_PROTOBUF), field)
            if found is None:
                return None
            body = found
        return body.decode("utf-8", "replace")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return _text(_inside(document, "spec"), "namespace") if isinstance(document, dict) else None


def _field(message: bytes, wanted: int) -> bytes | None:
    """The last field of this number that has a length; None if there is none, or the message is no protobuf."""
    found, at = None, 0
    try:
        while at < len(message):
            tag, at = _varint(message, at)
            number, kind = tag >> 3, tag & 7
            if kind not in (0, 2):
                return None
            size, at = _varint(message, at)
            if kind == 2:
                if at + size > len(message):
                    return None
                if number == wanted:
                    found = message[at : at + size]
                at += size
    except IndexError:
        return None
    return found


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 64:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise IndexError


def _denied(decision: Decision) -> str:
    return f"{decision.message} {decision.hint}".rstrip()


def _waits(decision: Decision) -> str:
    rule = f" (rule {decision.rule})" if decision.rule is not None else ""
    if decision.approval is None:
        return f"each such request needs approval{rule}"
    return f"each such request waits for approval by a member of {_listed(decision.approval.groups)}{rule}"


def _listed(names: Sequence[str] | frozenset[str]) -> str:
    return ", ".join(sorted(names))


def _inside(document: Mapping[str, Any], key: str) -> Document:
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def _objects(document: Mapping[str, Any], key: str) -> list[Document]:
    found = document.get(key)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _text(document: Mapping[str, Any], key: str) -> str:
    found = document.get(key)
    return found if isinstance(found, str) else ""


def _texts(document: Mapping[str, Any], key: str) -> list[str]:
    found = document.get(key)
    return [each for each in found if isinstance(each, str)] if isinstance(found, list) else []
