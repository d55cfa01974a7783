"""A small operator for `kopf run`: for each Widget a ConfigMap of its size, made with the kubernetes client library."""

from __future__ import annotations

import os
from typing import Any

import kopf
import kubernetes.client
import kubernetes.config

GROUP = os.environ["WIDGETS_GROUP"]
KINDS = (GROUP, "v1", "widgets")


@kopf.on.startup()
def begin(settings: kopf.OperatorSettings, **_: Any) -> None:
    kubernetes.config.load_kube_config(os.environ["KUBECONFIG"])
    settings.persistence.finalizer = f"{GROUP}/kept"


@kopf.on.create(*KINDS)
def create(spec: kopf.Spec, name: str, namespace: str, **_: Any) -> dict[str, Any]:
    child = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"size": str(spec["size"])}}
    kopf.adopt(child)
    made = kubernetes.client.CoreV1Api().create_namespaced_config_map(namespace, child)
    return {"child": made.metadata.name}


@kopf.on.update(*KINDS, field="spec.size")
def resize(new: int, name: str, namespace: str, patch: kopf.Patch, **_: Any) -> None:
    body = {"data": {"size": str(new)}}
    kubernetes.client.CoreV1Api().patch_namespaced_config_map(name, namespace, body)
    patch.status["size"] = new


@kopf.on.delete(*KINDS)
def delete(name: str, namespace: str, **_: Any) -> None:
    # What is gone with the Widget is noted in what stays.
    body = {"data": {name: "gone"}}
    kubernetes.client.CoreV1Api().patch_namespaced_config_map("ledger", namespace, body)
