"""What would be allowed of a request to the Kubernetes API: the changes of one fact that its rules could tell apart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ostiary_policy.answer import Change
from ostiary_policy.grounds import fact_at
from ostiary_policy.policy_set import PolicySet

Try = tuple[Change, Mapping[str, Any]]
"""A change, and the facts of `k8s` with it."""

MAX_PATHS = 8
"""Numbers and flags of the object that are tried."""

_NUMBER = re.compile(r"(?<![\w.'\"])\d{1,15}(?![\w.'\"])")
_PATH = re.compile(r"\bk8s\.(?:affected\b|object(?:\.[A-Za-z_]\w*)+)")
_DRY_RUNS = ("create", "update", "patch", "delete", "deletecollection", "evict", "debug")
_READ: Mapping[str, Any] = {
    "readOnly": True,
    "dryRun": False,
    "subresource": "",
    "object": {},
    "oldObject": {},
    "oldObjects": [],
    "affected": 0,
    "exec": {"container": "", "command": [], "stdin": False, "tty": False},
}


def tries(policies: PolicySet, k8s: Mapping[str, Any], grounds: Mapping[str, object]) -> Iterator[Try]:
    """Every change, the smaller ones first. `grounds`: the facts that the deciding rule holds by, by their paths."""
    texts = _texts(policies)
    paths = dict.fromkeys(path for path in grounds if _PATH.match(path))
    paths.update(dict.fromkeys(path for text in texts for path in _PATH.findall(text)))
    numbers = sorted({int(number) for text in texts for number in _NUMBER.findall(text)[:16]})
    for path in list(paths)[:MAX_PATHS]:
        yield from _of_object(k8s, path, numbers)
    reads = policies.reads
    for name in ("stdin", "tty"):
        if f"k8s.exec.{name}" in reads and k8s["exec"][name]:
            change = Change(fact=f"k8s.exec.{name}", value=True, equals=False, then="Allow")
            yield change, {**k8s, "exec": {**k8s["exec"], name: False}}
    if "k8s.dryRun" in reads and not k8s["dryRun"] and k8s["verb"] in _DRY_RUNS:
        yield Change(fact="k8s.dryRun", value=False, equals=True, then="Allow"), {**k8s, "dryRun": True}
    if {"k8s.readOnly", "k8s.verb", "k8s.rbacVerb"} & reads and not k8s["readOnly"] and k8s["resource"]:
        verb = "get" if k8s["name"] else "list"
        change = Change(fact="k8s.readOnly", value=False, equals=True, then="Allow")
        yield change, {**k8s, **_READ, "verb": verb, "rbacVerb": verb}


def _texts(policies: PolicySet) -> list[str]:
    found: list[str] = []
    for policy in policies.policies:
        found += [rule.expression.text for rule in policy.rules if rule.expression is not None]
        found += [variable.expression.text for variable in policy.variables]
    return found


def _of_object(k8s: Mapping[str, Any], path: str, numbers: list[int]) -> Iterator[Try]:
    """A flag of the object as it would be turned round, or a number of it made as small as the rules' own numbers."""
    try:
        value = fact_at({"k8s": k8s}, path)
    except (LookupError, ValueError):
        return
    if isinstance(value, bool):
        change = Change(fact=path, value=value, equals=not value, then="Allow")
        yield change, _with(k8s, path, not value)
    elif isinstance(value, int):
        limits = {limit for number in numbers for limit in (number, number - 1) if 0 <= limit < value}
        for limit in sorted(limits, reverse=True)[:12]:
            yield Change(fact=path, value=value, at_most=limit, then="Allow"), _with(k8s, path, limit)


def _with(k8s: Mapping[str, Any], path: str, value: object) -> Mapping[str, Any]:
    """The facts with another value at a path, which is there."""
    steps = path.replace("[", ".").replace("]", "").split(".")[1:]
    changed: Mapping[str, Any] = _replaced(k8s, steps, value)
    return changed


def _replaced(whole: Any, steps: list[str], value: object) -> Any:
    step, *rest = steps
    if isinstance(whole, list):
        copy = list(whole)
        copy[int(step)] = _replaced(copy[int(step)], rest, value) if rest else value
        return copy
    return {**whole, step: _replaced(whole[step], rest, value) if rest else value}
