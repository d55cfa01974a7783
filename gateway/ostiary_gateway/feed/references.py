"""What manifests must have of each other: Secrets with the right keys, ports of their own. No I/O."""

from __future__ import annotations

from collections.abc import Mapping

from ostiary_api.authentication import is_reserved
from ostiary_api.connection import Connection
from ostiary_api.manifests import Manifests
from ostiary_api.problems import Location, Problem
from ostiary_api.secret import Secret
from ostiary_api.secret_uses import secrets_of_connection
from ostiary_gateway.feed.kubernetes_notices import kubernetes_notices
from ostiary_gateway.feed.ssh_secrets import unusable_keys
from ostiary_gateway.identity.authenticators import AuthenticationError, Authenticators
from ostiary_gateway.identity.issuer_keys import KeySources
from ostiary_gateway.identity.tokens import TokenIdentities
from ostiary_gateway.protocols import LOBBIES
from ostiary_policy.bundle import SYSTEM_NAMESPACE, Bundle
from ostiary_policy.matching import selects


def check_references(manifests: Manifests, *, in_cluster: bool = False) -> list[Problem]:
    """What cannot be right, whatever else there is: a Secret without the keys that are needed, two on one port.

    `in_cluster`: only Connections that share a gateway share its ports.
    """
    found: list[Problem] = []
    ports: dict[tuple[str, str, int], Connection] = {}
    for connection in manifests.connections.values():
        for use in secrets_of_connection(connection):
            secret = manifests.secret(connection.metadata.namespace, use.name)
            if secret is not None and (lacking := use.lacking(secret.data)):
                found.append(manifests.problem(connection, use.field, f"Secret {use.name} has no {lacking}"))
        found.extend(_unusable_authentication(manifests, connection))
        found.extend(_unusable_keys(manifests, connection))
        port = connection.spec.listener.port
        name = connection.metadata.name
        gateway = connection.metadata.namespace, connection.spec.gateway.name or name
        other = ports.setdefault((*(gateway if in_cluster else ("", "")), port), connection)
        if other is not connection:
            text = f"port {port} is also that of Connection {other.key}; each needs its own"
            found.append(manifests.problem(connection, "spec.listener.port", text))
    return found


def _unusable_keys(manifests: Manifests, connection: Connection) -> list[Problem]:
    namespace = connection.metadata.namespace
    unusable = unusable_keys(connection, lambda name: manifests.secret(namespace, name))
    return [manifests.problem(connection, field, text) for field, text in unusable]


def _unusable_authentication(manifests: Manifests, connection: Connection) -> list[Problem]:
    """What is in the Secrets of `spec.authentication` and is no key set and no certificate. Missing ones are told
    elsewhere."""
    authentication = connection.spec.authentication
    namespace = connection.metadata.namespace
    if not (authentication.oidc or authentication.mtls):
        return []
    secrets: dict[tuple[str, str], Secret] = {}
    for use in secrets_of_connection(connection):
        if use.field.startswith("spec.authentication."):
            secret = manifests.secret(namespace, use.name)
            if secret is None or use.lacking(secret.data):
                return []
            secrets[namespace, use.name] = secret
    try:
        Authenticators(connection, TokenIdentities(()), secrets, KeySources())
    except AuthenticationError as problem:
        return [manifests.problem(connection, "spec.authentication", str(problem))]
    return []


def check_completeness(manifests: Manifests, *, in_cluster: bool = False) -> list[Problem]:
    """What a gateway would miss when it serves these. Manifests that are only checked may be without: Secrets are
    seldom kept beside them."""
    found = [
        manifests.problem(connection, use.field, f"there is no Secret {use.name} in namespace {namespace}")
        for connection in manifests.connections.values()
        for namespace in (connection.metadata.namespace,)
        for use in secrets_of_connection(connection)
        if manifests.secret(namespace, use.name) is None
    ]
    found += [
        manifests.problem(
            connection,
            "spec.upstream.server",
            "it is needed outside of a cluster: https:// and the API server's address",
        )
        for connection in manifests.connections.values()
        if not in_cluster and connection.spec.protocol == "Kubernetes" and connection.spec.upstream.server is None
    ]
    if not manifests.connections:
        file = next((source.file for source in manifests.sources.values()), "nothing")
        found.append(Problem(Location(file), "there is no Connection in these manifests, so there is nothing to serve"))
    return found


