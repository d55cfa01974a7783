"""Which Secrets a Connection or a policy names, and which keys each must have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from ostiary_api.connection import Connection
from ostiary_api.policy import GatewayPolicy

CERTIFICATE: Final = ("tls.crt", "tls.key")
_KEY_LOGIN: Final = ("username", "privateKey")


class SecretUse(NamedTuple):
    """A Secret of the object's own namespace, named by one of its fields. All `keys` must be in it, or else, where
    there are any, all of `otherwise`."""

    field: str
    name: str
    keys: tuple[str, ...]
    otherwise: tuple[str, ...] = ()

    def lacking(self, data: Mapping[str, bytes]) -> str:
        """What is not in a Secret's data and must be, in words; empty if nothing is missing."""
        missing = [key for key in self.keys if not data.get(key)]
        if not missing or (self.otherwise and all(data.get(key) for key in self.otherwise)):
            return ""
        words = " and no ".join(missing)
        return words + (f", nor {' with '.join(self.otherwise)}" if self.otherwise else "")


def secrets_of_connection(connection: Connection) -> list[SecretUse]:
    """The Secrets that a Connection names. Tokens of agents are not among them: those are found by their type."""
    spec = connection.spec
    credentials, upstream, listener = spec.credentials, spec.upstream, spec.listener
    uses: list[SecretUse] = []
    if credentials.static is not None:
        keys = {"Postgres": ("username", "password"), "Kubernetes": ("token",), "SSH": _KEY_LOGIN}[spec.protocol]
        otherwise = {"Postgres": (), "Kubernetes": CERTIFICATE, "SSH": ("username", "password")}[spec.protocol]
        name = credentials.static.secret_ref.name
        uses.append(SecretUse("spec.credentials.static.secretRef", name, keys, otherwise))
    if credentials.postgres_role is not None:
        name = credentials.postgres_role.admin_secret_ref.name
        uses.append(SecretUse("spec.credentials.postgresRole.adminSecretRef", name, ("username", "password")))
    for own in (credentials.service_account_token, credentials.impersonate):
        if own is not None and own.secret_ref is not None:
            field = f"spec.credentials.{credentials.kind}.secretRef"
            uses.append(SecretUse(field, own.secret_ref.name, ("token",), CERTIFICATE))
    if credentials.ssh_certificate is not None:
        name = credentials.ssh_certificate.ca_secret_ref.name
        uses.append(SecretUse("spec.credentials.sshCertificate.caSecretRef", name, ("privateKey",)))
    if listener.tls.secret_ref is not None:
        uses.append(SecretUse("spec.listener.tls.secretRef", listener.tls.secret_ref.name, CERTIFICATE))
    if listener.host_key_ref is not None:
        uses.append(SecretUse("spec.listener.hostKeyRef", listener.host_key_ref.name, ("privateKey",)))
    certificates = spec.authentication.ssh_certificates
    if certificates is not None and certificates.ca_secret_ref is not None:
        name = certificates.ca_secret_ref.name
        uses.append(SecretUse("spec.authentication.sshCertificates.caSecretRef", name, ("privateKey",)))
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
