"""What Connections and policies say of themselves: read by people who want to know what to do next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.world import ALLOW, NAMESPACE, NOW, World, condition

from ostiary_api.connection import ConnectionStatus
from ostiary_api.gateway_state import ConnectionState, GatewayState, ShippingState, StateProblem, UpstreamState
from ostiary_api.policy import GatewayPolicyStatus
from ostiary_operator.gateway_settings import GatewaySettings
from ostiary_operator.observed import ChildKey, Manifest, read_policy
from ostiary_operator.reconcile import acceptance, connections, policies
from ostiary_operator.reconcile.reasons import REASONS

Case = tuple[Callable[[World], Any], str, str, str, str]


def served(world: World, pods: int = 1) -> World:
    """One Connection, one policy, and all pods up to date."""
    world.connection()
    world.policy("p", ALLOW)
    world.settle()
    world.apply()
    world.serve(pods=pods)
    return world


def states(world: World, **connection: Any) -> None:
    """What the one pod says of the Connection."""
    plan = world.plans["shop/app-db"]
    told = ConnectionState(namespace=NAMESPACE, name="app-db", **{"listening": True, **connection})
    world.tells("uid-app-db-1", plan.revision, connections=(told,))


def problem(world: World, what: str, path: str, message: str) -> None:
    revision = world.plans["shop/app-db"].revision
    world.tells("uid-app-db-1", revision, problems=(StateProblem(object=what, field=path, message=message),))


def second_pod(world: World, state: GatewayState | str | None) -> None:
    uid = world.pod("app-db", 2)
    if state is not None:
        world.states[uid] = state


def no_pods(world: World, **pod: Any) -> None:
    world.pods.clear()
    world.states.clear()
    if pod:
        world.pod("app-db", 1, ready=False, **pod)


def quota(world: World) -> None:
    no_pods(world)
    key = ChildKey("Deployment", NAMESPACE, "ostiary-app-db")
    failure = {"type": "ReplicaFailure", "status": "True", "message": "pods is forbidden: exceeded quota: compute"}
    world.children[key] = {**world.children[key], "status": {"conditions": [failure]}}


def too_large(world: World) -> None:
    """More text than 256 ConfigMaps hold needs more policies than a test should make; what counts is the answer."""
    world.settle()
    key = "shop/app-db"
    plan = replace(world.plans[key], problem="the bundle has 240,000,000 bytes; use several gateways")
    settle = world.settle

    def settled() -> Any:
        observed = settle()
        world.plans[key] = plan
        return observed

    world.settle = settled  # type: ignore[method-assign]


def as_the_gateway(world: World) -> None:
    world.settings = replace(world.settings, protocols=frozenset({"Kubernetes"}))
    account = {"serviceAccountToken": {"name": "ostiary-app-db"}}
    world.connection(protocol="Kubernetes", upstream={}, credentials=account)


def over_ssh(world: World) -> None:
    world.settings = replace(world.settings, protocols=frozenset({"SSH"}))
    world.connection(**SSH)


SSH = {"protocol": "SSH", "upstream": {"host": "h", "hostKeys": ["ssh-ed25519 AAAA"]}}

CONNECTION: list[Case] = [
    (lambda w: None, "Accepted", "True", "Accepted", "Served by gateway app-db. 1 policy is for it."),
    (
        lambda w: w.policies.clear(),
        "Accepted",
        "True",
        "Accepted",
        "Served by gateway app-db. No policy is for it, so every request is denied: create a GatewayPolicy whose "
        "match.connectionSelector selects its labels.",
    ),
    (
        lambda w: (w.connection("b", port=1, gateway={"name": "app-db"}), w.policy("q", ALLOW | {"expression": "x"})),
        "Accepted",
        "True",
        "Accepted",
        "Served by gateway app-db, which it shares with b. 2 policies are for it. shop/q was never accepted and denies "
        "whatever it matches: see status.expressions there.",
    ),
    (
        over_ssh,
        "Accepted",
        "True",
        "Accepted",
        "Served by gateway app-db. 1 policy is for it. Each of its pods makes a host key of its own, which agents "
        "cannot pin: name a Secret with privateKey in spec.listener.hostKeyRef.",
    ),
    (
        lambda w: w.connection(port=9911),
        "Accepted",
        "False",
        "PortConflict",
        "spec.listener.port: 9911 is the gateway's own port for health and metrics. Choose another.",
    ),
    (
        as_the_gateway,
        "Accepted",
        "False",
        "CredentialNotAllowed",
        "spec.credentials.serviceAccountToken: names that begin with ostiary- are those of gateways, and no agent "
        "acts as one. Name another.",
    ),
    (
        lambda w: w.connection(**SSH),
        "Accepted",
        "False",
        "ProtocolNotServed",
        "spec.protocol: SSH is not served by this version of Ostiary, which serves Postgres.",
    ),
    (
        lambda w: w.put_connection(w._manifest("Connection", "app-db", NAMESPACE, {"protocol": "Postgres"}, {})),
        "Accepted",
        "False",
        "Invalid",
        "What is stored is not valid: spec.credentials: is required; spec.listener: is required. Apply a corrected "
        "Connection.",
    ),
    (too_large, "Accepted", "True", "Accepted", "Served by gateway app-db."),
    (lambda w: None, "ResolvedRefs", "True", "ResolvedRefs", "All Secrets that it names are there."),
    (
        lambda w: w.secrets.clear(),
        "ResolvedRefs",
        "False",
        "SecretNotFound",
        "spec.credentials.static.secretRef: there is no Secret app-db-login in namespace shop (it needs username and "
        "password)",
    ),
    (
        lambda w: problem(w, "Connection shop/app-db", "spec.listener.tls.secretRef", "Secret tls has no tls.key"),
        "ResolvedRefs",
        "False",
        "SecretNotUsable",
        "spec.listener.tls.secretRef: Secret tls has no tls.key",
    ),
    (
        lambda w: problem(w, "Secret shop/app-db-login", "", "it cannot be read: forbidden"),
        "ResolvedRefs",
        "False",
        "SecretNotUsable",
        "spec.credentials.static.secretRef: Secret app-db-login: it cannot be read: forbidden",
    ),
    (
        lambda w: w.connection(**SSH),
        "ResolvedRefs",
        "Unknown",
        "NotAccepted",
        "It is not accepted; see condition Accepted.",
    ),
    (lambda w: None, "Programmed", "True", "Programmed", "1 ready pod has loaded bundle REVISION."),
    (
        lambda w: states(w, message="logins are refused: Secret app-db-login has no password"),
        "Programmed",
        "True",
        "Programmed",
        "1 ready pod has loaded bundle REVISION. app-db-1 says: logins are refused: Secret app-db-login has no "
        "password.",
    ),
    (lambda w: w.serve(pods=3), "Programmed", "True", "Programmed", "3 ready pods have loaded bundle REVISION."),
    (
        lambda w: w.connection(**SSH),
        "Programmed",
        "False",
        "NotAccepted",
        "It is not accepted; see condition Accepted.",
    ),
    (
        lambda w: w.foreign.add(ChildKey("Service", NAMESPACE, "ostiary-app-db")),
        "Programmed",
        "False",
        "NameTaken",
        "Service shop/ostiary-app-db is there already, and Ostiary did not make it. Delete or rename it, or rename the "
        "Connection.",
    ),
    (
        lambda w: w.failed.update({ChildKey("Deployment", NAMESPACE, "ostiary-app-db"): "forbidden by quota"}),
        "Programmed",
        "False",
        "RefusedByAPI",
        "The API server refused Deployment shop/ostiary-app-db: forbidden by quota",
    ),
    (
        too_large,
        "Programmed",
        "False",
        "BundleTooLarge",
        "the bundle has 240,000,000 bytes; use several gateways. The last bundle goes on being served.",
    ),
    (no_pods, "Programmed", "False", "PodsNotReady", "Gateway app-db has no pod yet."),
    (
        quota,
        "Programmed",
        "False",
        "PodsNotReady",
        "Gateway app-db has no pod yet. pods is forbidden: exceeded quota: compute",
    ),
    (
        lambda w: no_pods(w, waiting="ImagePullBackOff: no such image"),
        "Programmed",
        "False",
        "PodsNotReady",
        "No pod of gateway app-db is ready. app-db-1: ImagePullBackOff: no such image",
    ),
    (
        lambda w: no_pods(w, waiting=""),
        "Programmed",
        "False",
        "PodsNotReady",
        "No pod of gateway app-db is ready (app-db-1, still starting).",
    ),
    (
        lambda w: second_pod(w, None),
        "Programmed",
        "False",
        "Loading",
        "1 of 2 ready pods have loaded bundle REVISION: app-db-2 was not asked yet.",
    ),
    (
        lambda w: second_pod(w, "no route to host"),
        "Programmed",
        "False",
        "Loading",
        "1 of 2 ready pods have loaded bundle REVISION: app-db-2 cannot be asked (no route to host).",
    ),
    (
        lambda w: second_pod(w, GatewayState(revision="f" * 64, problems=(StateProblem(message="line 3 is wrong."),))),
        "Programmed",
        "False",
        "Loading",
        "1 of 2 ready pods have loaded bundle REVISION: app-db-2 has ffffffffffff and says: line 3 is wrong.",
    ),
    (
        lambda w: second_pod(w, GatewayState()),
        "Programmed",
        "False",
        "Loading",
        "1 of 2 ready pods have loaded bundle REVISION: app-db-2 has none.",
    ),
    (
        lambda w: states(w, listening=False, message="port 5432 is in use"),
        "Programmed",
        "False",
        "NotListening",
        "Agents cannot connect to app-db-1: port 5432 is in use.",
    ),
    (lambda w: None, "UpstreamReachable", "True", "Reachable", "The target answers."),
    (
        lambda w: states(w, upstream=UpstreamState(state="Unreachable", message="db.example: no such host")),
        "UpstreamReachable",
        "False",
        "Unreachable",
        "app-db-1 says: db.example: no such host.",
    ),
    (
        states,
        "UpstreamReachable",
        "Unknown",
        "NotTried",
        "No ready pod has tried the target yet.",
    ),
    (
        no_pods,
        "UpstreamReachable",
        "Unknown",
        "NotTried",
        "No ready pod can say whether the target answers.",
    ),
]


def ships(world: World, **shipping: Any) -> None:
    """There is a store; what the one pod says of it."""
    world.settings = replace(world.settings, gateway=GatewaySettings.model_validate({"image": "gateway:1", **STORE}))
    world.settle()
    told = ShippingState.model_validate(shipping)
    world.tells("uid-app-db-1", world.plans["shop/app-db"].revision, shipping=told)


STORE = {"store": {"url": "https://ostiary-store.ostiary-system.svc:8443"}}
RECORD: list[Case] = [
    (lambda w: ships(w, state="Shipping"), "Recorded", "True", "Recorded", "The record reaches the store."),
    (
        lambda w: ships(w, state="Behind", message="40 MiB wait"),
        "Recorded",
        "True",
        "Recorded",
        "The record reaches the store. app-db-1 is behind.",
    ),
    (
        lambda w: ships(w, state="Failing", message="ostiary-store.ostiary-system.svc:8443 refuses connections."),
        "Recorded",
        "False",
        "StoreNotReached",
        "app-db-1 says: ostiary-store.ostiary-system.svc:8443 refuses connections. Its record waits in the pod; with "
        "no room left, requests are refused.",
    ),
    (ships, "Recorded", "Unknown", "NotTried", "No ready pod has told of the store yet."),
    (
        lambda w: (ships(w), w.connection(port=9911)),
        "Recorded",
        "Unknown",
        "NotTried",
        "It is not accepted; see condition Accepted.",
    ),
]


@pytest.mark.parametrize(("change", "kind", "value", "reason", "message"), CONNECTION)
def test_a_connection_says(
    world: World, change: Callable[[World], Any], kind: str, value: str, reason: str, message: str
) -> None:
    change(served(world))
    made = world.connection_status()
    revision = world.plans["shop/app-db"].revision[:12]
    assert condition(made, kind) == (value, reason, message.replace("REVISION", revision))
    ConnectionStatus.model_validate(made)
    assert [item["type"] for item in made["conditions"]] == [
        "Accepted",
        "ResolvedRefs",
        "Programmed",
        "UpstreamReachable",
    ]


@pytest.mark.parametrize(("change", "kind", "value", "reason", "message"), RECORD)
def test_where_there_is_a_store_a_connection_says_whether_its_record_gets_there(
    world: World, change: Callable[[World], Any], kind: str, value: str, reason: str, message: str
) -> None:
    change(served(world))
    made = world.connection_status()
    assert condition(made, kind) == (value, reason, message)
    ConnectionStatus.model_validate(made)


def bad(world: World, **more: Any) -> None:
    world.policy("p", ALLOW | {"expression": "sql.statments == []"}, **more)


def never_accepted(world: World, *rules: Manifest, **spec: Any) -> None:
    del world.policies["shop/p"]
    world.policy("p", *(rules or (ALLOW,)), **spec)


def cannot_be_read(world: World) -> None:
    seen = read_policy(world._manifest("GatewayPolicy", "p", NAMESPACE, {"rules": []}, {}))
    world.policies[seen.key] = seen


def masked(world: World) -> None:
    world.secret("mask")
    world.policy("p", {"name": "m", "action": "Mask", "masking": [PSEUDONYM]})
    world.settle()
    problem(world, "Secret shop/mask", "", "it has no hmac")


NEVER = "It never was accepted: gateways deny whatever it matches."
STAYS = "Revision IN_FORCE, the last that was accepted, stays in force."
TEST = {"name": "t", "sql": "select 1", "expect": "Allow"}
SSH_TEST = {"name": "s", "ssh": {"command": "ls"}, "expect": "Allow"}
PSEUDONYM = {"detector": "Email", "strategy": {"type": "Pseudonym", "keyRef": {"name": "mask", "key": "hmac"}}}
WRONG_PATTERN = {"pattern": {"name": "x", "regex": "(" }}

POLICY: list[Case] = [
    (lambda w: None, "Accepted", "True", "Accepted", "Revision IN_FORCE compiles."),
    (
        lambda w: w.policy("p", ALLOW, tests=[TEST]),
        "Accepted",
        "True",
        "Accepted",
        "Revision IN_FORCE compiles, and its test passes.",
    ),
    (
        lambda w: w.policy("p", ALLOW, tests=[SSH_TEST], match={"protocols": ["SSH"]}),
        "Accepted",
        "True",
        "Accepted",
        "Revision IN_FORCE compiles. Tests were not run: nothing here works out the facts of SSH requests.",
    ),
    (
        bad,
        "Accepted",
        "False",
        "ExpressionNotValid",
        "spec.rules[0].expression: line 1, column 4: there is no field 'statments' in Sql. Did you mean 'statements'? "
        + STAYS,
    ),
    (
        lambda w: never_accepted(w, ALLOW | {"expression": "x"}, ALLOW | {"name": "b", "expression": "y"}),
        "Accepted",
        "False",
        "ExpressionNotValid",
        "spec.rules[0].expression: line 1, column 1: there is nothing called 'x'. (1 more in status.expressions.) "
        + NEVER,
    ),
    (
        lambda w: never_accepted(w, priority=5),
        "Accepted",
        "False",
        "NotAllowedHere",
        "spec.priority: a priority over 0 is only for policies in namespace ostiary-system. Use 0 or less. " + NEVER,
    ),
    (
        lambda w: w.policy("p", ALLOW, tests=[TEST | {"expect": "Deny"}]),
        "Accepted",
        "False",
        "TestFailed",
        "spec.tests[0]: test 't' failed: expected Deny, got Allow: Allowed by rule shop/p#all. " + STAYS,
    ),
    (
        lambda w: w.policy("p", {"name": "m", "action": "Mask", "masking": [PSEUDONYM]}),
        "Accepted",
        "False",
        "SecretNotFound",
        "spec.rules[0].masking[0].strategy.keyRef: there is no Secret shop/mask. " + STAYS,
    ),
    (
        lambda w: w.policy("p", {"name": "m", "action": "Mask", "masking": [{"jsonPath": "$.data"}]}),
        "Accepted",
        "False",
        "MaskNotPossible",
        "spec.rules[0].masking[0].jsonPath: it would mask nothing on shop/app-db, a Postgres Connection. Name the "
        "column, or a detector, or put it into a policy with match.protocols: [Kubernetes]. " + STAYS,
    ),
    (
        cannot_be_read,
        "Accepted",
        "False",
        "Invalid",
        "spec.rules: must have at least 1 item(s). " + NEVER,
    ),
    (lambda w: None, "Programmed", "True", "Programmed", "In force on 1 Connection of 1 gateway."),
    (
        lambda w: w.policy("p", ALLOW, notAfter="2027-01-01T00:00:00Z"),
        "Programmed",
        "True",
        "Programmed",
        "In force on 1 Connection of 1 gateway. It expires at 2027-01-01T00:00:00Z.",
    ),
    (
        lambda w: w.policy("p", ALLOW, notAfter="2026-06-01T12:00:00Z"),
        "Programmed",
        "False",
        "Expired",
        "spec.notAfter was 2026-06-01T12:00:00Z: the policy is not in force any more.",
    ),
    (lambda w: never_accepted(w, priority=5), "Programmed", "False", "NotAccepted", NEVER),
    (
        bad,
        "Programmed",
        "False",
        "LastAccepted",
        "Revision IN_FORCE is in force, not the newest: that is not accepted.",
    ),
    (
        lambda w: w.policy("p", ALLOW, match={"protocols": ["SSH"]}),
        "Programmed",
        "False",
        "NoConnections",
        "It is for no Connection that is served. Compare spec.match with the Connections' labels and protocols.",
    ),
    (
        lambda w: w.connection("b", port=1),
        "Programmed",
        "False",
        "Loading",
        "In force at 1 of 2 gateways; gateway shop/b: Gateway b has no pod yet.",
    ),
    (
        lambda w: problem(w, "GatewayPolicy shop/p", "spec.rules[1].masking[0]", "key 'hmac' is not there"),
        "Programmed",
        "False",
        "RefusedByGateway",
        "app-db-1 of gateway shop/app-db says: spec.rules[1].masking[0]: key 'hmac' is not there",
    ),
    (
        masked,
        "Programmed",
        "False",
        "RefusedByGateway",
        "app-db-1 of gateway shop/app-db says: Secret shop/mask: it has no hmac",
    ),
]


@pytest.mark.parametrize(("change", "kind", "value", "reason", "message"), POLICY)
def test_a_policy_says(
    world: World, change: Callable[[World], Any], kind: str, value: str, reason: str, message: str
) -> None:
    change(served(world))
    world.settle()
    if reason not in ("Loading", "RefusedByGateway"):
        world.serve()
    made = world.policy_status("p")
    assert condition(made, kind) == (value, reason, message.replace("IN_FORCE", made["revision"][:12]))
    GatewayPolicyStatus.model_validate(made)


def test_every_reason_is_documented_and_every_documented_one_is_given() -> None:
    cases = {"Connection": CONNECTION + RECORD, "GatewayPolicy": POLICY}
    shown = {(kind, *case[1:4]) for kind, each in cases.items() for case in each}
    assert shown == {(each.kind, each.condition, each.status, each.reason) for each in REASONS}


# What else is in a status


def test_a_connection_says_where_agents_connect_and_which_policies_hold(world: World) -> None:
    served(world)
    world.policy("q", ALLOW | {"expression": "x"})
    made = world.connection_status()
    assert made["endpoint"] == {"host": "ostiary-app-db.shop.svc", "port": 5432}
    assert [(item["name"], bool(item["revision"])) for item in made["policies"]] == [("p", True), ("q", False)]
    assert (made["policyCount"], made["observedGeneration"]) == (2, 1)


def test_the_revision_is_that_which_pods_serve(world: World) -> None:
    served(world, pods=2)
    first = world.plans["shop/app-db"].revision
    assert world.connection_status()["revision"] == first
    world.policy("q", ALLOW)
    world.settle()
    world.tells("uid-app-db-1", world.plans["shop/app-db"].revision)
    assert world.connection_status()["revision"] == first
    world.serve(pods=2)
    assert world.connection_status()["revision"] == world.plans["shop/app-db"].revision != first


def test_policies_stay_in_the_status_while_no_new_bundle_can_be_made(world: World) -> None:
    served(world)
    before = world.connection_status()
    too_large(world)
    after = world.connection_status()
    assert (after["policies"], after["policyCount"]) == (before["policies"], 1)


def test_nothing_that_pods_say_can_move_a_cursor(world: World) -> None:
    served(world)
    states(world, upstream=UpstreamState(state="Unreachable", message="\x1b[2Jgone\nAccepted \udc80" + "x" * 9999))
    message = condition(world.connection_status(), "UpstreamReachable")[2]
    assert message.startswith("app-db-1 says:  [2Jgone Accepted  xxx")
    assert len(message) == 2048


def test_a_connection_that_is_not_served_has_no_endpoint(world: World) -> None:
    served(world)
    world.connection_status()
    world.connection(**SSH)
    assert world.connection_status().keys() == {"observedGeneration", "conditions"}


def test_a_policy_says_what_is_wrong_with_which_field(world: World) -> None:
    world.policy("p", ALLOW | {"expression": "x"}, ALLOW | {"name": "b", "expression": "1"})
    made = world.policy_status("p")
    assert [item["field"] for item in made["expressions"]] == ["spec.rules[0].expression", "spec.rules[1].expression"]
    assert (made["connections"], made["revision"]) == (0, "")


def test_a_status_has_room_for_what_is_wrong(world: World) -> None:
    rules = [{"name": f"r{number}", "action": "Deny", "expression": "x" * 900} for number in range(128)]
    variables = [{"name": f"v{number}", "expression": "y" * 9000} for number in range(64)]
    conditions = [{"name": f"c{number}", "expression": "z" * 9000} for number in range(64)]
    world.policy("p", *rules, variables=variables, matchConditions=conditions)
    GatewayPolicyStatus.model_validate(world.policy_status("p"))


# Times


def times(status: Manifest) -> dict[str, str]:
    return {item["type"]: item["lastTransitionTime"] for item in status["conditions"]}


def test_the_time_of_a_condition_moves_only_with_its_status(world: World) -> None:
    served(world)
    first = world.connection_status(now=NOW)
    assert set(times(first).values()) == {"2026-06-01T12:00:00Z"}
    later = NOW + timedelta(hours=1, microseconds=7)
    world.policy("q", ALLOW)
    second = world.connection_status(now=later)
    assert condition(first, "Accepted")[2] != condition(second, "Accepted")[2]
    assert times(second) == times(first) | {"Programmed": "2026-06-01T13:00:00Z"}


def test_nothing_new_is_nothing_to_write(world: World) -> None:
    served(world)
    first = world.connection_status(), world.policy_status("p")
    assert (world.connection_status(now=NOW + timedelta(days=1)), world.policy_status("p")) == first


def test_a_policy_is_looked_at_again_when_it_expires(world: World) -> None:
    world.policy("p", ALLOW, notAfter="2027-01-01T00:00:00Z")
    observed = world.settle()
    expiry = datetime(2027, 1, 1, tzinfo=UTC)
    assert policies.status(observed, world.standings, world.plans, "shop/p", NOW).recheck_at == expiry
    assert policies.status(observed, world.standings, world.plans, "shop/p", expiry).recheck_at is None


def test_what_is_not_known_yet_is_left_as_it_is(world: World) -> None:
    world.connection()
    world.policy("p", ALLOW)
    observed = world.observed()
    assert connections.status(observed, None, "shop/app-db", NOW).status == {}
    assert policies.status(observed, {}, {}, "shop/p", NOW).status == {}
    assert acceptance.stale(observed, {}) == ["shop/p"]


def test_nothing_is_said_of_a_generation_that_gateways_were_not_worked_out_with(world: World) -> None:
    served(world)
    before = world.connection_status()
    plans = world.plans
    world.policy("p", ALLOW, priority=-1)
    world.connection(labels={"env": "prod"})
    observed = world.settle()
    assert connections.status(observed, plans["shop/app-db"], "shop/app-db", NOW).status == {}
    seen = world.connections["shop/app-db"]
    world.connections["shop/app-db"] = replace(seen, status=before)
    assert connections.status(world.settle(), plans["shop/app-db"], "shop/app-db", NOW).status == before
    made = policies.status(observed, world.standings, plans, "shop/p", NOW).status
    assert condition(made, "Programmed") == (
        "False",
        "Loading",
        "In force at 0 of 1 gateways; gateway shop/app-db: its bundle is being written.",
    )


def test_what_others_wrote_into_a_status_stops_nothing(world: World) -> None:
    served(world)
    seen = world.connections["shop/app-db"]
    for broken in ({"conditions": "none"}, {"conditions": [1, {"type": "Accepted"}]}, {"revision": 7}):
        world.connections["shop/app-db"] = replace(seen, status=broken)  # type: ignore[arg-type]
        ConnectionStatus.model_validate(world.connection_status())
