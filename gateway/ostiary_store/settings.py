"""The settings of `ostiary store serve`: one YAML file, checked strictly. Secrets are never in it: files or variables.

docs/store.md describes the fields.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, cast
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictBool,
    StringConstraints,
    ValidationError,
    model_validator,
)

from ostiary_api.meta import Model
from ostiary_api.problems import Location, Problem, explain, find, format_path
from ostiary_api.units import MANIFEST, duration, quantity
from ostiary_api.yamltree import YamlProblem, read_documents

_AGE: Final = re.compile(r"([0-9]{1,6})(d|h|m|s)")
_SECONDS: Final = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0}
LONGEST: Final = 100 * 366 * 86_400.0


def _age(value: object) -> float:
    match = _AGE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("not an age; write it like 90d, 12h or 30m")
    seconds = int(match[1]) * _SECONDS[match[2]]
    if not 60 <= seconds <= LONGEST:
        raise ValueError("must be from 1m to 36600d")
    return seconds


Age = Annotated[float, BeforeValidator(_age)]
"""Seconds; in the file `90d`, `12h` or `30m`."""

Text = Annotated[str, StringConstraints(min_length=1, max_length=2048)]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]


def _no_password(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError("is no URL") from None
    if parts.password is not None or "password=" in parts.query:
        raise ValueError("must not hold a password: put the URL into a file (urlFile) or a variable (urlEnv)")
    return url


PlainURL = Annotated[Text, AfterValidator(_no_password)]


def _http(url: str) -> str:
    if not url.startswith(("https://", "http://")):
        raise ValueError("must begin with https:// or http://")
    return url


HttpURL = Annotated[Text, AfterValidator(_no_password), AfterValidator(_http)]


def _address(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise ValueError("is no HOST:PORT, like 0.0.0.0:8443")
    return value


Address = Annotated[Text, AfterValidator(_address)]


def host_and_port(address: str) -> tuple[str, int]:
    """The parts of a field that is an Address."""
    host, _, port = address.rpartition(":")
    return host.removeprefix("[").removesuffix("]"), int(port)

Loaded = TypeVar("Loaded", bound=Model)


class SettingsError(Exception):
    """The file cannot be used; `problems` says what is wrong, and where."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


class Secret(Model):
    """A secret by the name of a file or of an environment variable."""

    file: Path | None = Field(default=None, description="Read at the start, and again when it is used anew.")
    env: Variable | None = None

    @model_validator(mode="after")
    def _one(self) -> Secret:
        if (self.file is None) == (self.env is None):
            raise ValueError("needs one of file and env")
        return self

    def read(self) -> str:
        """OSError or ValueError if it is not there."""
        return _secret(self.file, self.env)


def _secret(file: Path | None, env: str | None) -> str:
    if file is not None:
        found = file.read_text().strip()
        if not found:
            raise ValueError(f"{file} is empty")
        return found
    found = os.environ.get(str(env), "")
    if not found:
        raise ValueError(f"the environment variable {env} is not set")
    return found


class StoreSettings(Model):
    """The database: exactly one of the three."""

    url: PlainURL | None = Field(default=None, description="postgresql://… or sqlite:PATH, without a password.")
    url_file: Path | None = None
    url_env: Variable | None = None

    @model_validator(mode="after")
    def _one(self) -> StoreSettings:
        if sum(each is not None for each in (self.url, self.url_file, self.url_env)) != 1:
            raise ValueError("needs exactly one of url, urlFile and urlEnv")
        return self

    def read(self) -> str:
        """The URL. OSError or ValueError if it is not there."""
        return self.url if self.url is not None else _secret(self.url_file, self.url_env)


class TLSSettings(Model):
    """Certificate and key of the server, as PEM files. They are read again when they change."""

    cert: Path
    key: Path


class RecordingsSettings(Model):
    """Where long responses go; without it they stay in the database."""

    bucket: Annotated[str, StringConstraints(pattern=r"^(s3|file)://.+$", max_length=1024)] = Field(
        description="s3://name/prefix, or file:///directory."
    )
    endpoint: HttpURL | None = Field(default=None, description="Of a server that is not Amazon's.")
    region: Text = "us-east-1"
    access_key_env: Variable | None = None
    access_key_file: Path | None = None
    secret_key_env: Variable | None = None
    secret_key_file: Path | None = None
    ca_file: Path | None = Field(default=None, description="The CA of the endpoint's certificate, if it is self-made.")

    @model_validator(mode="after")
    def _both(self) -> RecordingsSettings:
        access = self.access_key_env is not None or self.access_key_file is not None
        if access != (self.secret_key_env is not None or self.secret_key_file is not None):
            raise ValueError("needs both an access key and a secret key, or none (then the environment's are used)")
        if (self.access_key_env and self.access_key_file) or (self.secret_key_env and self.secret_key_file):
            raise ValueError("a key comes from a file or from a variable, not from both")
        return self

    def keys(self) -> tuple[str, str] | None:
        """Access key and secret key; None: those of the environment. OSError or ValueError."""
        if self.access_key_env is None and self.access_key_file is None:
            return None
        return _secret(self.access_key_file, self.access_key_env), _secret(self.secret_key_file, self.secret_key_env)


