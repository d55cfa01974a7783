"""An agent's psql waits for a person: the chart's policies and rights, the operator and two gateways as real processes.

Only the pods' network is missing: the gateways listen on addresses of loopback.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from support import gateway as gateways
from support import servers
from support.cluster import ROOT, Cluster
from support.guarded import no_release
from support.operator import Operator, Release, eventually, operator
from support.servers import Server, Unavailable, free_port

from ostiary_api.admission import NAMES

pytestmark = pytest.mark.cluster

RULES = [
    {"name": "reads", "action": "Allow", "expression": "sql.statements.all(s, s.readOnly)"},
    {
        "name": "changes", "action": "RequireApproval", "expression": "sql.statements.exists(s, s.writes)",
        "message": "A change needs a DBA.",
        "approval": {"groups": ["dba"], "pendingTTL": "15m", "grantTTL": "10m", "wait": "60s"},
    },
]  # fmt: skip
ALICE = ("--as=alice", "--as-group=dba", "--as-group=system:authenticated")


@pytest.fixture(scope="module")
def database() -> Iterator[Server]:
    try:
        server = servers.embedded("approval-scene")
    except Unavailable as failure:
        pytest.skip(str(failure))
    yield server
    servers.destroy(server)


@pytest.fixture(scope="module")
def running(release: Release) -> Iterator[Operator]:
    """The operator, with the admission policies that the chart makes for it."""
    no_release(release.cluster)
    made = subprocess.run(
        ["helm", "template", "ostiary", str(ROOT / "charts" / "ostiary"), "--namespace", release.system,
         "--set", f"fullnameOverride={release.system}", "--show-only", "templates/admission.yaml"],
        env=release.cluster.environment, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    release.cluster.ok("apply", "--server-side", "--force-conflicts", "-f", "-", text=made.stdout)
    with operator(release, "scene") as found:
        eventually(lambda: found.leads and found.ready, why=found.tail)
        yield found
    release.cluster.ok("delete", "--ignore-not-found", "-f", "-", text=made.stdout)


@dataclass
class Scene:
    """Two gateways of one Connection, and people around them."""

    shop: Cluster
    running: Operator
    hosts: tuple[str, str]
    port: int
    logs: list[Path]

    def psql(self, host: str, statement: str) -> subprocess.Popen[str]:
        token = self.shop.ok("create", "token", "planner", "--audience=ostiary").strip()
        where = f"host={host} port={self.port} user=agent dbname={servers.DATABASE} sslmode=disable"
        return subprocess.Popen(
            ["psql", "-XAtc", statement, where], env={**os.environ, "PGPASSWORD": token}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def runs(self, host: str, statement: str) -> bool:
        agent = self.psql(host, statement)
        agent.communicate(timeout=120)
        return agent.returncode == 0

    def waiting(self, text: str, number: int = 1) -> dict[str, Any]:
        """The question number so-and-so about a statement, as soon as the operator has seen it."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            items = self.shop.get("apr")["items"]
            found[:] = [each for each in items if text in each["spec"]["request"]["summary"] and each.get("status")]
            return len(found) >= number

        eventually(there, why=self.tail)
        return sorted(found, key=lambda each: (len(each["metadata"]["name"]), each["metadata"]["name"]))[number - 1]

    def answer(self, name: str, verdict: str = "Approve") -> None:
        entry = {"approver": "alice", "verdict": verdict, "reason": "as agreed"}
        patch = json.dumps([{"op": "add", "path": "/spec/decisions/-", "value": entry}])
        self.shop.ok("patch", "apr", name, "--type=json", "-p", patch, *ALICE)

    def tail(self) -> str:
        return self.running.tail() + "".join(path.read_text()[-3000:] for path in self.logs)


