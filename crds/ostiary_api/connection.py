"""Connection: one target that agents may reach through a gateway, and how the gateway authenticates to it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StrictInt, StringConstraints

from ostiary_api.authentication import Authentication
from ostiary_api.meta import (
    LIST_SET,
    PROBLEM_COLUMN,
    CARef,
    Conditions,
    DnsLabel,
    DnsName,
    Model,
    Port,
    Resource,
    SecretKey,
    SecretRef,
    StatusModel,
    Validation,
    list_map,
)
from ostiary_api.retention import Retention
from ostiary_api.units import duration, quantity

Protocol = Literal["Postgres", "Kubernetes", "SSH"]

DEFAULT_PORTS: dict[Protocol, int] = {"Postgres": 5432, "Kubernetes": 443, "SSH": 22}

Host = Annotated[
    str,
    StringConstraints(
        min_length=1, max_length=253, pattern=r"^[A-Za-z0-9]([-A-Za-z0-9._:]*[A-Za-z0-9])?$|^::[0-9A-Fa-f:]*$"
    ),
]
PublicKey = Annotated[
    str, StringConstraints(min_length=1, max_length=4096, pattern=r"^[-a-z0-9@.]+ [A-Za-z0-9+/=]+( .*)?$")
]
Principal = Annotated[str, StringConstraints(min_length=1, max_length=256)]
RoleName = Annotated[str, StringConstraints(min_length=1, max_length=63)]
CertificateExtension = Literal[
    "permit-pty", "permit-port-forwarding", "permit-agent-forwarding", "permit-X11-forwarding", "permit-user-rc"
]


class UpstreamTLS(Model):
    """TLS towards the target."""

    mode: Literal["Disable", "Require", "VerifyCA", "VerifyFull"] = Field(
        default="VerifyFull",
        description="Disable: no TLS. Require: TLS with any certificate. VerifyCA: the certificate's chain is checked. "
        "VerifyFull: its chain and its name are checked.",
    )
    ca_ref: CARef | None = Field(
        default=None, description="Authorities to trust. Without it those of the gateway's system are trusted."
    )
    server_name: Host | None = Field(
        default=None, description="Name to expect in the certificate and to send as SNI; default: the host."
    )


class HostCARef(Model):
    """The public key of an SSH host certificate authority, in a Secret of the same namespace."""

    name: DnsName = Field(description="Name of the Secret.")
    key: SecretKey = Field(default="ca.pub", description="Key that holds the authority's public key (OpenSSH format).")


class Upstream(Model):
    """Where the target is, and how to know that it is the right one."""

    host: Host | None = Field(default=None, description="Host name or IP address. Postgres and SSH need it.")
    port: Port | None = Field(
        default=None, description="TCP port; default: 5432 for Postgres, 443 for Kubernetes, 22 for SSH."
    )
    database: Annotated[str, StringConstraints(min_length=1, max_length=63)] | None = Field(
        default=None,
        description="Postgres: the one database that agents may open. Without it, the one named at login.",
    )
    tls: UpstreamTLS = Field(default=UpstreamTLS(), description="TLS towards the target. SSH has its own: hostKeys.")
    server: (
        Annotated[str, StringConstraints(min_length=1, max_length=2048, pattern=r"^https://[^/?#@ \t\r\n]+/?$")] | None
    ) = Field(
        default=None,
        description="Kubernetes: URL of the API server. Without it, the cluster that the gateway runs in.",
    )
    host_keys: tuple[PublicKey, ...] = Field(
        default=(),
        max_length=16,
        description="SSH: public host keys to accept, as in a known_hosts file without the host (`ssh-ed25519 AAAA…`).",
        json_schema_extra=LIST_SET,
    )
    host_ca_ref: HostCARef | None = Field(
        default=None, description="SSH: accept host certificates that this authority signed."
    )


class StaticCredentials(Model):
    """A fixed credential from a Secret: `username` with `password` or `privateKey`, `token`, or a certificate."""

    secret_ref: SecretRef = Field(
        description="Secret with the keys username and password (Postgres), username and privateKey or password (SSH), "
        "token, or tls.crt and tls.key (Kubernetes)."
    )


class PostgresRoleCredentials(Model):
    """A login role made for each session and dropped after it."""

    admin_secret_ref: SecretRef = Field(
        description="Secret with username and password of a role that may create roles (CREATEROLE)."
    )
    member_of: tuple[RoleName, ...] = Field(
        min_length=1,
        max_length=32,
        description="Roles that the new role is a member of. The session acts as the first.",
        json_schema_extra=LIST_SET,
    )
    ttl: Annotated[float, *duration("1m", "24h")] = Field(
        default=900.0, description="How long the role can log in (VALID UNTIL)."
    )


_BOOTSTRAP = (
    "Secret with token, or tls.crt and tls.key, {use}. Needed with upstream.server. Default: the gateway's own "
    "ServiceAccount, which only the cluster that it runs in knows."
)


class ServiceAccountTokenCredentials(Model):
    """A short-lived token of a ServiceAccount, from TokenRequest, renewed before it expires."""

    name: DnsName = Field(description="Name of the ServiceAccount.")
    namespace: DnsLabel | None = Field(
        default=None, description="Namespace of the ServiceAccount; default: that of the Connection."
    )
    ttl: Annotated[float, *duration("10m", "24h")] = Field(
        default=600.0, description="How long a token is valid; it is renewed before it expires."
    )
    secret_ref: SecretRef | None = Field(
        default=None, description=_BOOTSTRAP.format(use="with which the tokens are requested")
    )


class ImpersonateCredentials(Model):
    """The agent's own name at the API server: the gateway logs in and impersonates it (Impersonate-User, -Group)."""

    secret_ref: SecretRef | None = Field(
        default=None, description=_BOOTSTRAP.format(use="of who may impersonate the agents")
    )


