"""Which work follows from which change."""

from __future__ import annotations

from typing import Any

from support.resources import good

from ostiary_operator.gateway_settings import GatewaySettings
from ostiary_operator.keys import CLUSTER, Key, everything, of_change, only_status
from ostiary_operator.observed import Settings
from ostiary_operator.world import World

Manifest = dict[str, Any]
SETTINGS = Settings(GatewaySettings(image="gateway:1"), system_namespace="system")


def stored(example: str, name: str, namespace: str = "shop", **metadata: Any) -> Manifest:
    manifest = good()[example]
    manifest["metadata"] |= {
        "name": name, "namespace": namespace, "uid": f"uid-{name}", "generation": 1, "resourceVersion": "1", **metadata,
    }  # fmt: skip
    return manifest


def gateway_of_its_own(name: str, namespace: str = "shop", **metadata: Any) -> Manifest:
    manifest = stored("minimal", name, namespace, **metadata)
    manifest["spec"].pop("gateway", None)
    return manifest


class Story:
    """A world, and the keys that follow from each change of it."""

    def __init__(self) -> None:
        self.keys: set[Key] = set()
        self.world = World(SETTINGS, self.changed)

    def changed(self, kind: str, key: str, old: Manifest | None, new: Manifest | None) -> None:
        self.keys |= set(of_change(self.world.observed(), kind, key, old, new))

    def put(self, store: str, manifest: Manifest) -> set[Key]:
        self.keys = set()
        self.world.stores[store].put(manifest)
        return self.keys

    def remove(self, store: str, manifest: Manifest) -> set[Key]:
        self.keys = set()
        self.world.stores[store].remove(manifest)
        return self.keys


def child(kind: str, name: str, gateway: str, version: str = "1", **more: Any) -> Manifest:
    labels = {
        "app.kubernetes.io/managed-by": "ostiary-operator", "ostiary.dev/gateway": gateway,
        "ostiary.dev/gateway-namespace": "shop",
    }  # fmt: skip
    metadata = {"namespace": "shop", "name": name, "uid": f"uid-{kind}-{name}", "labels": labels}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata | {"resourceVersion": version} | more}


def test_a_new_connection_concerns_its_gateway_and_who_counts_connections() -> None:
    story = Story()
    story.put("GatewayPolicy", stored("expiring", "rules"))
    assert story.put("Connection", gateway_of_its_own("app")) == {
        Key("Connection", "shop/app"), Key("Gateway", "shop/app"), Key("GatewayPolicy", "shop/rules"),
    }  # fmt: skip


def test_a_connection_that_moves_concerns_both_gateways() -> None:
    story = Story()
    story.put("Connection", gateway_of_its_own("app"))
    moved = gateway_of_its_own("app", generation=2, resourceVersion="2")
    moved["spec"]["gateway"] = {"name": "shared"}
    assert {Key("Gateway", "shop/app"), Key("Gateway", "shop/shared")} <= story.put("Connection", moved)


def test_our_own_status_concerns_that_status_only() -> None:
    story = Story()
    story.put("Connection", gateway_of_its_own("app"))
    again = gateway_of_its_own("app", resourceVersion="2") | {"status": {"revision": "abc"}}
    assert story.put("Connection", again) == {Key("Connection", "shop/app")}


def test_a_policy_of_a_namespace_concerns_the_gateways_there_and_one_of_the_system_all() -> None:
    story = Story()
    story.put("Connection", gateway_of_its_own("app"))
    story.put("Connection", gateway_of_its_own("ledger", "bank"))
    assert story.put("GatewayPolicy", stored("expiring", "rules")) == {
        Key("GatewayPolicy", "shop/rules"), Key("Gateway", "shop/app"),
    }  # fmt: skip
    assert story.put("GatewayPolicy", stored("expiring", "all", "system")) == {
        Key("GatewayPolicy", "system/all"), Key("Gateway", "shop/app"), Key("Gateway", "bank/ledger"),
    }  # fmt: skip


