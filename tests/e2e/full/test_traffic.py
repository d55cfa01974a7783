"""What agents with ServiceAccount tokens notice when things are taken away under them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from support.cluster import SCRIPTS
from support.full_cluster import SYSTEM, FullCluster
from support.shop import ENDED, Shop, traffic, until

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

CONVERGED = 120
"""Seconds that are too many; two or three as a rule."""


@pytest.fixture(autouse=True, scope="module")
def tidy(shop: Shop) -> Iterator[None]:
    """What these tests change is put right."""
    yield
    shop.cluster.ok("delete", "gwpol", "no-word", "--ignore-not-found")


def policy(word: str) -> dict[str, object]:
    """A policy that denies statements with a word in them."""
    rule = {"name": "word", "action": "Deny", "expression": f"sql.text.contains('{word}')", "message": f"No {word}."}
    match = {"connectionSelector": {"matchLabels": {"env": "prod"}}}
    return {
        "apiVersion": "ostiary.dev/v1alpha1",
        "kind": "GatewayPolicy",
        "metadata": {"name": "no-word"},
        "spec": {"match": match, "rules": [rule]},
    }


def converges(shop: Shop, word: str) -> None:
    """A changed policy is soon in force."""
    shop.cluster.ok("apply", "-f", "-", manifest=policy(word))
    until(lambda: f"No {word}." in shop.psql(f"select '{word}'").stderr, "the change is in force", CONVERGED)


def test_a_gateway_pod_is_deleted_and_its_sessions_end_in_peace(shop: Shop) -> None:
    with traffic(shop) as seen:
        before = shop.gateway_pods()
        # One after the other, so that the session that stays open is on one of them.
        for name in before:
            shop.cluster.ok("delete", "pod", name, "--wait=false")
            until(lambda name=name: name not in shop.gateway_pods() and shop.at_rest(), "another pod is there", 240)  # type: ignore[misc]
        seen.goes_on()
        # Who comes finds another pod. A session that stays open is told, between two statements, to come again.
        assert seen.problems("short") == []
        told = seen.lines("long")
        # The last end may be told already, and not yet counted.
        ends, reasons = told.count(ENDED), sum("The gateway is shutting down." in each for each in told)
        assert 1 <= ends <= reasons <= ends + 1


def test_a_child_that_somebody_deletes_is_made_again(shop: Shop) -> None:
    with traffic(shop) as seen:
        for kind in ("role", "rolebinding", "networkpolicy", "configmap", "service"):
            shop.cluster.ok("delete", kind, "ostiary-shop")
        for kind in ("role", "rolebinding", "networkpolicy", "configmap", "service"):
            until(lambda kind=kind: shop.cluster.kubectl("get", kind, "ostiary-shop").returncode == 0, kind, CONVERGED)  # type: ignore[misc]
        # A new Service has another address, which names are resolved to when DNS has forgotten the old one.
        until(lambda: shop.psql("select 1").returncode == 0, "agents can connect", 240)
        converges(shop, "capybara")
        seen.goes_on()
        assert seen.problems("long") == []


def test_the_api_server_is_restarted(release: FullCluster, shop: Shop) -> None:
    if "LOAD_IMAGE" not in release.environment:
        pytest.skip("only the API server of the scripts' own cluster can be restarted from here")
    with traffic(shop) as seen:
        done = subprocess.run([str(SCRIPTS / "restart"), "kube-apiserver"], capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        until(lambda: release.kubectl("get", "--raw", "/readyz").returncode == 0, "the API server is back", 120)
        converges(shop, "dingo")
        seen.goes_on()
        assert seen.problems() == []
    conditions = {each["type"]: each["status"] for each in shop.cluster.get("gwconn", "shop")["status"]["conditions"]}
    assert conditions["Programmed"] == "True"
    assert release.namespace == SYSTEM
