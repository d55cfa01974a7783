"""The way to a target: TCP, its host key as the Connection says, and the login there."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Sequence
from typing import Final

import asyncssh
from asyncssh.public_key import (
    CERT_TYPE_HOST,
    SSHOpenSSHCertificate,
    decode_ssh_certificate,
    decode_ssh_public_key,
    get_default_certificate_algs,
    get_default_public_key_algs,
)

from ostiary_api.connection import DEFAULT_PORTS
from ostiary_gateway.credentials.ssh import login_of
from ostiary_gateway.identity.proof import Identity
from ostiary_gateway.leg import LegClosed
from ostiary_gateway.protocols import Site

from .questions import told
from .transport import TargetLeg
from .transport_offers import client_options

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for TCP, whatever number of addresses the host has."""
LOGIN_TIMEOUT: Final = 20.0
"""Seconds for the key exchange and the login after it."""
SHOWN: Final = 300
"""Characters of a target's own words in a message."""
WEAK: Final = (b"ssh-rsa", b"ssh-rsa-cert-v01@openssh.com", b"ssh-dss")
"""Signed with SHA-1."""


class UpstreamError(Exception):
    """There is no session at the target. The message, for people who run the gateway, says why and what to set."""


class HostTrust:
    """The host keys that a Connection believes. Raises UpstreamError if it has none that can be used."""

    def __init__(self, site: Site) -> None:
        where = site.connection.spec.upstream
        self._host = where.host or ""
        self._port = where.port or DEFAULT_PORTS["SSH"]
        self._keys = [_public_key(line, f"upstream.hostKeys[{at}]") for at, line in enumerate(where.host_keys)]
        self._authorities = _authorities(site)
        found: list[bytes] = []
        if self._authorities:
            found += get_default_certificate_algs()
        known = get_default_public_key_algs()
        for key in self._keys:
            found += [name for name in key.sig_algorithms if name in known]
        self.algorithms: Sequence[bytes] = [name for name in dict.fromkeys(found) if name not in WEAK]
        """What the target is asked for: it has several keys, and shows one."""

    def check(self, key_data: bytes) -> asyncssh.SSHKey:
        """The key that is to sign, of a host key or a host certificate (blob). Raises ValueError."""
        certificate = _certificate(key_data)
        if certificate is None:
            return self._plain(_decoded(key_data), "")
        if certificate.signing_key not in self._authorities:
            signer = _named(certificate.signing_key)
            return self._plain(certificate.key, f" Its certificate is of the authority {signer}, see hostCARef.")
        try:
            certificate.validate(CERT_TYPE_HOST, self._host)
        except ValueError as problem:
            raise ValueError(
                f"the host certificate of {self._host}:{self._port} is not accepted: {problem}; it must be valid, and "
                f"for the principal {self._host}"
            ) from None
        return certificate.key

    def refuse_types(self, offered: Sequence[bytes]) -> str:
        """Why none of the host keys that a target has can be the right one; empty if one can."""
        if any(name in self.algorithms for name in offered):
            return ""
        has = ", ".join(told(name.decode("ascii", "replace"))[:64] for name in offered[:16])
        wanted = ", ".join(name.decode("ascii") for name in self.algorithms)
        fields = "upstream.hostCARef" if self._authorities else "upstream.hostKeys"
        return (
            f"{self._host}:{self._port} has host keys of the types {has} only, and {fields} believes {wanted}; "
            "add one of its own keys to upstream.hostKeys (ssh-keyscan shows them; compare the fingerprint at the host)"
        )

    def _plain(self, key: asyncssh.SSHKey, more: str) -> asyncssh.SSHKey:
        if key in self._keys:
            return key
        name = "upstream.hostKeys" if self._keys else "upstream.hostCARef (it has no such certificate)"
        line = key.export_public_key().decode().strip()
        raise ValueError(
            f"{self._host}:{self._port} shows the host key {_named(key)}, which {name} does not believe.{more} "
            "Somebody may be between. If it is right (compare the fingerprint at the host: ssh-keygen -lf "
            f"/etc/ssh/ssh_host_*_key.pub), set upstream.hostKeys to: {line}"
        )


