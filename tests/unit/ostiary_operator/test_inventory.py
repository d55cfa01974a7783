"""A store of objects, told what a watch and a list say."""

from __future__ import annotations

from typing import Any

from ostiary_operator.inventory import Store, trim_metadata, trim_pod

Manifest = dict[str, Any]


def thing(name: str, version: int, uid: str = "", **more: Any) -> Manifest:
    metadata = {"namespace": "shop", "name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return {"apiVersion": "v1", "kind": "Thing", "metadata": metadata | more}


class Heard:
    """Writes down what a store tells."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.store = Store("Thing", self)

    def __call__(self, kind: str, key: str, old: Manifest | None, new: Manifest | None) -> None:
        what = "added" if old is None else "gone" if new is None else "changed"
        self.lines.append(f"{key} {what}")

    def take(self) -> list[str]:
        lines, self.lines = self.lines, []
        return lines


def test_a_listener_hears_of_what_comes_changes_and_goes() -> None:
    heard = Heard()
    heard.store.put(thing("a", 1))
    heard.store.put(thing("a", 2))
    heard.store.remove(thing("a", 3))
    assert heard.take() == ["shop/a added", "shop/a changed", "shop/a gone"]


def test_the_same_again_and_what_is_older_is_no_news() -> None:
    heard = Heard()
    heard.store.put(thing("a", 5))
    heard.take()
    heard.store.put(thing("a", 5))
    heard.store.put(thing("a", 4))
    assert heard.take() == []


def test_an_object_that_was_made_anew_replaces_the_old_one_whatever_its_version() -> None:
    heard = Heard()
    heard.store.put(thing("a", 5))
    heard.store.put(thing("a", 3, uid="other"))
    assert heard.take() == ["shop/a added", "shop/a changed"]
    heard.store.remove(thing("a", 6))  # the old one's end, heard late
    assert heard.take() == []
    assert heard.store.get("shop/a") is not None


def test_a_list_tells_what_was_deleted_unseen() -> None:
    heard = Heard()
    for name in ("a", "b", "c"):
        heard.store.put(thing(name, 1))
    heard.take()
    heard.store.replace([thing("a", 1), thing("b", 7), thing("d", 8)])
    assert heard.take() == ["shop/c gone", "shop/b changed", "shop/d added"]


def test_a_list_after_the_server_was_restored_holds_even_if_it_looks_older() -> None:
    heard = Heard()
    heard.store.put(thing("a", 900))
    heard.take()
    heard.store.replace([thing("a", 20)])
    assert heard.take() == ["shop/a changed"]


def test_a_list_of_one_namespace_says_nothing_of_others() -> None:
    heard = Heard()
    heard.store.put(thing("a", 1))
    heard.store.replace([], lambda key: key.startswith("other/"))
    assert heard.take() == ["shop/a added"]


def test_names_tell_what_is_gone_but_not_of_what_came_meanwhile() -> None:
    heard = Heard()
    heard.store.put(thing("gone", 1))
    heard.store.put(thing("here", 1))
    heard.store.put(thing("anew", 1, uid="first"))
    known = heard.store.known()
    heard.store.put(thing("anew", 5, uid="second"))
    heard.store.put(thing("new", 6))
    heard.take()
    heard.store.keep({"shop/here": "uid-here"}, known)
    assert heard.take() == ["shop/gone gone"]
    assert sorted(heard.store) == ["shop/anew", "shop/here", "shop/new"]


def test_what_nobody_reads_is_not_kept() -> None:
    manifest = thing("a", 1, managedFields=[{}], annotations={
        "kubectl.kubernetes.io/last-applied-configuration": "{}", "note": "x"
    })  # fmt: skip
    kept = trim_metadata(manifest)["metadata"]
    assert "managedFields" not in kept
    assert kept["annotations"] == {"note": "x"}
    status = {"podIP": "10.0.0.1", "qosClass": "x"}
    pod = thing("p", 1) | {"spec": {"nodeName": "n", "containers": [{}]}, "status": status}
    assert trim_pod(pod)["spec"] == {"nodeName": "n"}
    assert trim_pod(pod)["status"] == {"podIP": "10.0.0.1"}
