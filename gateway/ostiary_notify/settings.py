"""Who is told of approvals, and how: the `notifications` of the operator's settings, and a file of `ostiary serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, StrictBool, StringConstraints, ValidationError

from ostiary_api.meta import LIST_SET, DnsLabel, Model, Validation
from ostiary_api.problems import explain, find, format_path
from ostiary_api.units import MANIFEST, duration
from ostiary_api.yamltree import Node, YamlProblem, read_documents

Step = Literal["Asked", "Answered", "Approved", "Denied", "Expired", "Consumed"]

USUAL: Final[tuple[Step, ...]] = ("Asked", "Approved", "Denied", "Expired")
"""What people are told. That somebody answered shows in what follows, that a grant was used in the record."""

Url = Annotated[str, StringConstraints(min_length=8, max_length=2048, pattern=r"^https?://[^\s<>|\"]+$")]
FilePath = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
EnvironmentName = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
ConnectionName = Annotated[
    str, StringConstraints(min_length=3, max_length=320, pattern=r"^[-a-z0-9]+/([-a-z0-9.]+|\*)$")
]


class NotificationSettingsError(Exception):
    """The settings cannot be used; the message says which, and why."""


class Receiver(Model):
    """One place that messages go to."""

    name: DnsLabel = Field(description="Its name, in logs, metrics and the status of ApprovalRequests.")
    type: Literal["Webhook", "Slack"] = Field(
        description="Webhook: JSON, signed as Standard Webhooks has it. Slack: a message for an incoming webhook of "
        "Slack, or of what takes the same."
    )
    url: Url | None = Field(default=None, description="Where to. One of url, urlFile and urlEnv.")
    url_file: FilePath | None = Field(default=None, description="File that holds the URL: one that is a secret.")
    url_env: EnvironmentName | None = Field(default=None, description="Environment variable that holds the URL.")
    secret_files: tuple[FilePath, ...] = Field(
        default=(), max_length=4, description="Files with the secrets that sign (`whsec_…`); several: each signs."
    )
    secret_envs: tuple[EnvironmentName, ...] = Field(
        default=(), max_length=4, description="Environment variables with secrets that sign."
    )
    steps: tuple[Step, ...] = Field(
        default=USUAL, min_length=1, max_length=6, description="What is told.", json_schema_extra=LIST_SET
    )
    connections: tuple[ConnectionName, ...] = Field(
        default=(), max_length=64, description="Only of these: namespace/name, or namespace/*. Empty: of all."
    )
    evidence: StrictBool = Field(
        default=True, description="false: neither the request nor its evidence leave; who, where and the link do."
    )
    insecure: StrictBool = Field(default=False, description="true: http is allowed; anybody on the way can read it.")
    ca_file: FilePath | None = Field(default=None, description="Certificates (PEM) to trust instead of the system's.")
    proxy: Url | None = Field(default=None, description="HTTP proxy on the way.")
    timeout: Annotated[float, *duration("1s", "60s")] = Field(default=10.0, description="For one try.")

    validations = (
        Validation(
            "(has(self.url) ? 1 : 0) + (has(self.urlFile) ? 1 : 0) + (has(self.urlEnv) ? 1 : 0) == 1",
            "exactly one of url, urlFile and urlEnv says where messages go",
            lambda self: sum(each is not None for each in (self.url, self.url_file, self.url_env)) == 1,
        ),
        Validation(
            "self.type != 'Webhook' || size(self.secretFiles) + size(self.secretEnvs) > 0",
            "a Webhook is signed: secretFiles or secretEnvs names a secret (whsec_…)",
            lambda self: self.type != "Webhook" or bool(self.secret_files or self.secret_envs),
        ),
        Validation(
            "self.type != 'Slack' || size(self.secretFiles) + size(self.secretEnvs) == 0",
            "a Slack message is not signed: its URL is the secret",
            lambda self: self.type != "Slack" or not (self.secret_files or self.secret_envs),
        ),
        Validation(
            "!has(self.url) || self.url.startsWith('https://') || self.insecure",
            "url is not https; set insecure: true if it has to be",
            lambda self: self.url is None or self.url.startswith("https://") or self.insecure,
        ),
    )

    def hears_of(self, connection: str) -> bool:
        """Whether it is told of this Connection (`namespace/name`)."""
        namespace = connection.partition("/")[0]
        return not self.connections or connection in self.connections or f"{namespace}/*" in self.connections


class Notifications(Model):
    """Messages to people about ApprovalRequests. They inform; none of them can decide anything."""

    console_url: Url | None = Field(default=None, description="Address of the console, for links.")
    fresh_for: Annotated[float, *duration("1m", "24h")] = Field(
        default=3600.0,
        description="What is older is not told any more, and what cannot be sent for so long is given up.",
    )
    receivers: tuple[Receiver, ...] = Field(default=(), max_length=16, description="Where messages go.")

    validations = (
        Validation(
            "self.receivers.all(r, self.receivers.exists_one(o, o.name == r.name))",
            "two receivers have the same name",
            lambda self: len({each.name for each in self.receivers}) == len(self.receivers),
        ),
    )


def read_notifications(path: Path) -> Notifications:
    """The settings in a file. Raises NotificationSettingsError, with the line and the field."""
    try:
        documents = list(read_documents(path.read_text("utf-8")))
    except (OSError, UnicodeError) as error:
        raise NotificationSettingsError(f"{path} cannot be read: {error}") from error
    except YamlProblem as problem:
        raise NotificationSettingsError(f"{path}:{problem.line}: {problem.message}") from None
    if len(documents) > 1:
        raise NotificationSettingsError(f"{path}: holds {len(documents)} documents; settings are one")
    root = documents[0] if documents else Node(1, 1, {})
    try:
        return Notifications.model_validate(root.plain(), by_alias=True, by_name=False, context=MANIFEST)
    except ValidationError as error:
        lines = []
        for where, message in explain(error, Notifications, secret=False):
            _, line, _ = find(root, where)
            lines.append(f"{path}:{line}: {format_path(where) or 'the document'}: {message}")
        raise NotificationSettingsError("\n".join(lines)) from None
