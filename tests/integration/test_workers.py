"""Two processes as one gateway: sessions on both, one answer for both, and neither takes the other with it."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator

import pytest
from support import gateway as gateways
from support import servers
from support.gateway import ALLOW_ALL, Gateway, metrics, policy
from support.servers import Server
from support.waiting import until
from support.wire import PROTOCOL_3_0, PROTOCOL_3_2, Wire, query

DENY_ALL = policy("allow-all", [{"name": "nothing", "action": "Deny", "expression": "true"}])


@pytest.fixture(scope="module")
def started(pg18: Server) -> Iterator[Gateway]:
    gateway = gateways.prepare(servers.scratch("workers"), pg18)
    gateway.arguments = ("--workers", "2")
    gateway.write(gateways.connection(pg18, gateway.port), *gateways.secrets_for(pg18), ALLOW_ALL)
    gateway.start()
    yield gateway
    gateway.destroy()


@pytest.fixture
def gateway(started: Gateway) -> Gateway:
    """Both workers are there: an earlier test may have killed one."""
    until(lambda: started.admin("/readyz")[0] == 200)
    return started


def worker_of(wire: Wire) -> int:
    """Which worker a session is at: its cancel key's process id names it."""
    return wire.key[0] >> 24


def session_at(gateway: Gateway, worker: int, protocol: int = PROTOCOL_3_0) -> Wire:
    """The kernel spreads connections by their ports: one at this worker comes soon."""
    while True:
        wire = gateway.login(protocol=protocol)
        if worker_of(wire) == worker:
            return wire
        wire.close()


def worker_pid(gateway: Gateway, worker: int) -> int:
    for pid in gateway.pids()[1:]:
        with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
            if file.read().split(b"\0")[-2:-1] == [str(worker).encode()]:
                return pid
    raise AssertionError(f"no worker {worker} among {gateway.pids()}")


def cancel(gateway: Gateway, wire: Wire) -> None:
    """A CancelRequest from a new port; ends when the gateway has closed the connection."""
    with socket.create_connection((gateway.host, gateway.port), 20) as connection:
        connection.sendall(wire.cancel_request())
        assert connection.recv(1) == b""


def asked(wire: Wire, sql: str) -> str:
    wire.send(query(sql))
    return "".join(message.type for message in wire.until())


def test_sessions_come_to_both_and_the_metrics_are_of_both(gateway: Gateway) -> None:
    wires = [session_at(gateway, worker) for worker in (1, 2, 1)]
    before = metrics(gateway.admin("/metrics")[1])
    assert before['ostiary_sessions_open{connection="default/app"}'] == 3
    requests = 'ostiary_requests_total{connection="default/app",decision="Allow",protocol="Postgres"}'
    assert [asked(wire, "select 1") for wire in wires] == ["TDCZ"] * 3
    after = metrics(gateway.admin("/metrics")[1])
    assert after[requests] - before.get(requests, 0) == 3
    assert (after["ostiary_workers"], after["ostiary_workers_serving"]) == (2, 2)
    assert after["ostiary_bundle_loads_total"] == 1


@pytest.mark.parametrize("protocol", [PROTOCOL_3_0, PROTOCOL_3_2])
@pytest.mark.parametrize("worker", [1, 2])
def test_a_cancel_reaches_its_session_whichever_worker_it_comes_to(
    gateway: Gateway, worker: int, protocol: int
) -> None:
    wire = session_at(gateway, worker, protocol)
    assert len(wire.key[1]) == (32 if protocol == PROTOCOL_3_2 else 4)
    wire.send(query("select pg_sleep(60)"))
    ended = threading.Event()

    def cancelling() -> None:
        # Each comes from another port, and so to either worker: some of them only to the other one.
        while not ended.is_set():
            cancel(gateway, wire)
            time.sleep(0.05)

    thread = threading.Thread(target=cancelling)
    thread.start()
    try:
        errors = [message.fields["C"] for message in wire.until() if message.type == "E"]
    finally:
        ended.set()
        thread.join()
    assert errors == ["57014"]


def test_both_workers_were_asked_to_cancel_for_the_other(gateway: Gateway) -> None:
    """Of 16 requests for sessions of one worker, all come to that one with a chance of 1 to 65,536."""
    for worker in (1, 2):
        wires = [session_at(gateway, worker) for _ in range(16)]
        for wire in wires:
            wire.send(query("select pg_sleep(60)"))
        time.sleep(0.3)
        for wire in wires:
            cancel(gateway, wire)
        found = [message.fields["C"] for wire in wires for message in wire.until() if message.type == "E"]
        assert found == ["57014"] * 16


def test_wrong_keys_cancel_nothing_at_either(gateway: Gateway) -> None:
    wires = [session_at(gateway, worker) for worker in (1, 2)]
    for wire in wires:
        wire.send(query("select pg_sleep(0.5)"))
        process, key = wire.key
        wire.key = (process, bytes(len(key)))
        for _ in range(4):
            cancel(gateway, wire)
        wire.key = (0, key)
        cancel(gateway, wire)
    for wire in wires:
        assert "E" not in [message.type for message in wire.until()]


