"""The life of a release: upgrade, rollback, uninstall. Agents work on all the while, and nothing is left behind.

The last tests of the folder: they take the release away.
"""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from support.full_cluster import SYSTEM, FullCluster
from support.release import PATIENCE, installed, settled
from support.shop import NAMESPACE, Shop, traffic, until

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(autouse=True)
def at_rest(release: FullCluster, shop: Shop) -> None:
    """The release is there, whatever a test before has left, and nothing of it is changing any more."""
    if not installed(release):
        release.step("install")
    settled(release, shop)


def test_notes_tell_what_to_do_next(release: FullCluster) -> None:
    notes = release.helm_ok("get", "notes", "ostiary")
    assert f"kubectl --namespace {SYSTEM} rollout status deployment/ostiary-operator" in notes
    assert "kubectl apply -k examples/kubernetes" in notes
    assert "--clusterrole ostiary-approver" in notes
    assert "WARNING" not in notes


def test_the_release_checks_itself_and_leaves_nothing_of_that(release: FullCluster) -> None:
    said = release.helm_ok("test", "ostiary")
    assert "Succeeded" in said
    assert "NotFound" in release.kubectl("get", "pod", "ostiary-test").stderr


def test_changed_values_reach_the_gateways_while_an_agent_works(release: FullCluster, shop: Shop) -> None:
    before = shop.gateway_pods()
    with traffic(shop) as seen:
        release.step("install", HELM_ARGS="--set gateway.logLevel=debug --set gateway.podLabels.tier=door")
        until(lambda: shop.gateway_pods().keys().isdisjoint(before), "all pods of the gateway are new", PATIENCE)
        settled(release, shop)
        seen.goes_on()
        assert seen.problems("short") == []
    pods = shop.cluster.get("pods", "-l", "ostiary.dev/gateway=shop,tier=door")["items"]
    assert len([each for each in pods if not each["metadata"].get("deletionTimestamp")]) == 2


def test_a_session_that_is_open_ends_in_peace_when_its_pod_is_replaced(release: FullCluster, shop: Shop) -> None:
    before = shop.gateway_pods()
    statement = "select 'finished' from pg_sleep(30)"
    long = shop.begin(statement)
    running = f"select count(*) from pg_stat_activity where state = 'active' and query = $${statement}$$"
    until(lambda: shop.superuser(running) == "1", "the statement runs")
    # Not by an upgrade of the release: the pod must go while the statement runs, however long upgrades take.
    shop.cluster.ok("rollout", "restart", "deployment/ostiary-shop")
    until(lambda: shop.gateway_pods().keys().isdisjoint(before), "all pods of the gateway are new", PATIENCE)
    out, err = long.communicate(timeout=120)
    assert "finished" in out, err


def test_another_image_is_rolled_out_and_rolled_back(release: FullCluster, shop: Shop) -> None:
    loader = release.environment.get("LOAD_IMAGE")
    if loader is None:
        pytest.skip("the cluster's nodes pull images; a second tag cannot be made from here")
    base = release.environment["BUILD_ARGS"].split()
    if os.environ.get("E2E_IMAGES") != "ready":
        command = [loader, "build", "-t", "localhost/ostiary-gateway:next", *base, "--build-arg", "VERSION=next"]
        subprocess.run([*command, "-f", "gateway/Dockerfile", "."], check=True, capture_output=True, timeout=1800)
    before = shop.gateway_pods()
    with traffic(shop) as seen:
        release.step("install", HELM_ARGS="--set gateway.image.tag=next")
        until(lambda: shop.gateway_pods().keys().isdisjoint(before), "all pods of the gateway are new", PATIENCE)
        settled(release, shop)
        assert set(shop.gateway_pods().values()) == {"localhost/ostiary-gateway:next"}
        release.helm_ok("rollback", "ostiary", "--wait", "--timeout=5m")
        until(lambda: set(shop.gateway_pods().values()) == set(before.values()), "the old image is back", PATIENCE)
        settled(release, shop)
        seen.goes_on()
        assert seen.problems("short") == []


def test_a_binding_that_somebody_emptied_is_put_right(release: FullCluster, shop: Shop) -> None:
    def subjects() -> list[str]:
        found = release.get("clusterrolebinding", "ostiary-gateways").get("subjects") or []
        return [f"{each['namespace']}/{each['name']}" for each in found]

    def right() -> bool:
        return subjects() == ["demo/ostiary-shop"]

    until(right, "the gateway is bound")
    release.ok("patch", "clusterrolebinding", "ostiary-gateways", "--type=merge", "-p", json.dumps({"subjects": []}))
    # Other values: the operator begins anew, and looks at everything.
    release.step("install", HELM_ARGS="--set gateway.logLevel=error")
    until(right, "the gateway is bound again", PATIENCE)


def test_without_the_release_gateways_serve_on_and_installed_again_it_takes_them_over(
    release: FullCluster, shop: Shop
) -> None:
    before = shop.gateway_pods()
    release.helm_ok("uninstall", "ostiary", "--wait")
    assert "demo" in release.ok("get", "gwconn", "-A")
    # Whom the gateway has looked up lately it still lets in.
    assert shop.gateway_pods() == before
    release.step("install")
    settled(release, shop)
    shop.cluster.ok("wait", "--for=condition=Programmed", "gwconn/shop", "--timeout=180s")
    until(lambda: shop.psql("select 1").returncode == 0, "the agent gets answers", PATIENCE)


def test_nothing_but_the_crds_is_left_behind(release: FullCluster, shop: Shop) -> None:
    shop.cluster.ok("delete", "namespace", NAMESPACE, "--timeout=180s")
    release.ok("delete", "gwconn", "--all", "--all-namespaces")
    release.helm_ok("uninstall", "ostiary", "--wait")

    def left() -> list[str]:
        wide = ["clusterrole", "clusterrolebinding", "validatingadmissionpolicy", "validatingadmissionpolicybinding"]
        cluster = release.ok("get", ",".join(wide), "-o", "name").split()
        kinds = "all,serviceaccounts,configmaps,secrets,roles,rolebindings,leases,pdb,networkpolicies,approvalrequests"
        own = release.ok("get", kinds, "-o", "name").split()
        standard = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
        return [each for each in cluster if "ostiary" in each] + [each for each in own if each not in standard]

    until(lambda: left() == [], lambda: f"all objects of the release are gone; there are {left()}", PATIENCE)
    crds = release.ok("get", "crd", "-o", "name").split()
    assert len([each for each in crds if each.endswith(".ostiary.dev")]) == 3
