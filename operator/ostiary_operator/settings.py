"""Settings of the operator: a YAML file (the chart writes it), and what the pod's environment says of the pod."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StrictBool, StrictInt, StringConstraints, ValidationError

from ostiary_api.meta import DnsLabel, DnsName, Model, Validation
from ostiary_api.problems import explain, find, format_path
from ostiary_api.units import MANIFEST, duration
from ostiary_api.yamltree import Node, YamlProblem, read_documents
from ostiary_notify.settings import Notifications
from ostiary_operator.gateway_settings import GatewaySettings

DEFAULT_NAMESPACE = "ostiary-system"

Duration = Annotated[float, *duration("100ms", "24h")]
"""Seconds; written like `15s` or `10m`."""


class SettingsError(Exception):
    """The settings cannot be used; the message says which, and why."""


class LeaderElection(Model):
    """When a replica takes the lead, and when it must give it up. The meaning is client-go's."""

    enabled: StrictBool = Field(default=True, description="false: there is only one replica, and it leads.")
    lease_name: DnsName = Field(default="ostiary-operator", description="Lease in the operator's namespace.")
    lease_duration: Duration = Field(default=15.0, description="A Lease not renewed for so long may be taken.")
    renew_deadline: Duration = Field(default=10.0, description="A leader that cannot renew for so long stops work.")
    retry_period: Duration = Field(default=2.0, description="Between two tries to take or renew the Lease.")

    validations = (
        Validation(
            "self.leaseDuration > self.renewDeadline && self.renewDeadline > self.retryPeriod",
            "leaseDuration must be longer than renewDeadline, and that longer than retryPeriod",
            lambda self: self.lease_duration > self.renew_deadline > self.retry_period,
        ),
    )


class Watching(Model):
    """When a watch counts as dead. The API server sends a bookmark about once a minute."""

    inactivity_timeout: Duration = Field(default=70.0, description="A watch that says nothing so long is begun anew.")
    stale_after: Duration = Field(default=120.0, description="Not ready when a kind was not heard of for so long.")
    server_timeout: Duration = Field(default=300.0, description="How long the API server is asked to keep a watch.")
    connect_timeout: Duration = Field(default=10.0, description="For a connection to the API server.")
    request_timeout: Duration = Field(default=30.0, description="For a request that is not a watch.")


class Logging(Model):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least severity.")
    format: Literal["auto", "json", "text"] = Field(default="auto", description="auto: text on a terminal, else JSON.")


class Approvals(Model):
    """How long closed ApprovalRequests are kept. What was asked, answered and run is in the gateways' record."""

    keep_closed: Annotated[float, *duration("1m", "8760h")] = Field(default=604800.0, description="For so long.")
    keep_per_connection: Annotated[StrictInt, Field(ge=0, le=10_000)] = Field(
        default=200, description="At most so many of each Connection, the last ones."
    )


class Rates(Model):
    """Bounds on what the operator does at one time."""

    workers: Annotated[StrictInt, Field(ge=1, le=64)] = Field(default=16, description="Keys reconciled at one time.")
    requests: Annotated[StrictInt, Field(ge=1, le=256)] = Field(default=16, description="Writes under way at one time.")
    first_retry: Duration = Field(default=0.5, description="Before a failed key is tried again; doubles each time.")
    longest_retry: Duration = Field(default=60.0, description="The longest pause between two tries of a key.")
    threads: Annotated[StrictInt, Field(ge=1, le=16)] = Field(default=2, description="Threads that compile policies.")


class Settings(Model):
    """All settings."""

    watch_namespaces: tuple[DnsLabel, ...] = Field(default=(), description="Namespaces to look at; empty: all.")
    gateways_binding: Annotated[str, StringConstraints(max_length=253)] = Field(
        default="ostiary-gateways",
        description="ClusterRoleBinding that lists the gateways' ServiceAccounts; empty: none.",
    )
    leader_election: LeaderElection = Field(default=LeaderElection(), description="Which replica works.")
    resync_period: Duration = Field(default=600.0, description="Everything is looked at again so often.")
    watch: Watching = Field(default=Watching(), description="When a watch counts as dead.")
    approvals: Approvals = Field(default=Approvals(), description="How long closed ApprovalRequests are kept.")
    notifications: Notifications = Field(default=Notifications(), description="Who is told of approvals.")
    rates: Rates = Field(default=Rates(), description="Bounds on what is done at one time.")
    log: Logging = Field(default=Logging(), description="What is logged.")
    gateway: GatewaySettings = Field(description="Defaults of the gateways' pods.")

    def namespaces_with(self, system: str) -> tuple[str, ...]:
        """The namespaces to look at, with the system namespace; one empty name: all."""
        return tuple(sorted({*self.watch_namespaces, system})) if self.watch_namespaces else ("",)


def read_settings(path: Path | None, image: str = "") -> Settings:
    """The settings in a file; None: the defaults. `image`: of gateways, if the file says none. Raises SettingsError."""
    if path is None:
        return parse_settings("", "no file (--config)", image)
    try:
        return parse_settings(path.read_text("utf-8"), str(path), image)
    except (OSError, UnicodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}. Give another file: --config FILE") from error


def parse_settings(text: str, file: str = "settings", image: str = "") -> Settings:
    """The settings in a text; an empty one means the defaults. Raises SettingsError, with the line and the field."""
    try:
        documents = list(read_documents(text))
    except YamlProblem as problem:
        raise SettingsError(f"{file}:{problem.line}: {problem.message}") from None
    if len(documents) > 1:
        raise SettingsError(f"{file}: holds {len(documents)} documents; settings are one")
    root = documents[0] if documents else Node(1, 1, {})
    data = root.plain()
    if image and isinstance(data, dict):
        gateway = data.setdefault("gateway", {})
        if isinstance(gateway, dict):
            gateway.setdefault("image", image)
    try:
        return Settings.model_validate(data, by_alias=True, by_name=False, context=MANIFEST)
    except ValidationError as error:
        lines = []
        for where, message in explain(error, Settings, secret=False):
            _, line, _ = find(root, where)
            lines.append(f"{file}:{line}: {format_path(where) or 'the document'}: {message}")
        raise SettingsError("\n".join(lines)) from None


class Pod(Model):
    """Who this process is."""

    name: str = Field(description="Name of the pod: the holder of the Lease.")
    namespace: DnsLabel = Field(default=DEFAULT_NAMESPACE, description="The system namespace.")


def read_pod(environment: Mapping[str, str], hostname: str, process: int) -> Pod:
    """From POD_NAME and POD_NAMESPACE; outside of a pod the host's name and the process tell replicas apart."""
    name = environment.get("POD_NAME") or f"{hostname}-{process}"
    namespace = environment.get("POD_NAMESPACE") or DEFAULT_NAMESPACE
    try:
        return Pod(name=name, namespace=namespace)
    except ValidationError:
        raise SettingsError(f"POD_NAMESPACE is no name of a namespace: {namespace[:80]!r}") from None
