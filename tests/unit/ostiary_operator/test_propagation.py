"""How long changes take, measured."""

from __future__ import annotations

from ostiary_api.gateway_state import GatewayState
from ostiary_operator.gateway_settings import GatewaySettings
from ostiary_operator.observed import Observed, SeenPod, Settings
from ostiary_operator.propagation import Propagation

SETTINGS = Settings(GatewaySettings(image="gateway:1"))


class Story:
    def __init__(self) -> None:
        self.now = 0.0
        self.measured: list[float] = []
        self.watch = Propagation(self.measured.append, lambda: self.now)

    def told(self, **revisions: str) -> None:
        pods = {f"shop/{pod}": SeenPod(pod, f"uid-{pod}", "shop/app", ready=True, deleting=False) for pod in revisions}
        states = {f"uid-{pod}": GatewayState(revision=revision) for pod, revision in revisions.items()}
        self.watch.loaded("shop/app", Observed(SETTINGS, pods=pods, states=states))

    def change(self, at: float) -> None:
        self.now = at
        self.watch.changed("shop/app")

    def write(self, at: float, revision: str) -> None:
        self.watch.written("shop/app", revision, begun=at)


def test_a_change_takes_until_the_last_ready_pod_has_it() -> None:
    story = Story()
    story.change(10.0)
    story.write(10.1, "r2")
    story.now = 10.8
    story.told(a="r2", b="r1")
    assert story.measured == []
    story.now = 11.5
    story.told(a="r2", b="r2")
    assert story.measured == [1.5]
    story.told(a="r2", b="r2")
    assert len(story.measured) == 1


def test_without_a_ready_pod_nothing_is_in_force() -> None:
    story = Story()
    story.change(1.0)
    story.write(1.0, "r1")
    story.told()
    assert story.measured == []


def test_a_change_that_was_overtaken_counts_from_its_own_beginning() -> None:
    story = Story()
    story.change(10.0)
    story.write(10.0, "r2")
    story.change(12.0)
    story.write(12.0, "r3")
    story.now = 13.0
    story.told(a="r3")
    assert story.measured == [3.0]


def test_a_change_that_changes_no_bundle_is_not_measured() -> None:
    story = Story()
    story.change(1.0)
    story.write(1.0, "r1")
    story.told(a="r1")
    story.change(5.0)
    story.write(5.0, "r1")
    story.now = 9.0
    story.told(a="r1")
    assert story.measured == [0.0]
