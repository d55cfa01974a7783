"""Whatever people do, and in whatever order gateways are worked on: it converges, with nothing left over or missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.world import ALLOW, NAMESPACE, World, child

from ostiary_api.bundle_feed import unpack
from ostiary_api.names import child_name
from ostiary_operator.observed import ChildKey

NAMES = st.sampled_from(["a", "b", "a-peers", "with-a-very-long-name-that-does-not-fit-into-any-label-at-all"])
SYSTEM = "ostiary-system"
MASK = {
    "name": "pii",
    "action": "Mask",
    "masking": [{"detector": "Email", "strategy": {"type": "Pseudonym", "keyRef": {"name": "mask", "key": "k"}}}],
}
Change = Callable[[World], Any]


@st.composite
def connection(draw: st.DrawFn) -> Change:
    name, port = draw(NAMES), draw(st.sampled_from([80, 5432, 5433, 9911]))
    gateway: dict[str, Any] = {"replicas": draw(st.integers(1, 3))}
    if draw(st.booleans()):
        gateway["name"] = draw(NAMES)
    if draw(st.booleans()):
        gateway["autoscaling"] = {"maxReplicas": 3}
    namespace = draw(st.sampled_from([NAMESPACE, SYSTEM]))
    return lambda world: world.connection(name, namespace, port=port, gateway=gateway)


@st.composite
def policy(draw: st.DrawFn) -> Change:
    name, namespace = draw(NAMES), draw(st.sampled_from([NAMESPACE, SYSTEM]))
    match: dict[str, Any] = {"namespaceSelector": {}} if draw(st.booleans()) else {}
    rules = draw(st.sampled_from([[ALLOW], [ALLOW, MASK], [ALLOW | {"expression": "x"}]]))
    return lambda world: world.policy(name, *rules, namespace=namespace, match=match)


@st.composite
def removal(draw: st.DrawFn) -> Change:
    key = f"{draw(st.sampled_from([NAMESPACE, SYSTEM]))}/{draw(NAMES)}"
    place = draw(st.sampled_from(["connections", "policies", "secrets"]))
    return lambda world: getattr(world, place).pop(key, None)


@st.composite
def secret(draw: st.DrawFn) -> Change:
    name, namespace = draw(st.sampled_from(["mask", "token"])), draw(st.sampled_from([NAMESPACE, SYSTEM]))
    return lambda world: world.secret(name, namespace, token=name == "token")


CHANGES = st.lists(st.one_of(connection(), connection(), policy(), removal(), secret()), max_size=6)


@given(st.lists(CHANGES, max_size=4), st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_it_converges(rounds: list[list[Change]], order: Any) -> None:
    world = World()
    for changes in rounds:
        for change in changes:
            change(world)
        world.settle()
        keys = list(world.plans)
        order.shuffle(keys)
        world.apply(*keys)
    for _ in range(2):
        world.settle()
        world.apply()
    world.settle()
    wanted = {key for plan in world.plans.values() for key in plan.keys}
    assert set(world.children) == wanted
    assert not any(plan.orphans for plan in world.plans.values())
    assert sum(len(plan.keys) for plan in world.plans.values()) == len(wanted), "two gateways want one object"
    check(world)


def check(world: World) -> None:
    """What must hold in any cluster."""
    served = [f"{plan.namespace}/{name}" for plan in world.plans.values() for name in plan.served]
    refused = [f"{plan.namespace}/{name}" for plan in world.plans.values() for name in plan.refused]
    assert sorted(served + refused) == sorted(world.connections), "each is served by one gateway, or is told why not"
    for plan in world.plans.values():
        if not plan.served:
            assert not plan.objects
            continue
        maps = {each["metadata"]["name"]: each["data"] for each in plan.objects if each["kind"] == "ConfigMap"}
        read = unpack(plan.gateway, maps)
        assert read.revision == plan.revision
        assert sorted(item.metadata.name for item in read.connections) == sorted(plan.served)
        ports = [item.spec.listener.port for item in read.connections]
        assert len(set(ports)) == len(ports)
        services = {key.name for key in plan.keys if key.kind == "Service"}
        assert {child_name(name) for name in plan.served} < services
        # It may read what the bundle names, and nothing else; each in its own namespace.
        granted = set()
        for key in plan.keys:
            if key.kind == "Role":
                for rule in child_of(plan, key)["rules"]:
                    if rule["resources"] == ["secrets"]:
                        assert rule["resourceNames"]
                        assert rule["verbs"] == ["get"]
                        granted |= {(key.namespace, name) for name in rule["resourceNames"]}
        assert granted == {(item.namespace, item.name) for item in read.header.secrets}
        refusing = {f"{item.namespace}/{item.name}" for item in read.header.refused}
        assert refusing == {key for key in plan.reached if world.standings[key].refused is not None}


def child_of(plan: Any, key: ChildKey) -> Any:
    return next(
        each
        for each in plan.objects
        if (each["kind"], each["metadata"]["namespace"], each["metadata"]["name"]) == tuple(key)
    )


def test_the_check_sees_what_it_should(world: World) -> None:
    """A world with all of it passes, and has all of it."""
    world.connection("a", gateway={"name": "b"})
    world.connection("b", port=5433)
    world.secret("mask", SYSTEM)
    world.policy("p", ALLOW, MASK, namespace=SYSTEM, match={"namespaceSelector": {}})
    world.policy("q", ALLOW | {"expression": "x"})
    world.settle()
    check(world)
    plan = world.plans[f"{NAMESPACE}/b"]
    assert plan.served == ("a", "b")
    assert {key.namespace for key in plan.keys} == {NAMESPACE, SYSTEM}
    assert child(plan, "Deployment", "ostiary-b")
