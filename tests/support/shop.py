"""The example in a cluster: its agent's psql, its approvers."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from support.full_cluster import FullCluster

NAMESPACE = "demo"
ENDED = "the long session ended"
APPROVER = ("--as=alice", "--as-group=dba", "--as-group=system:authenticated")


class Shop:
    """What people and agents do with the example."""

    def __init__(self, cluster: FullCluster) -> None:
        self.cluster = cluster.within(NAMESPACE)

    def command(self, *sql: str) -> list[str]:
        """What runs psql in the agent's pod."""
        options = [f"--command={each}" for each in sql]
        shop = ["env", "PGCONNECT_TIMEOUT=5", "/scripts/shop"]
        return ["exec", "deployment/planner", "--", *shop, "-v", "VERBOSITY=verbose", "-At", *options]

    def psql(self, *sql: str) -> subprocess.CompletedProcess[str]:
        """The agent runs statements, in one session."""
        return self.cluster.kubectl(*self.command(*sql))

    def rows(self, *sql: str) -> list[str]:
        """What the agent gets of statements that are allowed."""
        done = self.psql(*sql)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def superuser(self, sql: str) -> str:
        """What the database itself says, asked from inside its pod."""
        script = 'PGPASSWORD="$POSTGRES_PASSWORD" psql -U postgres -d shop -XqAt -v ON_ERROR_STOP=1'
        return self.cluster.ok("exec", "-i", "deployment/database", "--", "sh", "-c", script, text=sql).strip()

    def begin(self, *sql: str) -> subprocess.Popen[str]:
        """The agent begins statements that take their time."""
        command = ["kubectl", "--namespace", NAMESPACE, *self.command(*sql)]
        return subprocess.Popen(
            command, env=self.cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def refusal(self, *sql: str) -> dict[str, Any]:
        """The JSON that the agent is told when the last of the statements is refused."""
        return denial(self.psql(*sql).stderr)

    def questions(self) -> dict[str, Any]:
        """All ApprovalRequests, by name."""
        return {each["metadata"]["name"]: each for each in self.cluster.get("apr")["items"]}

    def gateway_pods(self) -> dict[str, str]:
        """Names of the gateway's pods that are not on their way out, and their images."""
        pods = self.cluster.get("pods", "-l", "ostiary.dev/gateway=shop")["items"]
        return {
            each["metadata"]["name"]: each["spec"]["containers"][0]["image"]
            for each in pods
            if not each["metadata"].get("deletionTimestamp")
        }

    def at_rest(self) -> bool:
        """Whether the gateway's pods are those that its Deployment asks for now: all ready, none on its way out.

        What the Deployment's status counts is not asked: it lags behind the pods.
        """
        found = self.cluster.get("deployment", "ostiary-shop")
        pods = self.cluster.get("pods", "-l", "ostiary.dev/gateway=shop")["items"]
        status, wanted = found["status"], found["spec"]["replicas"]
        ready = [
            each
            for each in pods
            if not each["metadata"].get("deletionTimestamp")
            and any(c["type"] == "Ready" and c["status"] == "True" for c in each["status"].get("conditions", ()))
        ]
        return (
            status.get("observedGeneration") == found["metadata"]["generation"]
            and status.get("updatedReplicas") == wanted
            and len(ready) == len(pods) == wanted
        )

    def new_question(self, before: dict[str, Any]) -> str:
        """The name of the question that somebody asks now."""
        until(lambda: bool(self.questions().keys() - before.keys()), "a question is asked")
        (name,) = self.questions().keys() - before.keys()
        return name

    def question(self, name: str) -> Any:
        """One ApprovalRequest."""
        return self.cluster.get("apr", name)

    def answer(
        self, name: str, who: tuple[str, ...] = APPROVER, approver: str = "alice", verdict: str = "Approve"
    ) -> str:
        """Add an answer with kubectl patch; what the API server says against it, empty if nothing."""
        value = {"approver": approver, "verdict": verdict, "reason": "looked at it"}
        patch = json.dumps([{"op": "add", "path": "/spec/decisions/-", "value": value}])
        return self.cluster.kubectl("patch", "apr", name, "--type=json", "--patch", patch, *who).stderr

    def wait_for_state(self, name: str, state: str) -> None:
        """Until the question says so."""
        until(lambda: self.question(name).get("status", {}).get("state") == state, f"{name} is {state}")


class Traffic:
    """An agent at work: sessions one after the other, each with a question and a denial, and one that stays open."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    def lines(self, sessions: str) -> list[str]:
        """What the agent has seen so far in `short` or `long` sessions, without what only explains a denial."""
        told = self._shop.cluster.ok("logs", "traffic", "--container", sessions).splitlines()
        return [each for each in told if each and not each.startswith(("DETAIL", "HINT", "LOCATION"))]

    def answers(self, sessions: str) -> int:
        """Answers in sessions of this kind."""
        return self.lines(sessions).count("6000")

    def problems(self, *sessions: str) -> list[str]:
        """Whatever is neither an answer nor the denial that there must be."""
        lines = [each for kind in sessions or ("short", "long") for each in self.lines(kind)]
        return [each for each in lines if each != "6000" and "#bounded-changes" not in each]

    def goes_on(self) -> None:
        """Until both kinds of sessions get answers again."""
        short, long = self.answers("short"), self.answers("long")

        def both() -> bool:
            return self.answers("short") > short + 1 and self.answers("long") > long + 1

        until(both, "the agent gets answers", 120)


@contextmanager
def traffic(shop: Shop) -> Iterator[Traffic]:
    """An agent at work in a pod of its own, as long as the block lasts; it gets answers before and after."""
    template = shop.cluster.get("deployment", "planner")["spec"]["template"]
    short = (
        "while true; do /scripts/shop -At -c 'select count(*) from orders' -c 'delete from orders' 2>&1;"
        " sleep 0.3; done"
    )
    long = (
        "while true; do"
        " while true; do echo 'select count(*) from orders;'; sleep 0.3; done | /scripts/shop -At 2>&1;"
        f" echo {ENDED}; done"
    )
    (container,) = template["spec"]["containers"]
    container["env"].append({"name": "PGCONNECT_TIMEOUT", "value": "5"})
    template["spec"]["containers"] = [
        {**container, "name": name, "command": ["sh", "-c", script]}
        for name, script in {"short": short, "long": long}.items()
    ]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "traffic"},
        "spec": {**template["spec"], "restartPolicy": "Never"},
    }
    shop.cluster.ok("apply", "-f", "-", manifest=pod)
    try:
        shop.cluster.ok("wait", "--for=condition=Ready", "pod/traffic", "--timeout=180s")
        seen = Traffic(shop)
        seen.goes_on()
        yield seen
    finally:
        shop.cluster.ok("delete", "pod", "traffic", "--grace-period=1")


def denial(stderr: str) -> dict[str, Any]:
    """The JSON in the DETAIL of an error."""
    lines = [line for line in stderr.splitlines() if line.startswith("DETAIL:")]
    assert lines, stderr
    found: dict[str, Any] = json.loads(lines[-1].removeprefix("DETAIL:"))
    return found


def until(holds: Callable[[], bool], what: str | Callable[[], str], seconds: float = 60) -> None:
    """Wait until something holds; `what` may be told when it does not."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds} s: {what if isinstance(what, str) else what()}"
        time.sleep(0.5)
