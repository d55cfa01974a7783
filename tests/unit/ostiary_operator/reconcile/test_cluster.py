"""What is there once for the cluster."""

from __future__ import annotations

from dataclasses import replace

from support.world import World

from ostiary_operator.reconcile import cluster


def test_all_gateways_that_serve_may_ask_whose_a_token_is(world: World) -> None:
    world.connection("b")
    world.connection("a", "other")
    world.connection("c", protocol="SSH", upstream={"host": "h", "hostKeys": ["ssh-ed25519 AAAA"]})
    observed = world.settle()
    (binding,) = cluster.plan(observed, world.plans).objects
    assert binding["metadata"] == {"name": "ostiary-gateways"}
    assert binding["roleRef"]["name"] == "ostiary-gateway"
    assert [(each["namespace"], each["name"]) for each in binding["subjects"]] == [
        ("other", "ostiary-a"),
        ("shop", "ostiary-b"),
    ]


def test_without_a_binding_there_is_nothing_to_do(world: World) -> None:
    world.settings = replace(world.settings, gateways_binding="")
    assert cluster.plan(world.settle(), world.plans).objects == ()
