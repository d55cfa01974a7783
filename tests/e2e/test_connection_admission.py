"""Nobody gets a right by writing a Connection: the API server asks who writes what credentials let agents use."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from support.cluster import Cluster
from support.guarded import Guarded, guarded

pytestmark = pytest.mark.cluster

Done = subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def world(cluster: Cluster) -> Iterator[Guarded]:
    """dave may write Connections and nothing else; alice may make tokens of `worker` as well; bob may impersonate."""
    with guarded(cluster) as found:
        there = found.cluster
        there.ok("create", "serviceaccount", "worker")
        connections, writing = {"apiGroups": ["ostiary.dev"], "resources": ["connections"]}, ["get", "create", "patch"]
        tokens = {"apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": ["worker"]}
        own = {**connections, "resourceNames": ["own"], "verbs": ["impersonate"]}
        grant(there, "writers", {**connections, "verbs": writing}, "alice", "bob", "mallory")
        grant(there, "tokens", {**tokens, "verbs": ["create"]}, "alice")
        grant(there, "own-names", own, "bob")
        yield found


def grant(where: Cluster, name: str, rule: dict[str, Any], *who: str) -> None:
    meta = {"name": name, "namespace": where.namespace}
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": meta, "rules": [rule]}
    where.ok("create", "-f", "-", manifest=role)
    where.ok("create", "rolebinding", name, f"--role={name}", *(f"--user={each}" for each in who))


def connection(name: str, credentials: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "ostiary.dev/v1alpha1",
        "kind": "Connection",
        "metadata": {"name": name},
        "spec": {"protocol": "Kubernetes", "credentials": credentials, "listener": {"port": 443}, **spec},
    }


TOKENS = {"serviceAccountToken": {"name": "worker"}}
IMPERSONATE: dict[str, Any] = {"impersonate": {}}
STATIC = {"static": {"secretRef": {"name": "a"}}}


def create(world: Guarded, who: str, manifest: object) -> Done:
    return world.run(who, "create", "--dry-run=server", "-f", "-", manifest=manifest)


@pytest.mark.parametrize(
    ("who", "credentials"),
    [
        ("mallory", TOKENS),
        ("alice", {"serviceAccountToken": {"name": "default"}}),
        ("alice", {"serviceAccountToken": {"name": "worker", "namespace": "kube-system"}}),
        ("bob", TOKENS),
    ],
)
def test_who_may_not_make_a_token_lets_no_agent_use_it(world: Guarded, who: str, credentials: dict[str, Any]) -> None:
    done = create(world, who, connection("own", credentials))
    account = credentials["serviceAccountToken"]
    name = f"{account.get('namespace', world.namespace)}/{account['name']}"
    assert f"{who} may not create serviceaccounts/token of {name}" in done.stderr
    assert done.returncode != 0


def test_who_may_make_a_token_may_let_agents_use_it(world: Guarded) -> None:
    assert create(world, "alice", connection("any", TOKENS)).returncode == 0


@pytest.mark.parametrize(("who", "name"), [("mallory", "own"), ("alice", "own"), ("bob", "another")])
def test_a_gateway_impersonates_only_where_an_administrator_says_so(world: Guarded, who: str, name: str) -> None:
    done = create(world, who, connection(name, IMPERSONATE))
    assert f"{who} has not the verb impersonate on connections.ostiary.dev {world.namespace}/{name}" in done.stderr


def test_who_has_the_verb_may_write_just_that_connection(world: Guarded) -> None:
    assert create(world, "bob", connection("own", IMPERSONATE)).returncode == 0


def test_what_comes_with_its_own_secret_uses_no_right_of_the_gateway(world: Guarded) -> None:
    for credentials in (
        STATIC,
        {"impersonate": {"secretRef": {"name": "a"}}},
        {"serviceAccountToken": {"name": "worker", "secretRef": {"name": "a"}}},
    ):
        assert create(world, "mallory", connection("own", credentials)).returncode == 0


def patched(world: Guarded, who: str, name: str, patch: object) -> Done:
    return world.run(who, "patch", "connection", name, "--type=merge", "--dry-run=server", "-p", json.dumps(patch))


def test_a_connection_that_uses_a_right_is_changed_only_by_who_has_it(world: Guarded) -> None:
    """With `authentication` somebody could let himself in, and choose his own name."""
    world.run("root", "create", "-f", "-", manifest=connection("served", TOKENS))
    world.run("root", "create", "-f", "-", manifest=connection("own", IMPERSONATE))
    letting_in = {"spec": {"authentication": {"tokens": "Allow", "serviceAccounts": "Allow"}}}
    for who, name, says in (
        ("mallory", "served", "may not create serviceaccounts/token"),
        ("bob", "served", "may not create serviceaccounts/token"),
        ("mallory", "own", "has not the verb impersonate"),
    ):
        assert says in patched(world, who, name, letting_in).stderr
        annotated = patched(world, who, name, {"metadata": {"annotations": {"a": "b"}}})
        assert annotated.returncode == 0, annotated.stderr
    assert patched(world, "alice", "served", letting_in).returncode == 0
    assert patched(world, "bob", "own", letting_in).returncode == 0
    world.cluster.ok("delete", "connection", "served", "own")


def test_a_harmless_connection_does_not_become_another(world: Guarded) -> None:
    world.run("root", "create", "-f", "-", manifest=connection("harmless", STATIC))
    done = patched(world, "mallory", "harmless", {"spec": {"credentials": {"static": None, **IMPERSONATE}}})
    assert "has not the verb impersonate" in done.stderr
    world.cluster.ok("delete", "connection", "harmless")
