"""A session in which nothing is asked for but a certificate: `ssh -l certificate@ostiary.dev GATEWAY "$(cat KEY.pub)"`.

No target is behind it. One channel, one exec with the public key as its command; the certificate is what it prints.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from ostiary_gateway.audit.event import RecordError
from ostiary_gateway.checkpoint import Checkpoint
from ostiary_gateway.identity.proof import Identity
from ostiary_gateway.protocols import Site
from ostiary_policy.decision import Action, Decision
from ostiary_policy.facts import ClientFacts

from . import agent_certificates, certificates
from .agent_certificates import NoCertificate
from .certificates import BadCertificate, Reader, string

if TYPE_CHECKING:
    from .transport import ClientLeg

PATIENCE: Final = 30.0
"""Seconds in which a client has to ask, and then to go."""
WINDOW: Final = 32_768
"""Bytes that a client may send to the one channel: nobody reads them."""
_USAGE: Final = (
    'A certificate needs a public key: ssh -l certificate@ostiary.dev GATEWAY "$(cat ~/.ssh/id_ed25519.pub)" '
    "> ~/.ssh/id_ed25519-cert.pub, or ostiary ssh cert."
)
_ALLOWED: Final = "Whoever has logged in with a token may have a certificate that stands for it."

_GLOBAL_REQUEST, _REQUEST_FAILURE = 80, 82
_OPEN, _OPENED, _OPEN_FAILED = 90, 91, 92
_DATA, _STDERR, _EOF, _CLOSE, _REQUEST, _SUCCESS, _FAILURE = 94, 95, 96, 97, 98, 99, 100
_BY_APPLICATION, _PROTOCOL_ERROR = 11, 2


class _Nothing:
    """What such a session reads and writes at a target (checkpoint.Tally)."""

    rows = 0
    bytes = 0
    written = 0


class CertificateSession:
    """The receiver of a client's leg (transport.Receiver)."""

    def __init__(
        self, leg: ClientLeg, site: Site, checkpoint: Checkpoint, identity: Identity, client: ClientFacts
    ) -> None:
        self._leg = leg
        self._site = site
        self._identity = identity
        loop = asyncio.get_running_loop()
        self._asked: asyncio.Future[str] = loop.create_future()
        self._gone: asyncio.Future[None] = loop.create_future()
        self._channel: int | None = None
        self._room = self._packet_size = 0
        self._closed = False
        self._unread = 0
        detail = {"authentication": {"method": identity.method, **dict(identity.shown)}, "certificate": True}
        self._gate = checkpoint.open(site.connection, identity, client, _Nothing(), detail)

    async def run(self, secret: str) -> None:
        """Until the client has gone. `secret` is what it has logged in with."""
        reason = "closed by the client"
        try:
            self._leg.receiver = self
            async with asyncio.timeout(PATIENCE):
                await asyncio.wait((self._asked, self._gone), return_when=asyncio.FIRST_COMPLETED)
                if self._asked.done():
                    await self._answer(secret, self._asked.result())
                await self._gone
        except TimeoutError:
            reason = "idle"
            self._leg.disconnect(_BY_APPLICATION, "Nothing was asked for in time.")
        finally:
            self._gate.close(reason)

    async def _answer(self, secret: str, public: str) -> None:
        gate, now = self._gate, time.time()
        try:
            issued = agent_certificates.issue(self._site, self._identity, secret, public, now)
        except NoCertificate as problem:
            gate.refuse("certificate", "certificate", str(problem))
            self._say(_STDERR, f"ostiary: {problem}\n", 1)
            return
        fingerprint = certificates.fingerprint(certificates.public_key(public))
        detail = {"certificate": {"key": fingerprint, "serial": str(issued.serial), "expires": issued.expires}}
        decision = Decision(Action.ALLOW, None, _ALLOWED, revision=gate.revision)
        try:
            verdict, waiter = gate.begin(f"certificate for {fingerprint}", detail, decision)
            if waiter is not None:
                await waiter
        except RecordError:
            self._say(_STDERR, "ostiary: The record cannot be written now, so there is no certificate. Try again.\n", 1)
            return
        self._say(_DATA, issued.line + "\n", 0)
        gate.end(verdict.number, "ok", {}, 0, len(issued.line) + 1)

    def _say(self, kind: int, text: str, status: int) -> None:
        """The whole answer, and the end of the channel."""
        if self._channel is None or self._closed:
            return
        to, data = self._channel.to_bytes(4, "big"), text.encode()[: self._room]
        size = max(1, self._packet_size - 64)
        head = bytes((kind,)) + to + ((1).to_bytes(4, "big") if kind == _STDERR else b"")
        for at in range(0, len(data), size):
            self._leg.send(head + string(data[at : at + size]))
        self._leg.send(bytes((_REQUEST,)) + to + string(b"exit-status") + b"\0" + status.to_bytes(4, "big"))
        self._leg.send(bytes((_EOF,)) + to)
        self._leg.send(bytes((_CLOSE,)) + to)
        self._closed = True

    # -- transport.Receiver

    def packet(self, payload: bytes) -> None:
        """What no session without a target can answer is refused."""
        try:
            self._take(payload[0], Reader(payload[1:]))
        except BadCertificate:
            self._leg.disconnect(_PROTOCOL_ERROR, "A packet is cut off.")

    def _take(self, number: int, reader: Reader) -> None:
        if number == _GLOBAL_REQUEST:
            reader.string()
            if reader.take(1) != b"\0":
                self._leg.send(bytes((_REQUEST_FAILURE,)))
        elif number == _OPEN:
            self._open(reader)
        elif number in (_DATA, _STDERR):
            self._unread += reader.left
            if self._unread > 2 * WINDOW:
                self._leg.disconnect(_PROTOCOL_ERROR, "More was sent than there is room for.")
        elif number == _REQUEST and self._channel is not None:
            reader.uint32()
            self._request(reader.string(), reader.take(1) != b"\0", reader)
        elif number == _CLOSE and self._channel is not None:
            if not self._closed:
                self._leg.send(bytes((_CLOSE,)) + self._channel.to_bytes(4, "big"))
            self._leg.disconnect(_BY_APPLICATION, "")

    def _open(self, reader: Reader) -> None:
        kind, sender, room, size = reader.string(), reader.take(4), reader.uint32(), reader.uint32()
        if kind != b"session" or self._channel is not None:
            text = string(b"This login is for one certificate, and for nothing else.") + string(b"en")
            self._leg.send(bytes((_OPEN_FAILED,)) + sender + (1).to_bytes(4, "big") + text)
            return
        self._channel, self._room, self._packet_size = int.from_bytes(sender, "big"), room, min(size, WINDOW)
        window = WINDOW.to_bytes(4, "big")
        self._leg.send(bytes((_OPENED,)) + sender + bytes(4) + window + window)

    def _request(self, kind: bytes, reply: bool, reader: Reader) -> None:
        assert self._channel is not None
        command = reader.string().decode(errors="replace") if kind == b"exec" else ""
        taken = kind in (b"exec", b"shell") and not self._closed and not self._asked.done()
        if reply:
            self._leg.send(bytes((_SUCCESS if taken else _FAILURE,)) + self._channel.to_bytes(4, "big"))
        if taken and kind == b"exec":
            self._asked.set_result(command)
        elif taken:
            self._say(_STDERR, f"ostiary: {_USAGE}\n", 1)

    def batch_done(self) -> None:
        """Each packet is answered at once."""

    def pause(self) -> None:
        """What there is to send is short."""

    def resume(self) -> None:
        """Nothing waits."""

    def lost(self, problem: str) -> None:
        if not self._gone.done():
            self._gone.set_result(None)
