"""Manifests: multi-document YAML to typed objects, with every problem at its file, line and field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ValidationError

from ostiary_api.approval import ApprovalRequest
from ostiary_api.connection import Connection
from ostiary_api.meta import API_VERSION, GROUP, Resource
from ostiary_api.policy import GatewayPolicy
from ostiary_api.problems import Location, Problem, explain, find, format_path, parse_path, suggest
from ostiary_api.secret import Secret
from ostiary_api.units import MANIFEST
from ostiary_api.yamltree import Node, YamlProblem, read_documents

RESOURCES: dict[str, type[Resource]] = {
    "Connection": Connection,
    "GatewayPolicy": GatewayPolicy,
    "ApprovalRequest": ApprovalRequest,
}

NAME_LABEL = "kubernetes.io/metadata.name"
"""The label that the API server puts on every Namespace."""

MAX_OBJECTS = 10_000
"""Objects of one file, lists counted."""

Object = Connection | GatewayPolicy | ApprovalRequest | Secret


@dataclass(frozen=True, slots=True)
class _Source:
    """Where an object came from."""

    file: str
    node: Node
    lines: list[str]


@dataclass(frozen=True)
class Manifests:
    """Everything that a set of files holds. Objects are under `namespace/name`; those with problems are left out."""

    connections: dict[str, Connection] = field(default_factory=dict)
    policies: dict[str, GatewayPolicy] = field(default_factory=dict)
    approvals: dict[str, ApprovalRequest] = field(default_factory=dict)
    secrets: dict[str, Secret] = field(default_factory=dict, repr=False)
    namespaces: dict[str, dict[str, str]] = field(default_factory=dict)
    """Labels of the Namespaces that have a manifest."""
    problems: list[Problem] = field(default_factory=list)
    notices: list[Problem] = field(default_factory=list)
    """What was passed over, in the form of a problem."""
    sources: dict[tuple[str, str], _Source] = field(default_factory=dict, repr=False)

    @property
    def ok(self) -> bool:
        """Nothing is wrong: the files may be served."""
        return not self.problems

    def namespace_labels(self, name: str) -> dict[str, str]:
        """Labels of a namespace, the one that the API server sets included; there need not be a manifest for it."""
        return self.namespaces.get(name, {}) | {NAME_LABEL: name}

    def secret(self, namespace: str, name: str) -> Secret | None:
        """A Secret by its place."""
        return self.secrets.get(f"{namespace}/{name}")

    def where(self, item: Object, path: str = "", line: int = 1, column: int = 1) -> Location:
        """Where a field of an object stands. `line` and `column` are inside of its text, as CEL counts them (from 1).

        The path may begin below `spec`, and may name list items: `rules[no-drop].expression`.
        """
        source = self.sources.get((item.kind, item.key))
        if source is None:
            return Location(f"{item.kind} {item.key}")
        parts = parse_path(path)
        root, spec = source.node, source.node.get("spec")
        if parts and spec is not None and isinstance(root.value, dict) and parts[0] not in root.value:
            root = spec
        node, key_line, key_column = find(root, parts)
        if path and isinstance(node.value, str):
            return _inside(source, node, line, column)
        return Location(source.file, key_line, key_column)

    def problem(self, item: Object, path: str, message: str, line: int = 1, column: int = 1) -> Problem:
        """A problem with a field of an object, found after parsing."""
        return Problem(
            self.where(item, path, line, column), message, item.kind, item.metadata.namespace, item.metadata.name, path
        )


def _inside(source: _Source, node: Node, line: int, column: int) -> Location:
    """A place inside of a text value. Exact for plain, quoted and literal (`|`) values; folded ones: the first line."""
    if node.style == "|":
        first = source.lines[node.line] if node.line < len(source.lines) else ""
        return Location(source.file, node.line + line, len(first) - len(first.lstrip(" ")) + column)
    if node.style == ">":
        return Location(source.file, node.line + 1, 1)
    return Location(source.file, node.line, node.column + column - 1 + (1 if node.style else 0))


def parse(text: str, file: str = "<text>", *, default_namespace: str = "default") -> Manifests:
    """The objects of one text. Never raises for bad input: look at `problems`."""
    return parse_files({file: text}, default_namespace=default_namespace)


def parse_files(files: Mapping[str, str], *, default_namespace: str = "default") -> Manifests:
    """The objects of several files (name → text). An object that is there twice is a problem, across files too."""
    found = Manifests()
    for file, text in files.items():
        lines, left = text.splitlines(), [MAX_OBJECTS]
        try:
            for document in read_documents(text):
                for node in _flatten(document, found, file, left):
                    _read(_Source(file, node, lines), found, default_namespace)
        except YamlProblem as problem:
            found.problems.append(Problem(Location(file, problem.line, problem.column), problem.message))
    return found


def _flatten(node: Node, found: Manifests, file: str, left: list[int]) -> Iterator[Node]:
    """A list kind (`List`, `SecretList` …) gives its items, anything else itself."""
    left[0] -= 1
    if left[0] < 0:
        # Aliases can make a short file hold any number of objects.
        raise YamlProblem(f"more than {MAX_OBJECTS} objects in a file; split it", node.line, node.column)
    items = node.get("items")
    kind = _text(node, "kind")
    if not kind.endswith("List") or items is None:
        yield node
    elif isinstance(items.value, list):
        for item in items.value:
            yield from _flatten(item, found, file, left)
    else:
        found.problems.append(Problem(Location(file, items.line, items.column), "items must be a list", kind))


def _text(node: Node, *path: str) -> str:
    current: Node | None = node
    for part in path:
        current = current.get(part) if current is not None else None
    return current.value if current is not None and isinstance(current.value, str) else ""


def _read(source: _Source, found: Manifests, default_namespace: str) -> None:
    node = source.node
    here = Location(source.file, node.line, node.column)
    api_version, kind = _text(node, "apiVersion"), _text(node, "kind")
    name, namespace = _text(node, "metadata", "name"), _text(node, "metadata", "namespace")
    if not api_version or not kind:
        message = "an object needs apiVersion and kind" if isinstance(node.value, dict) else "not an object"
        found.problems.append(Problem(here, message, kind, namespace, name))
        return
    # A resource of ours under a misspelt group is a mistake, not somebody else's object.
    near = suggest(api_version, [API_VERSION]) if kind in RESOURCES else ""
    model: type[Resource] | type[Secret] | None
    if near or api_version.split("/")[0] == GROUP:
        model = RESOURCES.get(kind)
        if model is None or api_version != API_VERSION:
            _unknown(source, found, api_version, kind, name)
            return
    elif (api_version, kind) == ("v1", "Secret"):
        model = Secret
    elif (api_version, kind) == ("v1", "Namespace"):
        _read_namespace(source, found, name)
        return
    else:
        text = f"{api_version} {kind} is of no use to a gateway and is ignored"
        found.notices.append(Problem(here, text, kind, namespace, name))
        return
    item = _validate(source, model, found, kind, namespace or default_namespace, name)
    if item is not None:
        _keep(source, found, item)


def _unknown(source: _Source, found: Manifests, api_version: str, kind: str, name: str) -> None:
    field = "kind" if api_version == API_VERSION else "apiVersion"
    _, line, column = find(source.node, [field])
    if field == "kind":
        message = f"there is no {kind} in {GROUP}; there are {', '.join(RESOURCES)}{suggest(kind, RESOURCES)}"
    else:
        message = f"{api_version[:64]} is not known; a {kind} has {API_VERSION}"
    found.problems.append(Problem(Location(source.file, line, column), message, kind, "", name, field))


def _read_namespace(source: _Source, found: Manifests, name: str) -> None:
    node = source.node
    _, line, column = find(node, ["metadata", "labels"])
    metadata = node.get("metadata")
    labels = metadata.get("labels") if metadata is not None else None
    raw: Any = labels.plain() if labels is not None else {}
    problem = ""
    if not name:
        problem = "a Namespace needs metadata.name"
    elif name in found.namespaces:
        problem = "this Namespace is there twice"
    elif raw is not None and not isinstance(raw, dict):
        problem = "labels must be an object"
    elif raw and not all(isinstance(value, str) for value in raw.values()):
        problem = "labels must be text; put them in quotes"
    if problem:
        found.problems.append(Problem(Location(source.file, line, column), problem, "Namespace", "", name))
        return
    found.namespaces[name] = dict(raw or {})


def _validate(
    source: _Source, model: type[Resource] | type[Secret], found: Manifests, kind: str, namespace: str, name: str
) -> BaseModel | None:
    data = source.node.plain()
    metadata = data.get("metadata") if isinstance(data, dict) else None
    if isinstance(metadata, dict) and metadata.get("namespace") is None:
        metadata["namespace"] = namespace
    try:
        return model.model_validate(data, by_alias=True, by_name=False, context=MANIFEST)
    except ValidationError as error:
        for path, message in explain(error, model, secret=model is Secret):
            _, line, column = find(source.node, path)
            found.problems.append(
                Problem(Location(source.file, line, column), message, kind, namespace, name, format_path(path))
            )
        return None


def _keep(source: _Source, found: Manifests, item: BaseModel) -> None:
    match item:
        case Connection():
            _add(source, found, found.connections, item)
        case GatewayPolicy():
            _add(source, found, found.policies, item)
        case ApprovalRequest():
            _add(source, found, found.approvals, item)
        case Secret():
            _add(source, found, found.secrets, item)


def _add(source: _Source, found: Manifests, place: dict[str, Any], item: Object) -> None:
    if item.key in place:
        first = found.where(item)
        here = Location(source.file, source.node.line, source.node.column)
        text = f"this object is there twice; the first stands at {first}"
        found.problems.append(Problem(here, text, item.kind, item.metadata.namespace, item.metadata.name))
        return
    place[item.key] = item
    found.sources[item.kind, item.key] = source
