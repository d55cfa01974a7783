"""Kubernetes Connections as a lobby gets them, and agents that come to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ostiary_api.connection import Connection
from ostiary_api.secret import Secret
from ostiary_api.units import MANIFEST
from ostiary_gateway.identity.authenticators import Authenticators
from ostiary_gateway.identity.issuer_keys import KeySources
from ostiary_gateway.identity.proof import Identity
from ostiary_gateway.identity.tokens import TokenIdentities
from ostiary_gateway.kube.access import Access
from ostiary_gateway.protocols import Site
from ostiary_policy.facts import SubjectFacts

Manifest = dict[str, Any]


def connection(credentials: Manifest, upstream: Manifest | None = None, *, namespace: str = "demo") -> Connection:
    """A Kubernetes Connection `cluster`."""
    spec = {"protocol": "Kubernetes", "credentials": credentials, "listener": {"port": 6443}}
    return Connection.model_validate(
        {
            "apiVersion": "ostiary.dev/v1alpha1",
            "kind": "Connection",
            "metadata": {"name": "cluster", "namespace": namespace},
            "spec": spec | ({"upstream": upstream} if upstream else {}),
        },
        context=MANIFEST,
    )


def site(made: Connection, secrets: Mapping[str, Mapping[str, str]] | None = None, api: Access | None = None) -> Site:
    """The Connection with its Secrets: name → key → value."""
    namespace = made.metadata.namespace
    there = {
        (namespace, name): Secret.model_validate(
            {"metadata": {"name": name, "namespace": namespace}, "stringData": dict(data)}
        )
        for name, data in (secrets or {}).items()
    }
    authenticators = Authenticators(made, TokenIdentities(()), there, KeySources())
    return Site(made, None, authenticators, there, api=api)


def agent(namespace: str = "demo", name: str = "planner") -> Identity:
    """A ServiceAccount that has logged in."""
    username = f"system:serviceaccount:{namespace}:{name}"
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    subject = SubjectFacts(
        username=username, uid="u-1", groups=groups, kind="ServiceAccount", namespace=namespace, name=name, claims={},
        onBehalfOf="",
    )  # fmt: skip
    return Identity(subject, "serviceAccount", "serviceAccount")


def person(name: str, *groups: str, uid: str = "") -> Identity:
    """A user of an issuer."""
    subject = SubjectFacts(
        username=name, uid=uid, groups=list(groups), kind="User", namespace="", name=name, claims={}, onBehalfOf=""
    )
    return Identity(subject, "oidc", "oidc")
