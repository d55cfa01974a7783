"""What a policy is for: Connections by their labels and namespaces, and subjects."""

from __future__ import annotations

from collections.abc import Mapping

from ostiary_api.connection import Connection
from ostiary_api.policy import GatewayPolicy
from ostiary_policy.facts import ConnectionFacts, SubjectFacts

NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"
"""Kubernetes gives every namespace this label; here it is there without a manifest of the namespace, too."""


def selects(
    policy: GatewayPolicy,
    connection: Connection,
    namespaces: Mapping[str, Mapping[str, str]],
    system_namespace: str,
) -> bool:
    """Whether a policy is for a Connection. `namespaces`: labels of each namespace.

    Only in the system namespace does a namespaceSelector reach over namespaces; elsewhere it has no effect, so that
    a policy that is not allowed to have one cannot deny anything in other namespaces either.
    """
    match = policy.spec.match
    home, there = policy.metadata.namespace, connection.metadata.namespace
    if match.namespace_selector is not None and home == system_namespace:
        labels = {NAMESPACE_NAME_LABEL: there, **namespaces.get(there, {})}
        if not match.namespace_selector.matches(labels):
            return False
    elif home != there:
        return False
    if match.protocols and connection.spec.protocol not in match.protocols:
        return False
    return match.connection_selector is None or match.connection_selector.matches(connection.metadata.labels)


def matches_subject(policy: GatewayPolicy, subject: SubjectFacts) -> bool:
    """Whether a policy is for a subject: for anybody, or one of its subjects is the one who asks."""
    subjects = policy.spec.match.subjects
    if not subjects:
        return True
    for wanted in subjects:
        match wanted.kind:
            case "Group":
                if wanted.name in subject["groups"]:
                    return True
            case "ServiceAccount":
                if (subject["kind"], subject["namespace"], subject["name"]) == (
                    "ServiceAccount",
                    wanted.namespace,
                    wanted.name,
                ):
                    return True
            case "User" | "Workload":
                if (subject["kind"], subject["username"]) == (wanted.kind, wanted.name):
                    return True
    return False


def connection_facts(connection: Connection) -> ConnectionFacts:
    """The facts of a Connection."""
    meta = connection.metadata
    return {
        "name": meta.name,
        "namespace": meta.namespace,
        "labels": dict(meta.labels),
        "protocol": connection.spec.protocol,
    }
