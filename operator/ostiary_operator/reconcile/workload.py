"""The pods of a gateway: Deployment, PodDisruptionBudget, HorizontalPodAutoscaler.

The pod template depends on the settings and on the gateway's name only, so that neither a policy nor another Connection
restarts a pod. One exception: the first port below 1024, which pods must be allowed to listen on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostiary_api.connection import Autoscaling
from ostiary_api.gateway_state import STATE_PORT
from ostiary_api.names import child_labels, child_name, pod_selector
from ostiary_api.units import format_quantity
from ostiary_operator.gateway_settings import StoreSettings
from ostiary_operator.observed import ChildKey, Manifest, Observed

UID = 65532
"""User and group of the gateway in its pod. The image has the same."""

STOP_MARGIN = 15
"""Seconds beyond the drain: for endpoints to forget the pod, and for the record to be closed."""

SHIP_GRACE = 10
"""Seconds for the last of the record to reach the store."""

_TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - where a pod looks for its token
_DATA_PATH = "/var/lib/ostiary"
_STORE_PATH = "/run/ostiary/store"
_CA_ANNOTATION = "ostiary.dev/store-ca"


def metadata(namespace: str, gateway: str, name: str, owners: tuple[Manifest, ...]) -> Manifest:
    """Metadata of a child in the gateway's namespace, which goes when the last of its owners goes."""
    return {
        "name": name,
        "namespace": namespace,
        "labels": child_labels(namespace, gateway),
        "ownerReferences": [dict(owner) for owner in owners],
    }


def deployment(
    observed: Observed,
    meta: Manifest,
    gateway: str,
    *,
    replicas: int,
    scaling: Autoscaling | None,
    low_ports: bool,
) -> Manifest:
    """The Deployment. `low_ports`: a Connection listens below 1024."""
    namespace = meta["namespace"]
    spec: Manifest = {
        "selector": {"matchLabels": pod_selector(namespace, gateway)},
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": 300,
        # A new pod is ready before an old one is asked to go: sessions can always be opened.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": _template(observed, namespace, gateway, low_ports),
    }
    there = observed.children.get(ChildKey("Deployment", namespace, meta["name"]))
    if scaling is None:
        spec["replicas"] = replicas
    elif there is not None:
        # What the autoscaler chose. Leaving the field out now would set it to 1 where it was ours before; the
        # resourceVersion makes the API server refuse a number that is no longer the autoscaler's.
        now = (there.get("spec") or {}).get("replicas") or 1
        low = scaling.min_replicas or replicas
        spec["replicas"] = min(max(int(now), low), max(low, scaling.max_replicas))
        meta = {**meta, "resourceVersion": there["metadata"].get("resourceVersion", "")}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}


