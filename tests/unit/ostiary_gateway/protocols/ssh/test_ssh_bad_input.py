"""What strangers and broken programs send: each is refused with a reason, soon, and holds next to no memory."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncssh
import pytest
from support.ssh_legs import PASSWORD, PATIENCE, Believer, Door, connected, data, legs, listener

from ostiary_gateway.credentials.ssh import TargetLogin
from ostiary_gateway.protocols.ssh import transport, transport_leg
from ostiary_gateway.protocols.ssh.transport import ClientLeg, LegClosed, TargetLeg
from ostiary_gateway.protocols.ssh.transport_offers import client_options, server_options
from ostiary_gateway.protocols.ssh.transport_seal import Sealer

VERSION = b"SSH-2.0-stranger\r\n"
KEXINIT = (
    b"\x14" + bytes(16) + b"".join(
        len(names).to_bytes(4) + names
        for names in (
            b"curve25519-sha256,kex-strict-c-v00@openssh.com", b"ssh-ed25519", b"aes128-gcm@openssh.com",
            b"aes128-gcm@openssh.com", b"hmac-sha2-256", b"hmac-sha2-256", b"none", b"none", b"", b"",
        )
    ) + bytes(5)
)  # fmt: skip


def clear(payload: bytes) -> bytes:
    """A packet before there are keys."""
    padding = 8 - (len(payload) + 5) % 8
    padding += 8 if padding < 4 else 0
    return (len(payload) + 1 + padding).to_bytes(4) + bytes((padding,)) + payload + bytes(padding)


@asynccontextmanager
async def stranger() -> AsyncIterator[tuple[socket.socket, asyncio.Task[ClientLeg]]]:
    """A raw socket, and the login that goes on at its other end."""
    loop = asyncio.get_running_loop()
    with listener() as sock:
        away = await connected(sock.getsockname())
        here, _ = await loop.sock_accept(sock)
    options = server_options([asyncssh.generate_private_key("ssh-ed25519")])
    login = asyncio.create_task(ClientLeg.accept(here, Door(), options))
    try:
        yield away, login
    finally:
        login.cancel()
        away.close()
        await asyncio.gather(login, return_exceptions=True)


async def refusal(*sent: bytes, pieces: int = 1) -> str:
    """What ends the login of a stranger who sends this."""
    async with stranger() as (sock, login):
        loop = asyncio.get_running_loop()
        for piece in sent * pieces:
            try:
                await loop.sock_sendall(sock, piece)
            except OSError:
                break
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(LegClosed) as closed:
                await login
        return str(closed.value)


async def test_a_version_line_that_never_ends_is_not_waited_for() -> None:
    assert await refusal(b"S" * 4096, pieces=100) == "Banner line too long"


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1\r\n", b"\n", b"SSH-1.5-old\r\n", b"\x16\x03\x01\x02\x00\n"])
async def test_another_protocol_is_refused_at_its_first_line(line: bytes) -> None:
    assert await refusal(line) == "Unsupported SSH version"


async def test_a_version_line_that_is_too_long_or_no_text_is_refused() -> None:
    assert await refusal(b"SSH-2.0-" + b"x" * 300 + b"\n") == "Version too long"
    assert await refusal(b"SSH-2.0-\xff\xfe\n") != ""


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (b"\x7f\xff\xff\xff" + bytes(60), "Max packet size exceeded"),
        (bytes(64), "Incomplete packet"),
        (clear(b"\x15"), "New keys not negotiated"),
        (clear(b"\x5a\x00\x00\x00\x07session" + bytes(12)), "Invalid request before key exchange was complete"),
        (clear(b"\x32" + bytes(40)), "Invalid request before key exchange was complete"),
        (clear(b"\x05\x00\x00\x00\x0cssh-userauth"), "Service request received before kex complete"),
        (clear(b"\x1e" + bytes(40)), "Key exchange not in progress"),
        (clear(KEXINIT[:40]), "Incomplete packet"),
        (clear(KEXINIT) + clear(KEXINIT), "Key exchange already in progress"),
        (clear(KEXINIT) + clear(b"\x02\x00\x00\x00\x00"), "Strict key exchange violation: unexpected packet type 2"),
        (clear(b"\x02\x00\x00\x00\x00") + clear(KEXINIT), "KEXINIT was not the first packet"),
        (clear(KEXINIT) + clear(b"\x1e\x00\x00\x00\x20" + bytes(32)), ""),
    ],
    ids=[
        "too-large", "empty", "newkeys-early", "channel-early", "login-early", "service-early", "kex-early",
        "cut", "twice", "ignored-in-between", "ignored-before", "bad-point",
    ],
)  # fmt: skip
async def test_packets_out_of_order_end_it(packet: bytes, reason: str) -> None:
    found = await refusal(VERSION, packet)
    assert reason in found
    assert found != ""


async def test_a_client_that_waits_for_the_gateway_s_word_is_not_kept_waiting_for_ever() -> None:
    async with stranger() as (sock, _):
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(sock, VERSION)
        heard = b""
        async with asyncio.timeout(2):
            while b"chacha20-poly1305@openssh.com" not in heard:
                heard += await loop.sock_recv(sock, 65_536)
        assert heard.startswith(b"SSH-2.0-")
        assert b"aes128-gcm@openssh.com" in heard


async def test_an_endless_row_of_packets_before_the_login_is_cut_short() -> None:
    assert await refusal(VERSION, *([clear(b"\x02\x00\x00\x00\x00")] * 2000)) == "Too many packets before the login"


async def test_bytes_that_wait_for_an_answer_are_not_read_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a token is looked at, which may take seconds, its owner can send no more than so much."""

    class Slow(Door):
        async def validate_password(self, username: str, password: str) -> bool:  # type: ignore[override]
            await asyncio.sleep(PATIENCE)
            return False

        async def begin_auth(self, username: str) -> bool:  # type: ignore[override]
            await asyncio.sleep(PATIENCE)
            return True

    found: list[ClientLeg] = []
    begin = ClientLeg.begin

    def noted(self: ClientLeg, loop: asyncio.AbstractEventLoop) -> None:
        found.append(self)
        begin(self, loop)

    monkeypatch.setattr(ClientLeg, "begin", noted)
    async with login_of(Slow()) as target:
        for _ in range(200):
            await asyncio.sleep(0)
        for _ in range(400):
            if target._transport is not None and target._sealer is not None:
                target._send(target._sealer.seal(b"\x02\x00\x00\x40\x00" + bytes(16_384)))
            await asyncio.sleep(0)
        await asyncio.sleep(0.2)
        assert len(found[0]._inpbuf) < transport_leg.MAX_BACKLOG + 2**20
        assert found[0]._stopped


