"""A namespace with two gateways, people and agents in it, and the admission policies of the chart around it."""

from __future__ import annotations

import base64
import json
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from support.cluster import Cluster

from ostiary_api import admission
from ostiary_api.names import MANAGED_BY_LABEL, MANAGER
from ostiary_api.units import format_timestamp
from ostiary_gateway.kube.access import Access

Manifest = dict[str, Any]

PEOPLE = ("alice", "bob", "carol", "dave", "olga", "planner", "mallory")
MEMBERS = frozenset(PEOPLE) - {"dave", "mallory"}
"""Of the group that may answer."""


@dataclass(frozen=True)
class Guarded:
    """Who is who: `gateway` serves the Connection `db`, `other` serves `files`. alice and bob may approve. carol is of
    the group, without the verb; dave has the verb, and is not of the group. planner asks, on behalf of olga: both would
    else be allowed to approve. bot is a ServiceAccount that has got everything that a person has. mallory may do with
    ApprovalRequests whatever RBAC can give, but neither serve nor approve."""

    cluster: Cluster

    @property
    def namespace(self) -> str:
        return self.cluster.namespace

    @property
    def system(self) -> str:
        return f"{self.namespace}-system"

    @property
    def operator(self) -> str:
        return account(self.system, "ostiary-operator")

    def as_(self, who: str) -> tuple[str, ...]:
        """Arguments of kubectl."""
        if who in PEOPLE:
            member = ("--as-group", "dba") if who in MEMBERS else ()
            return ("--as", who, *member, "--as-group", "system:authenticated")
        if who == "operator":
            return ("--as", self.operator)
        if who == "bot":
            name = account(self.namespace, "bot")
            return ("--as", name, "--as-group", "dba", "--as-group", "system:serviceaccounts",
                    "--as-group", "system:authenticated")  # fmt: skip
        if who == "nobody":
            return ("--as", "system:anonymous", "--as-group", "system:unauthenticated", "--as-group", "dba")
        if who == "probe":
            return ("--as", "probe", "--as-group", "system:authenticated")
        return () if who == "root" else ("--as", account(self.namespace, who))

    def run(self, who: str, *arguments: str, manifest: object = None) -> subprocess.CompletedProcess[str]:
        return self.cluster.kubectl(*arguments, *self.as_(who), manifest=manifest)

    def question(self, **spec: object) -> Manifest:
        """Not asked yet."""
        return {
            "apiVersion": "ostiary.dev/v1alpha1",
            "kind": "ApprovalRequest",
            "metadata": {"name": f"apr-{uuid.uuid4().hex[:10]}", "namespace": self.namespace},
            "spec": {
                "request": {"hash": uuid.uuid4().hex * 2, "summary": "update orders set paid = true"},
                "connectionRef": {"name": "db"},
                "requester": {"username": "planner", "groups": ["agents"], "onBehalfOf": "olga"},
                "approval": {"groups": ["dba"], "minApprovals": 1},
                "policies": [{"namespace": self.namespace, "name": "shop", "rule": "big-writes", "revision": "abc"}],
                **spec,
            },
        }  # fmt: skip

    def asked(self, **spec: object) -> str:
        """The name of a new question."""
        done = self.run("gateway", "create", "-f", "-", "-o", "name", manifest=self.question(**spec))
        assert done.returncode == 0, done.stderr
        return done.stdout.strip().rpartition("/")[2]

    def answer(self, who: str, name: str, approver: str = "", verdict: str = "Approve") -> Any:
        """As `kubectl patch` does it, by default in the own name."""
        entry = {"approver": approver or self.as_(who)[1], "verdict": verdict}
        return self.patch(who, name, [{"op": "add", "path": "/spec/decisions/-", "value": entry}], "json")

    def patch(self, who: str, name: str, patch: object, kind: str = "merge", *more: str) -> Any:
        return self.run(who, "patch", "apr", name, f"--type={kind}", "-p", json.dumps(patch), *more)

    def status(self, who: str, name: str, **fields: object) -> Any:
        """A merge patch of the status."""
        return self.patch(who, name, {"status": fields}, "merge", "--subresource=status")

    def settled(self, name: str, state: str) -> str:
        """Takes a question to a state, each step by who may do it."""
        status: dict[str, object] = {"expiresAt": at(900)}
        if state != "Pending":
            verdict = "Deny" if state == "Denied" else "Approve"
            if state != "Expired":
                self._ok(self.answer("alice", name, verdict=verdict))
                status["approvals"] = [counted("alice", verdict)]
            first = "Approved" if state == "Consumed" else state
            status["conditions"] = [condition(first)]
            if first == "Approved":
                status["grantExpiresAt"] = at(600)
        self._ok(self.status("operator", name, **status))
        if state == "Consumed":
            conditions = [condition("Approved"), condition("Consumed")]
            self._ok(self.status("gateway", name, conditions=conditions, consumedAt=at(1)))
        return name

    def access(self, who: str) -> Access:
        """For requests as a ServiceAccount, with a token of its own and the rights that it really has."""
        namespace = self.system if who == "operator" else self.namespace
        name = "ostiary-operator" if who == "operator" else who
        token = self.cluster.ok("create", "token", name, "--namespace", namespace, "--duration", "1h").strip()
        config = json.loads(self.cluster.ok("config", "view", "--raw", "--minify", "-o", "json"))
        cluster = config["clusters"][0]["cluster"]
        if "certificate-authority-data" in cluster:
            authorities = base64.b64decode(cluster["certificate-authority-data"]).decode()
        else:
            authorities = Path(cluster["certificate-authority"]).read_text()
        return Access(cluster["server"], authorities=authorities, token=token)

    def _ok(self, done: subprocess.CompletedProcess[str]) -> None:
        assert done.returncode == 0, done.stderr