def test_a_killed_worker_comes_again_and_the_sessions_of_the_other_live(gateway: Gateway) -> None:
    lost, kept = session_at(gateway, 1), session_at(gateway, 2)
    counted = metrics(gateway.admin("/metrics")[1])
    os.kill(worker_pid(gateway, 1), signal.SIGKILL)
    assert lost.socket.recv(1) == b""
    assert asked(kept, "select 1") == "TDCZ"
    restarts = "ostiary_worker_restarts_total"
    until(lambda: metrics(gateway.admin("/metrics")[1])[restarts] > counted[restarts])
    until(lambda: gateway.admin("/readyz")[0] == 200)
    assert asked(session_at(gateway, 1), "select 1") == "TDCZ"
    assert asked(kept, "select 1") == "TDCZ"
    after = metrics(gateway.admin("/metrics")[1])
    assert after[restarts] == counted[restarts] + 1
    sessions = 'ostiary_sessions_total{connection="default/app"}'
    assert after[sessions] > counted[sessions], "what the dead one counted is lost"


def test_a_reload_reaches_both(gateway: Gateway) -> None:
    wires = [session_at(gateway, worker) for worker in (1, 2)]
    manifests = gateway.connection_manifests
    try:
        gateway.write(*manifests, DENY_ALL)
        os.kill(gateway.pid, signal.SIGHUP)
        for wire in wires:
            until(lambda wire=wire: asked(wire, "select 1") == "EZ")  # type: ignore[misc]
    finally:
        gateway.write(*manifests, ALLOW_ALL)
        os.kill(gateway.pid, signal.SIGHUP)
    for wire in wires:
        until(lambda wire=wire: asked(wire, "select 1") == "TDCZ")  # type: ignore[misc]


def test_their_records_are_one(gateway: Gateway) -> None:
    for worker in (1, 2):
        wire = session_at(gateway, worker)
        asked(wire, f"select {worker} as worker")
        wire.close()
    until(lambda: all(f"select {worker} as worker" in gateway.run("export") for worker in (1, 2)))
    assert "audit-2.db" in gateway.run("verify")
    found = [json.loads(line) for line in gateway.run("sessions", "--json", "--limit", "5").splitlines()]
    assert len(found) == 5
    assert [each["opened"] for each in found] == sorted((each["opened"] for each in found), reverse=True)
    for each in found:
        assert each["id"] in gateway.run("session", each["id"])
    assert "several sessions begin with" in gateway.run("session", "0", check=False)
    assert "there is no session" in gateway.run("session", "zzz", check=False)
    assert "an anchor is of one" in gateway.run("verify", "--anchor", "1:00", check=False)


def test_with_fewer_workers_the_sessions_of_the_others_do_not_stay_open(pg18: Server) -> None:
    gateway = gateways.prepare(servers.scratch("workers-fewer"), pg18)
    gateway.arguments = ("--workers", "2")
    gateway.write(gateways.connection(pg18, gateway.port), *gateways.secrets_for(pg18), ALLOW_ALL)
    gateway.start()
    wire = session_at(gateway, 2)
    asked(wire, "select 1")
    until(lambda: "open" in states(gateway))
    pids = gateway.pids()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    until(lambda: gateway.process is not None and gateway.process.poll() is not None)
    gateway.arguments = ()
    gateway.start()
    until(lambda: states(gateway) == {"lost"})
    gateway.destroy()


def states(gateway: Gateway) -> set[str]:
    return {json.loads(line)["state"] for line in gateway.run("sessions", "--json", "--limit", "1").splitlines()}


def test_manifests_that_are_wrong_are_told_once(pg18: Server) -> None:
    gateway = gateways.prepare(servers.scratch("workers-wrong"), pg18)
    gateway.arguments = ("--workers", "2")
    gateway.write(gateways.connection(pg18, gateway.port), ALLOW_ALL)
    with pytest.raises(AssertionError, match="did not start"):
        gateway.start()
    assert gateway.process is not None
    assert gateway.process.wait(10) == 1
    assert gateway.log_text().count("Nothing is served.") == 1
    gateway.destroy()


def test_a_port_that_another_gateway_has_is_not_shared(gateway: Gateway, pg18: Server) -> None:
    second = gateways.prepare(servers.scratch("workers-second"), pg18)
    second.arguments = ("--workers", "2")
    second.write(gateways.connection(pg18, gateway.port), *gateways.secrets_for(pg18), ALLOW_ALL)
    with pytest.raises(AssertionError, match="did not start"):
        second.start()
    assert "is another gateway running there?" in second.log_text()
    second.destroy()


def test_workers_end_when_their_supervisor_is_killed(pg18: Server) -> None:
    gateway = gateways.prepare(servers.scratch("workers-orphans"), pg18)
    gateway.arguments = ("--workers", "2")
    gateway.write(gateways.connection(pg18, gateway.port), *gateways.secrets_for(pg18), ALLOW_ALL)
    gateway.start()
    pids = gateway.pids()
    os.kill(gateway.pid, signal.SIGKILL)
    until(lambda: gateway.process is not None and gateway.process.poll() is not None)
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))  # noqa: PTH110
    gateway.destroy()
