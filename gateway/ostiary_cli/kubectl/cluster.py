"""The cluster as kubectl reaches it: ApprovalRequests read and answered, and refusals of the API server in words."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from typing import Any, Final

from ostiary_api.approval import ApprovalRequestStatus
from ostiary_api.counting import state_of
from ostiary_cli.admin_socket import Item
from ostiary_cli.errors import CommandError
from ostiary_gateway.approvals.objects import unfolded

RESOURCE: Final = "approvalrequests.ostiary.dev"
SELFCHECK_LABEL: Final = "ostiary.dev/selfcheck"
_PREFIX: Final = re.compile(r"^(error: |Error from server( \(\w+\))?: )")
_DENIED: Final = re.compile(r"ValidatingAdmissionPolicy '([^']+)' with binding '[^']*' denied request: (.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Me:
    """Who the API server takes the user for."""

    username: str
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """Where kubectl is to go. Empty: what kubectl takes by itself. `more`: options passed on as they are."""

    namespace: str = ""
    everywhere: bool = False
    more: tuple[str, ...] = field(default=())

    def run(self, *arguments: str, namespace: str = "") -> str:
        """Standard output of kubectl. Raises CommandError with what went wrong."""
        done = self._call(arguments, namespace)
        if done.returncode != 0:
            raise refusal(done.stderr)
        return done.stdout

    def _call(self, arguments: tuple[str, ...], namespace: str) -> subprocess.CompletedProcess[str]:
        where = namespace or self.namespace
        command = [os.environ.get("KUBECTL", "kubectl"), *arguments, *self.more]
        command += ["--namespace", where] if where else []
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=60)
        except FileNotFoundError:
            raise CommandError(
                f"{command[0]} is not there, and this calls it.", "Install kubectl, or set KUBECTL to its path."
            ) from None
        except subprocess.TimeoutExpired:
            raise CommandError("kubectl did not end within a minute.", "Is the API server reachable?") from None

    def listed(self) -> list[Item]:
        """All questions of the namespace, or of all namespaces."""
        scope = ("--all-namespaces",) if self.everywhere else ()
        found = json.loads(self.run("get", RESOURCE, "-o", "json", *scope))["items"]
        return [item(each) for each in found if SELFCHECK_LABEL not in each["metadata"].get("labels", {})]

    def one(self, name: str) -> Item:
        """By its name, or the beginning of it, with or without `apr-`. Raises CommandError."""
        if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", name):
            raise CommandError(f"{name!r} is no name of an approval.", "See: kubectl ostiary list")
        begins = (name, f"apr-{name}")
        found = [each for each in self.listed() if each["approval"]["metadata"]["name"].startswith(begins)]
        exact = [each for each in found if each["approval"]["metadata"]["name"] in begins]
        # A later question about the same request has the name of the first, and a number: the open one is meant.
        waiting = [each for each in found if each["state"] == "Pending"]
        chosen = next((some for some in (exact, found, waiting) if len(some) == 1), [])
        if chosen:
            return chosen[0]
        if not found:
            raise CommandError(f"There is no approval {name} {self._where}.", "See: kubectl ostiary list --all, or -A")
        metadata = [each["approval"]["metadata"] for each in found[:10]]
        names = ", ".join(f"{each['namespace']}/{each['name']}" for each in metadata)
        raise CommandError(f"{name} may be one of several: {names}.", "Give more of its name, or its namespace: -n.")

    @property
    def _where(self) -> str:
        if self.everywhere:
            return "in the cluster"
        return f"in the namespace {self.namespace}" if self.namespace else "in the namespace of your context"

    def me(self) -> Me:
        """Who I am here. Raises CommandError."""
        user = json.loads(self.run("auth", "whoami", "-o", "json"))["status"]["userInfo"]
        return Me(str(user.get("username", "")), tuple(map(str, user.get("groups") or ())))

    def may_approve(self, namespace: str, connection: str) -> bool:
        """Whether I have the verb `approve` on the Connection. Raises CommandError."""
        done = self._call(("auth", "can-i", "approve", f"connections.ostiary.dev/{connection}"), namespace)
        if done.stdout.strip() not in ("yes", "no"):
            raise refusal(done.stderr)
        return done.stdout.strip() == "yes"

    def answer(self, approval: dict[str, Any], approver: str, verdict: str, reason: str) -> None:
        """Adds an answer, if it is still the question that was looked at. Raises CommandError."""
        metadata, spec = approval["metadata"], approval["spec"]
        entry = {"approver": approver, "verdict": verdict, **({"reason": reason} if reason else {})}
        patch = [
            {"op": "test", "path": "/metadata/uid", "value": metadata["uid"]},
            {"op": "test", "path": "/spec/request/hash", "value": spec["request"]["hash"]},
            {"op": "add", "path": "/spec/decisions/-", "value": entry},
        ]
        self.run(
            "patch", RESOURCE, metadata["name"], "--type=json", "--patch", json.dumps(patch), "--field-manager",
            "kubectl-ostiary", "-o", "name", namespace=metadata["namespace"],
        )  # fmt: skip


def item(approval: dict[str, Any]) -> Item:
    """An object as the views take it."""
    request = unfolded(approval["spec"]["request"])
    approval = {**approval, "spec": {**approval["spec"], "request": request}}
    status = approval.get("status")
    state = state_of(ApprovalRequestStatus.model_validate(status) if status else None)
    return {"approval": approval, "state": state}


def why_not(each: Item, me: Me, may_approve: bool) -> str:
    """Why the API server would not take my answer; empty: it would, as far as can be seen from here."""
    spec = each["approval"]["spec"]
    requester, groups = spec["requester"], spec["approval"]["groups"]
    if each["state"] != "Pending":
        return "it is closed"
    if me.username.startswith("system:serviceaccount:"):
        return "people answer, no ServiceAccounts"
    if me.username in (requester["username"], requester.get("onBehalfOf")):
        return "nobody answers what they asked for themselves, or what was asked on their behalf"
    if any(answer["approver"] == me.username for answer in spec.get("decisions", [])):
        return "you have answered already; an answer is not changed"
    if not may_approve:
        connection = f"{each['approval']['metadata']['namespace']}/{spec['connectionRef']['name']}"
        return f"you have not the verb approve on the Connection {connection}"
    if not set(groups) & set(me.groups):
        return f"you are in none of the groups that may answer: {', '.join(groups)}"
    return ""


def refusal(said: str) -> CommandError:
    """What kubectl wrote to standard error, and what can be done about it."""
    text = said.strip()
    if (denied := _DENIED.search(text)) is not None:
        return CommandError(f"The API server refuses: {denied[2].strip()}.", _NEXT.get(denied[1], ""))
    if "Duplicate value" in text and "spec.decisions" in text:
        return CommandError("You have answered already; an answer is not changed.", "See: kubectl ostiary show NAME")
    if "the server rejected our request due to an error in our request" in text:
        return CommandError(
            "It is another question now than the one that was read.", "Look at it again: kubectl ostiary show NAME"
        )
    if "doesn't have a resource type" in text or "could not find the requested resource" in text:
        return CommandError(
            "This cluster knows no ApprovalRequests.", "Install the chart, or choose another context: --context NAME"
        )
    lines = [line for line in text.splitlines() if line.strip()] or ["kubectl failed and did not say why"]
    return CommandError(_PREFIX.sub("", lines[-1]), "")


_NEXT: Final = {
    "approvals-answer.ostiary.dev": "`kubectl ostiary show NAME` says who may answer, kubectl auth whoami who you are.",
}
