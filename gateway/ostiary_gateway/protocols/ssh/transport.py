"""The two legs of a session: the gateway as an agent's server, and as a target's client."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable
from typing import Final, Self

import asyncssh
from asyncssh.connection import SSHClientConnection, SSHServerConnection
from asyncssh.packet import SSHPacket, String

from ostiary_gateway.credentials.ssh import TargetLogin
from ostiary_gateway.leg import LegClosed

from .transport_leg import KEXINIT, Leg
from .transport_offers import QUICK
from .transport_seams import DataReceiver, Receiver, Trust

__all__ = ["ClientLeg", "DataReceiver", "Leg", "LegClosed", "Receiver", "TargetLeg"]


FIRST_WORD: Final = 0.2
"""Seconds that the gateway waits for a client's list of what it can do before it sends its own."""


class ClientLeg(Leg, SSHServerConnection):
    """Towards an agent: the gateway is its server."""

    _waited = False

    @classmethod
    async def accept(
        cls, sock: socket.socket, server: asyncssh.SSHServer, options: asyncssh.SSHServerConnectionOptions
    ) -> Self:
        """From an accepted socket to the end of the login, which `server` decides. `options` (`server_options`) can be
        shared by all legs. Raises LegClosed, with why; the socket is closed then."""
        loop = asyncio.get_running_loop()
        leg = cls(loop, options)
        leg.begin(loop)
        leg._protocol_factory = lambda: server
        try:
            await loop.connect_accepted_socket(lambda: leg, sock)
            await leg.entered
        except BaseException:
            leg.abort()
            raise
        return leg

    def _send_kexinit(self) -> None:
        """The first one waits for the client's, so that its order of ciphers need not be the slow one that OpenSSH has:
        who can do AES-GCM is offered nothing else. A client that waits for ours gets it soon, with all ciphers."""
        if self._session_id or self._client_kexinit or self._waited:
            super()._send_kexinit()
        else:
            self._loop.call_later(FIRST_WORD, self._wait_no_more)

    def _wait_no_more(self) -> None:
        if not self._waited and not self._client_kexinit and self._transport is not None:
            self._waited = True
            self._send_kexinit()

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> bool | Awaitable[None]:
        if pkttype == KEXINIT and not self._session_id and not self._waited and not self._client_kexinit:
            self._kexinit_sent = False
            asked = SSHPacket(packet.get_full_payload())
            asked.get_bytes(17)
            _, _, up, down = (asked.get_namelist() for _ in range(4))
            quick = [name for name in QUICK if name in up and name in down]
            self._enc_algs = quick or self._enc_algs
        return super().process_packet(pkttype, pktid, packet)

    async def reload_config(self) -> None:
        """asyncssh makes all options anew for each user name, in case a file says something else for it."""

    async def send_userauth_success(self) -> None:
        await super().send_userauth_success()
        self.logged_in()

    async def validate_public_key(self, username: str, key_data: bytes, msg: bytes, signature: bytes) -> bool:
        """asyncssh shows no certificate to its owner, so that it is asked here."""
        validate = getattr(self._owner, "validate_key", None)
        if validate is None:
            return await super().validate_public_key(username, key_data, msg, signature)
        signed = String(self._session_id) + msg if msg else b""
        return bool(await validate(username, key_data, signed, signature))


class _Target(asyncssh.SSHClient):
    """The owner of a leg towards a target, as asyncssh calls it."""

    def __init__(self, leg: TargetLeg) -> None:
        self._leg = leg

    def auth_completed(self) -> None:
        self._leg.logged_in()


class TargetLeg(Leg, SSHClientConnection):
    """Towards a target: the gateway is its client."""

    _trust: Trust

    @classmethod
    async def connect(
        cls, sock: socket.socket, login: TargetLogin | None, trust: Trust, options: asyncssh.SSHClientConnectionOptions
    ) -> Self:
        """From a connected socket to the end of the login. `options` (`client_options`) can be shared by all legs. With
        no login it ends with the key exchange (`probe`). Raises LegClosed, with why; the socket is closed then."""
        loop = asyncio.get_running_loop()
        leg = cls(loop, options)
        leg.begin(loop)
        leg._protocol_factory = lambda: _Target(leg)
        leg._trust = trust
        leg._server_host_key_algs = list(trust.algorithms)
        if login is None:
            leg._end_with_kex()
        else:
            leg._username = login.username
            leg._client_keys = list(login.keys)
            leg._password = login.password or None
            leg._preferred_auth = [b"publickey"] if login.keys else [b"password", b"keyboard-interactive"]
        try:
            await loop.create_connection(lambda: leg, sock=sock)
            await leg.entered
        except BaseException:
            leg.abort()
            raise
        finally:
            leg._client_keys, leg._password = [], None
        return leg

    def _end_with_kex(self) -> None:
        """Nobody logs in: `entered` is done as soon as there are keys. How it fails is told to that alone."""
        self._wait, self._waiter = "kex", self._loop.create_future()

        def keyed(waiter: asyncio.Future[None]) -> None:
            if waiter.exception() is None and not self.entered.done():
                self.entered.set_result(None)

        self._waiter.add_done_callback(keyed)

    def _connection_made(self) -> None:
        """asyncssh's reads known_hosts, and looks for keys and agents of the machine."""

    def process_packet(self, pkttype: int, pktid: int, packet: SSHPacket) -> bool | Awaitable[None]:
        """Most servers just hang up when they have no host key of the wanted types: it is said before they can."""
        if pkttype == KEXINIT and not self._session_id:
            asked = SSHPacket(packet.get_full_payload())
            asked.get_bytes(17)
            asked.get_namelist()
            if problem := self._trust.refuse_types(asked.get_namelist()):
                raise asyncssh.HostKeyNotVerifiable(problem)
        return super().process_packet(pkttype, pktid, packet)

    def validate_server_host_key(self, key_data: bytes) -> asyncssh.SSHKey:
        try:
            self._server_host_key = self._trust.check(key_data)
        except ValueError as problem:
            raise asyncssh.HostKeyNotVerifiable(str(problem)) from None
        return self._server_host_key