class SSHCertificateCredentials(Model):
    """A certificate signed for each session."""

    ca_secret_ref: SecretRef = Field(description="Secret with the private key of the user authority, as privateKey.")
    principals: tuple[Principal, ...] = Field(
        min_length=1, max_length=32, description="Logins at the target that agents may use.", json_schema_extra=LIST_SET
    )
    ttl: Annotated[float, *duration("10s", "24h")] = Field(
        default=60.0, description="How long a certificate is valid after it was signed."
    )
    extensions: tuple[CertificateExtension, ...] = Field(
        default=("permit-pty",),
        max_length=5,
        description="What the certificate permits at the target (sshd refuses the rest, whatever policies allow). "
        "Forwards need permit-port-forwarding, ssh -A needs permit-agent-forwarding.",
        json_schema_extra=LIST_SET,
    )
    source_address: Literal["Bind", "Omit"] = Field(
        default="Bind",
        description="Bind: the certificate counts only from the address that the gateway has on its connection to the "
        "target. Omit: from anywhere, for targets that see another address than that (NAT, a proxy, a load balancer).",
    )


_CREDENTIALS = ("static", "postgres_role", "service_account_token", "impersonate", "ssh_certificate")


class Credentials(Model):
    """How the gateway authenticates to the target: exactly one kind. The agent never holds it."""

    static: StaticCredentials | None = Field(
        default=None, description="A fixed credential from a Secret, for every protocol."
    )
    postgres_role: PostgresRoleCredentials | None = Field(
        default=None, description="Postgres: a login role for each session."
    )
    service_account_token: ServiceAccountTokenCredentials | None = Field(
        default=None, description="Kubernetes: short-lived tokens of a ServiceAccount."
    )
    impersonate: ImpersonateCredentials | None = Field(
        default=None, description="Kubernetes: the gateway impersonates the agent."
    )
    ssh_certificate: SSHCertificateCredentials | None = Field(
        default=None, description="SSH: a certificate for each session."
    )

    validations = (
        Validation(
            "[has(self.static), has(self.postgresRole), has(self.serviceAccountToken), has(self.impersonate), "
            "has(self.sshCertificate)].filter(x, x).size() == 1",
            "exactly one of static, postgresRole, serviceAccountToken, impersonate, sshCertificate must be set",
            lambda self: sum(getattr(self, name) is not None for name in _CREDENTIALS) == 1,
        ),
    )

    @property
    def kind(self) -> str:
        """The one that is set, as it is written: `static`, `postgresRole` …"""
        name = next(name for name in _CREDENTIALS if getattr(self, name) is not None)
        return str(type(self).model_fields[name].alias)

    @property
    def own_account(self) -> bool:
        """Whether the gateway's own ServiceAccount is what it logs in with."""
        with_secret = self.service_account_token or self.impersonate
        return with_secret is not None and with_secret.secret_ref is None


