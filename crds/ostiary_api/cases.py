"""The cases that a policy brings along (`spec.tests`): a request, and what the policy must make of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictInt, StringConstraints, WithJsonSchema

from ostiary_api.meta import LIST_ATOMIC, LIST_SET, DnsLabel, DnsName, GroupName, Model, Port, Username, Validation
from ostiary_api.units import Timestamp

ShortText = Annotated[str, StringConstraints(max_length=512)]
Name = Annotated[str, StringConstraints(max_length=253)]
ObjectJson = Annotated[
    dict[str, Any],
    WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True, "maxProperties": 256}),
]
"""Any JSON object."""


class TestSubject(Model):
    """Who asks, in a test."""

    __test__ = False

    username: Username = Field(default="tester", description="User name.")
    uid: Name = Field(default="", description="Unique id.")
    groups: tuple[GroupName, ...] = Field(default=(), max_length=64, description="Groups.", json_schema_extra=LIST_SET)
    kind: Literal["User", "ServiceAccount", "Workload"] = Field(default="User", description="Kind of subject.")
    namespace: Name = Field(default="", description="Namespace of a ServiceAccount.")
    name: ShortText = Field(default="", description="Name of a ServiceAccount; default: the user name.")
    claims: ObjectJson = Field(default={}, description="Claims of the token.")
    on_behalf_of: ShortText = Field(default="", description="The person that the agent acts for.")


class KubernetesExecTest(Model):
    """A command in a container, in a test."""

    container: Name = Field(default="", description="Container.")
    command: tuple[Annotated[str, StringConstraints(max_length=4096)], ...] = Field(
        default=(), max_length=64, description="Command and arguments.", json_schema_extra=LIST_ATOMIC
    )
    stdin: StrictBool = Field(default=False, description="Standard input attached.")
    tty: StrictBool = Field(default=False, description="A terminal asked for.")


class KubernetesTest(Model):
    """A request to the Kubernetes API, in a test. The fields are the facts of `k8s`."""

    verb: Annotated[str, StringConstraints(min_length=1, max_length=63)] = Field(description="get, list, create, …")
    group: Name = Field(default="", description="API group; empty for the core group.")
    version: Name = Field(default="v1", description="API version.")
    resource: Name = Field(default="", description="Resource, plural; default: from object's kind.")
    subresource: Name = Field(default="", description="Subresource.")
    namespace: Name = Field(default="", description="Namespace.")
    name: Name = Field(default="", description="Name of the object.")
    label_selector: Annotated[str, StringConstraints(max_length=4096)] = Field(
        default="", description="Label selector."
    )
    field_selector: Annotated[str, StringConstraints(max_length=4096)] = Field(
        default="", description="Field selector."
    )
    dry_run: StrictBool = Field(default=False, description="A dry run.")
    object: ObjectJson | None = Field(default=None, description="The object as it would be afterwards.")
    old_object: ObjectJson | None = Field(default=None, description="The object as it is now.")
    exec: KubernetesExecTest | None = Field(default=None, description="For pods/exec and attach: the command.")


class SSHDestination(Model):
    """Where a forward leads, in a test."""

    host: Annotated[str, StringConstraints(min_length=1, max_length=253)] = Field(description="Host.")
    port: Port = Field(description="TCP port.")


class SSHTest(Model):
    """A request over SSH, in a test. The fields are the facts of `ssh`."""

    kind: Literal["exec", "shell", "sftp", "forward"] = Field(default="exec", description="Kind of request.")
    user: ShortText = Field(default="", description="Login at the target.")
    command: Annotated[str, StringConstraints(max_length=32768)] = Field(
        default="", description="The command line; for sftp the operation."
    )
    path: Annotated[str, StringConstraints(max_length=4096)] = Field(default="", description="For sftp: the path.")
    destination: SSHDestination | None = Field(default=None, description="For forwards: where to.")


class PolicyTest(Model):
    """A case that gates acceptance: a request, and what the policy must make of it."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=253)] = Field(
        description="What is tested, unique in the policy."
    )
    sql: Annotated[str, StringConstraints(min_length=1, max_length=65536)] | None = Field(
        default=None, description="Postgres: the statements."
    )
    k8s: KubernetesTest | None = Field(default=None, description="Kubernetes: the request.")
    ssh: SSHTest | None = Field(default=None, description="SSH: the request.")
    as_: TestSubject = Field(default=TestSubject(), description="Who asks.")
    connection: DnsName | None = Field(
        default=None, description="Name of the Connection; default: one that the policy's selectors select."
    )
    database: Annotated[str, StringConstraints(min_length=1, max_length=63)] | None = Field(
        default=None, description="Postgres: the database."
    )
    params: tuple[Annotated[str, StringConstraints(max_length=65536)] | None, ...] = Field(
        default=(),
        max_length=256,
        description="Postgres: bound parameters in text form.",
        json_schema_extra=LIST_ATOMIC,
    )
    estimated_rows: Annotated[StrictInt, Field(ge=0, le=2**53)] | None = Field(
        default=None, description="Postgres: the planner's estimate."
    )
    time: Timestamp | None = Field(default=None, description="When; default: now.")
    expect: Literal["Allow", "Deny", "RequireApproval"] = Field(description="The decision that must come out.")
    rule: DnsLabel | None = Field(default=None, description="The rule that must have decided.")
    masks: tuple[Annotated[str, StringConstraints(min_length=1, max_length=1024)], ...] | None = Field(
        default=None,
        max_length=256,
        description="Columns, paths and detectors that must be masked, exactly these.",
        json_schema_extra=LIST_SET,
    )

    validations = (
        Validation(
            "[has(self.sql), has(self.k8s), has(self.ssh)].filter(x, x).size() == 1",
            "exactly one of sql, k8s, ssh must be set",
            lambda self: sum(x is not None for x in (self.sql, self.k8s, self.ssh)) == 1,
        ),
        Validation(
            "has(self.sql) || !has(self.database) && !has(self.params) && !has(self.estimatedRows)",
            "database, params and estimatedRows are for sql",
            lambda self: (
                self.sql is not None or (self.database is None and not self.params and self.estimated_rows is None)
            ),
        ),
    )
