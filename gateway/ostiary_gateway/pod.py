"""The pod that a gateway runs in: its names, and the API server that it asks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ostiary_api.names import child_name

if TYPE_CHECKING:
    from ostiary_gateway.kube.client import KubeClient

CLUSTER_DOMAIN: Final = "cluster.local"


@dataclass(frozen=True, slots=True)
class Pod:
    """`namespace` and `gateway` say whose bundle is served; `name` and `address` tell this pod from its siblings."""

    namespace: str
    gateway: str
    name: str
    address: str
    kube: KubeClient = field(repr=False)

    def host_names(self, connection: str) -> tuple[str, ...]:
        """The names under which agents reach a Connection: those of its Service."""
        service, namespace = child_name(connection), self.namespace
        return (
            service,
            f"{service}.{namespace}",
            f"{service}.{namespace}.svc",
            f"{service}.{namespace}.svc.{CLUSTER_DOMAIN}",
        )
