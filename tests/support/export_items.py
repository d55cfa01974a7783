"""Lines of an export as they come of sessions over all protocols."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostiary_store.exports.item import Item
from ostiary_store.model import SessionRow

AT = 1_795_435_200.0
RULE = {"namespace": "shop", "policy": "agents", "rule": "reads", "revision": "abc"}
SUBJECT = {
    "username": "system:serviceaccount:agents:planner", "uid": "u-1", "groups": ["agents"], "kind": "ServiceAccount",
    "claims": {"email": "olga@example.com"}, "onBehalfOf": "olga",
}  # fmt: skip


def session(protocol: str = "Postgres", **more: Any) -> SessionRow:
    values: dict[str, Any] = {
        "id": "01m83by641k1", "opened": AT - 60, "closed": None, "state": "open", "connection": "shop/db",
        "protocol": protocol, "username": "system:serviceaccount:agents:planner", "recording": "Full",
        "subject": SUBJECT, "client": {"address": "10.0.0.7", "application": "psql"},
        "detail": {"database": "app"} if protocol == "Postgres" else {"login": "deploy"}, **more,
    }  # fmt: skip
    return SessionRow(**values)


def decision(action: str = "Allow", message: str = "", rule: Mapping[str, str] | None = RULE) -> dict[str, Any]:
    return {"id": "d1", "action": action, "rule": rule, "message": message, "matched": [], "masks": []}


def request(
    text: str, *, protocol: str = "Postgres", detail: Mapping[str, Any] | None = None,
    result: Mapping[str, Any] | None = None, outcome: str = "ok", action: str = "Allow", message: str = "",
    begun_only: bool = False, **more: Any,
) -> Item:  # fmt: skip
    fields: dict[str, Any] = {
        "request": "01m83by641k1-7", "connection": "shop/db", "protocol": protocol, "username": "planner", "seq": 12,
        "begun": "2026-11-23T12:00:00.000000Z", "text": text, "detail": detail or {},
        "decision": decision(action, message),
    }  # fmt: skip
    if outcome == "lost":
        fields["outcome"] = outcome
    if not begun_only:
        fields |= {
            "ended": "2026-11-23T12:00:00.250000Z", "result": result or {}, "outcome": outcome, "rows": 3, "bytes": 90,
            "response": {"size": 90, "recorded": 90},
        }  # fmt: skip
    return Item("request", session(protocol), {**fields, **more}, AT + 0.25, "01m83by641k1-7")


def line(kind: str, protocol: str = "Postgres", **fields: Any) -> Item:
    fields = {"seq": 0, "at": "2026-11-23T12:00:00.000000Z", **fields}
    return Item(kind, session(protocol), fields, AT, f"01m83by641k1.{kind}")


def own(kind: str, **fields: Any) -> Item:
    """Of the gateway's own session."""
    row = session("Gateway", id="01gateway", connection="", username="", subject={}, client={}, detail={})
    return Item(kind, row, {"seq": 4, "at": "2026-11-23T12:00:00.000000Z", **fields}, AT, "01gateway.4")


KUBERNETES = {
    "verb": "patch", "group": "apps", "version": "v1", "namespace": "shop", "resource": "deployments", "name": "web",
    "userAgent": "kubectl/v1.36",
}  # fmt: skip

EVERY: dict[str, Item] = {
    "select": request("select * from orders", result={"tags": ["SELECT 3"]}),
    "insert": request("insert into t values (1)", result={"tags": ["INSERT 0 1"]}, detail={"parameters": ["1", None]}),
    "several": request("begin; update t set a = 1", result={"tags": ["BEGIN", "UPDATE 1"]}),
    "failing": request("select 1/0", outcome="error", result={"sqlstate": "22012", "message": "division by zero"}),
    "denied": request("/* x */ -- y\n drop table t", outcome="denied", action="Deny", message="No."),
    "undecided": request("select 2", outcome="denied", action="Deny", decision=decision("Deny", "No policy.", None)),
    "approved": request("update t set a = 2", action="RequireApproval", result={"tags": ["UPDATE 9"]}),
    "not approved": request("update t set a = 2", action="RequireApproval", outcome="denied"),
    "running": request("select pg_sleep(60)", begun_only=True),
    "asking": request("update t set a = 3", action="RequireApproval", begun_only=True),
    "cut off": request("select pg_sleep(60)", begun_only=True, outcome="lost"),
    "without text": request(""),
    "no text at all": Item("request", session(), {"request": "01m83by641k1-7", "decision": decision()}, AT, "x"),
    "patch": request("PATCH /apis/apps/v1/namespaces/shop/deployments/web?fieldManager=x", protocol="Kubernetes",
                     detail=KUBERNETES, result={"status": 200}),
    "exec": request("POST /api/v1/namespaces/shop/pods/web-0/exec?command=sh", protocol="Kubernetes", detail={
        "verb": "create", "version": "v1", "namespace": "shop", "resource": "pods", "subresource": "exec",
        "name": "web-0"}, result={"status": 101}),
    "forbidden": request("DELETE /api/v1/namespaces/shop", protocol="Kubernetes", outcome="error",
                         detail={"verb": "delete", "resource": "namespaces", "name": "shop"},
                         result={"status": 403, "reason": "Forbidden", "message": "no"}),
    "odd call": request("GET /healthz", protocol="Kubernetes", detail={"verb": "get"}, result={"status": 200}),
    "command": request("ls -la /srv | wc -l", protocol="SSH", result={"exitStatus": 0},
                       detail={"kind": "exec", "programs": ["ls", "wc"]}),
    "shell": request("shell", protocol="SSH", detail={"kind": "shell", "pty": True}, result={"exitStatus": 130}),
    "file": request("sftp write /etc/motd", protocol="SSH",
                    detail={"kind": "sftp", "operation": "write", "path": "/etc/motd"}),
    "rename": request("sftp rename /a → /b", protocol="SSH",
                      detail={"kind": "sftp", "operation": "rename", "path": "/a", "target": "/b"}),
    "odd file": request("sftp statvfs /", protocol="SSH", detail={"kind": "sftp", "operation": "statvfs", "path": "/"}),
    "sftp session": request("subsystem sftp", protocol="SSH", detail={"kind": "sftp", "operation": "session"}),
    "forward": request("forward local db:5432", protocol="SSH",
                       detail={"kind": "forward", "direction": "local", "destination": "db:5432"}),
    "login": line("open", connection="shop/db", protocol="Postgres", subject=SUBJECT, detail={"database": "app"},
                  client={"address": "10.0.0.7", "application": "psql"}, recording="Full"),
    "logout": line("close", reason="the client has left", requests=7),
    "lost": line("lost", reason="the gateway was killed"),
    "gap": line("gap", events=3),
    "refused login": own("refused", id="01l", connection="shop/db", client={"address": "10.0.0.9"}, reason="no token"),
    "refused unknown": own("refused", id="01l", connection="shop/db", client={}, reason="no token"),
    "question": own("approval", name="shop/apr-1", step="Asked", connection="shop/db", hash="aa", requester="planner"),
}  # fmt: skip
"""By name."""