class ListenerTLS(Model):
    """TLS towards agents."""

    mode: Literal["Require", "Disable"] = Field(
        default="Require",
        description="Require: agents must use TLS. Disable: plain text; standalone only on loopback, in a cluster "
        "tokens then cross the pod network in clear.",
    )
    secret_ref: SecretRef | None = Field(
        default=None,
        description="Secret with tls.crt and tls.key. Without it the gateway makes its own certificate, in a cluster "
        "for the names of the Connection's Service.",
    )

    validations = (
        Validation(
            "self.mode != 'Disable' || !has(self.secretRef)",
            "secretRef has no use with mode Disable",
            lambda self: self.mode != "Disable" or self.secret_ref is None,
        ),
    )


class Listener(Model):
    """Where agents connect."""

    port: Port = Field(description="TCP port that agents connect to.")
    tls: ListenerTLS = Field(
        default=ListenerTLS(), description="TLS towards agents; required unless it is disabled here. Not for SSH."
    )
    host_key_ref: SecretRef | None = Field(
        default=None,
        description="SSH: Secret with the gateway's own host key, as privateKey. Without it the gateway makes one; in "
        "a cluster each pod makes its own, so agents that pin it need this.",
    )


Replicas = Annotated[StrictInt, Field(ge=1, le=64)]


class Autoscaling(Model):
    """How many replicas a gateway has, by its load (a HorizontalPodAutoscaler)."""

    min_replicas: Replicas | None = Field(default=None, description="The fewest replicas; default: gateway.replicas.")
    max_replicas: Replicas = Field(description="The most replicas that load may bring about.")
    target_cpu_utilization: Annotated[StrictInt, Field(ge=1, le=100)] = Field(
        default=70, description="Percent of the requested CPU that pods should use on average."
    )

    validations = (
        Validation(
            "!has(self.minReplicas) || self.minReplicas <= self.maxReplicas",
            "minReplicas must not be more than maxReplicas",
            lambda self: self.min_replicas is None or self.min_replicas <= self.max_replicas,
        ),
    )


class Gateway(Model):
    """Which gateway serves the Connection. Connections of one namespace may share one by name."""

    name: DnsLabel | None = Field(default=None, description="Name of the gateway; default: that of the Connection.")
    replicas: Replicas = Field(
        default=1,
        description="How many pods it has. Connections that share a gateway get the largest number that "
        "one of them asks for.",
    )
    autoscaling: Autoscaling | None = Field(
        default=None,
        description="In a cluster: more replicas under load. Of Connections that share a gateway the oldest one that "
        "has it counts.",
    )

    validations = (
        Validation(
            "!has(self.autoscaling) || has(self.autoscaling.minReplicas) || "
            "self.replicas <= self.autoscaling.maxReplicas",
            "replicas must not be more than autoscaling.maxReplicas",
            lambda self: (
                self.autoscaling is None
                or self.autoscaling.min_replicas is not None
                or self.replicas <= self.autoscaling.max_replicas
            ),
        ),
    )


