"""What happens to agents at work when parts of the cluster go away: operator, gateway pods, API server, kubelet.

All the while every answer is checked: what is allowed runs, what is denied never does, what is hidden stays hidden, and
nothing waits for ever. Each time policies change as well, and soon all is as it should be; how soon is printed.
"""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator

import pytest
from support.agents import Agents, until
from support.cluster import SCRIPTS
from support.full_cluster import FullCluster
from support.shop import Shop

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

FORCED = ("--force", "--grace-period=0")
TABLES = """
create table if not exists ledger (n int);
create table if not exists switched (note text);
truncate ledger, switched;
insert into switched values ('there');
grant select, insert on ledger, switched to shop;
"""


@pytest.fixture(scope="module")
def agents(shop: Shop) -> Iterator[Agents]:
    """Agents at work on the example's database, by a Connection of their own."""
    shop.superuser(TABLES)
    namespace = f"disturbed-{uuid.uuid4().hex[:6]}"
    image = shop.cluster.get("pods", "-l", "ostiary.dev/gateway=shop")["items"][0]["spec"]["containers"][0]["image"]
    made = Agents(shop.cluster, namespace, image, "database.demo.svc", "known-to-the-gateway-only")
    try:
        made.begin()
        yield made
    finally:
        made.end()


@pytest.fixture(autouse=True)
def checked(agents: Agents, shop: Shop) -> Iterator[None]:
    """Whatever a test does: every answer was right, and nothing that is denied has run."""
    mark = agents.mark()
    yield
    assert agents.since(mark, "wrong") == []
    agents.go_on()
    assert shop.superuser("select count(*) from ledger") == "0"


def leader(release: FullCluster) -> str:
    """The operator's pod that holds the Lease."""
    return str(release.get("lease", "ostiary-operator")["spec"].get("holderIdentity", ""))


def other(agents: Agents) -> str:
    """What the agents are not answered now."""
    return "denied" if set(agents.see().values()) == {"allowed"} else "allowed"


@pytest.mark.parametrize("how", [(), FORCED], ids=["asked", "killed"])
def test_the_leading_operator_is_deleted(release: FullCluster, agents: Agents, how: tuple[str, ...]) -> None:
    mark, to, before = agents.mark(), other(agents), leader(release)
    release.ok("delete", "pod", before, "--wait=false", *how)
    since = time.monotonic()
    agents.turn(to)
    agents.converged(to, since)
    until(lambda: leader(release) not in ("", before), "another replica leads", 90)
    assert agents.since(mark, "end") == []
    assert agents.since(mark, "login") == []
    release.ok("rollout", "status", "deployment/ostiary-operator", "--timeout=240s")


def test_both_operators_are_deleted(release: FullCluster, agents: Agents) -> None:
    mark, to = agents.mark(), other(agents)
    release.ok("delete", "pod", "-l", "app.kubernetes.io/name=ostiary-operator", "--wait=false")
    agents.turn(to)
    release.ok("rollout", "status", "deployment/ostiary-operator", "--timeout=240s")
    agents.converged(to, time.monotonic())
    assert agents.since(mark, "end") == []
    assert agents.since(mark, "login") == []


@pytest.mark.parametrize("how", [(), FORCED], ids=["asked", "killed"])
def test_a_pod_of_the_gateway_is_deleted(agents: Agents, how: tuple[str, ...]) -> None:
    mark, to, opened = agents.mark(), other(agents), agents.open()
    address = max(agents.gateway_pods(), key=list(opened.values()).count)
    agents.cluster.ok("delete", "pod", agents.gateway_pods()[address], "--wait=false", *how)
    agents.turn(to)

    def ended() -> bool:
        gone = {each["agent"] for each in agents.since(mark, "end")}
        return gone >= {agent for agent, pod in opened.items() if pod == address}

    until(ended, "the sessions of the pod have ended", 120)
    until(lambda: len(agents.gateway_pods()) == 2, "there is another pod", 240)
    agents.converged(to, time.monotonic())
    ends = agents.since(mark, "end")
    assert {each["pod"] for each in ends} == {address}
    if not how:
        assert {(each["code"], each["doing"]) for each in ends} <= {("57P01", "at rest"), ("57P01", "at work")}
        assert agents.since(mark, "login") == []


def restart(*names: str) -> Callable[[], None]:
    """Kills parts of the cluster's control plane, and starts them again."""
    command = os.environ.get("E2E_RESTART", str(SCRIPTS / "restart")).split()

    def done() -> None:
        if not os.access(command[0], os.X_OK):
            pytest.skip("how to restart a part of this cluster: E2E_RESTART='PROGRAM ARGUMENT…', run with their names")
        ran = subprocess.run([*command, *names], capture_output=True, text=True, timeout=180)
        assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]

    return done


@pytest.mark.parametrize(
    "names",
    [("kube-apiserver",), ("etcd", "kube-apiserver"), ("kubelet",), ("kube-controller-manager", "kube-scheduler")],
    ids="-and-".join,
)
def test_a_part_of_the_control_plane_is_killed_and_comes_back(agents: Agents, names: tuple[str, ...]) -> None:
    mark, to = agents.mark(), other(agents)
    restart(*names)()
    since = time.monotonic()
    agents.turn(to)
    agents.converged(to, since)
    assert agents.since(mark, "end") == []
    assert agents.since(mark, "login") == []


def test_a_change_just_before_the_api_server_dies_is_not_forgotten(agents: Agents) -> None:
    mark, to = agents.mark(), other(agents)
    agents.turn(to)
    restart("kube-apiserver")()
    agents.converged(to, time.monotonic())
    assert agents.since(mark, "end") == []


def test_everything_at_once(release: FullCluster, agents: Agents) -> None:
    to, opened = other(agents), agents.open()
    address = next(iter(agents.gateway_pods()))
    mark = agents.mark()
    agents.cluster.ok("delete", "pod", agents.gateway_pods()[address], "--wait=false")
    release.ok("delete", "pod", leader(release), "--wait=false", *FORCED)
    restart("kube-apiserver")()
    agents.turn(to)
    until(lambda: len(agents.gateway_pods()) == 2, "there is another pod", 240)
    release.ok("rollout", "status", "deployment/ostiary-operator", "--timeout=240s")
    agents.converged(to, time.monotonic())
    assert {each["pod"] for each in agents.since(mark, "end")} <= {address}
    assert set(agents.open()) == set(opened)