@pytest.fixture(scope="module")
def scene(
    running: Operator, release: Release, cluster: Cluster, database: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Scene]:
    directory = tmp_path_factory.mktemp("scene")
    shop = replace(cluster, namespace=f"scene-{uuid.uuid4().hex[:6]}")
    cluster.ok("create", "namespace", shop.namespace)
    sql(database, "create table counter (n int)", "insert into counter values (0)")
    port = free_port()
    objects = [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "planner"}},
        gateways.connection(database, port, name="shop", gateway={"name": "shop", "replicas": 2}),
        *[each for each in gateways.secrets_for(database) if each["metadata"]["name"] != "planner-token"],
        gateways.policy("agents", RULES),
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "approvers"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                        "name": f"{release.system}-approver"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "dba"}],
        },
    ]  # fmt: skip
    shop.ok("apply", "-f", "-", text=yaml.safe_dump_all(objects))
    eventually(lambda: '"usable":true' in bundle(shop), why=running.tail)
    hosts, logs, processes = ("127.0.0.2", "127.0.0.3"), [], []
    for number, host in enumerate(hosts):
        logs.append(directory / f"gateway-{number}.log")
        command = [
            *gateways.ostiary(), "gateway", "--namespace", shop.namespace, "--name", "shop", "--listen", host,
            "--data", str(directory / f"data-{number}"), "--admin", f"{host}:{free_port()}", "--grace", "0",
            "--drain", "1", "--peers", "127.0.0.1", "--kubeconfig", str(kubeconfig(shop, "ostiary-shop", directory)),
        ]  # fmt: skip
        with logs[-1].open("wb") as out:
            environment = gateways.environment({"POD_NAME": f"shop-{number}"})
            processes.append(subprocess.Popen(command, stdout=out, stderr=out, env=environment))
    found = Scene(shop, running, hosts, port, logs)
    try:
        for host in hosts:
            eventually(lambda host=host: found.runs(host, "select 1"), why=found.tail)
        yield found
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(20)
        cluster.ok("delete", "namespace", shop.namespace, "--wait=false")


def sql(database: Server, *statements: str) -> None:
    with psycopg.connect(database.dsn(), autocommit=True) as session:
        for statement in statements:
            session.execute(statement)


def counted(database: Server) -> int:
    """What the agents' updates have made of the counter."""
    with psycopg.connect(database.dsn(), autocommit=True) as session:
        found: int = session.execute("select n from counter").fetchall()[0][0]
        return found


def bundle(shop: Cluster) -> str:
    done = shop.kubectl("get", "configmap", "ostiary-shop", "-o", "jsonpath={.data.bundle\\.jsonl}")
    return done.stdout.replace(" ", "")


