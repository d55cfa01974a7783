"""Agents at work in a pod of a cluster (tests/e2e/full/agents/work.py), and what they have told."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from support.cluster import ROOT
from support.full_cluster import FullCluster
from support.gateway import agent_token, secret

Told = dict[str, Any]
TOKEN = "a-token-for-agents-that-do-not-rest-0123456789"
SESSIONS = 8
WITHIN = 120.0
"""Seconds in which everything must be as it should be again: 5 to 15 as a rule, more on a machine that is busy."""
API = "ostiary.dev/v1alpha1"


class Agents:
    """A Connection with two pods in a namespace of its own, its policies, and a pod of agents that use it."""

    def __init__(self, cluster: FullCluster, namespace: str, image: str, database: str, password: str) -> None:
        self.cluster = cluster.within(namespace)
        self.namespace = namespace
        self._image = image
        self._database = database
        self._password = password

    def apply(self, *manifests: object) -> None:
        """kubectl apply."""
        listed = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self.cluster.ok("apply", "--server-side", "-f", "-", manifest=listed)

    # What is there

    def begin(self) -> None:
        """Make all of it, and wait until the agents are at work."""
        self.cluster.ok("create", "namespace", self.namespace)
        self.apply(
            secret("database", username="shop", password=self._password), agent_token("agent", TOKEN, "agent"),
            self._connection(), self.policy("work", *_WORK), self.switch(denied=False), self.masks("[email]"),
        )  # fmt: skip
        self.cluster.ok("wait", "--for=condition=Programmed", "gwconn/work", "--timeout=240s")
        until(lambda: len(self.gateway_pods()) == 2, "two pods of the gateway are ready", 240)
        code = ROOT / "tests" / "e2e" / "full" / "agents" / "work.py"
        wire = ROOT / "tests" / "support" / "wire.py"
        files = {"work.py": code.read_text(), "wire.py": wire.read_text()}
        endpoint = self.cluster.get("gwconn", "work")["status"]["endpoint"]
        self.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "agents"}, "data": files},
            self._pod(endpoint["host"], endpoint["port"]),
        )
        self.cluster.ok("wait", "--for=condition=Ready", "pod/agents", "--timeout=180s")
        until(lambda: len(self.open()) == SESSIONS, "all agents are at work", 120)

    def end(self) -> None:
        """Take it away."""
        self.cluster.kubectl("delete", "namespace", self.namespace, "--wait=false")

    def _connection(self) -> Told:
        spec = {
            "protocol": "Postgres",
            "upstream": {"host": self._database, "database": "shop", "tls": {"mode": "Disable"}},
            "credentials": {"static": {"secretRef": {"name": "database"}}},
            "listener": {"port": 5432, "tls": {"mode": "Disable"}},
            "gateway": {"replicas": 2},
        }
        return {"apiVersion": API, "kind": "Connection", "metadata": {"name": "work"}, "spec": spec}

    def policy(self, name: str, *rules: Told) -> Told:
        """A policy for the Connection."""
        spec = {"match": {"protocols": ["Postgres"]}, "rules": list(rules)}
        return {"apiVersion": API, "kind": "GatewayPolicy", "metadata": {"name": name}, "spec": spec}

    def switch(self, *, denied: bool) -> Told:
        """The policy that is turned: whether one table may be read."""
        touches = "sql.statements.exists(s, s.relations.exists(r, r.name == 'switched'))"
        expression = touches if denied else f"false && {touches}"
        return self.policy("switch", {"name": "switched", "action": "Deny", "expression": expression})

    def masks(self, replacement: str) -> Told:
        """The policy that hides addresses; what stands for them changes, that they are hidden does not."""
        mask = {"column": "public.customers.email", "strategy": {"type": "Redact", "replacement": replacement}}
        return self.policy("masks", {"name": "hide", "action": "Mask", "masking": [mask]})

    def _pod(self, host: str, port: int) -> Told:
        environment = {"SERVICE_HOST": host, "SERVICE_PORT": str(port), "AGENT_TOKEN": TOKEN, "SESSIONS": str(SESSIONS)}
        container = {
            "name": "agents",
            "image": self._image,
            "imagePullPolicy": "IfNotPresent",
            "command": ["/opt/ostiary/bin/python", "/agents/work.py"],
            "env": [{"name": name, "value": value} for name, value in environment.items()],
            "volumeMounts": [{"name": "agents", "mountPath": "/agents"}],
        }
        volumes = [{"name": "agents", "configMap": {"name": "agents"}}]
        spec = {"containers": [container], "volumes": volumes, "terminationGracePeriodSeconds": 0}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "agents"}, "spec": spec}

    # What is seen

    def gateway_pods(self) -> dict[str, str]:
        """Address → name of the gateway's pods that are ready and stay."""
        found = self.cluster.get("pods", "-l", "ostiary.dev/gateway=work")["items"]
        return {
            each["status"]["podIP"]: each["metadata"]["name"]
            for each in found
            if not each["metadata"].get("deletionTimestamp")
            and any(c["type"] == "Ready" and c["status"] == "True" for c in each["status"].get("conditions", ()))
        }

    def told(self) -> list[Told]:
        """Everything that the agents have told so far."""
        return [json.loads(line) for line in self.cluster.ok("logs", "agents").splitlines()]

    def mark(self) -> int:
        """How much they have told: `since` it nothing else counts."""
        return len(self.told())

    def since(self, mark: int, event: str) -> list[Told]:
        """What they told of a kind since then."""
        return [each for each in self.told()[mark:] if each["event"] == event]

    def open(self) -> dict[int, str]:
        """Which agents have a session now, and the address of the pod that serves it."""
        found: dict[int, str] = {}
        for each in self.told():
            if each["event"] == "begin":
                found[each["agent"]] = each["pod"]
            elif each["event"] == "end":
                found.pop(each["agent"], None)
        return found

    def see(self) -> dict[int, str]:
        """What each agent was answered last by the policy that is turned."""
        return {each["agent"]: each["to"] for each in self.told() if each["event"] == "turned"}

    # What is done, and must come to be

    def turn(self, to: str) -> None:
        """Change two policies: what may be read, and what stands for what is hidden. Tries until it is taken."""
        changed = self.switch(denied=to == "denied"), self.masks("[email]" if to == "allowed" else "[hidden]")
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(changed)})

        def taken() -> bool:
            done = self.cluster.kubectl("apply", "--server-side", "--request-timeout=5s", "-f", "-", text=listed)
            return done.returncode == 0

        until(taken, "the API server takes the policies", 60)

    def go_on(self) -> None:
        """Until agents get answers again, counted from now."""

        def answers() -> int:
            return max((int(each["answers"]) for each in self.since(0, "count")), default=0)

        before = answers()
        until(lambda: answers() > before, "agents get answers", 60)

    def converged(self, to: str, since: float) -> None:
        """Soon after then every agent is answered so, by two pods that are ready, and the statuses say it."""
        left = since + WITHIN - time.monotonic()
        until(lambda: self._is(to), f"every agent is {to}, two pods, Programmed", left, self._state)
        print(f"as it should be {time.monotonic() - since:.1f} s after")

    def _is(self, to: str) -> bool:
        seen, opened = self.see(), self.open()
        return (
            len(opened) == SESSIONS
            and all(seen.get(agent) == to for agent in opened)
            and len(self.gateway_pods()) == 2
            and all(self._programmed(*each) for each in (("gwconn", "work"), ("gwpol", "switch"), ("gwpol", "masks")))
        )

    def _programmed(self, kind: str, name: str) -> bool:
        found = self.cluster.get(kind, name)
        status = found.get("status", {})
        current = status.get("observedGeneration") == found["metadata"]["generation"]
        return current and any(
            each["type"] == "Programmed" and each["status"] == "True" for each in status.get("conditions", ())
        )

    def _state(self) -> str:
        statuses = self.cluster.kubectl("get", "gwconn,gwpol,pods", "-o", "wide").stdout
        return f"open {self.open()}\nseen {self.see()}\n{statuses}\n{self.told()[-30:]}"


_WORK: tuple[Told, ...] = (
    {"name": "read", "action": "Allow", "expression": "sql.statements.all(s, s.readOnly)"},
    {"name": "no-ledger", "action": "Deny",
     "expression": "sql.statements.exists(s, s.relations.exists(r, r.name == 'ledger'))"},
)  # fmt: skip


def until(holds: Callable[[], bool], what: str, seconds: float, state: Callable[[], str] = str) -> None:
    """Wait until something holds. While the API server is away nothing does."""
    end = time.monotonic() + seconds
    while True:
        try:
            if holds():
                return
            problem = ""
        except AssertionError as error:
            problem = str(error)
        if time.monotonic() > end:
            break
        time.sleep(0.5)
    raise AssertionError(f"not within {seconds:.0f} s: {what}\n{problem}\n{state()}")


