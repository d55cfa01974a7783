"""Which Connections a gateway serves, which not and why, and which policies are for each."""

from __future__ import annotations

from dataclasses import dataclass

from ostiary_api.connection import Autoscaling, Connection
from ostiary_api.gateway_state import STATE_PORT
from ostiary_api.names import PREFIX
from ostiary_api.secret_uses import SecretUse, secrets_of_connection
from ostiary_operator.observed import Observed, SeenConnection
from ostiary_operator.reconcile import reasons
from ostiary_operator.reconcile.acceptance import Standing, Standings
from ostiary_policy.matching import selects


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a Connection is not served."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Served:
    """A Connection that its gateway serves."""

    seen: SeenConnection
    model: Connection


def sort_out(observed: Observed, gateway_key: str) -> tuple[tuple[Served, ...], dict[str, Refusal]]:
    """The Connections that a gateway serves, the oldest first, and by name why it does not serve the others."""
    served: list[Served] = []
    refused: dict[str, Refusal] = {}
    ports: dict[int, str] = {}
    for seen in observed.by_gateway.get(gateway_key, ()):
        refusal = _refusal(observed, seen, ports)
        if refusal is not None:
            refused[seen.name] = refusal
            continue
        assert seen.model is not None
        ports[seen.model.spec.listener.port] = seen.name
        served.append(Served(seen, seen.model))
    return tuple(served), refused


def _refusal(observed: Observed, seen: SeenConnection, ports: dict[int, str]) -> Refusal | None:
    model = seen.model
    if model is None:
        return Refusal(
            reasons.INVALID,
            f"What is stored is not valid: {'; '.join(map(str, seen.problems[:4]))}. Apply a corrected Connection.",
        )
    protocol, port = model.spec.protocol, model.spec.listener.port
    if protocol not in observed.settings.protocols:
        known = ", ".join(sorted(observed.settings.protocols))
        return Refusal(
            reasons.PROTOCOL_NOT_SERVED,
            f"spec.protocol: {protocol} is not served by this version of Ostiary, which serves {known}.",
        )
    if text := _forbidden_account(observed, seen.namespace, model):
        return Refusal(reasons.CREDENTIAL_NOT_ALLOWED, text)
    if port == STATE_PORT:
        text = f"spec.listener.port: {port} is the gateway's own port for health and metrics. Choose another."
        return Refusal(reasons.PORT_CONFLICT, text)
    if port in ports:
        return Refusal(
            reasons.PORT_CONFLICT,
            f"spec.listener.port: {port} is also that of the older Connection {ports[port]}, which shares gateway "
            f"{seen.gateway}. Choose another port, or another spec.gateway.name.",
        )
    return None


def _forbidden_account(observed: Observed, namespace: str, connection: Connection) -> str:
    """Why agents must not act as the ServiceAccount that a Connection names; empty if they may.

    With the token of a gateway or of the operator an agent could ask, count and serve in Ostiary's own name.
    """
    account = connection.spec.credentials.service_account_token
    if account is None or connection.spec.upstream.server is not None:
        return ""
    where = account.namespace or namespace
    field = "spec.credentials.serviceAccountToken"
    if where == observed.settings.system_namespace:
        return f"{field}: the ServiceAccounts of {where} are Ostiary's own, and no agent acts as one. Name another."
    if account.name.startswith(PREFIX):
        return f"{field}: names that begin with {PREFIX} are those of gateways, and no agent acts as one. Name another."
    return ""


def token_accounts(observed: Observed, served: tuple[Served, ...]) -> list[str]:
    """The ServiceAccounts of the gateway's own namespace of which it makes tokens, as itself. In another namespace
    somebody who may give out roles there has to allow it."""
    if not observed.settings.gateway.service_account_tokens:
        return []
    asked = ((each.seen.namespace, each.model.spec) for each in served)
    return sorted(
        {
            account.name
            for namespace, spec in asked
            if (account := spec.credentials.service_account_token) is not None
            and account.secret_ref is None
            and account.namespace in (None, namespace)
        }
    )


def policies_for(observed: Observed, standings: Standings, connection: Connection) -> list[Standing]:
    """What is in force for a Connection, in the order of namespace and name. Refused policies are among them."""
    home, system = connection.metadata.namespace, observed.settings.system_namespace
    found = [
        (key, standing)
        for key, standing in standings.items()
        if key in observed.policies
        and standing.bundled.metadata.namespace in (home, system)
        and selects(standing.bundled, connection, observed.namespaces, system)
    ]
    return [standing for _, standing in sorted(found, key=lambda item: item[0])]


def missing_secrets(observed: Observed, connection: Connection) -> list[SecretUse]:
    """The Secrets that a Connection names and that are not there."""
    namespace = connection.metadata.namespace
    return [use for use in secrets_of_connection(connection) if f"{namespace}/{use.name}" not in observed.secrets]


def replicas(served: tuple[Served, ...]) -> int:
    """How many replicas are asked for; of several Connections the most counts."""
    return max(each.model.spec.gateway.replicas for each in served)


def autoscaling(observed: Observed, served: tuple[Served, ...]) -> Autoscaling | None:
    """How the gateway is scaled: as the oldest Connection says that says something, or as the settings do."""
    fewest = replicas(served)
    for each in served:
        wanted = each.model.spec.gateway.autoscaling
        if wanted is not None:
            low = min(wanted.min_replicas or fewest, wanted.max_replicas)
            return wanted.model_copy(update={"min_replicas": low})
    default = observed.settings.gateway.autoscaling
    if not default.enabled:
        return None
    return Autoscaling(
        min_replicas=fewest,
        max_replicas=max(fewest, default.max_replicas),
        target_cpu_utilization=default.target_cpu_utilization_percentage,
    )