def account(namespace: str, name: str) -> str:
    """The user name of a ServiceAccount."""
    return f"system:serviceaccount:{namespace}:{name}"


_BEGAN = datetime.now(UTC).replace(microsecond=0)


def at(seconds: float) -> str:
    """A time after the beginning of this run; the same for the same seconds."""
    return format_timestamp(_BEGAN + timedelta(seconds=seconds))


def condition(kind: str, status: str = "True") -> Manifest:
    return {"type": kind, "status": status, "reason": "Test", "message": "", "observedGeneration": 1,
            "lastTransitionTime": at(0)}  # fmt: skip


def counted(approver: str, verdict: str = "Approve", reason: str = "") -> Manifest:
    return {"approver": approver, "verdict": verdict, "reason": reason, "at": at(0)}


def policies(operator: str) -> Manifest:
    """The admission policies, for kubectl."""
    return {"apiVersion": "v1", "kind": "List", "items": admission.manifests(operator)}


def no_release(cluster: Cluster) -> None:
    """Skips where Ostiary is installed: the policies are cluster-wide, and must not be taken from under it."""
    found = cluster.get("validatingadmissionpolicies", "-l", "app.kubernetes.io/managed-by=Helm")["items"]
    if any(each["metadata"]["name"] in admission.NAMES for each in found):
        pytest.skip("Ostiary is installed in this cluster; this test brings admission policies of its own")


@contextmanager
def guarded(cluster: Cluster) -> Iterator[Guarded]:
    """The policies are cluster-wide: one at a time."""
    no_release(cluster)
    found = Guarded(replace(cluster, namespace=f"guarded-{uuid.uuid4().hex[:8]}"))
    cluster.ok("create", "namespace", found.namespace)
    cluster.ok("create", "namespace", found.system)
    for namespace, items in ((found.namespace, _roles(found)), (found.system, _system(found))):
        manifest = {"apiVersion": "v1", "kind": "List", "items": items}
        cluster.ok("create", "--namespace", namespace, "-f", "-", manifest=manifest)
    cluster.ok("apply", "--server-side", "--force-conflicts", "-f", "-", manifest=policies(found.operator))
    try:
        _in_force(found)
        yield found
    finally:
        cluster.ok("delete", "--ignore-not-found", "-f", "-", manifest=policies(found.operator))
        cluster.ok("delete", "clusterrole,clusterrolebinding", f"ostiary-operator-{found.system}")
        cluster.ok("delete", "namespace", found.namespace, found.system, "--wait=false")


_IMPERSONATING: Manifest = {
    "apiVersion": "ostiary.dev/v1alpha1", "kind": "Connection", "metadata": {"name": "probe"},
    "spec": {"protocol": "Kubernetes", "credentials": {"impersonate": {}}, "listener": {"port": 443}},
}  # fmt: skip
_BUNDLE: Manifest = {
    "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "probe", "labels": {MANAGED_BY_LABEL: MANAGER}},
}  # fmt: skip


