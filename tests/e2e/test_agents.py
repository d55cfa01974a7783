"""examples/kubernetes with all but a kubelet: a real operator, real gateways with their pods' rights, real agents."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import asyncpg
import pytest
import yaml
from support import servers
from support.cluster import ROOT, Cluster
from support.gateway import run_ostiary
from support.operator import Release, eventually, operator
from support.presence import missing
from support.replicas import Replica, replicas
from support.servers import Server, Unavailable

pytestmark = pytest.mark.cluster

SHOP = ROOT / "examples" / "kubernetes" / "shop"


@pytest.fixture(scope="module")
def database() -> Iterator[Server]:
    """The example's database, prepared by the example's own statements."""
    try:
        server = servers.embedded("agents")
    except Unavailable as failure:
        missing(str(failure))
    found = {item["metadata"]["name"]: item for item in objects("1-database.yaml")}
    server.sql("create database shop")
    done = subprocess.run(
        [server.bindir / "psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-d", "shop", "-f", "-"],
        input=found["shop-database-init"]["data"]["shop.sql"], capture_output=True, text=True,
        env={**os.environ, **server.environment(PGHOST=str(server.directory), PGDATABASE="shop"),
             "SHOP_PASSWORD": found["shop-database"]["stringData"]["password"]},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    yield server
    servers.destroy(server)


def objects(*files: str) -> list[dict[str, Any]]:
    return [item for file in files for item in yaml.safe_load_all((SHOP / file).read_text())]


@dataclass
class Demo:
    """The namespace of the example, its gateway's replicas, and its agent."""

    cluster: Cluster
    replicas: list[Replica]

    def token(self, account: str = "planner") -> str:
        """As the kubelet would put it into the agent's pod."""
        bound: tuple[str, ...] = ()
        if account == "planner":
            pod = self.cluster.get("pods", "-l", "app=planner")["items"][0]["metadata"]["name"]
            bound = ("--bound-object-kind=Pod", f"--bound-object-name={pod}")
        return self.cluster.ok("create", "token", account, "--audience=ostiary", *bound).strip()

    def psql(self, sql: str, *, token: str = "", replica: int = 0) -> subprocess.CompletedProcess[str]:
        """The agent's psql, with the variables of its Deployment and the script's password."""
        pod = next(item for item in objects("4-agent.yaml") if item["kind"] == "Deployment")["spec"]["template"]["spec"]
        variables = {item["name"]: item["value"] for item in pod["containers"][0]["env"]}
        variables |= {"PGHOST": self.replicas[replica].address, "PGPASSWORD": token or self.token()}
        return subprocess.run(
            ["psql", "-XAt", "-c", sql], env={**os.environ, **variables}, capture_output=True, text=True, timeout=60
        )


@pytest.fixture(scope="module")
def demo(cluster: Cluster, release: Release, database: Server) -> Iterator[Demo]:
    namespace = f"{release.system}-demo"
    shop = replace(cluster, namespace=namespace)
    listed = []
    for item in objects("0-namespace.yaml", "1-database.yaml", "2-connection.yaml", "3-policies.yaml", "4-agent.yaml"):
        if item["kind"] == "Connection":
            item["spec"]["upstream"] |= {"host": database.host, "port": database.port}
        text = json.dumps(item).replace('"demo"', f'"{namespace}"').replace(":demo:", f":{namespace}:")
        listed.append(json.loads(text))
    shop.ok("apply", "-f", "-", text=yaml.safe_dump_all(listed))
    with operator(release, "agents") as running:
        eventually(lambda: shop.kubectl("get", "deployment", "ostiary-shop").returncode == 0, why=running.tail)
        with replicas(shop, "shop") as started:
            def programmed() -> bool:
                return shop.kubectl("wait", "--for=condition=Programmed", "gwconn/shop", "--timeout=1s").returncode == 0

            eventually(programmed, why=lambda: running.tail() + started[0].log[-3000:])
            yield Demo(shop, started)
    shop.ok("delete", "namespace", namespace, "--wait=false")