async def test_channels_before_the_login_end_it() -> None:
    async with login_of(_Patient()) as target:
        await _keyed(target)
        target._send(target._sealer.seal(b"\x5a\x00\x00\x00\x07session" + bytes(12)))
        with pytest.raises(LegClosed, match="before authentication was complete"):
            await target.entered


@pytest.mark.parametrize(
    ("packet", "reason"),
    [
        (lambda sealer: b"\x00\x00\x00\x20" + os.urandom(48), "MAC verification failed"),
        (lambda sealer: b"\x00\x00\x00\x21" + bytes(49), "Bad packet length"),
        (lambda sealer: b"\x00\x00\x00\x00" + bytes(16), "Bad packet length"),
        (lambda sealer: b"\x7f\xff\xff\xf0" + bytes(100), "Bad packet length"),
        (lambda sealer: _sealed(sealer, b"\x00" + b"\x5d" + bytes(14)), "Bad padding"),
        (lambda sealer: _sealed(sealer, b"\x0f" + bytes(15)), "Bad padding"),
        (lambda sealer: _sealed(sealer, b"\xff" + b"\x5d" + bytes(14)), "Bad padding"),
        (lambda sealer: sealer.seal(b"\x32" + bytes(20)), ""),
        (lambda sealer: sealer.seal(b"\x15"), "New keys not negotiated"),
        (lambda sealer: sealer.seal(b"\x14" + bytes(20)), "Incomplete packet"),
        (lambda sealer: sealer.seal(b"\x07" + bytes(4)), "Unexpected ext_info received"),
        (lambda sealer: sealer.seal(b"\x3c" + bytes(4)), "Authentication not in progress"),
    ],
    ids=[
        "forged", "odd-length", "no-length", "huge", "no-padding", "only-padding", "more-padding", "login-again",
        "newkeys", "kexinit-cut", "ext-info", "login-answer",
    ],
)  # fmt: skip
async def test_bad_packets_after_the_login_end_the_connection(packet: object, reason: str) -> None:
    async with legs() as talk:
        talk.target.send(data(1, b"good"))
        assert callable(packet)
        talk.target._send(packet(talk.target._sealer))
        problem = await talk.at_client.gone()
        assert reason in problem
        assert problem != ""
        assert talk.at_client.packets == [data(1, b"good")]


