"""All ways into one Connection behind one door: a certificate and a secret go in, an Identity or why not comes out.

Every protocol calls the same: `configure` for its TLS context, `authenticate` at login, `holds` after a reload, and
`ended` now and then.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final

from ostiary_api.authentication import is_reserved
from ostiary_api.connection import Connection
from ostiary_api.secret import Secret

from .issuer_keys import KeySources
from .jose import looks_like_a_jwt
from .mtls import CertificateIdentities
from .oidc import IssuerError, OIDCIdentities, key_source
from .proof import Identity, LoginRefused, Method
from .service_account import EXPECTED, is_service_account_token
from .token_review import TokenReviews
from .tokens import TokenIdentities

GRACE: Final = 60.0
"""Seconds that a session whose JWT or certificate has expired gets to end what it is in the middle of."""


class AuthenticationError(Exception):
    """A Connection's `spec.authentication` cannot be served. The message says which field and why."""


class Authenticators:
    """Who may come in at one Connection; made anew for each bundle. `reviews`: of ServiceAccount tokens, None outside
    of a cluster. Raises AuthenticationError."""

    def __init__(
        self,
        connection: Connection,
        tokens: TokenIdentities,
        secrets: Mapping[tuple[str, str], Secret],
        keys: KeySources,
        clock: Callable[[], float] = time.time,
        *,
        reviews: TokenReviews | None = None,
    ) -> None:
        spec = connection.spec.authentication
        over_http = connection.spec.protocol == "Kubernetes"
        self._place = "bearer token" if over_http else "password"
        self._certificate = "kubeconfig: client-certificate and client-key" if over_http else "psql: sslcert and sslkey"
        self._name = connection.metadata.name
        self._namespace = connection.metadata.namespace
        self._spec = spec
        self._tokens = tokens
        self._clock = clock
        self._reviews = reviews if spec.service_accounts != "Refuse" else None
        try:
            self._oidc = OIDCIdentities(
                spec.oidc, {item.name: key_source(item, self._namespace, secrets, keys) for item in spec.oidc}
            )
        except IssuerError as problem:
            raise AuthenticationError(str(problem)) from None
        self._mtls = self._certificates(secrets)
        self._mode = spec.mtls.mode if spec.mtls is not None else None

    def _certificates(self, secrets: Mapping[tuple[str, str], Secret]) -> CertificateIdentities | None:
        mtls = self._spec.mtls
        if mtls is None:
            return None
        ref = mtls.ca_ref
        bundle = secrets.get((self._namespace, ref.name))
        if bundle is None or ref.key not in bundle.data:
            raise AuthenticationError(
                f"authentication.mtls.caRef: Secret {ref.name} with key {ref.key} does not exist"
            )
        try:
            return CertificateIdentities(mtls, bundle)
        except (ssl.SSLError, ValueError) as problem:
            raise AuthenticationError(
                f"authentication.mtls.caRef: {ref.name}/{ref.key} holds no PEM certificate: {problem}"
            ) from None

    def configure(self, context: ssl.SSLContext | None) -> None:
        """Lets the listener ask for certificates, where the Connection takes them. Raises AuthenticationError."""
        if self._mtls is None:
            return
        if context is None:
            raise AuthenticationError("authentication.mtls needs TLS; leave listener.tls.mode out")
        self._mtls.ask(context)

    async def authenticate(self, certificate: bytes | None, ask: Callable[[], Awaitable[str]]) -> Identity:
        """Who is there. `certificate`: what the TLS handshake has accepted (DER), None if the client showed none.
        `ask` gets the secret from the client; it is called only if one is needed. Raises LoginRefused, and what `ask`
        raises."""
        shown: Identity | None = None
        if self._mtls is not None:
            if certificate is not None:
                shown = self._mtls.identify(certificate, self._clock())
            elif self._mode != "Optional":
                raise LoginRefused(
                    "certificate", "certificate: none was shown",
                    f"The Connection {self._name} asks for a client certificate, and none was shown.",
                    f"Connect with {self.expected} ({self._certificate}).",
                )  # fmt: skip
        if shown is not None and self._mode != "WithToken":
            return shown
        identity = await self.by_secret(await ask(), certificate)
        if shown is None:
            return identity
        ends = [end for end in (identity.expires, shown.expires) if end is not None]
        return replace(
            identity, expires=min(ends, default=None), certificate=shown.certificate, shown=identity.shown + shown.shown
        )

    async def by_secret(self, secret: str, certificate: bytes | None) -> Identity:
        """Who a token or JWT stands for, whatever certificates the Connection wants. Raises LoginRefused."""
        identity = self._tokens.find(self._namespace, secret) if self._spec.tokens == "Allow" else None
        if identity is not None:
            if self._is_anothers(identity):
                name = identity.subject["username"]
                raise LoginRefused(
                    "token", f"token: its user or a group has a reserved name ({name})",
                    "The token is not accepted: its user, or one of its groups, has a name that is reserved.",
                    "Make another token, with names that do not begin with system:, spiffe: or an issuer's prefix.",
                )  # fmt: skip
            return identity
        if looks_like_a_jwt(secret):
            return await self._by_jwt(secret, certificate)
        raise LoginRefused(
            "token", "unknown token", f"The {self._place} is no token that is known for the Connection {self._name}.",
            f"Send {self.expected}.",
        )  # fmt: skip

    async def _by_jwt(self, secret: str, certificate: bytes | None) -> Identity:
        if self._reviews is not None and not self._oidc.takes(secret):
            identity = await self._reviews.identify(secret, f"Send {self.expected}.")
            if not self._is_taken(identity):
                account = f"{identity.subject['namespace']}/{identity.subject['name']}"
                raise LoginRefused(
                    "jwt", f"serviceaccount: {account} is of another namespace, and serviceAccounts is SameNamespace",
                    f"The Connection {self._name} takes no ServiceAccounts of other namespaces, and {account} is one.",
                    f"Use a ServiceAccount of namespace {self._namespace}, or set serviceAccounts: Allow in the "
                    "Connection's spec.authentication.",
                )  # fmt: skip
            return identity
        if is_service_account_token(secret) and not self._oidc.takes(secret):
            refused = self._spec.service_accounts == "Refuse"
            why = "its spec.authentication says so" if refused else "its gateway runs outside of a cluster"
            raise LoginRefused(
                "jwt", f"serviceaccount: not taken, {why}",
                f"The Connection {self._name} takes no ServiceAccount tokens: {why}.", f"Send {self.expected}.",
            )  # fmt: skip
        if self._spec.oidc:
            return await self._oidc.identify(secret, self._clock(), certificate)
        raise LoginRefused(
            "jwt", "jwt: no issuer is configured", f"The Connection {self._name} takes no JWTs.",
            f"Send {self.expected}.",
        )  # fmt: skip

    def _is_taken(self, identity: Identity) -> bool:
        """Whether this Connection takes this ServiceAccount."""
        return self._reviews is not None and (
            self._spec.service_accounts == "Allow" or identity.subject["namespace"] == self._namespace
        )

    def _is_anothers(self, identity: Identity) -> bool:
        prefixes = self._oidc.prefixes
        subject = identity.subject
        return any(is_reserved(name, prefixes) for name in (subject["username"], *subject["groups"]))

    @property
    def expected(self) -> str:
        """What a client must have to come in, in words."""
        secrets = []
        if self._spec.tokens == "Allow":
            secrets.append(f"the agent's token as the {self._place} (`ostiary token create` makes one)")
        if self._reviews is not None:
            secrets.append(EXPECTED.format(place=self._place))
        if self._spec.oidc:
            secrets.append(f"{self._oidc.expected}, as the {self._place}")
        if self._mtls is not None and (self._mode == "Required" or (self._mode == "Optional" and not secrets)):
            return self._mtls.expected
        if not secrets:
            secrets.append("a ServiceAccount token to a gateway in a cluster: this one lets nobody in")
        if self._mtls is None:
            return "; or ".join(secrets)
        between = ", and " if self._mode == "WithToken" else "; or "
        return self._mtls.expected + between + "; or ".join(secrets)

    def holds(self, identity: Identity) -> bool:
        """Whether an identity that was proven in an earlier bundle would be proven now, as the same subject."""
        if self._mode == "WithToken" and (self._mtls is None or not identity.certificate):
            return False
        if identity.certificate and (
            self._mtls is None
            or not self._mtls.holds(identity.certificate, identity.subject if identity.method == "mtls" else None)
        ):
            return False
        if identity.method == "mtls":
            return self._mode != "WithToken"
        if self._mode == "Required":
            return False
        if identity.method == "oidc":
            return self._oidc.holds(identity.credential)
        if identity.method == "serviceAccount":
            return self._is_taken(identity)
        found = self._tokens.by_digest(self._namespace, identity.credential)
        return (
            self._spec.tokens == "Allow"
            and found is not None
            and found.subject == identity.subject
            and not self._is_anothers(found)
        )

    def ended(self, identity: Identity, *, idle: bool) -> str:
        """Why a session must end since what opened it is no more; empty if it may go on. What has expired lets a
        session that is not idle have GRACE more; what was withdrawn does not."""
        if identity.method == "serviceAccount" and self._reviews is not None and self._reviews.withdrawn(identity):
            return "The ServiceAccount that opened this session, or its pod, does not exist any more."
        if identity.expires is None or self._spec.sessions_outlive_credential:
            return ""
        if self._clock() < identity.expires + (0.0 if idle else GRACE):
            return ""
        named = _NAMES[identity.method]
        if identity.certificate and identity.method != "mtls":
            named += " or client certificate"
        return f"The {named} that opened this session has expired."


_NAMES: Final[dict[Method, str]] = {
    "token": "token",
    "serviceAccount": "ServiceAccount token",
    "oidc": "JWT",
    "mtls": "client certificate",
}
"""What may expire, by what proved an identity."""