class Limits(Model):
    """Bounds on what one Connection may use."""

    max_sessions: Annotated[StrictInt, Field(ge=1, le=100_000)] = Field(
        default=100, description="Sessions at one time in one gateway process."
    )
    idle_timeout: Annotated[float, *duration("1s", "24h")] = Field(
        default=900.0, description="A session without traffic for so long is closed."
    )
    max_request_bytes: Annotated[int, *quantity("1Ki", "1Gi")] = Field(
        default=2**20, description="A larger request is refused, never passed on."
    )
    max_recorded_bytes: Annotated[int, *quantity("0", "1Ti")] = Field(
        default=2**30, description="Bytes recorded of one response; what is cut off is marked in the record."
    )


class SSHOptions(Model):
    """What is particular to SSH."""

    file_content: Literal["Digest", "Content"] = Field(
        default="Digest",
        description="What the record keeps of files that go through sftp and scp. Digest: size and sha256. Content: "
        "with recording Full also what is in them, as far as limits.maxRecordedBytes goes.",
    )


class ConnectionSpec(Model):
    """What is wanted."""

    protocol: Protocol = Field(description="Protocol of the target. Cannot be changed.")
    upstream: Upstream = Field(
        default=Upstream(), description="Where the target is, and how to know that it is the right one."
    )
    credentials: Credentials = Field(description="How the gateway authenticates to the target: exactly one kind.")
    listener: Listener = Field(description="Where agents connect: port and TLS.")
    authentication: Authentication = Field(
        default=Authentication(),
        description="How agents prove who they are. Default: by a token of a Secret in this namespace "
        "and, in a cluster, by a ServiceAccount token for the audience ostiary.",
    )
    gateway: Gateway = Field(default=Gateway(), description="Which gateway serves it, and with how many replicas.")
    recording: Literal["None", "Metadata", "Full"] = Field(
        default="Full",
        description="What is kept of a session. None: sessions and decisions only. Metadata: requests without their "
        "results. Full: results too, as the agent saw them.",
    )
    audit: Literal["Strict", "Relaxed"] = Field(
        default="Strict",
        description="Strict: no request runs unless its record is durable. Relaxed: records follow soon after.",
    )
    limits: Limits = Field(
        default=Limits(), description="Bounds on sessions, requests and records, so that no agent takes all."
    )
    ssh: SSHOptions | None = Field(default=None, description="SSH: what is particular to it.")
    retention: Retention | None = Field(
        default=None,
        description="How long the audit store keeps its sessions. Counts for sessions that begin after it is set.",
    )

    validations = (
        Validation("self.protocol == oldSelf.protocol", "protocol cannot be changed; make another Connection", None),
        Validation(
            "self.protocol == 'Kubernetes' || has(self.upstream.host)",
            "upstream.host is needed for Postgres and SSH",
            lambda self: self.protocol == "Kubernetes" or self.upstream.host is not None,
        ),
        Validation(
            "self.protocol != 'Kubernetes' || (!has(self.upstream.host) && !has(self.upstream.port))",
            "a Kubernetes upstream is given by upstream.server, not by host and port",
            lambda self: self.protocol != "Kubernetes" or (self.upstream.host is None and self.upstream.port is None),
        ),
        Validation(
            "self.protocol == 'Kubernetes' || !has(self.upstream.server)",
            "upstream.server is for Kubernetes; use host and port",
            lambda self: self.protocol == "Kubernetes" or self.upstream.server is None,
        ),
        Validation(
            "self.protocol == 'Postgres' || !has(self.upstream.database)",
            "upstream.database is for Postgres",
            lambda self: self.protocol == "Postgres" or self.upstream.database is None,
        ),
        Validation(
            "(self.protocol == 'SSH') == (has(self.upstream.hostKeys) && size(self.upstream.hostKeys) > 0 || "
            "has(self.upstream.hostCARef))",
            "SSH needs upstream.hostKeys or upstream.hostCARef, and only SSH has them",
            lambda self: (self.protocol == "SSH") == bool(self.upstream.host_keys or self.upstream.host_ca_ref),
        ),
        Validation(
            "self.protocol == 'Postgres' || !has(self.credentials.postgresRole)",
            "credentials.postgresRole is for Postgres",
            lambda self: self.protocol == "Postgres" or self.credentials.postgres_role is None,
        ),
        Validation(
            "self.protocol == 'Kubernetes' || !has(self.credentials.serviceAccountToken) && "
            "!has(self.credentials.impersonate)",
            "credentials.serviceAccountToken and credentials.impersonate are for Kubernetes",
            lambda self: (
                self.protocol == "Kubernetes"
                or (self.credentials.service_account_token is None and self.credentials.impersonate is None)
            ),
        ),
        Validation(
            "self.protocol != 'Kubernetes' || has(self.upstream.server) || "
            "self.upstream.tls.mode in ['VerifyFull', 'Disable'] && !has(self.upstream.tls.caRef) && "
            "!has(self.upstream.tls.serverName)",
            "upstream.tls is for upstream.server: the gateway knows its own cluster by what its pod has",
            lambda self: (
                self.protocol != "Kubernetes"
                or self.upstream.server is not None
                or self.upstream.tls in (UpstreamTLS(), UpstreamTLS(mode="Disable"))
            ),
        ),
        Validation(
            "!has(self.upstream.server) || [has(self.credentials.serviceAccountToken) && "
            "!has(self.credentials.serviceAccountToken.secretRef), has(self.credentials.impersonate) && "
            "!has(self.credentials.impersonate.secretRef)].all(x, !x)",
            "with upstream.server, credentials.serviceAccountToken and credentials.impersonate need secretRef: another "
            "cluster does not know the gateway's own ServiceAccount",
            lambda self: self.upstream.server is None or not self.credentials.own_account,
        ),
        Validation(
            "self.protocol == 'SSH' || !has(self.credentials.sshCertificate)",
            "credentials.sshCertificate is for SSH",
            lambda self: self.protocol == "SSH" or self.credentials.ssh_certificate is None,
        ),
        Validation(
            "self.protocol == 'SSH' || !has(self.listener.hostKeyRef) && !has(self.authentication.sshCertificates) && "
            "!has(self.ssh)",
            "listener.hostKeyRef, authentication.sshCertificates and ssh are for SSH",
            lambda self: (
                self.protocol == "SSH"
                or (
                    self.listener.host_key_ref is None and self.authentication.ssh_certificates is None and not self.ssh
                )
            ),
        ),
        Validation(
            "self.protocol != 'SSH' || self.listener.tls.mode == 'Require' && !has(self.listener.tls.secretRef) && "
            "!has(self.authentication.mtls)",
            "listener.tls and authentication.mtls are not for SSH, which has host keys (listener.hostKeyRef) and "
            "authentication.sshCertificates",
            lambda self: (
                self.protocol != "SSH" or (self.listener.tls == ListenerTLS() and self.authentication.mtls is None)
            ),
        ),
        Validation(
            "!has(self.authentication.sshCertificates) || !has(self.authentication.sshCertificates.caSecretRef) || "
            "!has(self.credentials.sshCertificate) || self.authentication.sshCertificates.caSecretRef.name != "
            "self.credentials.sshCertificate.caSecretRef.name",
            "authentication.sshCertificates and credentials.sshCertificate must not have the same caSecretRef: what "
            "signs for agents must not open targets",
            lambda self: (
                self.authentication.ssh_certificates is None
                or self.authentication.ssh_certificates.ca_secret_ref is None
                or self.credentials.ssh_certificate is None
                or self.authentication.ssh_certificates.ca_secret_ref != self.credentials.ssh_certificate.ca_secret_ref
            ),
        ),
        Validation(
            "!has(self.authentication.mtls) || self.listener.tls.mode != 'Disable'",
            "authentication.mtls needs TLS; leave listener.tls.mode out",
            lambda self: self.authentication.mtls is None or self.listener.tls.mode != "Disable",
        ),
        Validation(
            "self.protocol != 'Kubernetes' || self.upstream.tls.mode != 'Disable'",
            "a Kubernetes upstream always has TLS",
            lambda self: self.protocol != "Kubernetes" or self.upstream.tls.mode != "Disable",
        ),
    )

    @property
    def keeps_files(self) -> bool:
        """Whether the record has what is in files that go through."""
        return self.recording == "Full" and self.ssh is not None and self.ssh.file_content == "Content"

    @property
    def upstream_port(self) -> int:
        """Port of the target, the protocol's default included."""
        return self.upstream.port or DEFAULT_PORTS[self.protocol]


