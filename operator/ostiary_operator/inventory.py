"""What is known of the cluster: the objects of each watched kind, and the states that gateway pods tell.

Filled by the watches, read by the reconciler, both in the event loop. A replica that follows fills it as well, so that
it can lead at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Protocol

from ostiary_operator.kube.kinds import Manifest, key_of

_LONG: Final = 1024
"""Characters of a ConfigMap's value above which only its digest is kept: bundles are large, and there are many."""


class Listener(Protocol):
    """Told of every change, after it: of a new object `old` is None, of a deleted one `new`."""

    def __call__(self, kind: str, key: str, old: Manifest | None, new: Manifest | None) -> None: ...


class Store:
    """The objects of one kind, by `namespace/name`."""

    def __init__(self, kind: str, changed: Listener, trim: Callable[[Manifest], Manifest] | None = None) -> None:
        self.kind = kind
        self._changed = changed
        self._trim = trim or trim_metadata
        self._objects: dict[str, Manifest] = {}

    def __len__(self) -> int:
        return len(self._objects)

    def __iter__(self) -> Iterator[str]:
        return iter(self._objects)

    @property
    def objects(self) -> Mapping[str, Manifest]:
        """Key → object. Not to be changed; a changed object is another dict."""
        return self._objects

    def get(self, key: str) -> Manifest | None:
        """An object; None if there is none."""
        return self._objects.get(key)

    def put(self, manifest: Manifest) -> None:
        """An object is there, or is so now. What is older than what is known of the same object is passed over."""
        key = key_of(manifest)
        old = self._objects.get(key)
        if old is not None:
            if version_of(old) == version_of(manifest) and uid_of(old) == uid_of(manifest):
                return
            if uid_of(old) == uid_of(manifest) and is_older(manifest, old):
                return
        new = self._trim(manifest)
        self._objects[key] = new
        self._changed(self.kind, key, old, new)

    def remove(self, manifest: Manifest) -> None:
        """An object is gone. If there is another one of its name already, that one stays."""
        key = key_of(manifest)
        old = self._objects.get(key)
        if old is None or uid_of(old) != uid_of(manifest):
            return
        del self._objects[key]
        self._changed(self.kind, key, old, None)

    def replace(self, manifests: Iterable[Manifest], covers: Callable[[str], bool] = lambda key: True) -> None:
        """These are all the objects that a list `covers`. What is not among them was deleted unseen."""
        found = {key_of(each): each for each in manifests}
        for key in [key for key in self._objects if key not in found and covers(key)]:
            self.remove(self._objects[key])
        for manifest in found.values():
            # Even what looks older holds: the answer is the API server's present (it may have been restored).
            key = key_of(manifest)
            old = self._objects.get(key)
            if old is None or version_of(old) != version_of(manifest) or uid_of(old) != uid_of(manifest):
                new = self._objects[key] = self._trim(manifest)
                self._changed(self.kind, key, old, new)

    def keep(self, uids: Mapping[str, str], known: Mapping[str, str]) -> None:
        """Remove what was `known` (key → uid) before a list was asked for, and is not in its answer (`uids`)."""
        for key, uid in known.items():
            old = self._objects.get(key)
            if old is not None and uid_of(old) == uid and uids.get(key) != uid:
                self.remove(old)

    def known(self) -> dict[str, str]:
        """Key → uid of all objects."""
        return {key: uid_of(each) for key, each in self._objects.items()}


def uid_of(manifest: Manifest) -> str:
    """The uid; empty if it has none."""
    return str(manifest["metadata"].get("uid", ""))


def version_of(manifest: Manifest) -> str:
    """The resourceVersion; empty if it has none."""
    return str(manifest["metadata"].get("resourceVersion", ""))


def is_older(one: Manifest, other: Manifest) -> bool:
    """Whether `one` was read before `other`, two versions of one object.

    resourceVersions of one kind can be compared as numbers (Kubernetes 1.35 promises it, etcd always had it so).
    """
    first, second = version_of(one), version_of(other)
    return first.isdecimal() and second.isdecimal() and int(first) < int(second)


def trim_metadata(manifest: Manifest) -> Manifest:
    """Without what nobody reads: who manages which field, and what kubectl applied last."""
    metadata = {name: value for name, value in manifest["metadata"].items() if name != "managedFields"}
    annotations = metadata.get("annotations")
    if annotations and "kubectl.kubernetes.io/last-applied-configuration" in annotations:
        metadata["annotations"] = {
            name: value
            for name, value in annotations.items()
            if name != "kubectl.kubernetes.io/last-applied-configuration"
        }
    return {**manifest, "metadata": metadata}


def trim_config_map(manifest: Manifest) -> Manifest:
    """Long values as their digest (see `digest`)."""
    trimmed = trim_metadata(manifest)
    return trimmed | {"data": {name: digest(value) for name, value in (manifest.get("data") or {}).items()}}


def digest(value: str) -> str:
    """A short value as it is; of a long one `sha256:<hex>`."""
    return value if len(value) <= _LONG else f"sha256:{hashlib.sha256(value.encode()).hexdigest()}"


def trim_pod(manifest: Manifest) -> Manifest:
    """What tells a gateway's pod: its metadata, where it is, and whether it is ready."""
    status = manifest.get("status") or {}
    kept = {name: status[name] for name in ("phase", "podIP", "conditions", "containerStatuses") if name in status}
    spec = {name: value for name, value in (manifest.get("spec") or {}).items() if name == "nodeName"}
    return {**trim_metadata(manifest), "spec": spec, "status": kept}
