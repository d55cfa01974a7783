"""The agent's login: its token as the password or by keyboard-interactive, or a certificate of `ostiary ssh cert`."""

from __future__ import annotations

from typing import Final

import asyncssh

from ostiary_gateway.checkpoint import Checkpoint
from ostiary_gateway.counters import Counters
from ostiary_gateway.identity.proof import Identity
from ostiary_gateway.protocols import Site
from ostiary_policy.facts import ClientFacts

CERTIFICATE_LOGIN: Final = "certificate@ostiary.dev"
"""The user name of who wants nothing but a certificate (`ostiary ssh cert`): nothing reaches a target there."""


class AgentLogin(asyncssh.SSHServer):
    """One login. When asyncssh calls `auth_completed`, `identity` and `login` are set; before that they are not.

    `client["application"]` is filled in from the client's version line.
    """

    identity: Identity | None = None
    """Who has logged in. Look at `site.identities.holds` and `ended` again before the session begins."""
    login: str = ""
    """The login at the target: the client's user name. It is one that the Connection offers."""
    wants_certificate: bool = False
    """True if the user name was CERTIFICATE_LOGIN: the client leg's receiver is `agent_certificates.receiver(...)`
    then, and no target is connected to."""

    async def validate_key(self, username: str, key: bytes, signed: bytes, signature: bytes) -> bool:
        """What the connection's own `validate_public_key` is to ask in its place: asyncssh shows no certificate to an
        SSHServer. `key`: the blob of key or certificate; `signed`: what the signature is of, the session id as a
        string included (`String(self._session_id) + msg`); empty if the client only asks whether the key would do."""
        raise NotImplementedError


def make_server(site: Site, checkpoint: Checkpoint, counters: Counters, client: ClientFacts) -> AgentLogin:
    """For one client that has connected. Refused logins are counted, recorded and told here, too many end the
    connection; deadlines are the lobby's."""
    raise NotImplementedError
