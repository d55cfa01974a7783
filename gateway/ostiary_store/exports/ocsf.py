"""Lines as events of the Open Cybersecurity Schema Framework. Pure.

    SQL                                  Datastore Activity     6005
    calls of the Kubernetes API          API Activity           6003
    commands and shells over SSH         Process Activity       1007
    files over SFTP and scp              File System Activity   1001
    forwards and the rest of SSH         SSH Activity           4007
    logins, refused ones, their ends     Authentication         3002
    approvals, gaps, sessions cut off    Base Event             0

What has no attribute is in `unmapped`. Rows of a session (`session`) are told by its logon and logoff.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import PurePosixPath
from typing import Final

import orjson

from ostiary_store.exports.item import Item

CONTENT_TYPE: Final = "application/x-ndjson"
VERSION: Final = "1.8.0"
"""Of the schema."""

Object = dict[str, object]
Fields = Mapping[str, object]

INFORMATIONAL: Final = 1
LOW: Final = 2
MEDIUM: Final = 3
HIGH: Final = 4
_SEVERITIES: Final = {1: "Informational", 2: "Low", 3: "Medium", 4: "High"}
_STATUSES: Final = {0: "Unknown", 1: "Success", 2: "Failure", 99: "Other"}
OTHER: Final = 99
_CATEGORIES: Final = {0: "Uncategorized", 1: "System Activity", 3: "Identity & Access Management",
                      4: "Network Activity", 6: "Application Activity"}  # fmt: skip
_CLASSES: Final = {
    0: "Base Event", 1001: "File System Activity", 1007: "Process Activity", 3002: "Authentication",
    4007: "SSH Activity", 6003: "API Activity", 6005: "Datastore Activity",
}  # fmt: skip

_SQL: Final[Mapping[str, tuple[int, str]]] = {
    "SELECT": (4, "Query"), "TABLE": (4, "Query"), "VALUES": (4, "Query"), "WITH": (4, "Query"), "SHOW": (4, "Query"),
    "FETCH": (4, "Query"), "INSERT": (6, "Create"), "UPDATE": (2, "Update"), "DELETE": (7, "Delete"),
    "TRUNCATE": (7, "Delete"),
}  # fmt: skip
_WORD: Final = re.compile(r"(?:\s+|--[^\n]*(?:\n|$)|/\*.*?\*/)*([A-Za-z]+)", re.DOTALL)
_VERBS: Final[Mapping[str, tuple[int, str]]] = {
    "create": (1, "Create"), "get": (2, "Read"), "list": (2, "Read"), "watch": (2, "Read"), "update": (3, "Update"),
    "patch": (3, "Update"), "delete": (4, "Delete"), "deletecollection": (4, "Delete"),
}  # fmt: skip
_FILES: Final[Mapping[str, tuple[int, str]]] = {
    "read": (2, "Read"), "list": (2, "Read"), "write": (3, "Update"), "append": (3, "Update"),
    "readwrite": (3, "Update"), "mkdir": (1, "Create"), "symlink": (1, "Create"), "link": (1, "Create"),
    "remove": (4, "Delete"), "rmdir": (4, "Delete"), "rename": (5, "Rename"), "setstat": (6, "Set Attributes"),
    "stat": (8, "Get Attributes"), "readlink": (8, "Get Attributes"), "realpath": (8, "Get Attributes"),
}  # fmt: skip
_MAX_OBSERVED: Final = 1024


def encode(item: Item, product: str = "") -> bytes:
    """One event on a line; empty for what is told by another. `product`: version of Ostiary."""
    found = event(item, product)
    return b"" if found is None else orjson.dumps(found, option=orjson.OPT_APPEND_NEWLINE)


def join(encoded: Sequence[bytes]) -> bytes:
    """The body of a POST."""
    return b"".join(encoded)


def event(item: Item, product: str = "") -> Object | None:
    """The event. None: it is told by another."""
    match item.kind:
        case "request":
            found = _request(item)
        case "open":
            found = _logon(item)
        case "close" | "lost":
            found = _logoff(item)
        case "refused":
            found = _refused(item)
        case "approval" | "gap":
            found = _base(item)
        case _:
            return None
    found["metadata"] = _metadata(item, product, host=found["class_uid"] == 4007)
    found["observables"] = _observables(found)
    return {key: value for key, value in found.items() if value not in (None, "", [], {})}


# What all have


def _head(
    item: Item, class_uid: int, activity: tuple[int, str], status: int, severity: int, *, detail: str = "",
    code: str = "",
) -> Object:  # fmt: skip
    activity_id, name = activity
    category = class_uid // 1000
    return {
        "class_uid": class_uid, "class_name": _CLASSES[class_uid], "category_uid": category,
        "category_name": _CATEGORIES[category], "activity_id": activity_id, "activity_name": name,
        "type_uid": class_uid * 100 + activity_id, "type_name": f"{_CLASSES[class_uid]}: {name}",
        "time": _milliseconds(item.at), "severity_id": severity, "severity": _SEVERITIES[severity],
        "status_id": status, "status": _STATUSES[status], "status_detail": detail, "status_code": code,
    }  # fmt: skip


def _metadata(item: Item, product: str, *, host: bool) -> Object:
    """host: the class itself has no actor; the profile gives it one."""
    made: Object = {"name": "Ostiary", "vendor_name": "Ostiary"}
    if product:
        made["version"] = product
    found: Object = {
        "version": VERSION, "product": made, "profiles": ["security_control", *(["host"] if host else [])],
        "uid": item.id,
        "correlation_uid": item.session.id, "log_name": "ostiary",
    }  # fmt: skip
    if isinstance(seq := item.fields.get("seq"), int):
        found["sequence"] = seq
    return found


def _user(item: Item) -> Object:
    subject = item.session.subject
    found: Object = {"name": item.session.username or "unknown"}
    if uid := _text(subject.get("uid")):
        found["uid"] = uid
    groups = subject.get("groups")
    if isinstance(groups, Sequence) and not isinstance(groups, str) and groups:
        found["groups"] = [{"name": str(each)} for each in groups]
    kind = subject.get("kind")
    found["type_id"], found["type"] = (4, "Service") if kind in ("ServiceAccount", "Workload") else (1, "User")
    return found


def _actor(item: Item) -> Object:
    opened = _milliseconds(item.session.opened)
    return {
        "user": _user(item), "session": {"uid": item.session.id, "created_time": opened, "is_remote": True}
    }  # fmt: skip


def _source(client: object) -> Object:
    """Where the agent came from."""
    address = _text(client.get("address")) if isinstance(client, Mapping) else ""
    try:
        return {"ip": str(ipaddress.ip_address(address))}
    except ValueError:
        return {"name": address or "unknown"}


def _target(connection: str) -> Object:
    return {"name": connection, "uid": connection}


def _unmapped(item: Item, *names: str, **more: object) -> Object:
    found: Object = {"connection": item.session.connection, "protocol": item.session.protocol}
    for name in names:
        if item.fields.get(name) not in (None, "", [], {}):
            found[name] = item.fields[name]
    if on_behalf_of := _text(item.session.subject.get("onBehalfOf")):
        found["onBehalfOf"] = on_behalf_of
    return found | {key: value for key, value in more.items() if value not in (None, "", [], {})}


def _observables(found: Object) -> list[Object]:
    """What an analyst looks for, wherever it stands."""
    known = [
        ("src_endpoint.ip", 2, "IP Address"), ("actor.user.name", 4, "User Name"), ("user.name", 4, "User Name"),
        ("process.cmd_line", 13, "Command Line"), ("file.name", 7, "File Name"), ("file.path", 45, "File Path"),
    ]  # fmt: skip
    observed: list[Object] = []
    for path, type_id, kind in known:
        value: object = found
        for part in path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if isinstance(value, str) and value:
            observed.append({"name": path, "type_id": type_id, "type": kind, "value": value[:_MAX_OBSERVED]})
    return observed


# Requests


def _request(item: Item) -> Object:
    detail, result = _mapping(item.fields, "detail"), _mapping(item.fields, "result")
    match item.session.protocol:
        case "Postgres":
            found = _datastore(item, result)
        case "Kubernetes":
            found = _api(item, detail, result)
        case _:
            found = _ssh(item, detail, result)
    found |= _decided(item)
    begun, ended = _when(item.fields.get("begun")), _when(item.fields.get("ended"))
    if begun is not None:
        found["time"] = found["start_time"] = begun
    if ended is not None:
        found["end_time"] = ended
        if begun is not None:
            found["duration"] = max(0, ended - begun)
    found["actor"] = _actor(item)
    found["message"] = _text(item.fields.get("text"))
    decision = _mapping(item.fields, "decision")
    found["unmapped"] = _unmapped(
        item, "request", "outcome", "rows", "bytes", "response", "detail", "result",
        decision={key: decision[key] for key in ("id", "action", "message", "hint", "masks", "matched", "errors")
                  if decision.get(key) not in (None, "", [], {})},
    )  # fmt: skip
    return found


def _status_of(item: Item) -> tuple[int, int]:
    """Status and severity."""
    action = _mapping(item.fields, "decision").get("action")
    severity = {"Deny": MEDIUM, "RequireApproval": LOW}.get(str(action), INFORMATIONAL)
    match item.fields.get("outcome"):
        case "ok":
            return 1, severity
        case "error" | "denied":
            return 2, severity
        case "skipped" | "lost":
            return OTHER, max(severity, LOW)
    return 0, severity


def _decided(item: Item) -> Object:
    """The decision, as the profile `security_control` has it."""
    decision = _mapping(item.fields, "decision")
    action, outcome = decision.get("action"), item.fields.get("outcome")
    if action == "Allow":
        done: Object = {"action_id": 1, "action": "Allowed", "disposition_id": 1, "disposition": "Allowed"}
    elif action == "RequireApproval" and outcome in ("ok", "error", "skipped", "lost"):
        done = {"action_id": 1, "action": "Allowed", "disposition_id": 8, "disposition": "Approved"}
    elif action == "RequireApproval" and outcome is None:
        done = {"action_id": 0, "action": "Unknown", "disposition_id": 14, "disposition": "Delayed"}
    else:
        done = {"action_id": 2, "action": "Denied", "disposition_id": 2, "disposition": "Blocked"}
    done["is_alert"] = action == "Deny"
    rule = decision.get("rule")
    if isinstance(rule, Mapping):
        policy: Object = {
            "name": f"{rule.get('namespace')}/{rule.get('policy')}", "uid": _text(rule.get("rule")), "is_applied": True,
        }  # fmt: skip
        if revision := _text(rule.get("revision")):
            policy["version"] = revision
        done["policy"] = policy
        done["authorizations"] = [{"decision": str(action), "policy": policy}]
    return done


def _datastore(item: Item, result: Fields) -> Object:
    status, severity = _status_of(item)
    found = _head(
        item, 6005, _sql_activity(item.fields.get("text"), result.get("tags")), status, severity,
        detail=_text(result.get("message")) or _refusal(item), code=_text(result.get("sqlstate")),
    )  # fmt: skip
    name = _text(item.session.detail.get("database")) or item.session.connection
    found["type_id"], found["type"] = 1, "Database"
    found["database"] = {"name": name, "uid": item.session.connection, "type_id": 1, "type": "Relational"}
    if text := _text(item.fields.get("text")):
        found["query_info"] = {"query_string": text, "uid": _text(item.fields.get("request"))}
    found["src_endpoint"] = _source(item.session.client)
    found["dst_endpoint"] = _target(item.session.connection)
    return found


def _sql_activity(text: object, tags: object) -> tuple[int, str]:
    """By the command tags; of what did not run, by its first word. Several kinds in one request are `Other`."""
    words = [str(tag).split(" ")[0] for tag in tags] if isinstance(tags, Sequence) and not isinstance(tags, str) else []
    if not words and isinstance(text, str) and (match := _WORD.match(text[:10_000])):
        words = [match[1].upper()]
    kinds = {_SQL.get(word, (OTHER, word)) for word in words}
    if len(kinds) == 1:
        return kinds.pop()
    return (OTHER, "Several") if kinds else (0, "Unknown")


def _api(item: Item, detail: Fields, result: Fields) -> Object:
    status, severity = _status_of(item)
    verb = _text(detail.get("verb"))
    code = result.get("status")
    found = _head(
        item, 6003, _VERBS.get(verb, (OTHER, verb) if verb else (0, "Unknown")), status, severity,
        detail=_text(result.get("message")) or _refusal(item), code=str(code) if isinstance(code, int) else "",
    )  # fmt: skip
    what = "/".join(filter(None, (_text(detail.get("resource")), _text(detail.get("subresource")))))
    request = _text(item.fields.get("request"))
    api: Object = {
        "operation": " ".join(filter(None, (verb, what))) or "unknown", "request": {"uid": request},
        "service": {"name": "Kubernetes API", "uid": item.session.connection},
    }  # fmt: skip
    if version := _text(detail.get("version")):
        api["version"] = version
    if group := _text(detail.get("group")):
        api["group"] = {"name": group}
    if isinstance(code, int):
        api["response"] = {
            "code": code, **_texts(error=result.get("reason"), error_message=result.get("message"))
        }  # fmt: skip
        found["http_response"] = {"code": code}
    found["api"] = api
    name = _text(detail.get("name"))
    if name or what:
        found["resources"] = [{"name": name or what, **_texts(type=what, namespace=detail.get("namespace"))}]
    method, _, target = _text(item.fields.get("text")).partition(" ")
    if target and method.isascii() and method.isupper():
        path, _, query = target.partition("?")
        found["http_request"] = {
            "uid": request, "http_method": method, **_texts(user_agent=detail.get("userAgent")),
            "url": {"path": path, "url_string": target, **_texts(query_string=query)},
        }  # fmt: skip
    found["src_endpoint"] = _source(item.session.client)
    found["dst_endpoint"] = _target(item.session.connection)
    return found


def _ssh(item: Item, detail: Fields, result: Fields) -> Object:
    status, severity = _status_of(item)
    kind = _text(detail.get("kind"))
    said = _text(result.get("message")) or _refusal(item)
    if kind in ("sftp", "scp") and detail.get("path"):
        operation = _text(detail.get("operation"))
        found = _head(item, 1001, _FILES.get(operation, (OTHER, operation or "File")), status, severity, detail=said)
        found["file"] = _file(_text(detail.get("path")))
        if target := _text(detail.get("target")):
            found["file_result"] = _file(target)
    elif kind in ("exec", "shell"):
        found = _head(item, 1007, (1, "Launch"), status, severity, detail=said)
        exit_status = result.get("exitStatus")
        process: Object = {"uid": _text(item.fields.get("request")), **_texts(cmd_line=item.fields.get("text"))}
        programs = detail.get("programs")
        if isinstance(programs, Sequence) and not isinstance(programs, str) and programs:
            process["name"] = _text(programs[0])
        if account := _text(item.session.detail.get("login")):
            process["user"] = {"name": account}
        found["process"] = process
        if isinstance(exit_status, int):
            found["exit_code"] = exit_status
            found["status_code"] = str(exit_status)
    else:
        found = _head(item, 4007, (OTHER, kind or "Request"), status, severity, detail=said)
        found["dst_endpoint"] = _target(item.session.connection)
        found["src_endpoint"] = _source(item.session.client)
        return found
    found["device"] = {**_target(item.session.connection), "type_id": 1, "type": "Server"}
    return found


def _file(path: str) -> Object:
    return {"name": PurePosixPath(path).name or path, "path": path, "type_id": 0, "type": "Unknown"}


# Sessions, and what is in the gateway's own


def _logon(item: Item) -> Object:
    found = _session(item, (1, "Logon"))
    found["unmapped"] = _unmapped(
        item, "detail", "recording", application=_mapping(item.fields, "client").get("application")
    )
    return found


def _logoff(item: Item) -> Object:
    found = _session(item, (2, "Logoff"))
    found["status_detail"] = _text(item.fields.get("reason"))
    if item.kind == "lost":
        found |= {"status_id": OTHER, "status": "Lost", "severity_id": LOW, "severity": _SEVERITIES[LOW]}
    row = item.session
    found["unmapped"] = _unmapped(
        item, requests=row.requests, denied=row.denied, asked=row.asked, errors=row.errors, rows=row.rows,
        bytes=row.bytes,
    )  # fmt: skip
    return found


def _session(item: Item, activity: tuple[int, str]) -> Object:
    found = _head(item, 3002, activity, 1, INFORMATIONAL)
    row = item.session
    found |= {
        "user": _user(item), "actor": _actor(item), "src_endpoint": _source(row.client),
        "dst_endpoint": _target(row.connection), "service": {"name": row.connection, "uid": row.connection},
        "session": {"uid": row.id, "created_time": _milliseconds(row.opened), "is_remote": True},
        "is_remote": True, "logon_type_id": 3, "logon_type": "Network",
    }  # fmt: skip
    return found


def _refused(item: Item) -> Object:
    """Who it was is not known: whoever was let in would have proven it."""
    connection = _text(item.fields.get("connection"))
    reason = _text(item.fields.get("reason"))
    found = _head(item, 3002, (1, "Logon"), 2, MEDIUM, detail=reason)
    found |= {
        "message": reason, "user": {"name": "unknown", "type_id": 0, "type": "Unknown"},
        "src_endpoint": _source(item.fields.get("client")), "dst_endpoint": _target(connection),
        "service": {"name": connection, "uid": connection}, "is_remote": True, "logon_type_id": 3,
        "logon_type": "Network", "action_id": 2, "action": "Denied", "disposition_id": 2, "disposition": "Blocked",
        "is_alert": False,
    }  # fmt: skip
    found["unmapped"] = {"id": item.fields.get("id"), "connection": connection}
    return found


def _base(item: Item) -> Object:
    fields = {key: value for key, value in item.fields.items() if key not in ("seq", "at")}
    if item.kind == "gap":
        found = _head(item, 0, (OTHER, "Gap"), 2, HIGH)
        found["message"] = f"{item.fields.get('events')} events are missing in the record here"
    else:
        step = _text(item.fields.get("step"))
        found = _head(item, 0, (OTHER, f"Approval {step}"), 1, LOW if step == "Asked" else INFORMATIONAL)
        found["message"] = f"Approval {item.fields.get('name')}: {step}"
    found["unmapped"] = {item.kind: fields, "connection": item.fields.get("connection") or item.session.connection}
    return found


# Small things


def _refusal(item: Item) -> str:
    """What the policy says of it, if it was not let through."""
    if item.fields.get("outcome") != "denied":
        return ""
    return _text(_mapping(item.fields, "decision").get("message"))


def _mapping(fields: Fields, name: str) -> Fields:
    found = fields.get(name)
    return found if isinstance(found, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(**values: object) -> Object:
    """Those that are texts, and not empty."""
    return {key: value for key, value in values.items() if isinstance(value, str) and value}


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _when(value: object) -> int | None:
    """Milliseconds of a time in a line."""
    try:
        return _milliseconds(datetime.fromisoformat(value).timestamp()) if isinstance(value, str) else None
    except ValueError:
        return None