class RetentionSettings(Model):
    """How long what a Connection says nothing about is kept. None: for ever."""

    record: Age | None = None
    responses: Age | None = None
    every: Annotated[float, *duration("1s", "24h")] = 600.0

    @model_validator(mode="after")
    def _order(self) -> RetentionSettings:
        if self.record is not None and self.responses is not None and self.responses > self.record:
            raise ValueError("responses must not be kept longer than the record that they belong to")
        return self


class SealSettings(Model):
    """The key that signs the heads of all sessions."""

    key_file: Path
    make_key: StrictBool = Field(default=True, description="Make the key at the first start, if there is none.")
    adopt: StrictBool = Field(
        default=False,
        description="Believe sessions that have no proof: for one start, where a store had no key before.",
    )
    former_key_files: tuple[Path, ...] = Field(
        default=(), description="Keys that were in use before: rows that they proved count."
    )
    every: Annotated[float, *duration("1s", "1h")] = 10.0


class AnchorSettings(Model):
    """A place outside the store where the last seal is noted: exactly one of file, http and configMap."""

    file: Path | None = None
    http: HttpURL | None = None
    token_file: Path | None = Field(default=None, description="Bearer token for http.")
    config_map: Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]+/[a-z0-9.-]+$")] | None = Field(
        default=None, description="namespace/name."
    )
    every: Annotated[float, *duration("1s", "24h")] = 60.0

    @model_validator(mode="after")
    def _one(self) -> AnchorSettings:
        if sum(each is not None for each in (self.file, self.http, self.config_map)) != 1:
            raise ValueError("needs exactly one of file, http and configMap")
        if self.token_file is not None and self.http is None:
            raise ValueError("tokenFile goes with http")
        return self


class ExportSettings(Model):
    """One destination that every record is sent to."""

    name: Name
    type: Literal["JSONLines", "OCSF", "OTLP"]
    url: HttpURL
    headers: Mapping[Annotated[str, StringConstraints(max_length=128)], Text] = Field(default_factory=dict)
    secret_headers: Mapping[Annotated[str, StringConstraints(max_length=128)], Secret] = Field(default_factory=dict)
    ca_file: Path | None = None
    insecure: StrictBool = Field(default=False, description="http is allowed; anybody on the way can read it.")
    proxy: HttpURL | None = Field(default=None, description="HTTP proxy on the way.")
    connections: tuple[Text, ...] = Field(default=(), description="namespace/name or namespace/*; empty: all.")
    only: tuple[Literal["Allow", "Deny", "RequireApproval"], ...] = Field(
        default=(), description="Requests that were so decided, and what belongs to them; empty: all."
    )
    begun: StrictBool = Field(default=False, description="Requests also when they begin, not only when they end.")
    statements: StrictBool = Field(
        default=True, description="false: no text of requests, no parameters, no messages of targets."
    )
    responses: Literal["decoded", "base64", "none"] = "none"
    compression: Literal["gzip", "none"] = "gzip"
    batch: Annotated[int, *quantity("4Ki", "16Mi")] = Field(default=1 << 20, description="Bytes of one request.")
    every: Annotated[float, *duration("100ms", "5m")] = Field(default=1.0, description="Between looks for more.")
    timeout: Annotated[float, *duration("1s", "5m")] = 30.0

    @model_validator(mode="after")
    def _fits(self) -> ExportSettings:
        if self.url.startswith("http://") and not self.insecure:
            raise ValueError("url is not https; say insecure: true if it has to be")
        if self.responses != "none" and self.type != "JSONLines":
            raise ValueError("responses can be sent as JSONLines only")
        if self.responses != "none" and not self.statements:
            raise ValueError("responses without statements make no sense: say responses: none")
        return self


class GatewaysSettings(Model):
    """How gateways prove who they are: exactly one of both."""

    token_review: StrictBool = Field(
        default=False, description="By their ServiceAccount's token, audience ostiary-store."
    )
    tokens: Path | None = Field(default=None, description="A file of lines: sha256 of a token, and a gateway's name.")
    insecure: StrictBool = Field(
        default=False, description="Tokens over plain HTTP, without tls. For tests and sidecars."
    )

    @model_validator(mode="after")
    def _one(self) -> GatewaysSettings:
        if self.token_review == (self.tokens is not None):
            raise ValueError("needs exactly one of tokenReview: true and tokens: FILE")
        return self


