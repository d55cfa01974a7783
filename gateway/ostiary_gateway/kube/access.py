"""Where the API server is, and how to log in there: from a pod's ServiceAccount, or from a kubeconfig."""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from ostiary_gateway.kube.errors import ConfigError

MOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
REREAD: Final = 60.0
"""Seconds after which files are looked at again. The kubelet renews a token long before it expires."""


@dataclass(frozen=True, slots=True)
class Access:
    """The way to one API server. PEM in `authorities`, `certificate` and `key`; files are read again now and then."""

    server: str
    """URL, without a slash at its end."""
    authorities: str = ""
    authorities_file: Path | None = None
    token: str = field(default="", repr=False)
    token_file: Path | None = None
    certificate: str = ""
    key: str = field(default="", repr=False)
    namespace: str = ""
    """That of the ServiceAccount or the context; empty: not known."""
    server_name: str = ""
    """The name in the server's certificate, where it is not the host of `server`."""
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    """Made elsewhere, in place of one from `authorities`; `certificate` and `key` are loaded into it."""
    headers: tuple[tuple[str, str], ...] = ()
    """Sent with every request besides: in whose name it is (Impersonate-User, Impersonate-Group)."""


def in_cluster(environment: Mapping[str, str] = os.environ, mount: Path = MOUNT) -> Access:
    """By what every pod has. Raises ConfigError outside of a pod, or where its ServiceAccount has no token there."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise ConfigError(
            "This is no pod: KUBERNETES_SERVICE_HOST is not set. Outside of a cluster give --kubeconfig PATH"
        )
    token, authorities = mount / "token", mount / "ca.crt"
    missing = [path.name for path in (token, authorities) if not path.is_file()]
    if missing:
        raise ConfigError(
            f"{mount} has no {' and no '.join(missing)}: let the pod have its ServiceAccount's token "
            "(automountServiceAccountToken, or a projected volume there)"
        )
    namespace = mount / "namespace"
    return Access(
        f"https://{f'[{host}]' if ':' in host else host}:{port}",
        authorities_file=authorities,
        token_file=token,
        namespace=namespace.read_text().strip() if namespace.is_file() else "",
    )


def from_kubeconfig(path: Path, context: str = "") -> Access:
    """By a kubeconfig: its current context, or another. Raises ConfigError. No plugins are run."""
    try:
        config = yaml.safe_load(path.read_text())
    except OSError as problem:
        raise ConfigError(f"{path} cannot be read: {problem.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise ConfigError(f"{path} is no kubeconfig: it is not YAML") from None
    if not isinstance(config, dict):
        raise ConfigError(f"{path} is no kubeconfig")
    name = context or str(config.get("current-context") or "")
    chosen = _named(path, config, "contexts", "context", name)
    cluster = _named(path, config, "clusters", "cluster", str(chosen.get("cluster", "")))
    user = _named(path, config, "users", "user", str(chosen.get("user", "")))
    server = str(cluster.get("server", "")).rstrip("/")
    if not server.startswith("https://"):
        raise ConfigError(f"{path}: the server of the context {name} must begin with https://")
    if cluster.get("insecure-skip-tls-verify"):
        raise ConfigError(f"{path}: insecure-skip-tls-verify is not for a gateway; give certificate-authority-data")
    if user.get("exec") or user.get("auth-provider"):
        raise ConfigError(f"{path}: plugins are not run; give the user a token, a tokenFile or a client certificate")
    token_file = user.get("tokenFile")
    return Access(
        server,
        authorities=_pem(path, cluster, "certificate-authority"),
        token=str(user.get("token") or ""),
        token_file=_beside(path, str(token_file)) if token_file else None,
        certificate=_pem(path, user, "client-certificate"),
        key=_pem(path, user, "client-key"),
        namespace=str(chosen.get("namespace") or ""),
    )


def _named(path: Path, config: Mapping[str, Any], plural: str, singular: str, name: str) -> Mapping[str, Any]:
    found = config.get(plural)
    for each in found if isinstance(found, list) else ():
        if isinstance(each, dict) and each.get("name") == name and isinstance(each.get(singular), dict):
            inside: dict[str, Any] = each[singular]
            return inside
    raise ConfigError(f"{path} has no {singular} {name!r}")


def _beside(path: Path, name: str) -> Path:
    return path.parent / name


def _pem(path: Path, section: Mapping[str, Any], field_name: str) -> str:
    inline, file = section.get(f"{field_name}-data"), section.get(field_name)
    try:
        if inline:
            return base64.b64decode(str(inline), validate=True).decode("ascii")
        return _beside(path, str(file)).read_text("ascii") if file else ""
    except (binascii.Error, UnicodeDecodeError):
        raise ConfigError(f"{path}: {field_name} is no PEM text") from None
    except OSError as problem:
        raise ConfigError(f"{path}: {field_name} cannot be read: {problem.strerror}") from None


class Login:
    """What a request needs of an Access just now: the token and the TLS context, renewed as their files change."""

    def __init__(self, access: Access, clock: Callable[[], float] = time.monotonic) -> None:
        self._access = access
        self._clock = clock
        self._token = access.token
        self._token_read: float | None = None
        self._context: ssl.SSLContext | None = None
        self._authorities = ""
        self._context_read = 0.0

    def token(self) -> str:
        """The bearer token; empty: a client certificate is used. Raises ConfigError."""
        file = self._access.token_file
        if file is None:
            return self._token
        if self._token_read is None or self._clock() - self._token_read >= REREAD:
            try:
                self._token = file.read_text("ascii").strip()
            except (OSError, UnicodeDecodeError) as problem:
                if not self._token:
                    raise ConfigError(f"the token {file} cannot be read: {problem}") from None
                # The one that we have may be good for a while; a 401 will tell.
            self._token_read = self._clock()
        return self._token

    def renewed(self) -> bool:
        """Looks at the token's file now, since the server did not take the token. Whether there is another."""
        old = self._token
        self._token_read = None
        return self.token() != old

    def context(self) -> ssl.SSLContext:
        """The TLS context: another object when the authorities' file has changed. Raises ConfigError."""
        file = self._access.authorities_file
        now = self._clock()
        if self._context is not None and (file is None or now - self._context_read < REREAD):
            return self._context
        authorities = self._access.authorities
        if file is not None:
            try:
                authorities = file.read_text("ascii")
            except (OSError, UnicodeDecodeError) as problem:
                if self._context is None:
                    raise ConfigError(f"{file} cannot be read: {problem}") from None
                authorities = self._authorities
        self._context_read = now
        if self._context is None or authorities != self._authorities:
            self._context, self._authorities = self._made(authorities), authorities
        return self._context

    def _made(self, authorities: str) -> ssl.SSLContext:
        try:
            context = self._access.tls or ssl.create_default_context(cadata=authorities or None)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_alpn_protocols(["http/1.1"])
            if self._access.certificate:
                # ssl loads key material from files only: a private directory that is gone when this returns.
                with tempfile.TemporaryDirectory() as folder:
                    paths = [Path(folder, name) for name in ("tls.crt", "tls.key")]
                    for path, text in zip(paths, (self._access.certificate, self._access.key), strict=True):
                        path.touch(0o600)
                        path.write_text(text)
                    context.load_cert_chain(paths[0], paths[1])
        except (ssl.SSLError, ValueError, OSError) as problem:
            raise ConfigError(f"the certificates for {self._access.server} cannot be used: {problem}") from None
        return context
