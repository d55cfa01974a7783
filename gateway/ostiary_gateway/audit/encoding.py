"""The parts of events that are JSON: details, decisions, and the events of which there are few."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections.abc import Mapping, Set

import orjson

from ostiary_gateway.audit.event import ApprovalStep, LoginRefused, SessionOpened
from ostiary_policy.decision import Decision, RuleRef


def encode(fields: Mapping[str, object]) -> bytes:
    """JSON in UTF-8, keys in the order given. Never fails on a value that a client may have sent."""
    try:
        return orjson.dumps(fields, default=_plain)
    except orjson.JSONEncodeError:
        return orjson.dumps(_clean(fields), default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    if isinstance(value, Set):
        return sorted(value, key=repr)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"base64": base64.b64encode(value).decode()}
    return repr(value)


def _clean(value: object) -> object:
    """What JSON cannot hold (lone surrogates, integers over 64 bits) in a form that it can."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, int) and not isinstance(value, bool):
        return value if -(2**63) <= value < 2**64 else str(value)
    if isinstance(value, Mapping):
        return {str(_clean(str(key))): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    if isinstance(value, Set):
        return [_clean(item) for item in sorted(value, key=repr)]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _clean(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value


def session_opened(event: SessionOpened) -> bytes:
    fields = {
        "kind": "open",
        "at": event.at,
        "session": event.session,
        "connection": event.connection,
        "protocol": event.protocol,
        "subject": event.subject,
        "client": event.client,
        "detail": event.detail,
        "recording": event.recording,
    }
    if event.retention:
        fields["retention"] = event.retention
    return encode(fields)


def session_lost(at: float, reason: str) -> bytes:
    return encode({"kind": "lost", "at": at, "reason": reason})


def login_refused(event: LoginRefused) -> bytes:
    return encode(
        {
            "kind": "refused",
            "at": event.at,
            "id": event.id,
            "connection": event.connection,
            "client": event.client,
            "reason": event.reason,
        }
    )


def approval(event: ApprovalStep) -> bytes:
    fields = dataclasses.asdict(event)
    return encode({"kind": "approval", **{key: value for key, value in fields.items() if value != ""}})


def decision_fields(decision: Decision) -> dict[str, object]:
    """A decision as it is recorded. Field by field, since a mask's strategy holds a key that no record may hold."""
    masks = decision.masks
    return {
        "action": decision.action,
        "rule": None if decision.rule is None else _rule(decision.rule),
        "message": decision.message,
        "hint": decision.hint,
        "approval": decision.approval,
        "masks": [
            *({"column": f"{m.schema}.{m.table}.{m.column}", "strategy": m.strategy.type} for m in masks.columns),
            *({"jsonPath": m.path, "strategy": m.strategy.type} for m in masks.json_paths),
            *({"detector": m.detector, "strategy": m.strategy.type} for m in masks.detectors),
        ],
        "matched": [
            {**_rule(m.rule), "action": m.action, "enforced": m.enforced, "priority": m.priority}
            for m in decision.matched
        ],
        "errors": decision.errors,
        "revision": decision.revision,
    }


def _rule(rule: RuleRef) -> dict[str, object]:
    return {"namespace": rule.namespace, "policy": rule.policy, "rule": rule.rule, "revision": rule.revision}


def decision_id(body: bytes) -> bytes:
    """128 bits of sha256."""
    return hashlib.sha256(body).digest()[:16]


class Decisions:
    """Encodes decisions, each object once: the engine gives the same object for every request that it reuses it for."""

    def __init__(self, limit: int = 4096) -> None:
        self._limit = limit
        self._known: dict[int, tuple[Decision, bytes, bytes]] = {}

    def encode(self, decision: Decision) -> tuple[bytes, bytes]:
        """Its id and its JSON."""
        known = self._known.get(id(decision))
        if known is not None:
            return known[1], known[2]
        body = encode(decision_fields(decision))
        name = decision_id(body)
        if len(self._known) >= self._limit:
            self._known.clear()
        # The object is kept with its entry, so that no other one can have its address.
        self._known[id(decision)] = (decision, name, body)
        return name, body
