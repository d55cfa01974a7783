"""Which Secrets a Connection or a policy names, and which keys each must have."""

from __future__ import annotations

from typing import NamedTuple

from ostiary_api.connection import Connection
from ostiary_api.policy import GatewayPolicy


class SecretUse(NamedTuple):
    """A Secret of the object's own namespace, named by one of its fields."""

    field: str
    name: str
    keys: tuple[str, ...]


def secrets_of_connection(connection: Connection) -> list[SecretUse]:
    """The Secrets that a Connection names. Tokens of agents are not among them: those are found by their type."""
    spec = connection.spec
    credentials, upstream, listener = spec.credentials, spec.upstream, spec.listener
    uses: list[SecretUse] = []
    if credentials.static is not None:
        keys = {"Postgres": ("username", "password"), "Kubernetes": ("token",), "SSH": ("username",)}[spec.protocol]
        uses.append(SecretUse("spec.credentials.static.secretRef", credentials.static.secret_ref.name, keys))
    if credentials.postgres_role is not None:
        name = credentials.postgres_role.admin_secret_ref.name
        uses.append(SecretUse("spec.credentials.postgresRole.adminSecretRef", name, ("username", "password")))
    if credentials.ssh_certificate is not None:
        name = credentials.ssh_certificate.ca_secret_ref.name
        uses.append(SecretUse("spec.credentials.sshCertificate.caSecretRef", name, ("privateKey",)))
    if listener.tls.secret_ref is not None:
        uses.append(SecretUse("spec.listener.tls.secretRef", listener.tls.secret_ref.name, ("tls.crt", "tls.key")))
    for number, issuer in enumerate(spec.authentication.oidc):
        field = f"spec.authentication.oidc[{number}]"
        if issuer.jwks_ref is not None:
            uses.append(SecretUse(f"{field}.jwksRef", issuer.jwks_ref.name, (issuer.jwks_ref.key,)))
        if issuer.ca_ref is not None:
            uses.append(SecretUse(f"{field}.caRef", issuer.ca_ref.name, (issuer.ca_ref.key,)))
    if spec.authentication.mtls is not None:
        ref = spec.authentication.mtls.ca_ref
        uses.append(SecretUse("spec.authentication.mtls.caRef", ref.name, (ref.key,)))
    if upstream.tls.ca_ref is not None:
        uses.append(SecretUse("spec.upstream.tls.caRef", upstream.tls.ca_ref.name, (upstream.tls.ca_ref.key,)))
    if upstream.host_ca_ref is not None:
        uses.append(SecretUse("spec.upstream.hostCARef", upstream.host_ca_ref.name, (upstream.host_ca_ref.key,)))
    return uses


def secrets_of_policy(policy: GatewayPolicy) -> list[SecretUse]:
    """The Secrets that a policy's masks take their keys from."""
    uses: list[SecretUse] = []
    for number, rule in enumerate(policy.spec.rules):
        for place, mask in enumerate(rule.masking):
            if (ref := mask.strategy.key_ref) is not None:
                field = f"spec.rules[{number}].masking[{place}].strategy.keyRef"
                uses.append(SecretUse(field, ref.name, (ref.key,)))
    return uses