def _in_force(found: Guarded) -> None:
    """The API server takes a moment to see a new policy, and each by itself."""
    probe = found.question()
    name, dry = found.asked(), ("merge", "--dry-run=server")
    for _ in range(200):
        tries = (
            found.run("mallory", "create", "--dry-run=server", "-f", "-", manifest=probe),
            found.patch("mallory", name, {"spec": {"decisions": [{"approver": "alice", "verdict": "Deny"}]}}, *dry),
            found.patch("mallory", name, {"status": {"observedGeneration": 1}}, *dry, "--subresource=status"),
            found.run("mallory", "delete", "apr", name, "--dry-run=server"),
            found.run("probe", "create", "--dry-run=server", "-f", "-", manifest=_IMPERSONATING),
            found.run("probe", "create", "--dry-run=server", "-f", "-", manifest=_BUNDLE),
        )
        if all("ValidatingAdmissionPolicy" in each.stderr for each in tries):
            return
        time.sleep(0.1)
    raise AssertionError("the admission policies do not come into force: " + " ".join(each.stderr for each in tries))


def _roles(found: Guarded) -> list[Manifest]:
    both = ["approvalrequests", "approvalrequests/status"]
    asks = [_rule(["get", "list", "watch", "create"], both[:1]), _rule(["get", "update", "patch"], both[1:])]
    answers = [_rule(["get", "list", "watch", "patch", "update"], both[:1])]
    approves = _rule(["approve"], ["connections"], "db")
    accounts = ("gateway", "other", "bot", "agent")
    users = {"alice", "bob", "dave", "olga", "planner"}
    return _into(found.namespace, [
        *({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}} for name in accounts),
        *_granted("gateway", [*asks, _rule(["serve"], ["connections"], "db")], [_account(found.namespace, "gateway")]),
        *_granted("other", [*asks, _rule(["serve"], ["connections"], "files")], [_account(found.namespace, "other")]),
        *_granted("approvers", [*answers, approves], [*map(_user, sorted(users)), _account(found.namespace, "bot"),
                                                      _user("system:anonymous")]),
        *_granted("readers", answers, [_user("carol")]),
        *_granted("everything", [_rule(["*"], both)], [_user("mallory"), _account(found.namespace, "agent")]),
        *_granted("probe", [_rule(["create"], ["connections"]),
                            {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}], [_user("probe")]),
        *_granted("operator", [_rule(["get", "list", "watch", "create", "delete"], both[:1]),
                               _rule(["get", "update", "patch"], both[1:]), _rule(["serve"], ["connections"])],
                  [_account(found.system, "ostiary-operator")]),
    ])  # fmt: skip


def _system(found: Guarded) -> list[Manifest]:
    """The operator, and the account as which it tries forgeries; the chart gives them the same."""
    both, name = ["approvalrequests", "approvalrequests/status"], "ostiary-selfcheck"
    operator = _account(found.system, "ostiary-operator")
    policies = ["validatingadmissionpolicies", "validatingadmissionpolicybindings"]
    cluster_role = f"ostiary-operator-{found.system}"
    api = "rbac.authorization.k8s.io/v1"
    return [
        *_into(found.system, [
            *({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": each}}
              for each in ("ostiary-operator", name)),
            *_granted(name, [_rule(["create"], both[:1]), _rule(["get", "update", "patch", "delete"], both, name)],
                      [_account(found.system, name)]),
            *_granted("ostiary-operator", [
                _rule(["get", "create"], both[:1]), _rule(["serve"], ["connections"], name),
                {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate", "get"],
                 "resourceNames": [name]},
            ], [operator]),
        ]),
        {"apiVersion": api, "kind": "ClusterRole", "metadata": {"name": cluster_role},
         "rules": [{"apiGroups": ["admissionregistration.k8s.io"], "resources": policies, "verbs": ["get"],
                    "resourceNames": list(admission.NAMES)}]},
        {"apiVersion": api, "kind": "ClusterRoleBinding", "metadata": {"name": cluster_role}, "subjects": [operator],
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": cluster_role}},
    ]  # fmt: skip


def _into(namespace: str, manifests: list[Manifest]) -> list[Manifest]:
    return [each | {"metadata": each["metadata"] | {"namespace": namespace}} for each in manifests]


def _rule(verbs: list[str], resources: list[str], *names: str) -> Manifest:
    rule: Manifest = {"apiGroups": ["ostiary.dev"], "resources": resources, "verbs": verbs}
    return {**rule, "resourceNames": list(names)} if names else rule


def _user(name: str) -> Manifest:
    return {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": name}


def _account(namespace: str, name: str) -> Manifest:
    return {"kind": "ServiceAccount", "namespace": namespace, "name": name}


def _granted(name: str, rules: list[Manifest], subjects: list[Manifest]) -> list[Manifest]:
    api = "rbac.authorization.k8s.io/v1"
    ref = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    return [
        {"apiVersion": api, "kind": "Role", "metadata": {"name": name}, "rules": rules},
        {"apiVersion": api, "kind": "RoleBinding", "metadata": {"name": name}, "roleRef": ref, "subjects": subjects},
    ]
