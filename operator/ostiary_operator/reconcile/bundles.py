"""The bundle of a gateway: its Connections, what is in force for them, and the Secrets that they need."""

from __future__ import annotations

from dataclasses import dataclass

from ostiary_api.bundle_feed import Header, Packed, SecretVersion, manifest_line, pack
from ostiary_api.secret_uses import secrets_of_connection
from ostiary_operator.observed import Observed
from ostiary_operator.reconcile.acceptance import Standing, Standings
from ostiary_operator.reconcile.serving import Served, policies_for


@dataclass(frozen=True, slots=True)
class GatewayBundle:
    """`packed` is the text; `policies`: what is in force for each Connection, by its name; `secrets`: what it names."""

    packed: Packed
    policies: dict[str, tuple[Standing, ...]]
    secrets: tuple[SecretVersion, ...]

    def secret_names(self, namespace: str) -> list[str]:
        """The Secrets of one namespace that the gateway must read."""
        return sorted({each.name for each in self.secrets if each.namespace == namespace})


def bundle(
    observed: Observed, standings: Standings, namespace: str, gateway: str, served: tuple[Served, ...]
) -> GatewayBundle:
    """Pack what a gateway is to serve. Raises BundleError if that is more than ConfigMaps can hold."""
    settings = observed.settings
    policies = {each.seen.name: tuple(policies_for(observed, standings, each.model)) for each in served}
    # Each once, in one order, so that the same content has the same revision.
    chosen = {standing.bundled.key: standing for group in policies.values() for standing in group}
    in_order = [chosen[key] for key in sorted(chosen)]
    secrets = _secrets(observed, namespace, served, in_order)
    header = Header(
        namespace=namespace,
        gateway=gateway,
        system_namespace=settings.system_namespace,
        namespaces={namespace: dict(observed.namespaces.get(namespace, {}))},
        secrets=secrets,
        refused=tuple(standing.refused for standing in in_order if standing.refused is not None),
        approvals_usable=observed.approvals.usable,
        approvals_reason=observed.approvals.reason,
    )
    connections = [manifest_line(each.model) for each in sorted(served, key=lambda each: each.seen.name)]
    return GatewayBundle(pack(header, [*connections, *(standing.line for standing in in_order)]), policies, secrets)


def _secrets(
    observed: Observed, namespace: str, served: tuple[Served, ...], policies: list[Standing]
) -> tuple[SecretVersion, ...]:
    wanted = {f"{namespace}/{use.name}" for each in served for use in secrets_of_connection(each.model)}
    for standing in policies:
        wanted |= standing.secrets
    if any(each.model.spec.authentication.tokens == "Allow" for each in served):
        wanted |= {key for key in observed.tokens if key.startswith(f"{namespace}/")}
    found = (observed.secrets.get(key) for key in wanted)
    return tuple(
        sorted(SecretVersion(s.namespace, s.name, s.uid, s.resource_version) for s in found if s is not None)
    )
