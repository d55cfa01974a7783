"""Bundles for the gateway `app` of namespace `shop`, and an API server in memory that holds them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncGenerator
from typing import Any

from ostiary_api.bundle_feed import Header, Packed, RefusedPolicy, SecretVersion, manifest_line, pack
from ostiary_api.connection import Connection
from ostiary_api.policy import GatewayPolicy
from ostiary_gateway.kube.errors import ApiError, Unreachable
from ostiary_gateway.kube.resources import Kind, Listed, Object, WatchEvent

TOKEN = "a token"
OURS = {"app.kubernetes.io/managed-by": "ostiary-operator"}


def connection(name: str = "app", *, port: int = 5432, secret: str = "db", **spec: object) -> Connection:
    return Connection.model_validate(
        {
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {
                "protocol": "Postgres", "upstream": {"host": "db.example"},
                "credentials": {"static": {"secretRef": {"name": secret}}},
                "gateway": {"name": "app"}, "listener": {"port": port}, **spec,
            },
        }
    )  # fmt: skip


def policy(name: str = "p", expression: str = "true", **rule: object) -> GatewayPolicy:
    rules = [{"name": "r", "action": "Allow", "expression": expression, **rule}]
    return GatewayPolicy.model_validate({"metadata": {"name": name, "namespace": "shop"}, "spec": {"rules": rules}})


def bundle(
    *items: Connection | GatewayPolicy,
    secrets: tuple[SecretVersion, ...] = (),
    refused: tuple[RefusedPolicy, ...] = (),
    max_part_bytes: int = 100_000,
    system_namespace: str = "ostiary-system",
    namespace: str = "shop",
) -> Packed:
    header = Header(namespace, "app", system_namespace, {"shop": {}}, secrets, refused)
    return pack(header, map(manifest_line, items), max_part_bytes=max_part_bytes)


class Api:
    """As much of an API server as a feed sees: objects with versions, watches, and times when it is away."""

    server = "memory"

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], Object] = {}
        self.asked: list[str] = []
        self.away = False
        self.forbidden: set[str] = set()
        self._version = 100
        self._watches: list[tuple[str, asyncio.Queue[WatchEvent | None]]] = []

    def put(
        self, plural: str, name: str, content: dict[str, Any], uid: str = "u", *, labels: dict[str, str] = OURS
    ) -> str:
        """Writes an object; its resourceVersion."""
        self._version += 1
        meta = {"namespace": "shop", "name": name, "uid": uid, "resourceVersion": str(self._version), "labels": labels}
        key = plural, "shop", name
        kind = "MODIFIED" if key in self.objects else "ADDED"
        self.objects[key] = {"metadata": meta, **content}
        self._tell(plural, kind, self.objects[key])
        return str(self._version)

    def remove(self, plural: str, name: str) -> None:
        self._tell(plural, "DELETED", self.objects.pop((plural, "shop", name)))

    def secret(self, name: str, kind: str = "Opaque", **values: str) -> SecretVersion:
        data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        return SecretVersion("shop", name, "u", self.put("secrets", name, {"type": kind, "data": data}))

    def token(self, name: str = "planner") -> SecretVersion:
        digest = hashlib.sha256(TOKEN.encode()).hexdigest()
        return self.secret(name, "ostiary.dev/token", username=name, sha256=digest)

    def publish(self, packed: Packed, *, parts: slice = slice(None)) -> None:
        """The ConfigMaps of a bundle, the last part first, or some of them only."""
        for name, data in list(reversed(packed.config_maps("app").items()))[parts]:
            self.put("configmaps", name, {"data": data})

    def leave(self) -> None:
        """Nobody gets an answer any more, and watches break."""
        self.away = True
        for _, queue in self._watches:
            queue.put_nowait(None)

    def _tell(self, plural: str, kind: Any, item: Object) -> None:
        for selected, queue in self._watches:
            if selected == f"{plural}/{item['metadata']['name']}":
                queue.put_nowait(WatchEvent(kind, item))

    def _answers(self) -> None:
        if self.away:
            raise Unreachable("the API server cannot be reached", sent=False)

    # -- as KubeClient

    async def get(self, kind: Kind, namespace: str, name: str, *, timeout: float = 1) -> Object:
        self.asked.append(f"{kind.plural}/{name}")
        await asyncio.sleep(0)
        self._answers()
        if name in self.forbidden:
            raise ApiError(403, "Forbidden", f"{name} is forbidden")
        found = self.objects.get((kind.plural, namespace, name))
        if found is None:
            raise ApiError(404, "NotFound", f"{name} not found")
        return found

    async def list(
        self, kind: Kind, namespace: str, *, label_selector: str = "", field_selector: str = "", timeout: float = 1
    ) -> Listed:
        await asyncio.sleep(0)
        self._answers()
        name = field_selector.removeprefix("metadata.name=")
        found = self.objects.get((kind.plural, namespace, name))
        return Listed((found,) if found is not None else (), str(self._version))

    async def watch(
        self, kind: Kind, namespace: str, *, resource_version: str, label_selector: str = "", field_selector: str = "",
        silence: float = 0,
    ) -> AsyncGenerator[WatchEvent, None]:  # fmt: skip
        self._answers()
        queue: asyncio.Queue[WatchEvent | None] = asyncio.Queue()
        place = f"{kind.plural}/{field_selector.removeprefix('metadata.name=')}", queue
        missed = self.objects.get((kind.plural, namespace, place[0].partition("/")[2]))
        if missed is not None and int(missed["metadata"]["resourceVersion"]) > int(resource_version):
            queue.put_nowait(WatchEvent("MODIFIED", missed))
        self._watches.append(place)
        try:
            while (event := await queue.get()) is not None:
                yield event
            raise Unreachable("the connection broke", sent=True)
        finally:
            self._watches.remove(place)
