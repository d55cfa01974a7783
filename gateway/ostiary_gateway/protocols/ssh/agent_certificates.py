"""Certificates for agents' own keys: signed for who has logged in with a token, and read back at the next login."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ostiary_gateway.checkpoint import Checkpoint
from ostiary_gateway.identity.proof import Identity
from ostiary_gateway.protocols import Site
from ostiary_policy.facts import ClientFacts

if TYPE_CHECKING:
    from .transport import ClientLeg, Receiver


def receiver(leg: ClientLeg, site: Site, checkpoint: Checkpoint, identity: Identity, client: ClientFacts) -> Receiver:
    """Serves a client that wants nothing but a certificate: `exec` with its public key as the command answers with the
    certificate. It ends the connection itself (`leg.disconnect`) when the client has had it."""
    raise NotImplementedError
