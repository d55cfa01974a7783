"""Builders of Connections, policies and facts for tests of decisions."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from ostiary_api.connection import Connection
from ostiary_api.policy import GatewayPolicy
from ostiary_api.secret import Secret
from ostiary_policy.bundle import Bundle, compile_bundle
from ostiary_policy.decision import Decision, Needs
from ostiary_policy.facts import ClientFacts, SubjectFacts
from ostiary_policy.policy_set import PolicySet

NOON = 1767268800.0
"""2026-01-01T12:00:00Z."""

CLIENT: ClientFacts = {"address": "192.0.2.7", "application": "psql"}


def subject(username: str = "alice", *groups: str, **more: Any) -> SubjectFacts:
    facts: SubjectFacts = {
        "username": username,
        "uid": "",
        "groups": list(groups),
        "kind": "User",
        "namespace": "",
        "name": username,
        "claims": {},
        "onBehalfOf": "",
    }
    facts.update(more)  # type: ignore[typeddict-item]
    return facts


def connection(name: str = "db", namespace: str = "default", **labels: str) -> Connection:
    return Connection.model_validate(
        {
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {
                "protocol": "Postgres",
                "upstream": {"host": "db.example"},
                "credentials": {"static": {"secretRef": {"name": "db"}}},
                "listener": {"port": 5432},
            },
        }
    )


def rule(name: str, action: str, expression: str | None = "true", **more: Any) -> dict[str, Any]:
    built: dict[str, Any] = {"name": name, "action": action, **more}
    if expression is not None:
        built["expression"] = expression
    if action == "RequireApproval":
        built.setdefault("approval", {"groups": ["dba"]})
    if action == "Mask":
        built.setdefault("masking", [{"column": "public.customers.email"}])
    return built


def policy(name: str, *rules: Mapping[str, Any], namespace: str = "default", **spec: Any) -> GatewayPolicy:
    return GatewayPolicy.model_validate(
        {"metadata": {"name": name, "namespace": namespace}, "spec": {"rules": list(rules), **spec}}
    )


def secret(name: str, namespace: str = "default", **data: str) -> dict[tuple[str, str], Secret]:
    built = Secret.model_validate({"metadata": {"name": name, "namespace": namespace}, "stringData": data})
    return {(namespace, name): built}


def statement(verb: str = "SELECT", **more: Any) -> dict[str, Any]:
    reads = verb in ("SELECT", "SHOW")
    return {
        "verb": verb,
        "kind": "",
        "commands": [verb],
        "readOnly": reads,
        "writes": not reads,
        "opaque": False,
        "opaqueReason": "",
        "relations": [
            {
                "schema": "public",
                "name": "customers",
                "access": "read" if reads else "write",
                "columns": ["id", "email"],
            }
        ],
        "functions": [],
        "hasWhere": False,
        "hasLimit": False,
        "settings": [],
        "text": f"{verb} …",
        "fingerprint": "0123456789abcdef",
        **more,
    }


def sql(*statements: str | Mapping[str, Any], **more: Any) -> dict[str, Any]:
    built = [statement(item) if isinstance(item, str) else dict(item) for item in statements]
    return {
        "text": "; ".join(item["text"] for item in built),
        "database": "app",
        "user": "app",
        "inTransaction": False,
        "statements": built,
        "params": [],
        **more,
    }


def request(who: SubjectFacts | None = None, **more: Any) -> dict[str, Any]:
    return {
        "time": "2026-01-01T12:00:00Z",
        "connection": {"name": "db", "namespace": "default", "labels": {"env": "prod"}, "protocol": "Postgres"},
        "subject": copy.deepcopy(dict(who or subject())),
        "client": dict(CLIENT),
        "session": {
            "id": "s1",
            "startedAt": "2026-01-01T11:30:00Z",
            "requests": 3,
            "rowsRead": 100,
            "bytesRead": 4096,
            "rowsWritten": 0,
        },
        **more,
    }


def facts(*statements: str | Mapping[str, Any], who: SubjectFacts | None = None, **more: Any) -> dict[str, object]:
    return {"request": request(who), "sql": sql(*(statements or ("SELECT",)), **more)}


def bundle(*policies: GatewayPolicy, connections: Sequence[Connection] = (), **more: Any) -> Bundle:
    more.setdefault("secrets", {})
    more.setdefault("namespaces", {})
    return compile_bundle(connections or [connection(env="prod")], policies, **more)


def policy_set(*policies: GatewayPolicy, who: SubjectFacts | None = None, **more: Any) -> PolicySet:
    """The set for `who` at Connection default/db. The policies must be accepted."""
    built = bundle(*policies, **more)
    assert not built.problems, "\n".join(map(str, built.problems))
    return bound(built).for_subject(who or subject(), CLIENT)


def bound(built: Bundle, name: str = "db", namespace: str = "default") -> Any:
    found = built.connection(namespace, name)
    assert found is not None
    return found


def decide(
    *policies: GatewayPolicy, facts: Mapping[str, object], now: float = NOON, final: bool = False, **more: Any
) -> Decision | Needs:
    return policy_set(*policies, **more).decide(facts, now, final=final)
