"""`ostiary gateway` as it runs in a pod: real API server, the rights of its Role, a real PostgreSQL, real clients."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import asyncpg
import pytest
from support import servers, wire
from support.cluster import Cluster
from support.gateway import ALLOW_ALL, TOKEN, Manifest, policy
from support.pods import Operator, PodGateway, packed, pod_gateway, until
from support.presence import missing
from support.servers import Server, Unavailable, free_port
from support.wire import Wire

from ostiary_api.names import bundle_part_name, child_name

pytestmark = pytest.mark.cluster

NO_READING = policy("no-reading", [{"name": "no", "action": "Deny", "expression": "true", "message": "Not today."}])


@pytest.fixture(scope="module")
def database() -> Iterator[Server]:
    try:
        server = servers.embedded("pod-upstream")
    except Unavailable as failure:
        missing(str(failure))
    yield server
    servers.destroy(server)


@pytest.fixture
def operator(cluster: Cluster, database: Server, request: pytest.FixtureRequest) -> Iterator[Operator]:
    """A namespace with a gateway `app` that serves one Connection, and what is in its bundle."""
    namespace = f"pod-{hashlib.sha256(request.node.name.encode()).hexdigest()[:10]}-{os.getpid()}"
    cluster.ok("create", "namespace", namespace)
    made = Operator(replace(cluster, namespace=namespace), "app")
    made.account()
    made.apply(
        secret("db", username=database.user, password=database.password),
        secret(
            "planner", "ostiary.dev/token", username="planner", groups="agents",
            sha256=hashlib.sha256(TOKEN.encode()).hexdigest(),
        ),
    )  # fmt: skip
    made.secrets = ["db", "planner"]
    made.connections = [connection(database, free_port())]
    made.policies = [ALLOW_ALL]
    yield made
    wire.close_all()
    cluster.ok("delete", "namespace", namespace, "--wait=false")


@pytest.fixture
def gateway(operator: Operator) -> Iterator[PodGateway]:
    """Its pod, with the bundle in force."""
    revision = operator.publish()
    made = pod_gateway(operator, port=port_of(operator))
    try:
        made.start()
        made.until_serving(revision)
        yield made
    finally:
        made.destroy()


def secret(name: str, kind: str = "Opaque", **values: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "data": packed(**values)}


def connection(server: Server, port: int, name: str = "app", **listener: object) -> Manifest:
    return {
        "apiVersion": "ostiary.dev/v1alpha1",
        "kind": "Connection",
        "metadata": {"name": name},
        "spec": {
            "protocol": "Postgres",
            "upstream": {"host": server.host, "port": server.port, "database": server.database,
                         "tls": {"mode": "Disable"}},
            "credentials": {"static": {"secretRef": {"name": "db"}}},
            "listener": {"port": port, **(listener or {"tls": {"mode": "Disable"}})},
            "gateway": {"name": "app"},
        },
    }  # fmt: skip


def port_of(operator: Operator) -> int:
    spec: Any = operator.connections[0]["spec"]
    return int(spec["listener"]["port"])


def login(gateway: PodGateway) -> Wire:
    return Wire.login(gateway.host, gateway.port, user="planner", password=TOKEN, database="app")


def says(session: Wire, sql: str) -> str:
    """A row's first value, or the SQLSTATE."""
    for message in session.simple(sql):
        if message.type == "E":
            return message.fields["C"]
        if message.type == "D":
            return (message.cells[0] or b"").decode()
    return ""


def refusal(gateway: PodGateway) -> str:
    """What a login is refused with; empty if it is not."""
    try:
        login(gateway).close()
    except wire.Refused as refused:
        return refused.message.fields["C"] + " " + refused.message.fields["M"]
    return ""


# Policies and Secrets


def test_another_policy_is_in_force_for_open_sessions_and_none_is_dropped(
    operator: Operator, gateway: PodGateway
) -> None:
    session = login(gateway)
    assert says(session, "select 1") == "1"
    operator.policies = [ALLOW_ALL, NO_READING]
    revision = operator.publish()
    gateway.until_serving(revision)
    assert says(session, "select 1") == "42501"
    operator.policies = [ALLOW_ALL]
    gateway.until_serving(operator.publish())
    assert says(session, "select 1") == "1"


