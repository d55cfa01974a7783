"""What in rules for the Kubernetes API is probably not meant: verbs that there are not, kinds for resources, costs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ostiary_gateway.protocols.kubernetes.facts import CONNECT
from ostiary_gateway.protocols.kubernetes.kinds import of_name
from ostiary_policy.expression import Expression
from ostiary_policy.policy import CompiledPolicy

VERBS = frozenset(
    ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
    + ("connect", "debug", "evict", "token", "post", "put", "head", "options", "")
)
MEANT = {
    **{name: f"it is connect, with k8s.subresource == '{name}'" for name in sorted(CONNECT)},
    "port-forward": "it is connect, with k8s.subresource == 'portforward'",
    "cp": "it is connect: an exec of tar",
    "scale": "it is a patch or an update, with k8s.subresource == 'scale' or without",
    "eviction": "it is evict",
    **dict.fromkeys(("apply", "edit", "label", "annotate", "rollout"), "it is a patch or an update"),
    "read": "k8s.readOnly says what only reads",
    "impersonate": "no agent may, whatever policies say",
}
OBJECTS = frozenset(("k8s.object", "k8s.oldObject", "k8s.oldObjects", "k8s.affected"))
CHEAP = frozenset(("k8s.verb", "k8s.rbacVerb", "k8s.resource", "k8s.subresource", "k8s.group", "k8s.readOnly"))

_COMPARED = re.compile(r"k8s\.(verb|rbacVerb|resource)\s*(?:[=!]=\s*('[^']*'|\"[^\"]*\")|in\s*\[([^\]]*)\])")
_TEXT = re.compile(r"'([^']*)'|\"([^\"]*)\"")


def kubernetes_notices(policy: CompiledPolicy) -> Iterator[tuple[str, str]]:
    """Field and message of each."""
    expressions: list[tuple[str, Expression]] = [(each.field, each.expression) for each in policy.conditions]
    expressions += [(each.field, each.expression) for each in policy.variables]
    for rule in policy.rules:
        if rule.expression is not None:
            expressions.append((rule.field, rule.expression))
            reads = rule.expression.reads.facts
            if reads & OBJECTS and not reads & CHEAP:
                asked = " and ".join(sorted(reads & OBJECTS))
                text = f"{asked} costs a question to the API server for each write: say k8s.resource or k8s.verb first"
                yield rule.field, text
    for field, expression in expressions:
        yield from ((field, text) for text in _of_text(expression.text))


def _of_text(text: str) -> Iterator[str]:
    for fact, one, several in _COMPARED.findall(text):
        for single, double in _TEXT.findall(one or several):
            value = single or double
            if fact == "verb" and value not in VERBS:
                yield f"k8s.verb is never {value!r}: {MEANT.get(value, 'docs/policies-kubernetes.md has the verbs')}"
            elif fact == "resource" and (known := of_name(value)) is not None and known.resource != value:
                yield f"k8s.resource is never {value!r}: it is {known.resource!r}"
            elif fact == "resource" and value != value.lower():
                yield f"k8s.resource is never {value!r}: it is the plural, in lower case"
            elif fact == "resource" and "/" in value:
                yield f"k8s.resource is never {value!r}: the part behind the slash is k8s.subresource"
    if "||" not in text and (found := _CALLED_OTHERWISE.search(text)) and f"'{found[2]}'" in text:
        yield f"this never holds: {found[2]} is the verb connect, and k8s.rbacVerb is {found[1]!r}"


_CALLED_OTHERWISE = re.compile(r"k8s\.verb == '(create|get)'.*k8s\.subresource == '(exec|attach|portforward|proxy)'")
