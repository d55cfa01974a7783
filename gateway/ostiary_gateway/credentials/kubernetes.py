"""How a gateway logs in at the API server of a Kubernetes Connection: which server, as whom, with which headers.

Secrets come from the bundle and stay in memory. Without `upstream.server` it is the cluster that the gateway runs in;
outside of a pod there is none: whatever a kubeconfig happens to name is nobody's decision.
"""

from __future__ import annotations

import ssl
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol
from urllib.parse import urlsplit

from ostiary_api.connection import Connection
from ostiary_api.meta import ObjectMeta, SecretRef
from ostiary_api.names import child_name
from ostiary_api.secret import Secret
from ostiary_api.secret_uses import CERTIFICATE
from ostiary_gateway.credentials.impersonation import Headers, impersonation
from ostiary_gateway.credentials.service_account import AccountTokens
from ostiary_gateway.credentials.static import CredentialError
from ostiary_gateway.identity.proof import Identity
from ostiary_gateway.kube.access import Access, Login
from ostiary_gateway.kube.client import KubeClient
from ostiary_gateway.kube.errors import ConfigError
from ostiary_gateway.protocols import Site
from ostiary_gateway.tls import TLSError, upstream_context

ALPN: Final = ("http/1.1",)
DEFAULT_PORT: Final = 443
MOST: Final = 1024
"""Subjects whose headers are kept."""


class UpstreamLogin(Protocol):
    """The gateway's login at one API server. Lists of headers are shared: do not change them."""

    @property
    def host(self) -> str:
        """Name or address of the API server; empty if it is not known, then `context` raises."""

    @property
    def port(self) -> int: ...

    @property
    def server_name(self) -> str:
        """The name in its certificate, sent as SNI."""

    def context(self) -> ssl.SSLContext:
        """The TLS context: another object when the authorities have changed. Raises CredentialError."""

    def ready(self, identity: Identity) -> Headers | None:
        """The headers that say who asks, at once; None: they must be awaited. Raises CredentialError."""

    async def headers(self, identity: Identity) -> Headers:
        """The same, with whatever has to be asked for. Raises CredentialError."""

    def refused(self, identity: Identity) -> bool:
        """The API server has answered 401. Whether another try, with what `headers` gives then, may help."""

    async def check(self) -> None:
        """Tries whether the credential can be had. Raises CredentialError."""

    async def close(self) -> None:
        """Lets go of what it holds. May be called again."""


def login_for(site: Site, old: UpstreamLogin | None = None) -> UpstreamLogin:
    """The login of a Connection. `old`: the one before, which stays if nothing that it depends on has changed.

    Never raises: where there can be no login, the one that is returned says why whenever it is asked.
    """
    basis = _Basis.of(site)
    if isinstance(old, _Login) and old.basis == basis:
        return old
    try:
        return _login(basis, site.connection)
    except (CredentialError, ConfigError, TLSError) as problem:
        return _NoLogin(basis, str(problem))


@dataclass(frozen=True, slots=True)
class _Basis:
    """What a login is made of; as long as it is equal, the login may stay."""

    connection: tuple[object, ...]
    secrets: Mapping[str, Mapping[str, bytes]] = field(repr=False)
    api: Access | None = field(repr=False)

    @classmethod
    def of(cls, site: Site) -> _Basis:
        spec, namespace = site.connection.spec, site.namespace
        names = [ref.name for ref in (_credential_ref(site.connection), spec.upstream.tls.ca_ref) if ref is not None]
        there = {name: secret.data for name in names if (secret := site.secrets.get((namespace, name))) is not None}
        return cls((namespace, site.connection.metadata.name, spec.upstream, spec.credentials), there, site.api)


class _Login:
    """With a credential of the gateway's own: a token, that of its pod, or a client certificate."""

    def __init__(self, basis: _Basis, access: Access) -> None:
        where = urlsplit(access.server)
        self.basis = basis
        self.host = where.hostname or ""
        self.port = where.port or DEFAULT_PORT
        self.server_name = access.server_name or self.host
        self._login = Login(access)
        self._shown: tuple[str, Headers] = ("", [])

    def context(self) -> ssl.SSLContext:
        try:
            return self._login.context()
        except ConfigError as problem:
            raise CredentialError(str(problem)) from None

    def ready(self, identity: Identity) -> Headers | None:
        return self._own()

    async def headers(self, identity: Identity) -> Headers:
        found = self.ready(identity)
        assert found is not None
        return found

    def refused(self, identity: Identity) -> bool:
        try:
            return self._login.renewed()
        except ConfigError:
            return False

    async def check(self) -> None:
        self.context()
        self._own()

    async def close(self) -> None:
        return

    def _own(self) -> Headers:
        try:
            token = self._login.token()
        except ConfigError as problem:
            raise CredentialError(str(problem)) from None
        if token != self._shown[0]:
            self._shown = token, [(b"authorization", b"Bearer " + token.encode())]
        return self._shown[1]


class _AccountLogin(_Login):
    """With short-lived tokens of a ServiceAccount, which another login asks for."""

    def __init__(self, basis: _Basis, access: Access, tokens: AccountTokens) -> None:
        super().__init__(basis, access)
        self._tokens = tokens

    def ready(self, identity: Identity) -> Headers | None:
        return self._tokens.ready()

    async def headers(self, identity: Identity) -> Headers:
        return await self._tokens.headers()

    def refused(self, identity: Identity) -> bool:
        return self._tokens.refused()

    async def check(self) -> None:
        self.context()
        await self._tokens.headers()

    async def close(self) -> None:
        await self._tokens.close()