def test_the_state_is_told_to_who_waits(operator: Operator, gateway: PodGateway) -> None:
    state = until(lambda: reached(gateway), "the upstream was tried")
    (there,) = state.connections
    assert (there.namespace, there.name, there.listening, there.message) == (
        operator.cluster.namespace, "app", True, "",
    )  # fmt: skip
    assert not state.problems
    _, _, headers = gateway.ask("/state")
    assert gateway.ask("/state", If_None_Match=headers["ETag"])[0] == 304
    answers: list[tuple[int, str, dict[str, str]]] = []
    waiting = [
        threading.Thread(target=lambda: answers.append(gateway.ask("/state?wait=25", If_None_Match=headers["ETag"])))
        for _ in range(20)
    ]
    for each in waiting:
        each.start()
    operator.policies = [NO_READING]
    revision = operator.publish()
    for each in waiting:
        each.join(60)
    assert [status for status, _, _ in answers] == [200] * 20
    assert {json.loads(body)["revision"] for _, body, _ in answers} == {revision}


def reached(gateway: PodGateway) -> Any:
    state = gateway.state()
    return state if state and state.connections and state.connections[0].upstream.state == "Reachable" else None


def test_a_bundle_in_parts_is_taken_as_a_whole(operator: Operator, gateway: PodGateway) -> None:
    operator.max_part_bytes = 700
    operator.policies = [ALLOW_ALL, *(policy(f"p{number}", [rule(number)]) for number in range(20))]
    revision = operator.publish()
    parts = json.loads(operator.cluster.ok("get", "configmaps", "-o", "json"))["items"]
    assert sum(child_name("app") in each["metadata"]["name"] for each in parts) > 5
    gateway.until_serving(revision)
    assert says(login(gateway), "select 1") == "1"


def rule(number: int) -> Manifest:
    return {"name": "drop", "action": "Deny", "expression": f"sql.statements.exists(s, s.kind == 'KIND{number}')"}


def test_parts_of_two_revisions_are_not_mixed(operator: Operator, gateway: PodGateway) -> None:
    operator.max_part_bytes = 700
    operator.policies = [ALLOW_ALL, *(policy(f"p{number}", [rule(number)]) for number in range(20))]
    before = operator.publish()
    gateway.until_serving(before)
    name = bundle_part_name("app", 1)
    part = operator.cluster.get("configmap", name)["data"]
    first = operator.cluster.get("configmap", child_name("app"))["data"]
    operator.config_map(child_name("app"), {**first, "revision": "0" * 64})
    state = until(lambda: s if (s := gateway.state()) and s.problems else None, "told")
    assert "is of revision" in state.problems[0].message
    assert state.revision == before
    assert says(login(gateway), "select 1") == "1"
    operator.config_map(child_name("app"), first)
    until(lambda: (s := gateway.state()) is not None and not s.problems, "well again")
    assert part["revision"] == before


def test_a_corrupt_bundle_is_told_and_the_last_good_one_stays(operator: Operator, gateway: PodGateway) -> None:
    session = login(gateway)
    before = gateway.state()
    data = operator.cluster.get("configmap", child_name("app"))["data"]
    operator.config_map(child_name("app"), {**data, "bundle.jsonl": data["bundle.jsonl"].replace("Allow", "Deny")})
    state = until(lambda: s if (s := gateway.state()) and s.problems else None, "told")
    assert "is not that of its revision" in state.problems[0].message
    assert before is not None
    assert state.revision == before.revision
    assert says(session, "select 1") == "1"
    assert gateway.ask("/readyz")[0] == 200
    operator.config_map(child_name("app"), data)
    until(lambda: (s := gateway.state()) is not None and not s.problems, "well again")


def test_a_rotated_secret_is_used_by_the_next_session(
    operator: Operator, gateway: PodGateway, database: Server
) -> None:
    database.sql("create role rotated login password 'before'; grant all on schema public to rotated")
    operator.apply(secret("db", username="rotated", password="before"))
    gateway.until_serving(operator.publish())
    assert says(login(gateway), "select session_user") == "rotated"
    database.sql("alter role rotated password 'after'")
    operator.apply(secret("db", username="rotated", password="after"))
    gateway.until_serving(operator.publish())
    assert says(login(gateway), "select session_user") == "rotated"


def test_a_revoked_token_opens_nothing_any_more(operator: Operator, gateway: PodGateway) -> None:
    session = login(gateway)
    operator.delete("secret", "planner")
    gateway.until_serving(operator.publish())
    assert refusal(gateway).startswith("28P01")
    assert last_words(session) == "57P01"


