"""Errors quote what is in objects: a Status of the API server without the values that it may quote.

`Secret "x" is invalid: data[k]: Invalid value: "…": must be …`; a webhook's words; a decoder's view of the object.
"""

from __future__ import annotations

from typing import Final

import orjson

MAX_STATUS: Final = 1 << 20
TELLS_NOTHING: Final = frozenset({
    "NotFound", "AlreadyExists", "Unauthorized", "Conflict", "Gone", "Expired", "ServerTimeout", "StoreReadError",
    "Timeout", "TooManyRequests", "MethodNotAllowed", "NotAcceptable", "RequestEntityTooLarge",
    "UnsupportedMediaType", "ServiceUnavailable",
})  # fmt: skip
"""Reasons whose messages are made of names, numbers and the URL."""
WITHHELD: Final = "its words are withheld, since they may quote values that are masked for you"
_OF_DETAILS: Final = ("name", "group", "kind", "uid", "retryAfterSeconds")
_KINDS: Final = (
    "Required value", "Invalid value", "Unsupported value", "Duplicate value", "Too long", "Too many", "Too few",
    "Forbidden", "Not found", "Internal error",
)  # fmt: skip


def without_values(body: bytes) -> bytes:
    """A Status as JSON, with what can quote a value withheld; the same object if there was nothing. Whatever is no
    Status that can be read becomes one that says so."""
    try:
        status = orjson.loads(body) if len(body) <= MAX_STATUS else None
    except orjson.JSONDecodeError:
        status = None
    if not isinstance(status, dict):
        return orjson.dumps(_status("InternalError", f"The API server answered with an error; {WITHHELD}."))
    reason = status.get("reason")
    message = status.get("message")
    if status.get("status") == "Success" or (not message and not status.get("details")):
        return body
    if isinstance(message, str) and _is_of_names(reason, message):
        return body
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    shown = [_cause(each) for each in causes if isinstance(each, dict)] if isinstance(causes, list) else []
    fields = ", ".join(f"{each['field']}: {each['message']}" for each in shown if each.get("field"))
    what = _subject(details if isinstance(details, dict) else {}, reason)
    status["message"] = f"{what}: {fields}; {WITHHELD}." if fields else f"{what}; {WITHHELD}."
    if isinstance(details, dict):
        kept = {name: details[name] for name in _OF_DETAILS if name in details}
        status["details"] = {**kept, "causes": shown} if shown else kept
    return orjson.dumps(status)


def _subject(details: dict[str, object], reason: object) -> str:
    kind, name = details.get("kind"), details.get("name")
    about = f'{kind} "{name}"' if kind and name else "The request"
    return f"{about} was refused ({reason})" if isinstance(reason, str) and reason else f"{about} was refused"


def _cause(cause: dict[str, object]) -> dict[str, object]:
    """Which field, and what kind of error, without the value."""
    message = cause.get("message")
    kind = next((each for each in _KINDS if isinstance(message, str) and message.startswith(each)), "")
    found: dict[str, object] = {"message": f"{kind}: [redacted]" if kind else "[redacted]"}
    if kind == "Required value":
        found["message"] = kind
    for name in ("reason", "field"):
        value = cause.get(name)
        if isinstance(value, str):
            # Keys of maps and of lists stand in it, values do not.
            found[name] = value
    return found


def _is_of_names(reason: object, message: str) -> bool:
    """Whether the API server itself has made the words. An admission webhook chooses words and reason."""
    if " denied the request" in message or " denied request" in message:
        return False
    return reason in TELLS_NOTHING or (reason == "Forbidden" and _is_rbac(message))


def _is_rbac(message: str) -> bool:
    """`pods "x" is forbidden: User "u" cannot get resource "pods" in API group "" in the namespace "n"`."""
    _, found, rest = message.partition(' is forbidden: User "')
    return bool(found) and '" cannot ' in rest


def _status(reason: str, message: str) -> dict[str, object]:
    return {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": 500,
    }  # fmt: skip


def event_without_values(event: bytes) -> bytes:
    """An event of a watch that is, or holds, an error. The same object if it is none."""
    try:
        found = orjson.loads(event)
    except orjson.JSONDecodeError:
        return event
    if not isinstance(found, dict):
        return event
    held = found.get("object")
    ordinary = found.get("type") in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK")
    if ordinary and not (isinstance(held, dict) and held.get("kind") == "Status"):
        return event
    inner = orjson.dumps(held)
    shown = without_values(inner)
    return event if shown is inner else orjson.dumps({"type": found.get("type"), "object": orjson.loads(shown)})
