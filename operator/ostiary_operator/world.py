"""The inventory as reconcile sees it: every object is read once when it comes, and a snapshot costs little."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, TypeVar

from ostiary_api.gateway_state import GatewayState
from ostiary_operator.inventory import Store, trim_config_map, trim_metadata, trim_pod
from ostiary_operator.keys import only_status
from ostiary_operator.kube.kinds import (
    CHILDREN,
    CONFIG_MAP,
    CONNECTION,
    GATEWAY_POLICY,
    NAMESPACE,
    POD,
    RESOURCES,
    SECRET,
    Manifest,
)
from ostiary_operator.observed import (
    Approvals,
    ChildKey,
    Observed,
    SeenConnection,
    SeenPod,
    SeenPolicy,
    SeenSecret,
    Settings,
    child_key,
    read_connection,
    read_pod,
    read_policy,
    read_secret,
)
from ostiary_operator.states import Told

TOKENS: Final = "tokens"
"""Watch of the Secrets of type ostiary.dev/token: the same objects as those of Secret, fewer of them."""

Key = TypeVar("Key")
Value = TypeVar("Value")
_INPUTS: Final = frozenset({CONNECTION.kind, GATEWAY_POLICY.kind, NAMESPACE.kind, SECRET.kind})
Changed = Callable[[str, str, Manifest | None, Manifest | None], None]


class World:
    """The stores of all watched kinds, and what reconcile's values of them are."""

    def __init__(self, settings: Settings, changed: Changed) -> None:
        self._settings = settings
        self._tell = changed
        self.stores: dict[str, Store] = {
            **{kind.kind: Store(kind.kind, self._changed) for kind in (*RESOURCES, *CHILDREN, NAMESPACE, SECRET)},
            CONFIG_MAP.kind: Store(CONFIG_MAP.kind, self._changed, trim_config_map),
            POD.kind: Store(POD.kind, self._changed, trim_pod),
            TOKENS: Store(TOKENS, self._changed, trim_metadata),
        }
        self._connections: dict[str, SeenConnection] = {}
        self._policies: dict[str, SeenPolicy] = {}
        self._secrets: dict[str, SeenSecret] = {}
        self._pods: dict[str, SeenPod] = {}
        self._namespaces: dict[str, Mapping[str, str]] = {}
        self._tokens: frozenset[str] = frozenset()
        self._children: dict[ChildKey, Manifest] = {}
        self._foreign: frozenset[ChildKey] = frozenset()
        self._failed: Mapping[ChildKey, str] = {}
        self._states: dict[str, GatewayState | str] = {}
        self._approvals = Approvals(False, "the admission policies have not been checked yet")
        self._snapshot: Observed | None = None
        self.inputs = 0
        """Counts changes of what the acceptance of policies depends on."""

    @property
    def children(self) -> Mapping[str, Store]:
        """Kind → the store of our children of it."""
        return {kind.kind: self.stores[kind.kind] for kind in CHILDREN}

    def counts(self) -> Mapping[str, int]:
        """Objects of each watch, for the metrics."""
        return {name: len(store) for name, store in self.stores.items()}

    def observed(self) -> Observed:
        """All that is known now. The same object until something changes."""
        if self._snapshot is None:
            self._snapshot = Observed(
                settings=self._settings, connections=dict(self._connections), policies=dict(self._policies),
                namespaces=dict(self._namespaces), secrets=dict(self._secrets), tokens=self._tokens,
                children=dict(self._children), foreign=self._foreign, failed=self._failed, pods=dict(self._pods),
                states=dict(self._states), approvals=self._approvals,
            )  # fmt: skip
        return self._snapshot

    def refused(self, foreign: frozenset[ChildKey], failed: Mapping[ChildKey, str]) -> None:
        """What children cannot be written, all of them."""
        if (foreign, failed) != (self._foreign, self._failed):
            self._foreign, self._failed, self._snapshot = foreign, dict(failed), None

    def told(self, uid: str, told: Told | None) -> None:
        """What the pod of that uid tells of itself; None: it is asked no more."""
        value: GatewayState | str | None = None if told is None else told.state or told.problem
        if value is None:
            self._states.pop(uid, None)
        else:
            self._states[uid] = value
        self._snapshot = None

    def approvals(self, approvals: Approvals) -> bool:
        """Whether approvals can be trusted; True if that is news."""
        if approvals == self._approvals:
            return False
        self._approvals, self._snapshot = approvals, None
        return True

    def store_has(self, authorities: str) -> None:
        """Who may sign the store's certificate."""
        self._settings, self._snapshot = replace(self._settings, store_ca=authorities), None

    def _changed(self, kind: str, key: str, old: Manifest | None, new: Manifest | None) -> None:
        self._snapshot = None
        if kind in _INPUTS and not only_status(old, new):
            self.inputs += 1
        match kind:
            case CONNECTION.kind:
                _keep(self._connections, key, None if new is None else read_connection(new, self._connections.get(key)))
            case GATEWAY_POLICY.kind:
                _keep(self._policies, key, None if new is None else read_policy(new, self._policies.get(key)))
            case SECRET.kind:
                _keep(self._secrets, key, None if new is None else read_secret(new))
            case POD.kind:
                _keep(self._pods, key, None if new is None else read_pod(new))
            case NAMESPACE.kind:
                _keep(self._namespaces, key, None if new is None else new["metadata"].get("labels") or {})
            case "tokens":
                self._tokens = (self._tokens - {key}) if new is None else (self._tokens | {key})
            case "ApprovalRequest":
                pass
            case _:
                which = new or old
                assert which is not None
                _keep(self._children, child_key(which), new)
        self._tell(kind, key, old, new)


def _keep(place: dict[Key, Value], key: Key, value: Value | None) -> None:
    if value is None:
        place.pop(key, None)
    else:
        place[key] = value