class Settings(Model):
    """All of it."""

    store: StoreSettings
    listen: Address | None = Field(default=None, description="Where gateways hand over their records.")
    admin: Address | None = Field(default=None, description="/healthz, /readyz and /metrics, in the clear.")
    tls: TLSSettings | None = None
    gateways: GatewaysSettings | None = None
    max_body: Annotated[int, *quantity("64Ki", "512Mi")] = Field(
        default=64 << 20, description="Of one request; no block of a record may be larger."
    )
    in_flight: Annotated[int, *quantity("1Mi", "4Gi")] = Field(
        default=128 << 20, description="Bytes of requests under way; beyond it gateways are told to wait."
    )
    recordings: RecordingsSettings | None = None
    retention: RetentionSettings = Field(default_factory=RetentionSettings)
    seal: SealSettings | None = None
    anchors: tuple[AnchorSettings, ...] = ()
    exports: tuple[ExportSettings, ...] = ()
    follow: tuple[Path, ...] = Field(default=(), description="Data directories of gateways on this machine.")
    kubeconfig: Path | None = Field(default=None, description="Outside of a pod: the way to the API server.")

    @model_validator(mode="after")
    def _fits(self) -> Settings:
        if self.listen is not None:
            if self.gateways is None:
                raise ValueError("listen needs gateways: say how they prove who they are")
            if self.tls is None and not self.gateways.insecure:
                raise ValueError("listen needs tls: gateways send tokens. Or say gateways.insecure: true")
        elif self.gateways is not None or self.tls is not None:
            raise ValueError("gateways and tls need listen")
        if self.in_flight < self.max_body:
            raise ValueError("inFlight must not be less than maxBody")
        if self.anchors and self.seal is None:
            raise ValueError("anchors need seal: what is noted outside are seals")
        if self.seal is None and (self.retention.record is not None or self.retention.responses is not None):
            raise ValueError("retention needs seal: what is removed is signed for before")
        names = [each.name for each in self.exports]
        if len(set(names)) < len(names):
            raise ValueError("exports must have different names: each has a cursor of its own")
        return self


def load(path: Path) -> Settings:
    """The settings in a file. Raises SettingsError. Relative paths are relative to the file."""
    return load_as(Settings, path)


def load_as(model: type[Loaded], path: Path) -> Loaded:
    """The same for a file of another program."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as problem:
        why = problem.strerror if isinstance(problem, OSError) else "it is no UTF-8 text"
        raise SettingsError([Problem(Location(str(path)), f"cannot be read: {why}")]) from None
    return parse_as(model, text, str(path), path.parent)


def parse(text: str, file: str = "<text>", folder: Path | None = None) -> Settings:
    """The settings in a text. Raises SettingsError with every problem at its line."""
    return parse_as(Settings, text, file, folder)


def parse_as(model: type[Loaded], text: str, file: str = "<text>", folder: Path | None = None) -> Loaded:
    """The same for a text of another program."""
    try:
        documents = list(read_documents(text))
        if len(documents) != 1:
            message = "is empty" if not documents else "holds more than one document"
            raise SettingsError([Problem(Location(file), message)])
        node = documents[0]
        settings = model.model_validate(node.plain(), by_alias=True, by_name=False, context=MANIFEST)
    except YamlProblem as problem:
        raise SettingsError([Problem(Location(file, problem.line, problem.column), problem.message)]) from None
    except ValidationError as error:
        problems = []
        for where, message in explain(error, model, secret=False):
            _, line, column = find(node, where)
            problems.append(Problem(Location(file, line, column), message, field=format_path(where)))
        raise SettingsError(problems) from None
    return settings if folder is None else cast("Loaded", _below(settings, lambda each: folder / each))


def _below(model: Any, placed: Callable[[Path], Path]) -> Any:
    """The same settings with every relative path taken from the file's folder."""
    changed: dict[str, object] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        new = _placed(value, placed)
        if new is not value:
            changed[name] = new
    return model.model_copy(update=changed) if changed else model


def _placed(value: object, placed: Callable[[Path], Path]) -> object:
    if isinstance(value, Path):
        return placed(value)
    if isinstance(value, Model):
        return _below(value, placed)
    if isinstance(value, tuple):
        return tuple(_placed(each, placed) for each in value)
    if isinstance(value, Mapping):
        return {key: _placed(each, placed) for key, each in value.items()}
    return value