def test_a_connection_without_its_secret_says_so_and_is_served_when_it_comes(
    operator: Operator, gateway: PodGateway, database: Server
) -> None:
    operator.delete("secret", "db")
    gateway.until_serving(operator.publish())
    assert refusal(gateway) == "57P03 This Connection is not ready: Secret db cannot be had: it does not exist."
    state = gateway.state()
    assert state is not None
    assert state.problems[0].object == f"Connection {operator.cluster.namespace}/app"
    assert state.problems[0].field == "spec.credentials.static.secretRef"
    operator.apply(secret("db", username=database.user))
    gateway.until_serving(operator.publish())
    assert refusal(gateway) == "57P03 This Connection is not ready: Secret db has no password."
    operator.apply(secret("db", username=database.user, password=database.password))
    gateway.until_serving(operator.publish())
    assert says(login(gateway), "select 1") == "1"


def test_a_right_that_comes_late_is_waited_for(operator: Operator, gateway: PodGateway, database: Server) -> None:
    operator.apply(secret("db2", username=database.user, password=database.password))
    spec: Any = operator.connections[0]["spec"]
    spec["credentials"] = {"static": {"secretRef": {"name": "db2"}}}
    operator.secrets = ["db2", "planner"]
    gateway.until_serving(operator.publish(rights=["planner"]))
    assert "the gateway may not read it yet" in refusal(gateway)
    operator.role([child_name("app")], operator.secrets)
    until(lambda: not refusal(gateway), "served")


def test_no_secret_is_on_disk_or_in_what_is_told(operator: Operator, gateway: PodGateway) -> None:
    assert says(login(gateway), "select 1") == "1"
    told = gateway.ask("/state")[1] + gateway.ask("/metrics")[1] + gateway.log_text()
    assert servers.PASSWORD not in told
    assert TOKEN not in told
    for path in gateway.data.rglob("*"):
        if path.is_file():
            raw = path.read_bytes()
            assert servers.PASSWORD.encode() not in raw, path
            assert TOKEN.encode() not in raw, path
            assert path.stat().st_mode & 0o077 == 0 or path.suffix in (".crt", ".pub", ".lock"), path


# The API server


def test_traffic_goes_on_while_the_api_server_is_away_and_changes_come_after(
    operator: Operator, gateway: PodGateway
) -> None:
    session = login(gateway)
    gateway.way.cut()
    for _ in range(20):
        assert says(session, "select 1") == "1"
        assert says(login(gateway), "select 1") == "1"
    assert gateway.ask("/readyz")[0] == 200
    operator.policies = [NO_READING]
    revision = operator.publish()
    until(lambda: (s := gateway.state()) is not None and bool(s.problems), "told")
    gateway.way.restore()
    gateway.until_serving(revision)
    assert says(session, "select 1") == "42501"


def test_an_api_server_that_is_killed_and_started_again_loses_nothing(operator: Operator, gateway: PodGateway) -> None:
    """The real one, where it was started for these tests or by the same scripts."""
    scripts = restart_command(operator.cluster)
    if scripts is None:
        # A cluster that others use: its API server is cut off for this gateway alone.
        gateway.way.cut()
    session, failures, stop = login(gateway), [], threading.Event()

    def traffic() -> None:
        while not stop.is_set():
            if (answer := says(session, "select 1")) != "1":
                failures.append(answer)

    working = threading.Thread(target=traffic)
    working.start()
    try:
        if scripts is not None:
            subprocess.run(scripts, check=True, capture_output=True, timeout=120, env=operator.cluster.environment)
        else:
            time.sleep(2)
            gateway.way.restore()
        operator.policies = [ALLOW_ALL, policy("more", [rule(1)])]
        gateway.until_serving(operator.publish())
    finally:
        stop.set()
        working.join(20)
    assert not failures


def restart_command(cluster: Cluster) -> list[str] | None:
    """How the API server of a control plane of this machine is killed and started again."""
    script = cluster.environment.get("CLUSTER_RESTART")
    return [script, "--control-plane", "kube-apiserver"] if script else None


def test_a_restart_without_an_api_server_serves_the_copy_and_opens_when_it_is_back(
    operator: Operator, gateway: PodGateway
) -> None:
    before = gateway.state()
    gateway.kill()
    gateway.way.cut()
    gateway.start()
    state = gateway.state()
    assert before is not None
    assert state is not None
    assert state.revision == before.revision
    assert refusal(gateway).startswith("57P03 This Connection is not ready: Secret db cannot be had: ")
    gateway.way.restore()
    until(lambda: not refusal(gateway), "logins")
    assert says(login(gateway), "select 1") == "1"


