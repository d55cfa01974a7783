"""Lines as OpenTelemetry logs: ExportLogsServiceRequest of OTLP/HTTP in its JSON encoding. Pure.

Attributes have the names of the semantic conventions where there are such (db.*, http.*, process.*, k8s.*, user.*); all
others begin with `ostiary.`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

import orjson

from ostiary_store.exports.item import Item

CONTENT_TYPE: Final = "application/json"

Attributes = dict[str, object]

_INFO: Final = (9, "INFO")
_WARN: Final = (13, "WARN")
_SYSTEMS: Final = {"Postgres": "postgresql"}
_K8S_NAMES: Final = {
    "pods": "k8s.pod.name", "deployments": "k8s.deployment.name", "nodes": "k8s.node.name", "jobs": "k8s.job.name",
    "cronjobs": "k8s.cronjob.name", "daemonsets": "k8s.daemonset.name", "statefulsets": "k8s.statefulset.name",
    "replicasets": "k8s.replicaset.name", "namespaces": "k8s.namespace.name",
}  # fmt: skip


def encode(item: Item) -> bytes:
    """One LogRecord."""
    return orjson.dumps(record(item))


def join(encoded: Sequence[bytes], version: str = "") -> bytes:
    """The request that sends them."""
    resource = _attributes({"service.name": "ostiary", "service.version": version})
    head = {"attributes": resource}
    return (
        b'{"resourceLogs":[{"resource":' + orjson.dumps(head)
        + b',"scopeLogs":[{"scope":{"name":"ostiary.dev/record"},"logRecords":[' + b",".join(encoded) + b"]}]}]}"
    )  # fmt: skip


def record(item: Item) -> dict[str, object]:
    """A LogRecord."""
    fields = item.fields
    action = _mapping(fields, "decision").get("action")
    bad = action == "Deny" or item.kind in ("refused", "lost", "gap") or fields.get("outcome") == "lost"
    number, text = _WARN if bad else _INFO
    found = _common(item)
    if item.kind == "request":
        found |= _request(item)
    else:
        found |= _flat(item)
    when = str(_nanoseconds(fields.get("begun"), item.at))
    return {
        "timeUnixNano": when, "observedTimeUnixNano": str(round(item.at * 1e6) * 1000), "severityNumber": number,
        "severityText": text, "eventName": f"ostiary.{item.kind}", "body": {"stringValue": _body(item)},
        "attributes": _attributes(found),
    }  # fmt: skip


def _body(item: Item) -> str:
    fields = item.fields
    match item.kind:
        case "request":
            return str(fields.get("text") or fields.get("request"))
        case "approval":
            return f"approval {fields.get('name')}: {fields.get('step')}"
        case "gap":
            return f"{fields.get('events')} events are missing in the record here"
        case "refused":
            return f"login refused: {fields.get('reason')}"
        case "open" | "close" | "lost" | "session":
            words = {
                "open": "session opened",
                "close": "session closed",
                "lost": "session cut off",
                "session": "session",
            }
            reason = fields.get("reason")
            return f"{words[item.kind]}: {reason}" if reason else words[item.kind]
    return item.kind


def _common(item: Item) -> Attributes:
    row = item.session
    connection = item.fields.get("connection")
    client = item.fields.get("client")
    found: Attributes = {
        "log.record.uid": item.id,
        "session.id": row.id,
        "ostiary.connection": connection if isinstance(connection, str) else row.connection,
        "ostiary.protocol": row.protocol,
        "ostiary.seq": item.fields.get("seq"),
        "client.address": (client if isinstance(client, Mapping) else row.client).get("address"),
    }
    if item.kind != "refused" and row.username:
        found |= {
            "user.name": row.username, "user.id": row.subject.get("uid"), "user.roles": row.subject.get("groups"),
            "ostiary.on_behalf_of": row.subject.get("onBehalfOf"),
        }  # fmt: skip
    return found


def _request(item: Item) -> Attributes:
    fields = item.fields
    detail, result, decision = (_mapping(fields, name) for name in ("detail", "result", "decision"))
    rule = _mapping(decision, "rule")
    begun, ended = _nanoseconds(fields.get("begun"), 0.0), _nanoseconds(fields.get("ended"), 0.0)
    outcome = fields.get("outcome")
    found: Attributes = {
        "ostiary.request": fields.get("request"),
        "ostiary.outcome": outcome,
        "ostiary.rows": fields.get("rows"),
        "ostiary.bytes": fields.get("bytes"),
        "ostiary.duration": (ended - begun) / 1e9 if begun and ended else None,
        "ostiary.decision.action": decision.get("action"),
        "ostiary.decision.message": decision.get("message"),
        "ostiary.decision.policy": f"{rule['namespace']}/{rule['policy']}" if rule else None,
        "ostiary.decision.rule": rule.get("rule"),
        "ostiary.decision.revision": rule.get("revision"),
    }
    match item.session.protocol:
        case "Postgres":
            found |= _database(item, detail, result)
        case "Kubernetes":
            found |= _kubernetes(item, detail, result)
        case _:
            found |= _ssh(item, detail, result)
    if outcome in ("error", "denied", "lost") and not found.get("error.type"):
        found["error.type"] = str(outcome)
    return found


def _database(item: Item, detail: Mapping[str, object], result: Mapping[str, object]) -> Attributes:
    tags = result.get("tags")
    found: Attributes = {
        "db.system.name": _SYSTEMS[item.session.protocol],
        "db.namespace": item.session.detail.get("database"),
        "db.query.text": item.fields.get("text"),
        "db.response.status_code": result.get("sqlstate"),
        "db.response.returned_rows": item.fields.get("rows"),
        "error.type": result.get("sqlstate"),
    }
    if isinstance(tags, Sequence) and not isinstance(tags, str) and len(tags) == 1:
        found["db.operation.name"] = str(tags[0]).split(" ")[0]
    parameters = detail.get("parameters")
    if isinstance(parameters, Sequence) and not isinstance(parameters, str):
        for number, value in enumerate(parameters[:64]):
            found[f"db.query.parameter.{number}"] = value if isinstance(value, str) else None
    return found


def _kubernetes(item: Item, detail: Mapping[str, object], result: Mapping[str, object]) -> Attributes:
    method, _, target = str(item.fields.get("text") or "").partition(" ")
    path, _, query = target.partition("?")
    status = result.get("status")
    found: Attributes = {
        "http.request.method": method,
        "url.path": path,
        "url.query": query,
        "http.response.status_code": status,
        "user_agent.original": detail.get("userAgent"),
        "k8s.namespace.name": detail.get("namespace"),
        "error.type": str(status) if isinstance(status, int) and status >= 400 else None,
    }
    resource = str(detail.get("resource") or "")
    if name := detail.get("name"):
        found[_K8S_NAMES.get(resource, "ostiary.k8s.name")] = name
    for each in ("verb", "group", "version", "resource", "subresource"):
        found[f"ostiary.k8s.{each}"] = detail.get(each)
    return found


def _ssh(item: Item, detail: Mapping[str, object], result: Mapping[str, object]) -> Attributes:
    kind = detail.get("kind")
    programs = detail.get("programs")
    status = result.get("exitStatus")
    found: Attributes = {
        f"ostiary.ssh.{name}": detail.get(name) for name in ("kind", "operation", "target", "destination")
    }
    if kind in ("exec", "shell"):
        found |= {"process.command_line": item.fields.get("text"), "process.exit.code": status}
        if isinstance(programs, Sequence) and not isinstance(programs, str) and programs:
            found["process.executable.name"] = str(programs[0])
    elif path := detail.get("path"):
        found["file.path"] = path
    return found


def _flat(item: Item) -> Attributes:
    """Of other lines every field, by its own name."""
    found: Attributes = {}
    for name, value in item.fields.items():
        if name in ("seq", "at", "client", "subject", "connection", "protocol", "username"):
            continue
        if isinstance(value, Mapping):
            found |= {f"ostiary.{name}.{key}": each for key, each in value.items()}
        else:
            found[f"ostiary.{name}"] = value
    return found


# Encoding


def _attributes(found: Mapping[str, object]) -> list[dict[str, object]]:
    return [{"key": key, "value": _value(value)} for key, value in found.items() if value not in (None, "", [], {})]


def _value(value: object) -> dict[str, object]:
    """AnyValue. Integers of 64 bits are texts in the JSON of protobuf."""
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, Mapping):
        pairs = [{"key": str(key), "value": _value(each)} for key, each in value.items() if each is not None]
        return {"kvlistValue": {"values": pairs}}
    if isinstance(value, Sequence):
        return {"arrayValue": {"values": [_value(each) for each in value if each is not None]}}
    return {"stringValue": str(value)}


def _mapping(fields: Mapping[str, object], name: str) -> Mapping[str, object]:
    found = fields.get(name)
    return found if isinstance(found, Mapping) else {}


def _nanoseconds(value: object, otherwise: float) -> int:
    """Of a time in a line, which has microseconds."""
    try:
        at = datetime.fromisoformat(value).timestamp() if isinstance(value, str) else otherwise
    except ValueError:
        at = otherwise
    return round(at * 1e6) * 1000
