"""How agents prove who they are: tokens of Secrets, ServiceAccounts, JWTs of OIDC issuers, certificates (SPIFFE)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StrictBool, StringConstraints

from ostiary_api.meta import LIST_SET, CARef, DnsLabel, DnsName, Model, SecretKey, SecretRef, Validation, list_map
from ostiary_api.units import duration

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]

Issuer = Annotated[
    str, StringConstraints(min_length=9, max_length=512, pattern=r"^https://[^/?#@ \t\r\n]+(/[^?# \t\r\n]*)?$")
]
Audience = Annotated[str, StringConstraints(min_length=1, max_length=512)]
ClaimName = Annotated[str, StringConstraints(min_length=1, max_length=256)]
ClaimValue = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Prefix = Annotated[str, StringConstraints(min_length=2, max_length=256, pattern=r"^[A-Za-z0-9][-A-Za-z0-9._:/]*[:/#]$")]
TokenType = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][-A-Za-z0-9._+]*$")]
TrustDomain = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[a-z0-9._-]+$")]

RESERVED_PREFIXES = ("system:", "spiffe:")
"""No issuer and no token may name anybody who begins so: Kubernetes and certificates do."""


def is_reserved(name: str, prefixes: tuple[str, ...] = ()) -> bool:
    """Whether a name belongs to Kubernetes, to SPIFFE, or to one of these prefixes of issuers."""
    return name.startswith(RESERVED_PREFIXES + prefixes)


class JWKSRef(Model):
    """The public keys of an issuer, in a Secret of the same namespace."""

    name: DnsName = Field(description="Name of the Secret, in the same namespace.")
    key: SecretKey = Field(default="jwks.json", description="Key that holds the keys (JSON Web Key Set, RFC 7517).")


class OIDCIssuer(Model):
    """One issuer whose JWTs are taken, and what is made of their claims."""

    name: DnsLabel = Field(description="Name of the issuer here. It begins the names that come from it: see prefix.")
    issuer: Issuer = Field(description="URL of the issuer. A JWT's iss must be exactly this.")
    audiences: tuple[Audience, ...] = Field(
        min_length=1,
        max_length=16,
        description="A JWT's aud must have one of these. Choose one that stands for this gateway and nothing else.",
        json_schema_extra=LIST_SET,
    )
    jwks_url: (
        Annotated[
            str, StringConstraints(min_length=9, max_length=2048, pattern=r"^https://[^/?#@ \t\r\n]+(/[^# \t\r\n]*)?$")
        ]
        | None
    ) = Field(
        default=None,
        description="Where the issuer's public keys are. Without it and jwksRef they are discovered: "
        "<issuer>/.well-known/openid-configuration says where.",
    )
    jwks_ref: JWKSRef | None = Field(default=None, description="Keys from a Secret; the issuer is never asked.")
    ca_ref: CARef | None = Field(
        default=None,
        description="Authorities to trust when the issuer is asked for its keys. Without it those of the system.",
    )
    algorithms: tuple[Algorithm, ...] = Field(
        default=("RS256", "ES256", "EdDSA"),
        min_length=1,
        max_length=10,
        description="Signature algorithms that are taken. None of them works with a shared secret.",
        json_schema_extra=LIST_SET,
    )
    token_type: TokenType | None = Field(
        default=None, description="What a JWT's typ must be, for example at+jwt (RFC 9068). Without it, it is not read."
    )
    username_claim: ClaimName = Field(
        default="sub", description="Claim with the user name. For email, email_verified must be true as well."
    )
    groups_claim: ClaimName | None = Field(
        default=None,
        description="Claim with the groups: a list of text, or one text. A JWT without it is refused, so that nobody "
        "gets past a rule for a group by leaving it out. Without groupsClaim nobody has groups.",
    )
    prefix: Prefix | None = Field(
        default=None,
        description="Stands before every user name and group of this issuer, so that none can be taken for another's. "
        "Ends in :, / or #. Default: the issuer's name and a colon.",
    )
    subject_kind: Literal["User", "Workload"] = Field(
        default="User",
        description="Kind of the subjects that this issuer speaks of. User: people and programs. "
        "Workload: programs only.",
    )
    claims: tuple[ClaimName, ...] = Field(
        default=(),
        max_length=32,
        description="Claims that policies may read as request.subject.claims. They are in the record, too.",
        json_schema_extra=LIST_SET,
    )
    required_claims: dict[ClaimName, ClaimValue] = Field(
        default={},
        max_length=16,
        description="Claims that must be there, as exactly this text, or as a list that has it.",
    )
    on_behalf_of_claim: ClaimName | None = Field(
        default=None, description="Claim with the person that the agent acts for. The agent is the JWT's own subject."
    )
    delegation: Literal["Refuse", "Actor"] = Field(
        default="Refuse",
        description="What a JWT with the claim act means (RFC 8693). Refuse: it is not taken. Actor: the agent is the "
        "actor, its name and groups are read inside act, and it acts on behalf of the JWT's own subject.",
    )
    max_token_lifetime: Annotated[float, *duration("1m", "720h")] = Field(
        default=86400.0, description="A JWT that is valid for longer, from its issue to its end, is refused."
    )
    clock_skew: Annotated[float, *duration("0s", "5m")] = Field(
        default=30.0, description="How far the issuer's clock may be off."
    )

    validations = (
        Validation(
            "!has(self.jwksURL) || !has(self.jwksRef)",
            "jwksURL and jwksRef cannot both be set",
            lambda self: self.jwks_url is None or self.jwks_ref is None,
        ),
        Validation(
            "!has(self.caRef) || !has(self.jwksRef)",
            "caRef has no use with jwksRef: the issuer is never asked",
            lambda self: self.ca_ref is None or self.jwks_ref is None,
        ),
        Validation(
            "has(self.prefix) ? !self.prefix.startsWith('system:') && !self.prefix.startsWith('spiffe:') "
            ": !(self.name in ['system', 'spiffe'])",
            "the prefixes system: and spiffe: are reserved",
            lambda self: not self.names_begin.startswith(RESERVED_PREFIXES),
        ),
        Validation(
            "!has(self.onBehalfOfClaim) || !has(self.delegation) || self.delegation != 'Actor'",
            "onBehalfOfClaim has no use with delegation Actor: it is the JWT's own subject",
            lambda self: self.on_behalf_of_claim is None or self.delegation != "Actor",
        ),
    )

    @property
    def names_begin(self) -> str:
        """What stands before every name of this issuer, the default included."""
        return self.prefix if self.prefix is not None else f"{self.name}:"


class MTLS(Model):
    """Certificates of agents: X.509-SVIDs of one SPIFFE trust domain."""

    ca_ref: CARef = Field(description="Authorities of the trust domain (its trust bundle, PEM).")
    trust_domain: TrustDomain = Field(description="SPIFFE trust domain, for example example.org. Others are refused.")
    mode: Literal["Optional", "Required", "WithToken"] = Field(
        default="Optional",
        description="Optional: a certificate instead of a token or JWT. Required: a certificate, and nothing else. "
        "WithToken: a certificate, and a token or JWT, which says who the agent is.",
    )
    service_accounts: StrictBool = Field(
        default=False,
        description="Ids like spiffe://example.org/ns/NAMESPACE/sa/NAME are those of Kubernetes ServiceAccounts: their "
        "subjects are of kind ServiceAccount, with namespace and name.",
    )


class SSHLoginCertificates(Model):
    """Certificates for agents' own SSH keys, which `ostiary ssh cert` gets for a token."""

    ca_secret_ref: SecretRef | None = Field(
        default=None,
        description="Secret with the private key that signs them, as privateKey. Needed in a cluster; elsewhere the "
        "gateway makes its own. It must not be the authority that targets trust.",
    )
    ttl: Annotated[float, *duration("1m", "24h")] = Field(
        default=28800.0,
        description="How long one is valid after it was signed, and never longer than the token it was made with.",
    )


