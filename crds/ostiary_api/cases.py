"""The cases that a policy brings along (`spec.tests`): a request, and what the policy must make of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StrictBool, StrictInt, StringConstraints, WithJsonSchema

from ostiary_api.meta import LIST_ATOMIC, LIST_SET, DnsLabel, DnsName, GroupName, Model, Username, Validation
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

    username: Username = Field(default="tester", description="User name that policies see as request.subject.username.")
    uid: Name = Field(default="", description="Unique id that policies see as request.subject.uid.")
    groups: tuple[GroupName, ...] = Field(
        default=(), max_length=64, description="Groups that the subject is in.", json_schema_extra=LIST_SET
    )
    kind: Literal["User", "ServiceAccount", "Workload"] = Field(
        default="User",
        description="Kind of subject: a person or program, a ServiceAccount, or a workload with a SPIFFE id.",
    )
    namespace: Name = Field(default="", description="Namespace of the ServiceAccount; empty for other kinds.")
    name: ShortText = Field(default="", description="Name of a ServiceAccount; default: the user name.")
    claims: ObjectJson = Field(default={}, description="Claims that policies see as request.subject.claims.")
    on_behalf_of: ShortText = Field(default="", description="The person that the agent acts for.")


class KubernetesExecTest(Model):
    """A command in a container, in a test."""

    container: Name = Field(default="", description="Name of the container; empty for the pod's default.")
    command: tuple[Annotated[str, StringConstraints(max_length=4096)], ...] = Field(
        default=(),
        max_length=64,
        description="The command and its arguments, one item each.",
        json_schema_extra=LIST_ATOMIC,
    )
    stdin: StrictBool = Field(default=False, description="Whether standard input is attached.")
    tty: StrictBool = Field(default=False, description="Whether a terminal is asked for.")


class KubernetesTest(Model):
    """A request to the Kubernetes API, in a test. The fields are the facts of `k8s`."""

    verb: Annotated[str, StringConstraints(min_length=1, max_length=63)] = Field(
        description="What is done, as RBAC has it (get, list, watch, create, update, patch, delete, deletecollection) "
        "or as policies do (connect, evict, debug, token). With a path it may be the method: GET, POST."
    )
    group: Name | None = Field(
        default=None,
        description="API group, for example apps; empty for the core group. Default: that of the resource.",
    )
    version: Name | None = Field(
        default=None, description="Version of the API group, for example v1. Default: that of the resource."
    )
    resource: Name = Field(
        default="",
        description="Resource in the plural, for example deployments; default: worked out from object's or oldObject's "
        "kind.",
    )
    subresource: Name = Field(
        default="", description="Subresource, for example scale, status or exec; empty for the object itself."
    )
    namespace: Name = Field(
        default="", description="Namespace; default: that of object or oldObject. Empty: all of them, or none."
    )
    name: Name = Field(
        default="", description="Name of the object; default: that of object or oldObject. Empty for lists and creates."
    )
    path: Annotated[str, StringConstraints(max_length=8192)] = Field(
        default="",
        description="Path of the URL, with its query, in place of group, version, resource, subresource, namespace, "
        "name and selectors; for example /openapi/v3.",
    )
    label_selector: Annotated[str, StringConstraints(max_length=4096)] = Field(
        default="", description="Label selector of a list, watch or deletecollection, as in kubectl get -l."
    )
    field_selector: Annotated[str, StringConstraints(max_length=4096)] = Field(
        default="",
        description="Field selector of a list, watch or deletecollection, as in kubectl get --field-selector.",
    )
    dry_run: StrictBool = Field(default=False, description="Whether the request is a dry run, which changes nothing.")
    object: ObjectJson | None = Field(
        default=None,
        description="The whole object as it would be after the request; for scale the object that is scaled. Default: "
        "empty where a request has none; otherwise not known.",
    )
    old_object: ObjectJson | None = Field(
        default=None,
        description="The whole object as it is before the request; {} if there is none. Default: empty where a request "
        "has none; otherwise not known.",
    )
    old_objects: tuple[ObjectJson, ...] | None = Field(
        default=None,
        max_length=64,
        description="For deletecollection: the objects that would go. Default: not known.",
        json_schema_extra=LIST_ATOMIC,
    )
    affected: Annotated[StrictInt, Field(ge=0, le=2**53)] | None = Field(
        default=None,
        description="For deletecollection: how many objects would go. Default: as many as oldObjects has.",
    )
    exec: KubernetesExecTest | None = Field(
        default=None, description="The command that is run in a container, for pods/exec and pods/attach."
    )


class SSHDestination(Model):
    """Where a forward leads, in a test."""

    host: Name = Field(
        default="", description="Host that the forward leads to; of a remote one the address that is listened on."
    )
    port: Annotated[StrictInt, Field(ge=0, le=65535)] = Field(
        default=0, description="TCP port that the forward leads to; 0 only for a remote one, on any port."
    )
    path: Annotated[str, StringConstraints(max_length=4096)] = Field(
        default="", description="Path of a Unix socket, in place of host and port."
    )


class SSHTest(Model):
    """A request over SSH, in a test. The fields are the facts of `ssh`."""

    kind: Literal["exec", "shell", "subsystem", "sftp", "scp", "forward", "agent", "x11", "env"] = Field(
        default="exec",
        description="What is asked for: a command, an interactive shell, a file operation (sftp, scp), another "
        "subsystem, a forwarded port or socket, the forwarding of the agent's keys or of X11, or a variable of the "
        "environment.",
    )
    user: ShortText = Field(default="", description="Name of the login at the target; default: agent.")
    command: Annotated[str, StringConstraints(max_length=32768)] = Field(
        default="", description="The command line of an exec; the name of a subsystem."
    )
    pty: StrictBool = Field(default=False, description="Whether an exec gets a terminal. A shell has one.")
    env: dict[ShortText, Annotated[str, StringConstraints(max_length=4096)]] = Field(
        default={},
        max_length=64,
        description="Variables of the environment that were let through before the command or shell.",
    )
    name: ShortText = Field(default="", description="For env: name of the variable.")
    value: Annotated[str, StringConstraints(max_length=4096)] = Field(
        default="", description="For env: value of the variable."
    )
    operation: ShortText = Field(
        default="",
        description="For sftp and scp: session (its beginning), read, write, append, readwrite, stat, list, mkdir, "
        "rmdir, remove, rename, symlink, link, setstat, readlink, realpath, statvfs, or the name of an extension.",
    )
    path: Annotated[str, StringConstraints(max_length=4096)] = Field(
        default="", description="For sftp and scp: the file or directory that the operation is about."
    )
    target: Annotated[str, StringConstraints(max_length=4096)] = Field(
        default="", description="The second path: of a rename or link the new name, of a symlink what it leads to."
    )
    real_path: Annotated[str, StringConstraints(max_length=4096)] | None = Field(
        default=None, description="For sftp: the path with symbolic links followed (ssh.realPath). Default: path."
    )
    real_target: Annotated[str, StringConstraints(max_length=4096)] | None = Field(
        default=None, description="The same for target (ssh.realTarget). Default: target."
    )
    size: Annotated[StrictInt, Field(ge=0, le=2**53)] = Field(
        default=0, description="For scp: bytes of the file that is written."
    )
    direction: Literal["local", "remote"] | None = Field(
        default=None,
        description="For forward: whether the target connects (local, ssh -L) or listens (remote, ssh -R). Default: "
        "local.",
    )
    destination: SSHDestination | None = Field(default=None, description="Where a forward leads to, or listens.")


class PolicyTest(Model):
    """A case that gates acceptance: a request, and what the policy must make of it."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=253)] = Field(
        description="What is tested, unique in the policy."
    )
    sql: Annotated[str, StringConstraints(min_length=1, max_length=65536)] | None = Field(
        default=None, description="Postgres: the statements that the subject sends, as one message."
    )
    k8s: KubernetesTest | None = Field(
        default=None, description="Kubernetes: the request to the API that the subject makes."
    )
    ssh: SSHTest | None = Field(default=None, description="SSH: what the subject asks for.")
    as_: TestSubject = Field(default=TestSubject(), description="Who asks; default: a user tester without groups.")
    connection: DnsName | None = Field(
        default=None, description="Name of the Connection; default: one that the policy's selectors select."
    )
    database: Annotated[str, StringConstraints(min_length=1, max_length=63)] | None = Field(
        default=None, description="Postgres: the database that the session is in; default: that of the Connection."
    )
    params: tuple[Annotated[str, StringConstraints(max_length=65536)] | None, ...] = Field(
        default=(),
        max_length=256,
        description="Postgres: the values of $1, $2 … in text form; null for NULL.",
        json_schema_extra=LIST_ATOMIC,
    )
    estimated_rows: Annotated[StrictInt, Field(ge=0, le=2**53)] | None = Field(
        default=None,
        description="Postgres: how many rows the planner says that the statements touch (sql.estimatedRows).",
    )
    time: Timestamp | None = Field(default=None, description="When the request is made (request.time); default: now.")
    expect: Literal["Allow", "Deny", "RequireApproval"] = Field(
        description="The decision that must come out of the policy and of all others that match."
    )
    rule: DnsLabel | None = Field(default=None, description="Name of the rule that must have decided; default: any.")
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
