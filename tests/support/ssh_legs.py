"""Both ends of an SSH connection in one process, as the gateway's own legs, for tests of what lies below the core."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import asyncssh
from asyncssh.public_key import decode_ssh_public_key

from ostiary_gateway.credentials.ssh import TargetLogin
from ostiary_gateway.protocols.ssh.transport import ClientLeg, Leg, TargetLeg
from ostiary_gateway.protocols.ssh.transport_offers import client_options, server_options

PASSWORD = "opensesame"
PATIENCE = 10.0


class Door(asyncssh.SSHServer):
    """Lets in who knows the password."""

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return password == PASSWORD


@dataclass
class Believer:
    """Believes one host key; all keys if it is None."""

    key: asyncssh.SSHKey | None = None
    algorithms: Sequence[bytes] = (b"ssh-ed25519",)

    def check(self, key_data: bytes) -> asyncssh.SSHKey:
        found = decode_ssh_public_key(key_data)
        if self.key is not None and found != self.key:
            raise ValueError("that is not the host's key")
        return found

    def refuse_types(self, offered: Sequence[bytes]) -> str:
        return ""


@dataclass(eq=False)
class Ear:
    """A receiver that keeps what it hears."""

    packets: list[bytes] = field(default_factory=list)
    batches: int = 0
    paused: bool = False
    lost_by: str | None = None
    kept: int = 10_000
    count: int = 0
    size: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def packet(self, payload: bytes) -> None:
        self.count += 1
        self.size += len(payload)
        if len(self.packets) < self.kept:
            self.packets.append(payload)

    def batch_done(self) -> None:
        self.batches += 1
        self.changed.set()

    def pause(self) -> None:
        self.paused = True
        self.changed.set()

    def resume(self) -> None:
        self.paused = False
        self.changed.set()

    def lost(self, problem: str) -> None:
        self.lost_by = problem
        self.changed.set()

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not true():
                self.changed.clear()
                await self.changed.wait()

    async def heard(self, count: int) -> list[bytes]:
        await self.until(lambda: self.count >= count)
        return self.packets

    async def gone(self) -> str:
        await self.until(lambda: self.lost_by is not None)
        return self.lost_by or ""


class DataEar(Ear):
    """One that takes channel data by its own door."""

    def __init__(self) -> None:
        super().__init__()
        self.data_of: list[tuple[int, bytes]] = []

    def data(self, channel: int, data: memoryview) -> None:
        self.count += 1
        self.data_of.append((channel, bytes(data)))


@dataclass
class Legs:
    """`client` is the gateway's leg towards an agent, `target` one towards a host; here they are each other's peers."""

    client: ClientLeg
    target: TargetLeg
    at_client: Ear
    at_target: Ear


def listener() -> socket.socket:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(256)
    sock.setblocking(False)
    return sock


async def connected(place: tuple[str, int]) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, place)
    return sock


@asynccontextmanager
async def legs(
    *,
    cipher: str = "",
    ciphers: Sequence[str] = (),
    mac: str = "",
    rekey: int = 0,
    ear: Callable[[], Ear] = Ear,
    attended: bool = True,
) -> AsyncIterator[Legs]:
    """Both logged in, with an ear each if they are to be `attended`."""
    key = asyncssh.generate_private_key("ssh-ed25519")
    serving, asking = server_options([key]), client_options()
    if cipher:
        asking.encryption_algs = [cipher.encode()]
    if ciphers:
        asking.encryption_algs = [name.encode() for name in ciphers]
    if mac:
        asking.mac_algs = [mac.encode()]
    if rekey:
        serving.rekey_bytes = asking.rekey_bytes = rekey
    loop = asyncio.get_running_loop()
    with listener() as sock:
        away = await connected(sock.getsockname())
        here, _ = await loop.sock_accept(sock)
    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
        client = tasks.create_task(ClientLeg.accept(here, Door(), serving))
        login = TargetLogin("deploy", password=PASSWORD)
        target = tasks.create_task(TargetLeg.connect(away, login, Believer(key.convert_to_public()), asking))
    found = Legs(client.result(), target.result(), ear(), ear())
    if attended:
        found.client.receiver, found.target.receiver = found.at_client, found.at_target
    try:
        yield found
    finally:
        for leg in (found.client, found.target):
            leg.abort()
        await asyncio.sleep(0)


def data(channel: int, content: bytes) -> bytes:
    """CHANNEL_DATA."""
    return b"\x5e" + channel.to_bytes(4) + len(content).to_bytes(4) + content


async def flood(leg: Leg, ear: Ear, content: bytes, count: int) -> None:
    """So much channel data, as fast as the other end takes it. `ear` is this leg's."""
    for number in range(count):
        leg.send_data(number % 7, content)
        if number % 4 == 3:
            await asyncio.sleep(0)
        await ear.until(lambda: not ear.paused)
