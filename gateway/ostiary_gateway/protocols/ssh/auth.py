"""The agent's login: its token as the password or by keyboard-interactive, or a certificate of `ostiary ssh cert`.

Sources: RFC 4252, RFC 4256. Why a login is refused is told in a banner (RFC 4252, 5.4): a failure has no words.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import asyncssh
import structlog

from ostiary_gateway.checkpoint import Checkpoint
from ostiary_gateway.counters import Counters, LoginFailure
from ostiary_gateway.credentials.ssh import CredentialError, offered
from ostiary_gateway.identity.proof import Identity, LoginRefused, bounded
from ostiary_gateway.protocols import Site
from ostiary_policy.facts import ClientFacts

from . import agent_certificates
from .certificate_session import CertificateSession
from .certificates import is_certificate

if TYPE_CHECKING:
    from .transport import ClientLeg

log = structlog.get_logger(__name__)

Challenge = tuple[str, str, str, list[tuple[str, bool]]]

CERTIFICATE_LOGIN: Final = "certificate@ostiary.dev"
"""The user name of who wants nothing but a certificate (`ostiary ssh cert`): nothing reaches a target there."""
MAX_ATTEMPTS: Final = 6
"""Refused tokens and certificates of one client; then it has to connect again."""
MAX_KEYS: Final = 40
"""Plain public keys that a client may offer: its ssh-agent may hold some, and they are tried before any password."""
PROMPT: Final = "Password: "
"""What programs that answer prompts look for (sshpass, asyncssh); the token is the password."""
LONGEST_ANSWER: Final = 1023
"""Characters that OpenSSH gives of a password or an answer, at most (readpass.c); the rest it cuts off. A token of a
ServiceAccount is longer in a pod, so that the gateway asks for what is missing."""
MORE: Final = "From character {} of the password: "
MAX_SECRET: Final = 16384

_CUT: Final = (
    "An answer of ssh has 1023 characters at most, and this one was cut there: use keyboard-interactive, where the "
    "gateway asks for the rest (docs: ssh.md, long tokens), or a certificate (ostiary ssh cert)."
)
_NO_MORE_METHODS: Final = 14
_SERVICE_NOT_AVAILABLE: Final = 7


class AgentLogin(asyncssh.SSHServer):
    """One login. When asyncssh calls `auth_completed`, `identity` and `login` are set; before that they are not.

    `client["application"]` is filled in from the client's version line.
    """

    identity: Identity | None = None
    """Who has logged in. Look at `site.identities.holds` and `ended` again before the session begins."""
    login: str = ""
    """The login at the target: the client's user name. It is one that the Connection offers."""
    wants_certificate: bool = False
    """True if the user name was CERTIFICATE_LOGIN: `serve_certificate` is the whole session then, and no target is
    connected to."""
    _secret: str = ""
    """What has proven a login that wants a certificate, until it has one."""

    def __init__(self, site: Site, checkpoint: Checkpoint, counters: Counters, client: ClientFacts) -> None:
        self._site = site
        self._checkpoint = checkpoint
        self._counters = counters
        self._client = client
        self._conn: asyncssh.SSHServerConnection
        self._attempts = 0
        self._keys = 0
        self._refused = b""
        self._told = False
        self._barred = False
        self._given = ""
        """What keyboard-interactive has been told so far of a long secret."""

    @property
    def refused(self) -> bool:
        """True if it has counted and recorded a refusal."""
        return self._told

    # -- what asyncssh asks

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._conn = conn

    def begin_auth(self, username: str) -> bool:
        """The first request of a client, or its first with another user name."""
        self._client["application"] = bounded(self._conn.get_extra_info("client_version", ""), 255)
        if self._site.closed and not self._barred:
            self._barred = True
            self._refuse(
                "closed", self._site.closed, self._site.closed,
                "Try again in a while; the Connection's status says what is wrong.",
            )  # fmt: skip
            self._conn.disconnect(_SERVICE_NOT_AVAILABLE, self._site.closed)
        return True

    def public_key_auth_supported(self) -> bool:
        return not self._barred and self._site.ssh is not None and self._site.ssh.login_ca is not None

    def password_auth_supported(self) -> bool:
        return not self._barred

    def kbdint_auth_supported(self) -> bool:
        return not self._barred

    async def validate_password(self, username: str, password: str) -> bool:
        return await self._by_secret(username, password)

    def change_password(self, username: str, old_password: str, new_password: str) -> bool:
        self._count()
        return False

    def get_kbdint_challenge(
        self, username: str, lang: str, submethods: str
    ) -> Challenge:
        self._given = ""
        return "", "", "en", [(PROMPT, False)]

    async def validate_kbdint_response(self, username: str, responses: list[str]) -> bool | Challenge:  # type: ignore[override]
        if len(responses) != 1:
            self._count()
            return False
        before, answer = self._given, responses[0]
        self._given = ""
        if before == answer:
            # It does not look at what is asked: this was all of it, or it was cut.
            return await self._by_secret(username, answer)
        given = before + answer
        if len(answer) == LONGEST_ANSWER and len(given) < MAX_SECRET:
            self._given = given
            return "", "", "en", [(MORE.format(len(given) + 1), False)]
        return await self._by_secret(username, given)

    async def validate_key(self, username: str, key: bytes, signed: bytes, signature: bytes) -> bool:
        """What the connection's own `validate_public_key` is to ask in its place: asyncssh shows no certificate to an
        SSHServer. `key`: the blob of key or certificate; `signed`: what the signature is of, the session id as a
        string included (`String(self._session_id) + msg`); empty if the client only asks whether the key would do."""
        if not is_certificate(key):
            # A stranger's keys are no news: they are refused without a word, as long as they are not too many.
            self._keys += 1
            if self._keys > MAX_KEYS:
                self._conn.disconnect(_NO_MORE_METHODS, "Too many public keys; log in with a token as the password.")
            return False
        site = self._site

        async def prove() -> Identity:
            shown = agent_certificates.read(site, key)
            if not signed:
                return agent_certificates.NOBODY
            agent_certificates.check_signature(shown, signed, signature)
            return await agent_certificates.identify(site, shown)

        if username == CERTIFICATE_LOGIN:
            # It would live for ever: each one would lead to the next.
            return False
        return await self._enter(username, prove, asked_only=not signed)

    async def serve_certificate(self, leg: ClientLeg) -> None:
        """The session of a client that wants nothing but a certificate, until it has gone."""
        assert self.identity is not None
        secret, self._secret = self._secret, ""
        session = CertificateSession(leg, self._site, self._checkpoint, self.identity, self._client)
        await session.run(secret)

    # -- the login

    async def _by_secret(self, username: str, secret: str) -> bool:
        digest = hashlib.sha256(secret.encode(errors="surrogateescape")).digest()
        if hmac.compare_digest(digest, self._refused):
            # A client without a person asks for the same again and again, at a server that has said no.
            self._conn.disconnect(_NO_MORE_METHODS, "The same token was refused before.")
            return False

        async def ask() -> str:
            return secret

        async def prove() -> Identity:
            return await self._site.identities.authenticate(None, ask)

        if not await self._enter(username, prove, cut=len(secret) == LONGEST_ANSWER):
            self._refused = digest
            return False
        if self.wants_certificate:
            self._secret = secret
        return True

    async def _enter(
        self, username: str, prove: Callable[[], Awaitable[Identity]], *, asked_only: bool = False, cut: bool = False
    ) -> bool:
        self.identity = None
        if self._barred:
            return False
        try:
            identity = await prove()
        except LoginRefused as refused:
            self._refuse(refused.kind, refused.reason, refused.message, _CUT if cut else refused.hint)
            self._count()
            return False
        if asked_only:
            return True
        if username != CERTIFICATE_LOGIN and not self._is_offered(username):
            # Nothing that this client sends would change that: it need not try its other ways.
            self._conn.disconnect(_NO_MORE_METHODS, "This login is not possible.")
            return False
        self.identity, self.login = identity, username
        self.wants_certificate = username == CERTIFICATE_LOGIN
        return True

    def _is_offered(self, username: str) -> bool:
        """Whether the target has this login for agents. Who has proven who it is may know which it has."""
        site = self._site
        name = site.connection.metadata.name
        try:
            logins = offered(site.connection, site.secrets)
        except CredentialError as problem:
            record = self._refuse(
                "other", f"target: {problem}", f"The host behind {name} cannot be logged in at now.",
                "Try again later; the gateway's log says under this id what is wrong.",
            )  # fmt: skip
            log.error("target not available", connection=site.name, problem=str(problem), record=record)
            return False
        if username in logins:
            return True
        asked = bounded(username, 64)
        self._refuse(
            "other", f"login: {asked} is none that the Connection offers",
            f"The Connection {name} has no login {asked!r}.",
            f"Its logins are: {', '.join(logins)}. Use one as the user name (ssh {logins[0]}@HOST), and the token as "
            "the password.",
        )  # fmt: skip
        return False

    def _refuse(self, kind: LoginFailure, reason: str, message: str, hint: str) -> str:
        """Counts, records and tells a refused login; the record's id."""
        self._told = True
        self._counters.login_refused(self._site.name, kind)
        record = self._checkpoint.refuse_login(self._site.name, self._client, reason)
        try:
            self._conn.send_auth_banner(f"ostiary: {message} [{record}]\r\nostiary: {hint}\r\n")
        except OSError:
            # It has gone, or is past its login by another way.
            pass
        return record

    def _count(self) -> None:
        self._attempts += 1
        if self._attempts >= MAX_ATTEMPTS:
            self._conn.disconnect(_NO_MORE_METHODS, "Too many refused logins; connect again with a valid token.")


def make_server(site: Site, checkpoint: Checkpoint, counters: Counters, client: ClientFacts) -> AgentLogin:
    """For one client that has connected. Refused logins are counted, recorded and told here, too many end the
    connection; deadlines are the lobby's."""
    return AgentLogin(site, checkpoint, counters, client)