def kubeconfig(shop: Cluster, account: str, directory: Path) -> Path:
    found = json.loads(shop.ok("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    found["users"] = [{"name": "me", "user": {"token": shop.ok("create", "token", account).strip()}}]
    found["contexts"] = [{"name": "me", "context": {"cluster": found["clusters"][0]["name"], "user": "me"}}]
    found["current-context"] = "me"
    path = directory / f"{account}.kubeconfig"
    path.write_text(json.dumps(found))
    return path


def test_psql_waits_and_runs_once_when_an_approver_patches(scene: Scene, database: Server) -> None:
    statement = "update counter set n = n + 1 where n >= 0"
    agent = scene.psql(scene.hosts[0], statement)
    asked = scene.waiting(statement)
    name = asked["metadata"]["name"]
    described = scene.shop.ok("describe", "apr", name, *ALICE)
    for part in (statement, "Update on counter", "dba", f"system:serviceaccount:{scene.shop.namespace}:planner"):
        assert part in described
    scene.answer(name)
    out, said = agent.communicate(timeout=120)
    assert (out, agent.returncode) == ("UPDATE 1\n", 0), said
    assert f"Waiting up to 60 s for approval {name} by a member of dba." in said
    assert f"kubectl ostiary approve {name} -n {scene.shop.namespace}" in said
    status = scene.shop.get("apr", name)["status"]
    assert status["state"] == "Consumed"
    assert [(each["approver"], each["verdict"], each["reason"]) for each in status["approvals"]] == [
        ("alice", "Approve", "as agreed")
    ]
    assert counted(database) == 1

    def told() -> bool:
        return "Approved by alice: it may run, once." in scene.shop.ok("describe", "apr", name)

    eventually(told, why=scene.tail)


def test_of_two_replicas_with_one_grant_exactly_one_runs(scene: Scene, database: Server) -> None:
    statement = "update counter set n = n + 10 where n > 0"
    agents = [scene.psql(host, statement) for host in scene.hosts]
    scene.answer(scene.waiting(statement)["metadata"]["name"])
    # Who was not first asks anew, and waits for an answer of its own.
    second = scene.waiting(statement, number=2)
    eventually(lambda: any(agent.poll() is not None for agent in agents), why=scene.tail)
    assert counted(database) == 11
    assert second["metadata"]["name"].endswith("-2")
    scene.answer(second["metadata"]["name"], "Deny")
    ended = [agent.communicate(timeout=120) for agent in agents]
    assert sorted(agent.returncode for agent in agents) == [0, 1]
    assert sorted(out for out, _ in ended) == ["", "UPDATE 1\n"]
    refused = next(said for out, said in ended if not out)
    assert "alice denied it: as agreed" in refused
    assert counted(database) == 11


def test_a_statement_that_differs_is_another_question(scene: Scene, database: Server) -> None:
    agent = scene.psql(scene.hosts[0], "update counter set n = 100")
    first = scene.waiting("n = 100")["metadata"]["name"]
    other = scene.psql(scene.hosts[1], "update counter set n = 101")
    second = scene.waiting("n = 101")["metadata"]["name"]
    scene.answer(second, "Deny")
    assert "alice denied it" in other.communicate(timeout=60)[1]
    assert scene.shop.get("apr", first)["status"]["state"] == "Pending"
    scene.answer(first)
    assert agent.communicate(timeout=120)[0] == "UPDATE 1\n"
    assert counted(database) == 100


def test_without_the_operator_nothing_is_approved(scene: Scene, database: Server, release: Release) -> None:
    before = counted(database)
    statement = "update counter set n = -1 where true"
    agent = scene.psql(scene.hosts[0], statement)
    name = scene.waiting(statement)["metadata"]["name"]
    os.kill(scene.running.process.pid, 19)  # stopped, not ended
    try:
        scene.answer(name)
        time.sleep(3)
        assert agent.poll() is None
        assert counted(database) == before
    finally:
        os.kill(scene.running.process.pid, 18)
    out, said = agent.communicate(timeout=120)
    assert out == "UPDATE 1\n", said


def test_a_weakened_policy_switches_approvals_off_at_the_gateways(scene: Scene, database: Server) -> None:
    """And on again, once it is put back."""
    before = counted(database)
    binding = scene.shop.get("validatingadmissionpolicybinding", NAMES[1])
    audit = '{"spec": {"validationActions": ["Audit"]}}'
    scene.shop.ok("patch", "validatingadmissionpolicybinding", NAMES[1], "--type=merge", "-p", audit)
    try:
        eventually(lambda: '"usable":false' in bundle(scene.shop), seconds=90, why=scene.tail)
        said = ""

        def refused() -> bool:
            nonlocal said
            agent = scene.psql(scene.hosts[1], "update counter set n = 0")
            said = agent.communicate(timeout=120)[1]
            return "switched off" in said

        eventually(refused, seconds=90, why=lambda: said)
        assert "answers could be forged" in said
        assert counted(database) == before
    finally:
        patch = json.dumps({"spec": {"validationActions": binding["spec"]["validationActions"]}})
        scene.shop.ok("patch", "validatingadmissionpolicybinding", NAMES[1], "--type=merge", "-p", patch)
    eventually(lambda: '"usable":true' in bundle(scene.shop), seconds=90, why=scene.tail)