class Authentication(Model):
    """How agents prove who they are."""

    tokens: Literal["Allow", "Refuse"] = Field(
        default="Allow", description="Whether tokens of Secrets (type ostiary.dev/token) in this namespace count."
    )
    service_accounts: Literal["Allow", "SameNamespace", "Refuse"] = Field(
        default="SameNamespace",
        description="In a cluster: which ServiceAccounts may log in, with a token that is bound to the audience "
        "ostiary. SameNamespace: those of the Connection's namespace. Allow: any of the cluster. What they may do is "
        "for policies to say. A gateway outside of a cluster takes none.",
    )
    oidc: tuple[OIDCIssuer, ...] = Field(
        default=(),
        max_length=8,
        description="OpenID Connect issuers whose JWTs count.",
        json_schema_extra=list_map("name"),
    )
    mtls: MTLS | None = Field(
        default=None, description="Client certificates that count: X.509-SVIDs of a SPIFFE trust domain."
    )
    ssh_certificates: SSHLoginCertificates | None = Field(
        default=None,
        description="SSH: certificates instead of a token. In a cluster they are off without this; elsewhere they are "
        "on, with what is the default here.",
    )
    sessions_outlive_credential: StrictBool = Field(
        default=False,
        description="Whether a session may go on when the JWT, ServiceAccount token or certificate that "
        "opened it has expired.",
    )

    validations = (
        Validation(
            "self.tokens != 'Refuse' || self.serviceAccounts != 'Refuse' || has(self.oidc) && size(self.oidc) > 0 || "
            "has(self.mtls)",
            "tokens and serviceAccounts Refuse need oidc or mtls: nobody could log in",
            lambda self: self.takes_secrets or self.mtls is not None,
        ),
        Validation(
            "!has(self.oidc) || self.oidc.all(a, self.oidc.exists_one(b, b.issuer == a.issuer))",
            "each issuer may stand once in oidc",
            lambda self: len({item.issuer for item in self.oidc}) == len(self.oidc),
        ),
        Validation(
            "!has(self.oidc) || self.oidc.all(a, self.oidc.exists_one(b, (has(a.prefix) ? a.prefix : a.name + ':')"
            ".startsWith(has(b.prefix) ? b.prefix : b.name + ':')))",
            "no prefix in oidc may begin with another's: their names could be taken for each other",
            lambda self: all(sum(a.names_begin.startswith(b.names_begin) for b in self.oidc) == 1 for a in self.oidc),
        ),
        Validation(
            "!has(self.mtls) || !has(self.mtls.mode) || self.mtls.mode != 'Required' || "
            "!(has(self.oidc) && size(self.oidc) > 0)",
            "oidc has no use with mtls.mode Required; choose Optional or WithToken",
            lambda self: self.mtls is None or self.mtls.mode != "Required" or not self.oidc,
        ),
        Validation(
            "!has(self.mtls) || !has(self.mtls.mode) || self.mtls.mode != 'WithToken' || self.tokens == 'Allow' || "
            "self.serviceAccounts != 'Refuse' || has(self.oidc) && size(self.oidc) > 0",
            "mtls.mode WithToken needs tokens Allow, serviceAccounts or oidc",
            lambda self: self.mtls is None or self.mtls.mode != "WithToken" or self.takes_secrets,
        ),
    )

    @property
    def takes_secrets(self) -> bool:
        """Whether there is any way in by what is sent as a password."""
        return self.tokens == "Allow" or self.service_accounts != "Refuse" or bool(self.oidc)