class Upstream:
    """The way of one Connection, as long as it stays the same. Raises UpstreamError where it is used, not here."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._trust: HostTrust | None = None
        self._options: asyncssh.SSHClientConnectionOptions | None = None

    @property
    def place(self) -> str:
        """Host and port."""
        where = self._site.connection.spec.upstream
        return f"{where.host}:{where.port or DEFAULT_PORTS['SSH']}"

    async def connect(self, login: str, identity: Identity, session: str) -> TargetLeg:
        """A leg that is logged in there, for one session. Raises UpstreamError or CredentialError."""
        sock = await self._reach()
        try:
            source = str(sock.getsockname()[0])
            site = self._site
            shown = login_of(site.connection, site.secrets, login, identity, session=session, source=source)
            trust, options = self._ready()
        except BaseException:
            sock.close()
            raise
        try:
            async with asyncio.timeout(LOGIN_TIMEOUT):
                return await TargetLeg.connect(sock, shown, trust, options)
        except TimeoutError:
            raise UpstreamError(f"{self.place} did not finish the login within {LOGIN_TIMEOUT:.0f} s") from None
        except (LegClosed, OSError) as problem:
            raise UpstreamError(self._said(problem)) from None

    async def probe(self) -> None:
        """Key exchange and host key, and no login. Raises UpstreamError."""
        sock = await self._reach()
        try:
            trust, options = self._ready()
        except BaseException:
            sock.close()
            raise
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                leg = await TargetLeg.connect(sock, None, trust, options)
            leg.disconnect(asyncssh.DISC_BY_APPLICATION, "")
        except TimeoutError:
            raise UpstreamError(f"{self.place} did not finish the key exchange") from None
        except (LegClosed, OSError) as problem:
            raise UpstreamError(self._said(problem)) from None

    def _ready(self) -> tuple[HostTrust, asyncssh.SSHClientConnectionOptions]:
        if self._trust is None:
            self._trust = HostTrust(self._site)
        if self._options is None:
            self._options = client_options()
        return self._trust, self._options

    async def _reach(self) -> socket.socket:
        """A connected socket."""
        where, loop = self._site.connection.spec.upstream, asyncio.get_running_loop()
        port = where.port or DEFAULT_PORTS["SSH"]
        problem: OSError | None = None
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                found = await loop.getaddrinfo(where.host or "", port, type=socket.SOCK_STREAM)
                for family, kind, protocol, _, address in found:
                    try:
                        return await _connected(family, kind, protocol, address)
                    except OSError as failed:
                        problem = problem or failed
        except TimeoutError:
            raise UpstreamError(f"no answer from {self.place} within {CONNECT_TIMEOUT:.0f} s") from None
        except OSError as failed:
            problem = failed
        text = "it has no address" if problem is None else _reason(problem)
        raise UpstreamError(f"cannot connect to {self.place}: {text}") from None

    def _said(self, problem: Exception) -> str:
        text = told(str(problem))
        return text if self.place in text else f"{self.place}: {text[:SHOWN]}"


def _reason(problem: OSError) -> str:
    if isinstance(problem, socket.gaierror) or not problem.errno:
        return problem.strerror or str(problem)
    return os.strerror(problem.errno)


async def _connected(family: int, kind: int, protocol: int, address: object) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        await asyncio.get_running_loop().sock_connect(sock, address)  # type: ignore[arg-type]
    except BaseException:
        sock.close()
        raise
    return sock


def _authorities(site: Site) -> list[asyncssh.SSHKey]:
    ref = site.connection.spec.upstream.host_ca_ref
    if ref is None:
        return []
    secret = site.secrets.get((site.namespace, ref.name))
    if secret is None or ref.key not in secret.data:
        raise UpstreamError(f"upstream.hostCARef: Secret {ref.name} with key {ref.key} does not exist")
    lines = [line.strip() for line in secret.text(ref.key).splitlines()]
    found = [line.removeprefix("@cert-authority * ") for line in lines if line and not line.startswith("#")]
    if not found:
        raise UpstreamError(f"upstream.hostCARef: {ref.name}/{ref.key} is empty")
    return [_public_key(line, f"upstream.hostCARef: {ref.name}/{ref.key}") for line in found]


def _public_key(line: str, field: str) -> asyncssh.SSHKey:
    try:
        return asyncssh.import_public_key(line)
    except (asyncssh.KeyImportError, ValueError) as problem:
        raise UpstreamError(f"{field} is no public key in OpenSSH's format: {problem}") from None


def _certificate(key_data: bytes) -> SSHOpenSSHCertificate | None:
    try:
        found = decode_ssh_certificate(key_data)
    except asyncssh.KeyImportError:
        return None
    if not isinstance(found, SSHOpenSSHCertificate):
        raise ValueError("the target shows an X.509 certificate, which nothing here believes")
    return found


def _decoded(key_data: bytes) -> asyncssh.SSHKey:
    try:
        return decode_ssh_public_key(key_data)
    except asyncssh.KeyImportError:
        raise ValueError("the target shows a host key of an unknown kind") from None


def _named(key: asyncssh.SSHKey) -> str:
    return f"{key.get_algorithm()} {key.get_fingerprint()}"