def disruption_budget(meta: Manifest, gateway: str) -> Manifest:
    """One pod at a time may be evicted."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": meta,
        "spec": {
            "maxUnavailable": 1,
            # A pod that cannot become ready must not keep a node from being drained.
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": pod_selector(meta["namespace"], gateway)},
        },
    }


def autoscaler(meta: Manifest, gateway: str, scaling: Autoscaling, replicas: int) -> Manifest:
    """More pods under load. It takes them away slowly: sessions of a pod that goes must end."""
    low = scaling.min_replicas or replicas
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": meta,
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": child_name(gateway)},
            "minReplicas": low,
            "maxReplicas": max(low, scaling.max_replicas),
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {
                        "name": "cpu",
                        "target": {"type": "Utilization", "averageUtilization": scaling.target_cpu_utilization},
                    },
                }
            ],
            "behavior": {
                "scaleDown": {
                    "stabilizationWindowSeconds": 600,
                    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
                }
            },
        },
    }


def _template(observed: Observed, namespace: str, gateway: str, low_ports: bool) -> Manifest:
    settings = observed.settings.gateway
    annotations = {"kubectl.kubernetes.io/default-container": "gateway", **settings.pod_annotations}
    if settings.metrics_annotations:
        annotations |= {
            "prometheus.io/scrape": "true",
            "prometheus.io/port": str(STATE_PORT),
            "prometheus.io/path": "/metrics",
        }
    if settings.store is not None and observed.settings.store_ca:
        # By the downward API it is a file in the pod: no object that others could change, and a new one rolls the pods.
        annotations[_CA_ANNOTATION] = observed.settings.store_ca
    security: Manifest = {
        "runAsNonRoot": True,
        "runAsUser": UID,
        "runAsGroup": UID,
        "fsGroup": UID,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    if low_ports:
        security["sysctls"] = [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]
    spec: Manifest = {
        "serviceAccountName": child_name(gateway),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": settings.drain_seconds
        + STOP_MARGIN
        + (SHIP_GRACE if settings.store is not None else 0),
        "securityContext": security,
        "containers": [_container(observed, namespace, gateway)],
        "topologySpreadConstraints": [dict(each) for each in settings.topology_spread_constraints]
        or _spread(namespace, gateway),
        "volumes": _volumes(observed),
    }
    optional: Mapping[str, Any] = {
        "imagePullSecrets": [{"name": each.name} for each in settings.image_pull_secrets],
        "nodeSelector": dict(settings.node_selector),
        "tolerations": [dict(each) for each in settings.tolerations],
        "affinity": dict(settings.affinity),
        "priorityClassName": settings.priority_class_name,
        "runtimeClassName": settings.runtime_class_name,
    }
    spec |= {name: value for name, value in optional.items() if value}
    labels = {**settings.pod_labels, **child_labels(namespace, gateway)}
    return {"metadata": {"labels": labels, "annotations": annotations}, "spec": spec}


def _container(observed: Observed, namespace: str, gateway: str) -> Manifest:
    settings = observed.settings.gateway
    arguments = ["--namespace", namespace, "--name", gateway, "--drain", str(settings.drain_seconds)]
    mounts: list[Manifest] = [
        {"name": "data", "mountPath": _DATA_PATH},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - in the pod, a volume of its own
        {"name": "api-access", "mountPath": _TOKEN_PATH, "readOnly": True},
    ]
    if settings.store is not None:
        arguments += _shipping(observed, settings.store)
        mounts.append({"name": "store", "mountPath": _STORE_PATH, "readOnly": True})
    if settings.console_account:
        arguments += ["--console-account", settings.console_account]
    return {
        "name": "gateway",
        "image": settings.image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["ostiary", "gateway", *arguments],
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "OSTIARY_LOG_LEVEL", "value": settings.log_level},
        ],
        # Only this port: the Connections' ports change while the pod runs.
        "ports": [{"name": "admin", "containerPort": STATE_PORT, "protocol": "TCP"}],
        "resources": dict(settings.resources),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "startupProbe": _probe("/livez", periodSeconds=2, failureThreshold=60),
        "livenessProbe": _probe("/livez", periodSeconds=10, failureThreshold=6),
        "readinessProbe": _probe("/readyz", periodSeconds=2, failureThreshold=2),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }


def _shipping(observed: Observed, store: StoreSettings) -> list[str]:
    """Flags: where the record goes, and how much of the pod's space it may take. A pod that fills its volume is evicted
    and loses what it has not sent; one that stops before that refuses requests, and loses nothing."""
    size = observed.settings.gateway.data_size_limit
    limit = size // 4 * 3
    kept = min(store.keep_local if store.keep_local is not None else size // 4, limit)
    flags = ["--ship-to", store.url, "--ship-token", f"{_STORE_PATH}/token", "--ship-grace", str(SHIP_GRACE)]
    if observed.settings.store_ca:
        flags += ["--ship-ca", f"{_STORE_PATH}/ca.crt"]
    return [*flags, "--keep-local", format_quantity(kept), "--spool-limit", format_quantity(limit)]


def _probe(path: str, **more: int) -> Manifest:
    return {"httpGet": {"path": path, "port": "admin", "scheme": "HTTP"}, "timeoutSeconds": 3, **more}


def _spread(namespace: str, gateway: str) -> list[Manifest]:
    return [
        {
            "topologyKey": key,
            "maxSkew": 1,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": pod_selector(namespace, gateway)},
            # Pods of the rollout that is under way are spread by themselves, not against those that go.
            "matchLabelKeys": ["pod-template-hash"],
        }
        for key in ("topology.kubernetes.io/zone", "kubernetes.io/hostname")
    ]


def _volumes(observed: Observed) -> list[Manifest]:
    sources = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {
            "downwardAPI": {
                "items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]
            }
        },
    ]
    volumes: list[Manifest] = [
        {"name": "data", "emptyDir": {"sizeLimit": format_quantity(observed.settings.gateway.data_size_limit)}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}},
        {"name": "api-access", "projected": {"defaultMode": 0o444, "sources": sources}},
    ]
    if (store := observed.settings.gateway.store) is not None:
        token = {"path": "token", "audience": store.audience, "expirationSeconds": 3600}
        shown: list[Manifest] = [{"serviceAccountToken": token}]
        if observed.settings.store_ca:
            field = {"apiVersion": "v1", "fieldPath": f"metadata.annotations['{_CA_ANNOTATION}']"}
            shown.append({"downwardAPI": {"items": [{"path": "ca.crt", "fieldRef": field}]}})
        volumes.append({"name": "store", "projected": {"defaultMode": 0o444, "sources": shown}})
    return volumes