def test_labels_count_though_the_generation_stays() -> None:
    story = Story()
    story.put("Connection", gateway_of_its_own("app", labels={"env": "test"}))
    changed = story.put("Connection", gateway_of_its_own("app", labels={"env": "prod"}, resourceVersion="2"))
    assert Key("Gateway", "shop/app") in changed


def test_a_secret_concerns_the_gateways_of_its_namespace() -> None:
    story = Story()
    story.put("Connection", gateway_of_its_own("app"))
    story.put("Connection", gateway_of_its_own("ledger", "bank"))
    secret = {"metadata": {"namespace": "shop", "name": "db", "uid": "s", "resourceVersion": "1"}}
    assert story.put("Secret", secret) == {Key("Gateway", "shop/app")}


def test_a_child_that_is_edited_or_deleted_concerns_its_gateway() -> None:
    story = Story()
    service = child("Service", "ostiary-app", "app")
    assert story.put("Service", service) == {Key("Gateway", "shop/app")}
    assert story.remove("Service", service) == {Key("Gateway", "shop/app")}


def test_a_deployment_whose_pods_come_and_go_concerns_statuses_only() -> None:
    story = Story()
    story.put("Connection", gateway_of_its_own("app"))
    story.put("Deployment", child("Deployment", "ostiary-app", "app", generation=3))
    told = story.put("Deployment", child("Deployment", "ostiary-app", "app", "2", generation=3) | {"status": {"x": 1}})
    assert told == {Key("Connection", "shop/app")}


def test_what_is_not_valid_stops_nothing() -> None:
    story = Story()
    for count, spec in enumerate((None, "text", [], {"gateway": "text"}, {"gateway": {"name": 7}}), 1):
        broken = gateway_of_its_own("broken", resourceVersion=str(count), generation=count) | {"spec": spec}
        assert Key("Connection", "shop/broken") in story.put("Connection", broken)
    rules = stored("expiring", "rules") | {"spec": "text"}
    assert Key("GatewayPolicy", "shop/rules") in story.put("GatewayPolicy", rules)
    assert story.world.observed().connections["shop/broken"].model is None


def test_everything_is_everything() -> None:
    story = Story()
    story.put("Connection", gateway_of_its_own("app"))
    story.put("GatewayPolicy", stored("expiring", "rules"))
    assert set(everything(story.world.observed(), ["shop/apr"])) == {
        Key("Gateway", "shop/app"), Key("Connection", "shop/app"), Key("GatewayPolicy", "shop/rules"),
        Key("ApprovalRequest", "shop/apr"), CLUSTER,
    }  # fmt: skip


def test_a_snapshot_does_not_change_afterwards() -> None:
    story = Story()
    story.put("Connection", gateway_of_its_own("app"))
    before = story.world.observed()
    assert story.world.observed() is before
    story.put("Connection", gateway_of_its_own("other"))
    assert set(before.connections) == {"shop/app"}
    assert set(story.world.observed().connections) == {"shop/app", "shop/other"}


def test_acceptance_depends_on_specs_and_not_on_statuses_or_children() -> None:
    story = Story()
    story.put("Connection", gateway_of_its_own("app"))
    inputs = story.world.inputs
    story.put("Connection", gateway_of_its_own("app", resourceVersion="2") | {"status": {"revision": "a"}})
    story.put("Service", child("Service", "ostiary-app", "app"))
    assert story.world.inputs == inputs
    story.put("Connection", gateway_of_its_own("app", resourceVersion="3", generation=2))
    assert story.world.inputs == inputs + 1


def test_only_a_status_changed() -> None:
    one = gateway_of_its_own("app")
    assert only_status(one, gateway_of_its_own("app", resourceVersion="9") | {"status": {"a": 1}})
    assert not only_status(one, gateway_of_its_own("app", generation=2))
    assert not only_status(one, gateway_of_its_own("app", deletionTimestamp="2026-01-01T00:00:00Z"))
    assert not only_status(None, one)
    assert not only_status(one, None)
