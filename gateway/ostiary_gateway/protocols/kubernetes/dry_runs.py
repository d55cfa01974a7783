"""Whether a request has a dry run at all: an API that knows none would do what it is asked. No I/O.

Kubernetes' own groups have dry runs for all that is stored, and so has every CustomResourceDefinition. What an
aggregated API server does with the parameter, it alone knows: its OpenAPI document must declare it for the very path.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import Final

import orjson

from . import bodies, preconditions, urls
from .questions import Question, UpstreamAnswer
from .request_info import RequestInfo
from .wire import Request

BUILT_IN: Final = frozenset(
    (
        "", "admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "apps",
        "authentication.k8s.io", "authorization.k8s.io", "autoscaling", "batch", "certificates.k8s.io",
        "coordination.k8s.io", "discovery.k8s.io", "events.k8s.io", "flowcontrol.apiserver.k8s.io",
        "internal.apiserver.k8s.io", "networking.k8s.io", "node.k8s.io", "policy", "rbac.authorization.k8s.io",
        "resource.k8s.io", "scheduling.k8s.io", "storage.k8s.io", "storagemigration.k8s.io",
    )
)  # fmt: skip
"""Groups that the API server serves by itself."""
CUSTOM_SUBRESOURCES: Final = frozenset(("", "status", "scale"))
LASTS: Final = 600.0
"""Seconds for which a yes is believed. A no is asked again."""
MAX_KNOWN: Final = 4096
MAX_DOCUMENT: Final = 32 << 20


class DryRuns:
    """What is known of one API server; shared by its requests."""

    def __init__(self) -> None:
        self._until: dict[tuple[str, str], float] = {}

    def knows(self, method: str, template: str, now: float) -> bool:
        """True if the path was found to have dry runs not long ago."""
        return self._until.get((method, template), 0.0) > now

    def learn(self, method: str, template: str, now: float) -> None:
        if len(self._until) >= MAX_KNOWN:
            self._until.clear()
        self._until[method, template] = now + LASTS


def asked(info: RequestInfo, request: Request) -> bool:
    """Whether query and body together ask for a dry run, as the API server reads them. Raises WireError.

    The body of a DELETE stands for the whole query; an eviction may say it in either.
    """
    said = info.values("dryRun")
    kind = request.head.get(b"content-type")
    if request.body and info.verb in ("delete", "deletecollection"):
        said = _values(bodies.delete_options(request.body, kind))
    elif info.verb == "create" and (info.resource, info.subresource) == ("pods", "eviction"):
        said = _values(preconditions.eviction_options(request.body, kind)) or said
    return bool(said) and all(value == "All" for value in said)


def _values(options: Mapping[str, object]) -> list[str]:
    found = options.get("dryRun")
    return [str(value) for value in found] if isinstance(found, list) else []


def has_dry_run(
    info: RequestInfo, method: str, known: DryRuns, now: float
) -> Generator[tuple[Question, ...], tuple[UpstreamAnswer, ...], str]:
    """Why it has none, or nobody can say; empty if it has."""
    if info.group in BUILT_IN:
        return ""
    template = urls.template(info)
    if known.knows(method, template, now):
        return ""
    headers = ((b"accept", b"application/json"),)
    questions = [Question("GET", urls.openapi(info), headers, limit=MAX_DOCUMENT)]
    if info.subresource in CUSTOM_SUBRESOURCES:
        # The document of a definition that was just made comes some seconds later.
        questions.append(Question("GET", urls.definition(info), headers, limit=MAX_DOCUMENT))
    answers = yield tuple(questions)
    if declared(answers[0], template, method) or (len(answers) > 1 and defines(answers[1], info)):
        known.learn(method, template, now)
        return ""
    where = f"{info.resource}/{info.subresource}" if info.subresource else info.resource
    return (
        f"the API server's OpenAPI document declares no dry run for {method} of {where} ({info.group}/{info.version})"
    )


def declared(answer: UpstreamAnswer, template: str, method: str) -> bool:
    """Whether an OpenAPI v3 document has the parameter dryRun for the path."""
    found = _json(answer) if answer.status == 200 else None
    for key in ("paths", template, method.lower(), "parameters"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return isinstance(found, list) and any(
        isinstance(each, Mapping) and each.get("name") == "dryRun" and each.get("in") == "query" for each in found
    )


def defines(answer: UpstreamAnswer, info: RequestInfo) -> bool:
    """Whether a CustomResourceDefinition serves the resource in this version."""
    found = _json(answer) if answer.status == 200 else None
    spec = found.get("spec") if isinstance(found, Mapping) else None
    versions = spec.get("versions") if isinstance(spec, Mapping) else None
    return isinstance(versions, list) and any(
        isinstance(each, Mapping) and each.get("name") == info.version and each.get("served") is True
        for each in versions
    )


def unsupported(status: int, body: bytes) -> str | None:
    """Why a dry run was refused that the request itself would not have been; None if it would."""
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    message = said.get("message") if isinstance(said, dict) else None
    if status == 400 and isinstance(message, str) and "does not support dry run" in message:
        return message
    return None


def _json(answer: UpstreamAnswer) -> object:
    try:
        return orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return None