def test_the_agent_reads_and_does_not_see_what_it_must_not(demo: Demo) -> None:
    read = demo.psql("select number, expires from cards order by customer_id limit 2")
    assert (read.stderr, read.stdout) == ("", "************4444|12/29\n***********0005|12/29\n")
    note = demo.psql("select note from orders where note <> '' limit 1", replica=1)
    assert note.stdout == "Card ************1111 declined\n"


def test_the_agent_is_denied_with_the_rule_and_what_to_do_instead(demo: Demo) -> None:
    denied = demo.psql("drop table orders")
    assert "Dropping and emptying tables is not allowed here." in denied.stderr
    assert "guard-rails#no-drop" in denied.stderr
    assert "DELETE with a WHERE clause" in denied.stderr


def test_the_agent_changes_one_order_but_not_many_unasked(demo: Demo) -> None:
    assert demo.psql("update orders set status = 'paid' where id = 7").stdout == "UPDATE 1\n"
    many = demo.psql("update orders set status = 'gone' where id < 5000")
    # Without the chart's admission policies answers could be forged: nobody is asked, and the session goes on.
    assert "This needs approval, and nobody can be asked now" in many.stderr, demo.replicas[0].log[-3000:]
    assert demo.psql("select count(*) from orders where status = 'gone'").stdout == "0\n"


async def test_a_pool_of_asyncpg_works_too(demo: Demo) -> None:
    async with asyncpg.create_pool(
        host=demo.replicas[1].address, user="planner", database="shop", ssl="require", password=demo.token, min_size=1
    ) as pool:
        assert await pool.fetchval("select count(*) from orders where id <= $1", 100) == 100
        assert await pool.fetchval("select count(*) from orders where id <= $1", 200) == 200


def test_another_account_of_the_namespace_may_log_in_and_do_nothing(demo: Demo) -> None:
    denied = demo.psql("select 1", token=demo.token("default"))
    assert "No rule allows this" in denied.stderr


def test_an_account_of_another_namespace_does_not_get_in(demo: Demo, cluster: Cluster) -> None:
    refused = demo.psql("select 1", token=replace(demo, cluster=cluster).token("default"))
    assert "takes no ServiceAccounts of other namespaces" in refused.stderr


def test_the_pods_own_token_does_not_get_in(demo: Demo) -> None:
    refused = demo.psql("select 1", token=demo.cluster.ok("create", "token", "planner").strip())
    assert "an agent must not hand that to anybody" in refused.stderr


def test_the_record_names_account_and_pod_and_no_token(demo: Demo) -> None:
    token = demo.token()
    assert demo.psql("select 'for the record'", token=token).returncode == 0
    replica = demo.replicas[0]
    pod = demo.cluster.get("pods", "-l", "app=planner")["items"][0]["metadata"]["name"]

    events = [json.loads(line) for line in run_ostiary("export", "--data", str(replica.data)).splitlines()]
    opened = [event for event in events if event["type"] == "open" and event["protocol"] == "Postgres"][-1]
    text = json.dumps(opened)
    assert f"system:serviceaccount:{demo.cluster.namespace}:planner" in text
    assert pod in text
    assert '"method": "serviceAccount"' in text
    for part in token.split("."):
        assert part not in text + replica.log


def test_what_kubectl_shows_is_how_it_is(demo: Demo) -> None:
    header, line = demo.cluster.ok("get", "gwconn", "shop").splitlines()
    assert header.split() == ["NAME", "PROTOCOL", "ENDPOINT", "PORT", "POLICIES", "ACCEPTED", "PROGRAMMED", "AGE"]
    host = f"ostiary-shop.{demo.cluster.namespace}.svc"
    assert line.split()[:-1] == ["shop", "Postgres", host, "5432", "3", "True", "True"]
    policies = {row.split()[0]: row.split() for row in demo.cluster.ok("get", "gwpol").splitlines()[1:]}
    for name in ("guard-rails", "planner", "personal-data"):
        assert policies[name][1:-1] == ["Enforce", "0", "1", "True", "True"]