def check_masks(manifests: Manifests, namespaces: Mapping[str, Mapping[str, str]]) -> list[Problem]:
    """Masks by JSON path that would hide nothing, since the policy is for a database: better said than found out."""
    databases = [each for each in manifests.connections.values() if each.spec.protocol == "Postgres"]
    found: list[Problem] = []
    for policy in manifests.policies.values():
        reached = [each for each in databases if selects(policy, each, namespaces, SYSTEM_NAMESPACE)]
        if not reached:
            continue
        for number, rule in enumerate(policy.spec.rules):
            for place, mask in enumerate(rule.masking):
                if mask.json_path is not None:
                    field = f"spec.rules[{number}].masking[{place}].jsonPath"
                    text = (
                        f"it would mask nothing on {reached[0].metadata.name}, a Postgres Connection. Name the column, "
                        "or a detector, or put it into a policy with match.protocols: [Kubernetes]"
                    )
                    found.append(manifests.problem(policy, field, text))
    return found


def notices(manifests: Manifests, bundle: Bundle, *, in_cluster: bool = False) -> list[Problem]:
    """What is allowed, and probably not meant. `in_cluster`: for a gateway that can review ServiceAccounts' tokens."""
    used = {policy.key for bound in bundle.connections.values() for policy in bound.policies}
    found = [
        manifests.problem(policy, "spec.match", "matches no Connection here")
        for policy in manifests.policies.values()
        if (policy.metadata.namespace, policy.metadata.name) not in used
    ]
    found += [
        manifests.problem(policy, field, text)
        for policy in manifests.policies.values()
        if (compiled := bundle.policies.get((policy.metadata.namespace, policy.metadata.name))) is not None
        for field, text in kubernetes_notices(compiled)
    ]
    served = {connection.metadata.namespace for connection in manifests.connections.values()}
    tokens = {secret.metadata.namespace for secret in manifests.secrets.values() if secret.token is not None}
    for key, bound in bundle.connections.items():
        connection = bound.connection
        if connection.spec.protocol not in LOBBIES:
            text = f"{connection.spec.protocol} is not served by this version, so nobody can connect"
            found.append(manifests.problem(connection, "spec.protocol", text))
        if not bound.policies:
            found.append(manifests.problem(connection, "", "no policy is for it, so everything is denied"))
        authentication = connection.spec.authentication
        only_tokens = not authentication.oidc and authentication.mtls is None
        if in_cluster and authentication.service_accounts != "Refuse":
            only_tokens = False
        if only_tokens and authentication.tokens == "Refuse":
            text = "only ServiceAccounts may log in, which a gateway outside of a cluster cannot check: nobody can"
            found.append(manifests.problem(connection, "spec.authentication", text))
        elif only_tokens and key[0] not in tokens:
            text = f"no token is in namespace {key[0]}, so nobody can log in; see ostiary token create"
            found.append(manifests.problem(connection, "", text))
    for secret in manifests.secrets.values():
        if secret.token is not None and secret.metadata.namespace not in served:
            text = f"this token opens nothing: no Connection is in namespace {secret.metadata.namespace}"
            found.append(manifests.problem(secret, "metadata.namespace", text))
        if secret.token is not None and any(map(is_reserved, (secret.token.username, *secret.token.groups))):
            text = "this token opens nothing: names that begin with system: or spiffe: are not for tokens"
            found.append(manifests.problem(secret, "data", text))
    return found
