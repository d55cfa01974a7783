"""What should be there for a gateway, and what is left over."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from support.world import ALLOW, NAMESPACE, World, child

from ostiary_api.bundle_feed import FeedBundle, SecretVersion, unpack
from ostiary_api.names import child_labels
from ostiary_operator.observed import Approvals, ChildKey, read_connection
from ostiary_operator.reconcile.gateways import GatewayPlan, NotSeenError


def kinds(plan: GatewayPlan) -> list[str]:
    return [f"{each['kind']} {each['metadata']['name']}" for each in plan.objects]


def bundle(plan: GatewayPlan) -> FeedBundle:
    data = {each["metadata"]["name"]: each["data"] for each in plan.objects if each["kind"] == "ConfigMap"}
    return unpack(plan.gateway, data)


def template(world: World, gateway: str = "app-db") -> Any:
    return child(world.plan(gateway), "Deployment", f"ostiary-{gateway}")["spec"]["template"]


def test_a_connection_gets_a_gateway(world: World) -> None:
    world.connection()
    plan = world.plan()
    assert kinds(plan) == [
        "ServiceAccount ostiary-app-db",
        "Role ostiary-app-db",
        "RoleBinding ostiary-app-db",
        "NetworkPolicy ostiary-app-db",
        "ConfigMap ostiary-app-db",
        "Service ostiary-app-db-peers",
        "Service ostiary-app-db",
        "Deployment ostiary-app-db",
    ]
    assert plan.orphans == ()
    for each in plan.objects:
        assert each["metadata"]["labels"] == child_labels(NAMESPACE, "app-db")
        assert each["metadata"]["namespace"] == NAMESPACE


def test_children_go_with_the_last_connection_that_shares_them(world: World) -> None:
    world.connection("a", gateway={"name": "shared"})
    world.connection("b", port=5433, gateway={"name": "shared"})
    plan = world.plan("shared")
    owners = {each["metadata"]["name"]: each["metadata"]["ownerReferences"] for each in plan.objects}
    assert [owner["name"] for owner in owners["ostiary-shared"]] == ["a", "b"]
    assert [owner["name"] for owner in owners["ostiary-a"]] == ["a"]
    assert owners["ostiary-a"][0]["uid"] == world.connections[f"{NAMESPACE}/a"].uid
    assert not any(owner["controller"] or owner["blockOwnerDeletion"] for group in owners.values() for owner in group)


def test_the_same_cluster_gives_the_same_plan(world: World) -> None:
    for name, port in (("b", 1), ("a", 2), ("c", 3)):
        world.connection(name, port=port, gateway={"name": "g"})
    for name in "zyx":
        world.policy(name, ALLOW)
    first = json.dumps(world.plan("g").objects)
    for mapping in (world.connections, world.policies, world.secrets):
        items = list(mapping.items())
        mapping.clear()
        mapping.update(reversed(items))  # type: ignore[arg-type]
    assert json.dumps(world.plan("g").objects) == first


# Pods are left alone


CHANGES: dict[str, Any] = {
    "a new policy": lambda world: world.policy("p", ALLOW),
    "a label of a Connection": lambda world: world.connection(labels={"env": "prod"}),
    "another Connection": lambda world: world.connection("another", port=6432, gateway={"name": "app-db"}),
    "another port": lambda world: world.connection(port=6432),
    "a changed Secret": lambda world: world.secret("app-db-login"),
    "a token": lambda world: world.secret("token", token=True),
    "more replicas": lambda world: world.connection(gateway={"replicas": 3}),
    "a label of the namespace": lambda world: world.namespaces.update({NAMESPACE: {"team": "other"}}),
    "unusable approvals": lambda world: setattr(world, "approvals", Approvals(False, "no policy")),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_no_pod_is_restarted_by(world: World, change: Any) -> None:
    world.connection()
    before, revision = template(world), world.plan().revision
    change(world)
    assert template(world) == before
    assert world.plan().revision != revision, "the gateway is not told"


def test_pods_are_restarted_for_the_first_port_that_needs_a_right(world: World) -> None:
    world.connection()
    assert "sysctls" not in template(world)["spec"]["securityContext"]
    world.connection("low", port=443, gateway={"name": "app-db"})
    assert template(world)["spec"]["securityContext"]["sysctls"] == [
        {"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}
    ]
    before = template(world)
    world.connection("lower", port=80, gateway={"name": "app-db"})
    assert template(world) == before


# The pod


def test_a_pod_is_restricted(world: World) -> None:
    world.connection()
    spec = template(world)["spec"]
    container = spec["containers"][0]
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    written = {volume["name"]: volume for volume in spec["volumes"]}
    assert written["data"]["emptyDir"] == {"sizeLimit": "2Gi"}
    assert written["tmp"]["emptyDir"] == {"sizeLimit": "64Mi"}
    assert not any("secret" in volume for volume in spec["volumes"])


def test_a_pod_says_which_gateway_it_is_and_drains() -> None:
    world = World(drainSeconds=45, logLevel="debug")
    world.connection()
    spec = template(world)["spec"]
    container = spec["containers"][0]
    assert " ".join(container["command"]) == (
        "ostiary gateway --namespace shop --name app-db --drain 45"
    )
    assert spec["terminationGracePeriodSeconds"] == 60
    names = [item["name"] for item in container["env"]]
    assert names[:2] == ["POD_NAME", "POD_IP"]
    assert [container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")] == [
        "/livez",
        "/livez",
        "/readyz",
    ]
    assert container["ports"] == [{"name": "admin", "containerPort": 9911, "protocol": "TCP"}]


def test_with_a_store_a_pod_sends_its_record_there_and_shows_a_token_for_nothing_else() -> None:
    world = World(
        store={"url": "https://ostiary-store.ostiary-system.svc:8443"},
        consoleAccount="ostiary-system/ostiary-console",
        drainSeconds=45,
    )
    world.settings = replace(world.settings, store_ca="-----BEGIN CERTIFICATE-----")
    world.connection()
    pod = template(world)
    container = pod["spec"]["containers"][0]
    assert " ".join(container["command"]) == (
        "ostiary gateway --namespace shop --name app-db --drain 45"
        " --ship-to https://ostiary-store.ostiary-system.svc:8443 --ship-token /run/ostiary/store/token --ship-grace 10"
        " --ship-ca /run/ostiary/store/ca.crt --keep-local 512Mi --spool-limit 1536Mi"
        " --console-account ostiary-system/ostiary-console"
    )
    (volume,) = [each for each in pod["spec"]["volumes"] if each["name"] == "store"]
    token, authority = volume["projected"]["sources"]
    assert token["serviceAccountToken"] == {"path": "token", "audience": "ostiary-store", "expirationSeconds": 3600}
    (shown,) = authority["downwardAPI"]["items"]
    assert shown["fieldRef"]["fieldPath"] == "metadata.annotations['ostiary.dev/store-ca']"
    assert pod["metadata"]["annotations"]["ostiary.dev/store-ca"] == world.settings.store_ca
    assert {"name": "store", "mountPath": "/run/ostiary/store", "readOnly": True} in container["volumeMounts"]
    # The last of the record may still be on its way when the sessions are over.
    assert pod["spec"]["terminationGracePeriodSeconds"] == 70


def test_a_store_that_everybody_trusts_needs_no_authority() -> None:
    world = World(store={"url": "https://store.example.com", "keepLocal": "8Mi"}, dataSizeLimit="16Mi")
    world.connection()
    pod = template(world)
    (volume,) = [each for each in pod["spec"]["volumes"] if each["name"] == "store"]
    assert [list(each) for each in volume["projected"]["sources"]] == [["serviceAccountToken"]]
    command = " ".join(pod["spec"]["containers"][0]["command"])
    assert "--ship-ca" not in command
    assert command.endswith("--keep-local 8Mi --spool-limit 12Mi")


def test_other_authorities_of_the_store_roll_the_pods() -> None:
    world = World(store={"url": "https://store.example.com"})
    world.connection()
    before = template(world)
    world.settings = replace(world.settings, store_ca="-----BEGIN CERTIFICATE-----")
    assert template(world) != before


def test_settings_reach_the_pod() -> None:
    world = World(
        imagePullPolicy="Never",
        imagePullSecrets=[{"name": "pull"}],
        nodeSelector={"disk": "ssd"},
        tolerations=[{"key": "agents", "operator": "Exists"}],
        affinity={"nodeAffinity": {}},
        topologySpreadConstraints=[{"topologyKey": "rack", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}],
        priorityClassName="high",
        runtimeClassName="gvisor",
        podAnnotations={"note": "x"},
        podLabels={"cost": "42", "ostiary.dev/gateway": "forged"},
        resources={"limits": {"memory": "1Gi"}},
        metricsAnnotations=True,
        dataSizeLimit="1Gi",
    )
    world.connection()
    pod = template(world)
    spec = pod["spec"]
    assert (spec["imagePullSecrets"], spec["nodeSelector"]) == ([{"name": "pull"}], {"disk": "ssd"})
    assert (spec["tolerations"], spec["affinity"]) == ([{"key": "agents", "operator": "Exists"}], {"nodeAffinity": {}})
    assert (spec["priorityClassName"], spec["runtimeClassName"]) == ("high", "gvisor")
    assert [each["topologyKey"] for each in spec["topologySpreadConstraints"]] == ["rack"]
    assert pod["metadata"]["labels"]["cost"] == "42"
    assert pod["metadata"]["labels"]["ostiary.dev/gateway"] == "app-db"
    assert pod["metadata"]["annotations"]["prometheus.io/port"] == "9911"
    assert spec["containers"][0]["imagePullPolicy"] == "Never"
    assert spec["containers"][0]["resources"] == {"limits": {"memory": "1Gi"}}
    assert spec["volumes"][0]["emptyDir"] == {"sizeLimit": "1Gi"}


# How many


def test_of_connections_that_share_a_gateway_the_most_replicas_count(world: World) -> None:
    world.connection("a", gateway={"name": "g", "replicas": 2})
    world.connection("b", port=5433, gateway={"name": "g", "replicas": 3})
    plan = world.plan("g")
    assert child(plan, "Deployment", "ostiary-g")["spec"]["replicas"] == 3
    assert child(plan, "PodDisruptionBudget", "ostiary-g")["spec"]["maxUnavailable"] == 1


def test_one_replica_has_no_disruption_budget_left(world: World) -> None:
    world.connection(gateway={"replicas": 2})
    world.settle()
    world.apply()
    world.connection(gateway={"replicas": 1})
    assert world.plan().orphans == (ChildKey("PodDisruptionBudget", NAMESPACE, "ostiary-app-db"),)


def test_a_gateway_is_scaled_as_the_connection_says(world: World) -> None:
    scaling = {"minReplicas": 2, "maxReplicas": 6, "targetCPUUtilization": 60}
    world.connection(gateway={"autoscaling": scaling})
    plan = world.plan()
    scaler = child(plan, "HorizontalPodAutoscaler")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 6)
    assert scaler["metrics"][0]["resource"]["target"]["averageUtilization"] == 60
    assert scaler["scaleTargetRef"]["name"] == "ostiary-app-db"
    assert "replicas" not in child(plan, "Deployment")["spec"]
    assert child(plan, "PodDisruptionBudget")


@pytest.mark.parametrize(("there", "kept"), [(1, 2), (4, 4), (9, 6)])
def test_what_the_autoscaler_chose_is_left(world: World, there: int, kept: int) -> None:
    world.connection(gateway={"replicas": there})
    world.settle()
    world.apply()
    world.connection(gateway={"autoscaling": {"minReplicas": 2, "maxReplicas": 6}})
    deployment = child(world.plan(), "Deployment")
    assert deployment["spec"]["replicas"] == kept
    assert deployment["metadata"]["resourceVersion"] == "1"


def test_settings_scale_what_says_nothing_itself() -> None:
    world = World(autoscaling={"enabled": True, "maxReplicas": 4, "targetCPUUtilizationPercentage": 80})
    world.connection("a", gateway={"replicas": 2})
    world.connection("b", port=5433, gateway={"replicas": 6})
    world.connection("c", port=5434, gateway={"autoscaling": {"maxReplicas": 9}})
    bounds = {}
    world.settle()
    for name in "abc":
        spec = child(world.plans[f"{NAMESPACE}/{name}"], "HorizontalPodAutoscaler", f"ostiary-{name}")["spec"]
        bounds[name] = (spec["minReplicas"], spec["maxReplicas"])
    assert bounds == {"a": (2, 4), "b": (6, 6), "c": (1, 9)}


# Who may do what


def rules(plan: GatewayPlan, name: str = "ostiary-app-db") -> dict[str, Any]:
    return {",".join(rule["resources"]): rule for rule in child(plan, "Role", name)["rules"]}


def test_a_gateway_may_read_its_own_objects_by_name(world: World) -> None:
    world.connection("a", gateway={"name": "app-db"})
    world.connection("b", port=5433, gateway={"name": "app-db"})
    world.secret("token", token=True)
    world.secret("somebody-elses")
    found = rules(world.plan())
    assert found["secrets"]["resourceNames"] == ["a-login", "b-login", "token"]
    assert found["secrets"]["verbs"] == ["get"]
    assert found["configmaps"]["resourceNames"] == ["ostiary-app-db"]
    assert found["connections"] == {
        "apiGroups": ["ostiary.dev"],
        "resources": ["connections"],
        "resourceNames": ["a", "b"],
        "verbs": ["serve"],
    }
    assert found["approvalrequests"]["verbs"] == ["create", "get", "list", "watch"]
    assert found["approvalrequests/status"]["verbs"] == ["patch", "update"]


def test_without_a_secret_there_is_no_rule_for_secrets(world: World) -> None:
    """A rule without names would be for all of them."""
    world.connection()
    world.secrets.clear()
    assert "secrets" not in rules(world.plan())


def test_tokens_are_for_connections_that_take_them(world: World) -> None:
    issuer = {"name": "i", "issuer": "https://id.example", "audiences": ["ostiary"]}
    world.connection(authentication={"tokens": "Refuse", "oidc": [issuer]})
    world.secret("token", token=True)
    assert rules(world.plan())["secrets"]["resourceNames"] == ["app-db-login"]


def test_an_ssh_gateway_reads_its_keys_and_no_others(world: World) -> None:
    world.settings = replace(world.settings, protocols=frozenset({"SSH"}))
    world.connection(
        protocol="SSH", upstream={"host": "h", "hostKeys": ["ssh-ed25519 AAAA"]},
        credentials={"sshCertificate": {"caSecretRef": {"name": "user-ca"}, "principals": ["deploy"]}},
        listener={"port": 22, "hostKeyRef": {"name": "host-key"}},
        authentication={"sshCertificates": {"caSecretRef": {"name": "login-ca"}}},
    )  # fmt: skip
    for name in ("user-ca", "host-key", "login-ca", "other"):
        world.secret(name)
    plan = world.plan()
    assert rules(plan)["secrets"]["resourceNames"] == ["host-key", "login-ca", "user-ca"]
    services = [each["spec"]["ports"] for each in plan.objects if each["kind"] == "Service"]
    assert services[-1] == [{"name": "ssh", "port": 22, "targetPort": 22, "protocol": "TCP"}]


MASK = {
    "name": "pii",
    "action": "Mask",
    "masking": [{"detector": "Email", "strategy": {"type": "Pseudonym", "keyRef": {"name": "mask", "key": "k"}}}],
}


def test_a_key_in_the_system_namespace_is_read_by_a_role_there(world: World) -> None:
    world.connection()
    world.secret("mask", "ostiary-system")
    world.policy("p", MASK, namespace="ostiary-system", match={"namespaceSelector": {}})
    plan = world.plan()
    system = [each for each in plan.objects if each["metadata"]["namespace"] == "ostiary-system"]
    assert [each["kind"] for each in system] == ["Role", "RoleBinding"]
    role, binding = system
    assert role["metadata"]["name"] == "ostiary-shop-app-db-92fb4ecf673e2dc94f9f934b2f5c974f"
    assert binding["metadata"]["name"] == role["metadata"]["name"]
    assert "ownerReferences" not in role["metadata"]
    assert role["rules"] == [{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["mask"], "verbs": ["get"]}]
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "ostiary-app-db", "namespace": NAMESPACE}]
    world.apply()
    del world.policies["ostiary-system/p"]
    assert {key.kind for key in world.plan().orphans} == {"Role", "RoleBinding"}


def test_the_admin_port_is_for_the_operator_peers_and_monitoring() -> None:
    monitoring = {"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}
    world = World(networkPolicy={"monitoringFrom": [monitoring]})
    world.connection("a", gateway={"name": "app-db"})
    world.connection("b", port=15432, gateway={"name": "app-db"})
    agents, admin = child(world.plan(), "NetworkPolicy")["spec"]["ingress"]
    assert ([port["port"] for port in agents["ports"]], "from" in agents) == ([5432, 15432], False)
    assert [port["port"] for port in admin["ports"]] == [9911]
    assert admin["from"][0]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "ostiary-system"}
    assert admin["from"][2] == monitoring


def test_a_cluster_may_do_without_network_policies() -> None:
    world = World(networkPolicy={"enabled": False})
    world.connection()
    assert not any(each["kind"] == "NetworkPolicy" for each in world.plan().objects)


# The bundle


def test_the_bundle_has_what_is_for_the_gateway(world: World) -> None:
    world.connection("a", gateway={"name": "app-db"}, labels={"env": "prod"})
    world.connection("b", port=5433)
    world.policy("for-prod", ALLOW, match={"connectionSelector": {"matchLabels": {"env": "prod"}}})
    world.policy("for-test", ALLOW, match={"connectionSelector": {"matchLabels": {"env": "test"}}})
    world.policy("for-all", ALLOW, namespace="ostiary-system", match={"namespaceSelector": {}})
    world.approvals = Approvals(False, "the admission policies are not there")
    plan = world.plan()
    read = bundle(plan)
    assert [connection.key for connection in read.connections] == ["shop/a"]
    assert [policy.key for policy in read.policies] == ["ostiary-system/for-all", "shop/for-prod"]
    assert read.header.namespaces == {NAMESPACE: {"team": "shop"}}
    assert read.header.secrets == (SecretVersion(NAMESPACE, "a-login", "uid-a-login", "2"),)
    assert (read.header.approvals_usable, read.header.approvals_reason) == (False, world.approvals.reason)
    assert plan.reached == {"ostiary-system/for-all": 1, "shop/for-prod": 1}


def test_a_large_bundle_is_split_and_what_it_no_longer_needs_goes(world: World) -> None:
    world.connection()
    text = " || ".join(f"sql.text == '{number:0100}'" for number in range(120))
    for number in range(80):
        world.policy(f"p{number:02}", ALLOW | {"expression": text})
    plan = world.plan()
    parts = [each["metadata"]["name"] for each in plan.objects if each["kind"] == "ConfigMap"]
    assert parts == ["ostiary-app-db-part-1", "ostiary-app-db"]
    assert rules(plan)["configmaps"]["resourceNames"] == ["ostiary-app-db", "ostiary-app-db-part-1"]
    assert len(bundle(plan).policies) == 80
    world.apply()
    for number in range(40, 80):
        del world.policies[f"{NAMESPACE}/p{number:02}"]
    assert world.plan().orphans == (ChildKey("ConfigMap", NAMESPACE, "ostiary-app-db-part-1"),)


# What is not served


def test_of_two_connections_on_one_port_the_younger_waits(world: World) -> None:
    world.connection("older", gateway={"name": "g"})
    world.connection("a-younger", gateway={"name": "g"})
    plan = world.plan("g")
    assert plan.served == ("older",)
    assert "also that of the older Connection older, which shares gateway g" in plan.refused["a-younger"].message
    assert [connection.key for connection in bundle(plan).connections] == ["shop/older"]
    del world.connections[f"{NAMESPACE}/older"]
    assert world.plan("g").served == ("a-younger",)


def test_a_gateway_without_connections_is_taken_down(world: World) -> None:
    world.connection()
    world.secret("mask", "ostiary-system")
    world.policy("p", MASK, namespace="ostiary-system", match={"namespaceSelector": {}})
    world.settle()
    world.apply()
    children = set(world.children)
    world.connections.clear()
    plan = world.plan()
    assert (plan.objects, set(plan.orphans), plan.revision) == ((), children, "")


def test_a_connection_that_cannot_be_read_is_not_served_and_the_others_are(world: World) -> None:
    world.connection("a", gateway={"name": "g"})
    manifest = world._manifest("Connection", "b", NAMESPACE, {"protocol": "Postgres", "gateway": {"name": "g"}}, {})
    world.put_connection(manifest)
    world.settle()
    assert world.plans["shop/g"].served == ("a",)
    assert world.plans["shop/b"].refused["b"].reason == "Invalid"
    assert read_connection(manifest).model is None


def test_a_service_goes_with_its_connection_to_another_gateway(world: World) -> None:
    """It is not deleted in between: agents keep its address."""
    world.connection("a", gateway={"name": "g"})
    world.connection("b", port=5433, gateway={"name": "g"})
    world.settle()
    world.apply()
    world.connection("b", port=5433, gateway={"name": "h"})
    world.settle()
    assert ChildKey("Service", NAMESPACE, "ostiary-b") not in world.plans["shop/g"].orphans
    assert child(world.plans["shop/h"], "Service", "ostiary-b")["spec"]["selector"]["ostiary.dev/gateway"] == "h"


def test_a_service_does_not_stay_with_a_gateway_that_does_not_serve_its_connection(world: World) -> None:
    """Agents would reach another Connection through it."""
    world.connection("a")
    world.connection("b")
    world.settle()
    world.apply()
    world.connection("b", gateway={"name": "a"})
    assert world.plan("a").refused.keys() == {"b"}
    assert ChildKey("Service", NAMESPACE, "ostiary-b") in world.plans["shop/b"].orphans


def test_somebody_elses_object_is_left_alone(world: World) -> None:
    world.connection()
    key = ChildKey("Service", NAMESPACE, "ostiary-app-db")
    world.foreign.add(key)
    plan = world.plan()
    assert plan.foreign == (key,)
    assert "Service ostiary-app-db" not in kinds(plan)


def test_without_the_labels_of_its_namespace_no_bundle_is_made(world: World) -> None:
    guard = {"name": "no-writes", "action": "Deny", "expression": "!sql.statements.all(s, s.readOnly)"}
    prod = {"namespaceSelector": {"matchLabels": {"env": "prod"}}}
    world.policy("guard", guard, namespace="ostiary-system", match=prod)
    world.policy("all", ALLOW)
    world.connection()
    labels = world.namespaces.pop(NAMESPACE)
    with pytest.raises(NotSeenError, match="namespace shop was not seen yet"):
        world.settle()
    world.namespaces[NAMESPACE] = {**labels, "env": "prod"}
    world.settle()
    assert [policy.key for policy in bundle(world.plan()).policies] == ["ostiary-system/guard", "shop/all"]


# Kubernetes: what a gateway may do at the API server for its agents


def in_cluster(**account: Any) -> dict[str, Any]:
    return {"protocol": "Kubernetes", "upstream": {}, "credentials": {"serviceAccountToken": account}}


def token_rules(world: World, gateway: str = "app-db") -> list[Any]:
    rules = child(world.plan(gateway), "Role", f"ostiary-{gateway}")["rules"]
    return [each for each in rules if each["resources"] == ["serviceaccounts/token"]]


@pytest.fixture
def cluster(world: World) -> World:
    world.settings = replace(world.settings, protocols=frozenset({"Postgres", "Kubernetes"}))
    return world


def test_a_gateway_makes_tokens_of_exactly_the_accounts_that_its_connections_name(cluster: World) -> None:
    cluster.connection("b", gateway={"name": "g"}, **in_cluster(name="writer"))
    cluster.connection("a", port=6443, gateway={"name": "g"}, **in_cluster(name="agent", namespace=NAMESPACE))
    cluster.connection("c", port=6444, gateway={"name": "g"}, **in_cluster(name="agent"))
    (rule,) = token_rules(cluster, "g")
    assert rule["resourceNames"] == ["agent", "writer"]
    assert rule["verbs"] == ["create"]
    assert rule["apiGroups"] == [""]


def test_a_connection_that_needs_no_tokens_gives_no_right_to_make_any(cluster: World) -> None:
    cluster.connection()
    assert token_rules(cluster) == []
    cluster.connection("k", protocol="Kubernetes", upstream={}, credentials={"impersonate": {}})
    assert token_rules(cluster, "k") == []
    rules = child(cluster.plan("k"), "Role", "ostiary-k")["rules"]
    assert not any("impersonate" in each["verbs"] for each in rules), "nobody may impersonate by writing a Connection"


@pytest.mark.parametrize(
    "account",
    [
        {"name": "agent", "namespace": "another"},
        {"name": "agent", "secretRef": {"name": "asks"}},
    ],
)
def test_tokens_of_another_namespace_or_with_a_secret_are_not_the_operators_to_give(
    cluster: World, account: dict[str, Any]
) -> None:
    cluster.connection(**in_cluster(**account))
    assert token_rules(cluster) == []
    assert cluster.plan().served == ("app-db",)


def test_an_operator_that_must_not_give_the_right_does_not() -> None:
    world = World(serviceAccountTokens=False)
    world.settings = replace(world.settings, protocols=frozenset({"Kubernetes"}))
    world.connection(**in_cluster(name="agent"))
    assert token_rules(world) == []
    assert world.plan().served == ("app-db",)


@pytest.mark.parametrize(
    ("account", "says"),
    [
        ({"name": "ostiary-app-db"}, "are those of gateways"),
        ({"name": "ostiary-other", "namespace": "another"}, "are those of gateways"),
        ({"name": "operator", "namespace": "ostiary-system"}, "are Ostiary's own"),
    ],
)
def test_no_agent_acts_as_ostiary_itself(cluster: World, account: dict[str, Any], says: str) -> None:
    cluster.connection(**in_cluster(**account))
    plan = cluster.plan()
    assert plan.objects == ()
    refusal = plan.refused["app-db"]
    assert refusal.reason == "CredentialNotAllowed"
    assert says in refusal.message


def test_names_mean_something_else_at_another_cluster(cluster: World) -> None:
    account = {"name": "ostiary-agent", "secretRef": {"name": "asks"}}
    elsewhere = in_cluster(**account) | {"upstream": {"server": "https://cluster.example.com"}}
    cluster.connection(**elsewhere)
    assert cluster.plan().served == ("app-db",)
    assert token_rules(cluster) == []


def test_its_service_is_called_by_its_protocol(cluster: World) -> None:
    cluster.connection(port=443, **in_cluster(name="agent"))
    service = child(cluster.plan(), "Service", "ostiary-app-db")
    assert service["spec"]["ports"] == [{"name": "kubernetes", "port": 443, "targetPort": 443, "protocol": "TCP"}]