class _Impersonating(_Login):
    """With a credential of the gateway's own, and the name of whoever asks."""

    def __init__(self, basis: _Basis, access: Access) -> None:
        super().__init__(basis, access)
        self._known: OrderedDict[int, tuple[Identity, Headers, Headers]] = OrderedDict()
        """By id; the Identity beside it is kept, so that no other can have the same."""

    def ready(self, identity: Identity) -> Headers | None:
        own = self._own()
        known = self._known.get(id(identity))
        if known is not None and known[1] is own:
            return known[2]
        made = [*own, *impersonation(identity.subject)]
        self._known[id(identity)] = identity, own, made
        if len(self._known) > MOST:
            self._known.popitem(last=False)
        return made


class _NoLogin(_Login):
    """There cannot be one, and it says why."""

    def __init__(self, basis: _Basis, problem: str) -> None:
        super().__init__(basis, Access(""))
        self._problem = problem

    def context(self) -> ssl.SSLContext:
        raise CredentialError(self._problem)

    def ready(self, identity: Identity) -> Headers | None:
        raise CredentialError(self._problem)

    def refused(self, identity: Identity) -> bool:
        return False


def _login(basis: _Basis, connection: Connection) -> UpstreamLogin:
    credentials, namespace = connection.spec.credentials, connection.metadata.namespace
    if (account := credentials.service_account_token) is not None:
        asks = _access(basis, connection)
        tokens = AccountTokens(
            KubeClient(asks), account.namespace or namespace, account.name, account.ttl,
            who=f"system:serviceaccount:{namespace}:{_gateway(connection)}" if asks is basis.api else "",
        )  # fmt: skip
        # No certificate of whoever asks for the tokens: the API server would take that for who comes with a token.
        return _AccountLogin(basis, replace(_access(basis, connection, bare=True), token="", token_file=None), tokens)
    if credentials.impersonate is not None:
        return _Impersonating(basis, _access(basis, connection))
    if credentials.static is not None:
        return _Login(basis, _access(basis, connection))
    raise CredentialError(
        f"Connection {connection.key} uses credentials.{credentials.kind}, which is not for Kubernetes; "
        "use static, serviceAccountToken or impersonate"
    )


def _gateway(connection: Connection) -> str:
    return child_name(connection.spec.gateway.name or connection.metadata.name)


def _access(basis: _Basis, connection: Connection, *, bare: bool = False) -> Access:
    """The way to the API server with what the gateway logs in with; `bare`: without the Secret's credential."""
    where, ref = connection.spec.upstream, _credential_ref(connection)
    if where.server is None:
        if basis.api is None:
            raise CredentialError(
                f"Connection {connection.key} names no spec.upstream.server, and this gateway does not run in a "
                "cluster: say which API server is meant"
            )
        access = basis.api
    else:
        access = Access(where.server.rstrip("/"), tls=_tls(basis, connection), server_name=where.tls.server_name or "")
        if ref is None:
            raise CredentialError(
                f"credentials.{connection.spec.credentials.kind} needs a secretRef where upstream.server is set"
            )
    if ref is None or bare:
        return access
    return _with_secret(access, f"{connection.metadata.namespace}/{ref.name}", basis.secrets.get(ref.name))


def _with_secret(access: Access, name: str, data: Mapping[str, bytes] | None) -> Access:
    if data is None:
        raise CredentialError(f"Secret {name} is missing, with which the gateway logs in at the API server")
    plain = replace(access, token="", token_file=None, certificate="", key="")
    try:
        if data.get("token"):
            token = data["token"].decode("ascii").strip()
            if not token.isprintable() or " " in token:
                raise CredentialError(f"Secret {name}: token is no bearer token: it has spaces or control characters")
            return replace(plain, token=token)
        if all(data.get(key) for key in CERTIFICATE):
            certificate, key = (data[each].decode("ascii") for each in CERTIFICATE)
            return replace(plain, certificate=certificate, key=key, tls=access.tls)
    except UnicodeDecodeError:
        raise CredentialError(f"Secret {name} holds something that is neither a token nor PEM text") from None
    raise CredentialError(f"Secret {name} has no token, nor tls.crt with tls.key")


def _tls(basis: _Basis, connection: Connection) -> ssl.SSLContext:
    tls, namespace = connection.spec.upstream.tls, connection.metadata.namespace
    data = basis.secrets.get(tls.ca_ref.name) if tls.ca_ref is not None else None
    ca = None
    if tls.ca_ref is not None and data is not None:
        ca = Secret(metadata=ObjectMeta(name=tls.ca_ref.name, namespace=namespace), data=dict(data))
    context = upstream_context(tls, ca, alpn=ALPN)
    if context is None:
        raise CredentialError("a Kubernetes upstream always has TLS; leave upstream.tls.mode out")
    return context


def _credential_ref(connection: Connection) -> SecretRef | None:
    credentials = connection.spec.credentials
    chosen = credentials.static or credentials.service_account_token or credentials.impersonate
    return chosen.secret_ref if chosen is not None else None