def test_a_gateway_without_a_bundle_waits_for_it(operator: Operator) -> None:
    operator.role([child_name("app")], [])
    made = pod_gateway(operator, port=port_of(operator))
    try:
        made.start(wait=False)
        until(lambda: made.ask("/livez")[0] == 200, "answering")
        until(lambda: "there is no ConfigMap" in made.ask("/readyz")[1], "why")
        assert made.ask("/readyz")[0] == 503
        connections, operator.connections = operator.connections, []
        made.until_serving(operator.publish())
        assert made.ask("/readyz")[0] == 200
        operator.connections = connections
        made.until_serving(operator.publish())
        assert says(login(made), "select 1") == "1"
    finally:
        made.destroy()


# The end


def test_a_pod_that_ends_lets_a_transaction_finish(operator: Operator) -> None:
    revision = operator.publish()
    made = pod_gateway(operator, "--grace", "5", "--drain", "60", port=port_of(operator))
    try:
        made.start()
        made.until_serving(revision)
        idle, busy = login(made), login(made)
        assert says(busy, "begin; select 1") == "1"
        made.signal(signal.SIGTERM)
        until(lambda: made.ask("/readyz")[0] == 503, "not ready")
        state = made.state()
        assert state is not None
        assert state.draining
        late = login(made)  # endpoints have not heard of it yet
        assert says(late, "select 1") == "1"
        assert last_words(idle) == "57P01"
        assert says(busy, "select 2") == "2"
        assert says(busy, "commit") == ""
        assert last_words(busy) == "57P01"
        assert made.ended() == 0
    finally:
        made.destroy()


def last_words(session: Wire) -> str:
    """The SQLSTATE that a session is ended with."""
    message = session.receive()
    assert message.type == "E"
    return message.fields["C"]


def test_a_transaction_that_does_not_end_is_ended(operator: Operator) -> None:
    revision = operator.publish()
    made = pod_gateway(operator, "--drain", "1", port=port_of(operator))
    try:
        made.start()
        made.until_serving(revision)
        busy = login(made)
        assert says(busy, "begin; select 1") == "1"
        made.signal(signal.SIGTERM)
        assert last_words(busy) == "57P01"
        assert made.ended() == 0
    finally:
        made.destroy()


# Several replicas, and the way in


async def test_a_cancel_that_comes_to_another_replica_is_passed_on(operator: Operator, database: Server) -> None:
    revision = operator.publish()
    port = port_of(operator)
    hosts = ("127.0.0.11", "127.0.0.12")
    peers = [argument for host in hosts for argument in ("--peers", host)]
    replicas = [pod_gateway(operator, *peers, host=host, port=port) for host in hosts]
    replicas[1].admin_port = replicas[0].admin_port
    try:
        for replica in replicas:
            await asyncio.to_thread(replica.start)
            await asyncio.to_thread(replica.until_serving, revision)
        session = login(replicas[0])
        asking = asyncio.create_task(asyncio.to_thread(says, session, "select pg_sleep(300)"))
        runs = "select count(*) from pg_stat_activity where query = 'select pg_sleep(300)' and state = 'active'"
        await asyncio.to_thread(until, lambda: database.sql(runs) == "1", "the statement runs")
        Wire.open(hosts[1], port).send(session.cancel_request())
        assert await asyncio.wait_for(asking, 60) == "57014"
    finally:
        for replica in replicas:
            replica.destroy()


async def test_the_own_certificate_has_the_names_of_the_service(operator: Operator, database: Server) -> None:
    operator.connections = [connection(database, port_of(operator), tls={"mode": "Require"})]
    revision = operator.publish()
    made = pod_gateway(operator, port=port_of(operator))
    try:
        await asyncio.to_thread(made.start)
        await asyncio.to_thread(made.until_serving, revision)
        psql = shutil.which("psql") or str(database.bindir / "psql")
        name = f"ostiary-app.{operator.cluster.namespace}.svc"
        dsn = (
            f"host={name} hostaddr=127.0.0.1 port={made.port} user=planner dbname=app sslmode=verify-full "
            f"sslrootcert={made.data / 'tls' / 'ca.crt'}"
        )
        done = await asyncio.to_thread(
            subprocess.run, [psql, "-XqAt", dsn, "-c", "select 1"], capture_output=True, text=True, timeout=30,
            env={**os.environ, "PGPASSWORD": TOKEN},
        )  # fmt: skip
        if "sslmode value" not in done.stderr:  # a psql that was built without TLS
            assert done.stdout == "1\n", done.stderr
        pool = await asyncpg.create_pool(
            host="127.0.0.1", port=made.port, user="planner", password=TOKEN, database="app", ssl="require", min_size=3
        )
        try:
            assert await pool.fetchval("select 40 + 2") == 42
        finally:
            with contextlib.suppress(OSError):
                await pool.close()
    finally:
        made.destroy()