async def test_a_hundred_thousand_tiny_packets_leave_no_memory_behind() -> None:
    async with legs() as talk:
        ear = talk.at_client
        ear.kept = 0
        await _tiny(talk.target, 2000)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        await _tiny(talk.target, 100_000)
        await ear.until(lambda: ear.count >= 102_000)
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000
        assert ear.lost_by is None


async def _tiny(leg: TargetLeg, count: int) -> None:
    for number in range(count):
        leg.send(b"\x5d" + number.to_bytes(8))
        if number % 500 == 499:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (b"220 smtp\r\n" * 1100, "Too many banner lines"),
        (b"x" * 10_000, "Banner line too long"),
        (b"SSH-1.5-old\r\n", "Unsupported SSH version"),
        (b"", "Connection lost"),
        (b"SSH-2.0-host\r\n" + b"\x7f\xff\xff\xff" + bytes(60), "Max packet size exceeded"),
        (b"SSH-2.0-host\r\n" + clear(b"\x34"), ""),
        (b"SSH-2.0-host\r\n" + clear(b"\x06\x00\x00\x00\x0cssh-userauth"), "before kex"),
    ],
    ids=["lines", "line", "old", "nothing", "huge", "success", "accept"],
)
async def test_a_target_that_talks_nonsense_is_left_with_a_reason(says: bytes, reason: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(says)
        await reader.readline()
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        sock = await connected(server.sockets[0].getsockname())
        login = TargetLogin("deploy", password=PASSWORD)
        async with asyncio.timeout(PATIENCE):
            with pytest.raises(LegClosed) as closed:
                await TargetLeg.connect(sock, login, Believer(), client_options())
        assert reason in str(closed.value)


# -- a client that logs in, and can be stopped in the middle


class _Patient(Door):
    """Lets nobody in, and takes its time."""

    async def begin_auth(self, username: str) -> bool:  # type: ignore[override]
        return True

    async def validate_password(self, username: str, password: str) -> bool:  # type: ignore[override]
        await asyncio.sleep(PATIENCE)
        return False


@asynccontextmanager
async def login_of(door: asyncssh.SSHServer) -> AsyncIterator[TargetLeg]:
    """A login that goes on as long as the door takes."""
    loop = asyncio.get_running_loop()
    with listener() as sock:
        away = await connected(sock.getsockname())
        here, _ = await loop.sock_accept(sock)
    serving = server_options([asyncssh.generate_private_key("ssh-ed25519")])
    tasks = [asyncio.create_task(ClientLeg.accept(here, door, serving))]
    leg = TargetLeg(loop, client_options())
    leg.begin(loop)
    leg._trust = Believer()
    leg._server_host_key_algs = [b"ssh-ed25519"]
    leg._protocol_factory = lambda: transport._Target(leg)
    leg._username, leg._password = "deploy", PASSWORD
    leg._preferred_auth = [b"password"]
    await loop.create_connection(lambda: leg, sock=away)
    try:
        yield leg
    finally:
        leg.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)


async def _keyed(leg: TargetLeg) -> None:
    async with asyncio.timeout(PATIENCE):
        while not leg._auth_in_progress:
            await asyncio.sleep(0.005)


def _sealed(sealer: Sealer, plain: bytes) -> bytes:
    head = len(plain).to_bytes(4)
    return b"".join(sealer.encrypt_packet(0, head, plain))