class Endpoint(StatusModel):
    """Where agents reach the Connection."""

    host: Annotated[str, StringConstraints(max_length=253)] = Field(
        description="Name of the Service, as pods of the cluster resolve it."
    )
    port: Port = Field(description="TCP port of the Service.")


class PolicyRevision(StatusModel):
    """A policy in force, and its revision."""

    namespace: DnsLabel = Field(description="Namespace of the policy.")
    name: DnsName = Field(description="Name of the policy.")
    revision: Annotated[str, StringConstraints(max_length=64)] = Field(
        description="Revision of the policy's spec that is in force (sha256)."
    )


class ConnectionStatus(StatusModel):
    """What is. The operator writes it."""

    observed_generation: Annotated[StrictInt, Field(ge=0)] = Field(
        default=0, description="The generation of the spec that this was worked out from."
    )
    conditions: Conditions = Field(
        default=(),
        max_length=16,
        description="Accepted: the spec can be served. ResolvedRefs: what it names exists. Programmed: "
        "every ready pod of its gateway serves it as it is here. UpstreamReachable: the "
        "target answers the gateway.",
        json_schema_extra=list_map("type"),
    )
    endpoint: Endpoint | None = Field(default=None, description="Host and port that agents connect to.")
    policies: tuple[PolicyRevision, ...] = Field(
        default=(),
        max_length=1024,
        description="Policies that hold for it, with the revisions in force.",
        json_schema_extra=list_map("namespace", "name"),
    )
    policy_count: Annotated[StrictInt, Field(ge=0)] | None = Field(
        default=None, description="How many policies hold for it. With 0 every request is denied."
    )
    revision: Annotated[str, StringConstraints(max_length=64)] = Field(
        default="",
        description="Revision of the bundle of Connections and policies that its gateway is to serve (sha256).",
    )


