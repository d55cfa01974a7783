"""Requests to the Kubernetes API as people write them, as the case of a policy test.

Three ways: what kubectl says (`patch deployments/web -n shop`, `connect pods/web-0/exec -n shop -- ls`), a line of HTTP
(`GET /api/v1/pods`), or the case itself, YAML or JSON.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from ostiary_api.cases import KubernetesTest
from ostiary_api.yamltree import YamlProblem, read_documents
from ostiary_gateway.protocols.kubernetes.facts import CONNECT
from ostiary_gateway.protocols.kubernetes.kinds import of_name
from ostiary_gateway.protocols.kubernetes.offline import offline_facts

EXAMPLE = "patch deployments/web -n shop"

_AFTER = frozenset(("create", "update", "patch", "debug"))
"""Verbs that leave an object behind: a manifest is that object. For the others it is the one that is there now."""
_FIELDS = {
    "-n": "namespace", "--namespace": "namespace", "-l": "labelSelector", "--selector": "labelSelector",
    "--field-selector": "fieldSelector", "--subresource": "subresource",
}  # fmt: skip
_FLAGS = {
    "-i": ("stdin",), "--stdin": ("stdin",), "-t": ("tty",), "--tty": ("tty",), "-it": ("stdin", "tty"),
    "-ti": ("stdin", "tty"),
}  # fmt: skip


def read_request(
    text: str, manifest: str | None = None, old: str | None = None, *, dry_run: bool = False
) -> KubernetesTest:
    """The case. `manifest`, `old`: texts of the objects after and before. Raises ValueError: what is wrong with it."""
    case = _case(text.strip())
    if manifest is not None:
        case["object" if _verb(case) in _AFTER else "oldObject"] = _object(manifest)
    if old is not None:
        case["oldObject"] = _object(old)
    if dry_run:
        case["dryRun"] = True
    try:
        return KubernetesTest.model_validate(case)
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _verb(case: Mapping[str, Any]) -> str:
    """What policies call it, as far as that can be told without its objects."""
    verb, path = str(case.get("verb", "")), case.get("path")
    if path:
        try:
            return offline_facts(KubernetesTest(verb=verb, path=str(path)))["verb"]
        except ValueError:
            return verb
    return "connect" if case.get("subresource") in CONNECT else verb


def _case(text: str) -> dict[str, Any]:
    key, colon, _ = text.partition("\n")[0].partition(":")
    if text.startswith("{") or (colon and key.isidentifier()):
        return _object(text)
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{error}: {text}") from None
    if len(words) < 2:
        raise ValueError(f"say what is done to what: {EXAMPLE}")
    if not words[1].startswith("/"):
        return _kubectl(words)
    if len(words) > 2:
        raise ValueError(f"{words[0]} {words[1]} is all that there is to say: leave out {' '.join(words[2:])}")
    return {"verb": words[0], "path": words[1]}


def _kubectl(words: list[str]) -> dict[str, Any]:
    case: dict[str, Any] = {"verb": words[0]}
    run: dict[str, Any] = {}
    rest, about = iter(words[1:]), ""
    for word in rest:
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if word == "--":
            run["command"] = list(rest)
        elif name in _FIELDS or name in ("-c", "--container"):
            given = value if equals else next(rest, "")
            if not given:
                raise ValueError(f"{name} wants a value")
            if name in _FIELDS:
                case[_FIELDS[name]] = given
            else:
                run["container"] = given
        elif word in _FLAGS:
            run.update(dict.fromkeys(_FLAGS[word], True))
        elif word in ("-A", "--all-namespaces"):
            continue
        elif word.startswith("-"):
            raise ValueError(f"{word} is not known; -n, -A, -l, --field-selector, --subresource, -c, -it, -- are")
        elif about:
            raise ValueError(f"say it with a slash: {about}/{word}")
        else:
            about = word
    if not about:
        raise ValueError(f"say what it is about: {EXAMPLE}")
    case.update(_about(about))
    if run:
        case["exec"] = run
    if case["verb"] == "get" and not case.get("name"):
        case["verb"] = "list"  # as kubectl's get does
    return case


def _about(about: str) -> dict[str, str]:
    """`deployments.apps/web/scale`; kinds and short names as kubectl knows them."""
    resource, _, rest = about.partition("/")
    name, _, subresource = rest.partition("/")
    found = {"resource": resource}
    plural, dot, group = resource.partition(".")
    if dot:
        version, _, behind = group.partition(".")
        if version[:1] == "v" and version[1:2].isdigit() and behind:
            found["version"], group = version, behind
        found["group"], found["resource"] = group, plural
    elif (kind := of_name(resource)) is not None:
        found.update(resource=kind.resource, group=kind.group)
    if name:
        found["name"] = name
    if subresource:
        found["subresource"] = subresource
    return found


def _object(text: str) -> dict[str, Any]:
    """The one object of a text, YAML or JSON."""
    try:
        found = [document.plain() for document in read_documents(text)]
    except YamlProblem as problem:
        raise ValueError(f"line {problem.line}: {problem.message}") from None
    if len(found) != 1 or not isinstance(found[0], Mapping):
        raise ValueError(f"it should be one object, but is {len(found)} documents" if len(found) != 1 else "no object")
    return dict(found[0])
