"""The settings of `ostiary console`: one YAML file, checked strictly. Secrets are never in it: files or variables.

docs/console-access.md describes the fields.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StrictBool, StringConstraints, model_validator

from ostiary_api.meta import Model
from ostiary_api.units import duration
from ostiary_store.settings import Address, Name, RecordingsSettings, Secret, Text, TLSSettings, host_and_port, load_as
from ostiary_store.settings import StoreSettings as DatabaseSettings

Host = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$|^[0-9a-f:]{2,39}$")]
Claim = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:/-]{1,256}$")]
Prefix = Annotated[str, StringConstraints(max_length=128)]
Scope = Annotated[str, StringConstraints(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]{1,128}$")]


def _site(url: str) -> str:
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("https", "http") and parts.hostname and not parts.username and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("is no address of a site, like https://ostiary.example.com")
    return url.rstrip("/")


def _issuer(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.netloc or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError("must be an issuer's URL that begins with https://")
    return url


def _network(text: str) -> str:
    ipaddress.ip_network(text)
    return text


class StoreSettings(DatabaseSettings):
    """The store, as `ostiary store serve` has it."""

    recordings: RecordingsSettings | None = None


class SessionsSettings(Model):
    """How long one stays signed in, and what encrypts the cookies."""

    key_files: tuple[Path, ...] = Field(
        default=(), description="32 bytes or more each, shared by all replicas; the first one encrypts. None: made at "
        "the start, so that a restart signs everybody out."
    )  # fmt: skip
    idle: Annotated[float, *duration("1m", "24h")] = 1800.0
    absolute: Annotated[float, *duration("5m", "168h")] = 43_200.0


class OIDCSettings(Model):
    """An issuer where people sign in. Names are made as kube-apiserver makes them."""

    name: Name
    label: Annotated[str, StringConstraints(min_length=1, max_length=80)] = ""
    issuer: Annotated[Text, AfterValidator(_issuer)]
    client_id: Text = Field(alias="clientID")
    client_secret_file: Path | None = None
    client_secret_env: Text | None = None
    ca_file: Path | None = None
    scopes: tuple[Scope, ...] = ("openid", "profile", "email")
    username_claim: Claim = "sub"
    username_prefix: Prefix | None = Field(
        default=None, description="Default: the issuer and `#`, none for email; `-` is none."
    )
    groups_claim: Claim | None = None
    groups_prefix: Prefix = ""
    required_claims: Mapping[Claim, Text] = Field(default_factory=dict)
    use: Literal["IDToken", "Impersonate"] = Field(
        default="IDToken", description="How the console goes to the API server: with the person's ID token, or by "
        "impersonation with its own ServiceAccount."
    )  # fmt: skip

    @model_validator(mode="after")
    def _fits(self) -> OIDCSettings:
        if self.client_secret_file is not None and self.client_secret_env is not None:
            raise ValueError("the client's secret comes from a file or from a variable, not from both")
        if "openid" not in self.scopes:
            raise ValueError("scopes must have openid")
        if any(prefix.startswith("system:") for prefix in (self.prefix, self.groups_prefix)):
            raise ValueError("a prefix must not begin with system:")
        return self

    @property
    def prefix(self) -> str:
        """Before each user name."""
        if self.username_prefix is None:
            return "" if self.username_claim == "email" else f"{self.issuer}#"
        return "" if self.username_prefix == "-" else self.username_prefix

    def secret(self) -> str:
        """Of the client; empty for a public one. OSError or ValueError."""
        if self.client_secret_file is None and self.client_secret_env is None:
            return ""
        return Secret(file=self.client_secret_file, env=self.client_secret_env).read()


class SigninSettings(Model):
    """The ways in."""

    tokens: StrictBool = Field(default=False, description="Tokens of the cluster, pasted or as a bearer token.")
    oidc: tuple[OIDCSettings, ...] = ()


class ClusterSettings(Model):
    """The API server; without a kubeconfig that of the pod's own cluster."""

    kubeconfig: Path | None = None


class Settings(Model):
    """All of it."""

    listen: Address
    admin: Address | None = Field(default=None, description="/livez, /readyz and /metrics, in the clear.")
    url: Annotated[Text, AfterValidator(_site)] = Field(description="What people type.")
    hosts: tuple[Host, ...] = Field(default=(), description="More names that browsers may use.")
    tls: TLSSettings | None = None
    behind_proxy: StrictBool = Field(default=False, description="Something else ends the TLS, on the way here.")
    trusted_proxies: tuple[Annotated[str, AfterValidator(_network)], ...] = Field(
        default=(), description="Networks whose X-Forwarded-For is believed, for the limit of sign-ins."
    )
    store: StoreSettings
    sessions: SessionsSettings = Field(default_factory=SessionsSettings)
    cluster: ClusterSettings | StrictBool = True
    signin: SigninSettings

    @model_validator(mode="after")
    def _fits(self) -> Settings:
        if self.cluster is False:
            raise ValueError("cluster must be true, or say where its kubeconfig is; for one machine use --data")
        if self.tls is not None and self.behind_proxy:
            raise ValueError("with behindProxy something else ends the TLS; give no tls")
        local = host_and_port(self.listen)[0] in LOOPBACK
        if self.tls is None and not self.behind_proxy and not local:
            raise ValueError("listen needs tls off loopback: cookies and tokens come here. Or say behindProxy: true")
        if urlsplit(self.url).scheme != "https" and not (local and self.tls is None and not self.behind_proxy):
            raise ValueError("url must begin with https://")
        if not self.signin.tokens and not self.signin.oidc:
            raise ValueError("signin has no way in: say tokens: true, or name an issuer")
        names = [each.name for each in self.signin.oidc]
        if len(set(names)) < len(names):
            raise ValueError("issuers must have different names")
        return self


LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def load(path: Path) -> Settings:
    """The settings in a file. Raises SettingsError."""
    return load_as(Settings, path)