class Connection(Resource):
    """One target that agents may reach through a gateway, and how the gateway authenticates to it."""

    plural: ClassVar[str] = "connections"
    short_names: ClassVar[tuple[str, ...]] = ("gwconn",)
    printer_columns = (
        {"name": "Protocol", "type": "string", "jsonPath": ".spec.protocol"},
        {"name": "Endpoint", "type": "string", "jsonPath": ".status.endpoint.host"},
        {"name": "Port", "type": "integer", "jsonPath": ".status.endpoint.port"},
        {"name": "Policies", "type": "integer", "jsonPath": ".status.policyCount"},
        {"name": "Accepted", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Accepted')].status"},
        {"name": "Programmed", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Programmed')].status"},
        {
            "name": "Reachable",
            "type": "string",
            "jsonPath": ".status.conditions[?(@.type=='UpstreamReachable')].status",
            "priority": 1,
        },
        {"name": "Upstream", "type": "string", "jsonPath": ".spec.upstream.host", "priority": 1},
        PROBLEM_COLUMN,
        {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    )

    validations = (
        Validation(
            "size(self.metadata.name) <= 63 && !self.metadata.name.contains('.')",
            "the name of a Connection has at most 63 characters and no dot: it names its gateway and its Service",
            lambda self: len(self.metadata.name) <= 63 and "." not in self.metadata.name,
        ),
    )

    kind: Literal["Connection"] = Field(default="Connection", description="Connection.")
    spec: ConnectionSpec = Field(
        description="What is wanted: the target, the credential for it, where agents connect, and how "
        "they prove who they are."
    )
    status: ConnectionStatus | None = Field(
        default=None,
        description="What is: the operator writes it, and its conditions say what to do where something is wrong.",
    )
