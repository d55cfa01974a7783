"""What the operator's settings say of gateways' pods: `gateway` in its file. Pure."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictInt, StringConstraints

from ostiary_api.meta import DnsName, Model
from ostiary_api.units import quantity

Percentage = Annotated[StrictInt, Field(ge=1, le=100)]
Replicas = Annotated[StrictInt, Field(ge=1, le=64)]


class PullSecret(Model):
    """A Secret of the gateway's namespace that the image is pulled with."""

    name: DnsName = Field(description="Name of the Secret.")


class NetworkPolicySettings(Model):
    """Who may connect to gateways' pods."""

    enabled: StrictBool = Field(default=True, description="Whether each gateway gets a NetworkPolicy.")
    monitoring_from: tuple[dict[str, Any], ...] = Field(
        default=(), description="Peers (namespaceSelector, podSelector, ipBlock) that may read metrics."
    )


class AutoscalingSettings(Model):
    """For gateways whose Connections say nothing of autoscaling."""

    enabled: StrictBool = Field(default=False, description="Whether they are scaled.")
    max_replicas: Replicas = Field(default=5, description="The most replicas.")
    target_cpu_utilization_percentage: Percentage = Field(default=70, description="CPU in use, of what is requested.")


class StoreSettings(Model):
    """The store that gateways send their record to."""

    url: Annotated[str, StringConstraints(pattern=r"^https://[^/\s]+$", max_length=512)] = Field(
        description="Where the store takes records in."
    )
    audience: Annotated[str, StringConstraints(min_length=1, max_length=253)] = Field(
        default="ostiary-store", description="Audience of the token that gateways show there."
    )
    ca_file: str = Field(
        default="",
        description="A file of this pod with the authorities of the store's certificate; none, or not there: those of "
        "the gateway's image.",
    )
    keep_local: Annotated[int, *quantity("1Mi", "1Ti")] | None = Field(
        default=None,
        description="How much of what was sent a gateway keeps for itself. None: a quarter of dataSizeLimit.",
    )


class GatewaySettings(Model):
    """Defaults of all gateways' pods."""

    image: Annotated[str, StringConstraints(min_length=1, max_length=512)] = Field(description="Image of the gateway.")
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] = Field(
        default="IfNotPresent", description="When the image is pulled."
    )
    image_pull_secrets: tuple[PullSecret, ...] = Field(default=(), description="Secrets to pull it with.")
    cluster_role: str = Field(default="ostiary-gateway", description="ClusterRole of all gateways (chart).")
    service_account_tokens: StrictBool = Field(
        default=True,
        description="Whether a gateway may make tokens of the ServiceAccounts that its Connections name "
        "(credentials.serviceAccountToken), in its own namespace.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least severity.")
    drain_seconds: Annotated[StrictInt, Field(ge=0, le=86400)] = Field(
        default=30, description="How long a pod that stops lets its sessions go on."
    )
    data_size_limit: Annotated[int, *quantity("16Mi", "1Ti")] = Field(
        default=2 * 2**30, description="What a pod may keep under /var/lib/ostiary."
    )
    resources: dict[str, Any] = Field(
        default={"requests": {"cpu": "100m", "memory": "160Mi"}, "limits": {"memory": "512Mi"}},
        description="Resources of the container.",
    )
    node_selector: dict[str, str] = Field(default={}, description="Nodes to run on.")
    tolerations: tuple[dict[str, Any], ...] = Field(default=(), description="Taints to tolerate.")
    affinity: dict[str, Any] = Field(default={}, description="Affinity.")
    topology_spread_constraints: tuple[dict[str, Any], ...] = Field(
        default=(), description="How pods are spread; empty: over zones and nodes, where possible."
    )
    priority_class_name: str = Field(default="", description="PriorityClass.")
    runtime_class_name: str = Field(default="", description="RuntimeClass.")
    pod_annotations: dict[str, str] = Field(default={}, description="More annotations of pods.")
    pod_labels: dict[str, str] = Field(default={}, description="More labels of pods.")
    network_policy: NetworkPolicySettings = Field(default=NetworkPolicySettings(), description="Who may connect.")
    autoscaling: AutoscalingSettings = Field(default=AutoscalingSettings(), description="Default of autoscaling.")
    store: StoreSettings | None = Field(default=None, description="The store, if there is one.")
    console_account: Annotated[str, StringConstraints(pattern=r"^([-a-z0-9]+/[-a-z0-9.]+)?$", max_length=512)] = Field(
        default="",
        description="namespace/name of the console's ServiceAccount, which may ask gateways for live sessions and end "
        "them; empty: nobody may.",
    )
    metrics_annotations: StrictBool = Field(default=False, description="prometheus.io/scrape on the pods.")
