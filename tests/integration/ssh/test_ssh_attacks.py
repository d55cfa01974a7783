"""An agent that attacks, with packets of its own: nothing runs without a decision, nothing else than was approved."""

from __future__ import annotations

import asyncio
import re
import struct
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from support.gateway import TOKEN
from support.packs import pack
from support.raw_ssh import CLOSE, OPEN, PACKET, WINDOW, RawAgent, number, raw_agent, text
from support.ssh_gateway import ALLOW_ALL, SshGateway, policy, rule, ssh_gateway
from support.sshd import Sshd

POLICY = policy(
    "attacked",
    rule("never", "ssh.command.contains('forbidden')", "Deny", message="Never."),
    rule("ask", "ssh.command.contains('asked')", "RequireApproval", approval={"groups": ["dba"], "wait": "20s"}),
    rule("exec", "ssh.kind == 'exec'"),
    rule("language", "ssh.kind == 'env' && ssh.name.startsWith('LC_')"),
)  # fmt: skip


@pytest.fixture(scope="module")
def gateway(target: Sshd) -> Iterator[SshGateway]:
    with ssh_gateway(target, POLICY) as made:
        made.known_hosts()
        yield made


@pytest.fixture
def place(gateway: SshGateway, request: pytest.FixtureRequest) -> Path:
    """A directory at the target."""
    made = Path(gateway.target.files) / str(request.node.name)
    made.mkdir(parents=True)
    return made


def play(gateway: SshGateway, attack: Callable[[RawAgent], Awaitable[None]]) -> RawAgent:
    """Runs an attack on a connection of its own, and keeps what was heard."""

    async def run() -> RawAgent:
        async with raw_agent(gateway.host, gateway.port, gateway.target.user, password=TOKEN) as agent:
            await attack(agent)
            return agent

    return asyncio.run(run())


def names(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def test_after_a_denial_a_channel_runs_nothing(gateway: SshGateway, place: Path) -> None:
    async def attack(agent: RawAgent) -> None:
        channel = await agent.open()
        agent.exec(channel, f"touch {place}/forbidden")
        agent.exec(channel, f"touch {place}/after")
        agent.request(channel, "shell")
        await agent.until("close")
        await agent.silence(0.3)

    heard = play(gateway, attack)
    assert (heard.status(), names(place)) == (126, [])
    assert b"Never. (rule default/attacked#never)" in heard.output("err")


def test_a_second_program_on_a_channel_is_refused(gateway: SshGateway, place: Path) -> None:
    async def attack(agent: RawAgent) -> None:
        channel = await agent.open()
        agent.exec(channel, f"sleep 0.3; touch {place}/first")
        for kind, more in (("exec", f"touch {place}/second"), ("shell", ""), ("subsystem", "sftp")):
            agent.request(channel, kind, *([text(more)] if more else []))
        await agent.until("close")

    heard = play(gateway, attack)
    assert [name for name, _, _ in heard.heard if name in ("done", "failed")] == ["done", *["failed"] * 3]
    assert names(place) == ["first"]


def test_a_command_that_wants_no_reply_is_decided_as_any_other(gateway: SshGateway, place: Path) -> None:
    async def attack(agent: RawAgent) -> None:
        agent.request(await agent.open(), "exec", text(f"touch {place}/forbidden"), reply=False)
        await agent.until("close")
        agent.request(await agent.open(), "exec", text(f"touch {place}/quiet"), reply=False)
        await agent.until("close")

    play(gateway, attack)
    assert names(place) == ["quiet"]
    texts = [event["text"] for event in gateway.records() if event["type"] == "request"]
    assert f"touch {place}/forbidden" in texts
    assert f"touch {place}/quiet" in texts


@pytest.mark.parametrize("what", ["data", "confirmation", "unknown channel", "window", "stderr", "message 83"])
def test_what_breaks_the_protocol_ends_the_session(gateway: SshGateway, place: Path, what: str) -> None:
    async def attack(agent: RawAgent) -> None:
        channel = await agent.open()
        if what == "data":
            agent.data(channel, f"touch {place}/typed\n".encode())
            agent.exec(channel, "sh")
        elif what == "confirmation":
            agent.send(91, number(channel), number(0), number(1), number(1))
        elif what == "unknown channel":
            agent.exec(77, f"touch {place}/unknown")
        elif what == "window":
            agent.send(93, number(channel), number(0xFFFFFFFF))
        elif what == "stderr":
            agent.send(95, number(channel), number(1), text("x"))
        else:
            agent.send(83)
        assert await agent.closed()

    play(gateway, attack)
    assert names(place) == []


def test_two_channels_of_one_number_stay_apart(gateway: SshGateway, place: Path) -> None:
    async def attack(agent: RawAgent) -> None:
        for _ in range(2):
            agent.send(OPEN, text("session"), number(5), number(WINDOW), number(PACKET))
        ours = [struct.unpack_from(">I", (await agent.until("opened"))[2])[0] for _ in range(2)]
        assert len(set(ours)) == 2
        agent.exec(ours[0], f"touch {place}/forbidden")
        agent.exec(ours[1], f"touch {place}/fine")
        await agent.until("request")
        await agent.silence(0.5)

    play(gateway, attack)
    assert names(place) == ["fine"]


def test_nothing_of_the_environment_gets_through_that_no_rule_allows(gateway: SshGateway) -> None:
    async def attack(agent: RawAgent) -> None:
        channel = await agent.open()
        for name in (b"LD_PRELOAD", b"BASH_ENV", b"LC_A", b"LC_B=C", b"LC_\xff", b"LC_D\n", b"PATH"):
            agent.request(channel, "env", text(name), text("smuggled"))
        agent.exec(channel, "env | grep -a smuggled")
        await agent.until("close")

    assert play(gateway, attack).output() == b"LC_A=smuggled\n"


def test_no_channel_of_another_kind_opens_and_no_port_is_listened_on(gateway: SshGateway) -> None:
    async def attack(agent: RawAgent) -> None:
        there = text("127.0.0.1") + number(gateway.target.port) + text("") + number(0)
        for kind, more in (
            ("direct-tcpip", there), ("direct-streamlocal@openssh.com", text("/run/x") + text("") + number(0)),
            ("x11", b""), ("auth-agent@openssh.com", b""), ("forwarded-tcpip", there), ("tun@openssh.com", b""),
        ):  # fmt: skip
            agent.begin(kind, more)
            assert (await agent.until("opened", "refused"))[0] == "refused"
        for kind, more in (
            ("tcpip-forward", text("") + number(0)), ("streamlocal-forward@openssh.com", text("/tmp/x")),
            ("cancel-tcpip-forward", text("") + number(22)), ("whatever@example.com", b""),
        ):  # fmt: skip
            agent.global_request(kind, more)
            assert (await agent.until("ok", "no"))[0] == "no"

    play(gateway, attack)


def approve(gateway: SshGateway) -> None:
    found: list[str] = []
    for _ in range(100):
        if found := re.findall(r"apr-[a-z0-9]+", gateway.run("approvals", "--json")):
            break
        time.sleep(0.1)
    gateway.run("approve", found[0])


def test_what_is_approved_runs_and_nothing_that_was_sent_behind_it(gateway: SshGateway, place: Path) -> None:
    async def attack(agent: RawAgent) -> None:
        channel = await agent.open()
        agent.exec(channel, f"touch {place}/asked; env | grep -a LC_EVIL > {place}/evil")
        agent.request(channel, "env", text("LC_EVIL"), text("1"))
        agent.request(channel, "pty-req", text("xterm"), *[number(80)] * 4, text(""))
        agent.exec(channel, f"touch {place}/another")
        await agent.until("err")
        assert names(place) == []
        await asyncio.to_thread(approve, gateway)
        await agent.until("close", patience=20)

    play(gateway, attack)
    assert names(place) == ["asked", "evil"]
    assert (place / "evil").read_text() == ""


def test_a_grant_is_for_the_letter_and_for_once(gateway: SshGateway, place: Path) -> None:
    command = f"touch {place}/asked"

    async def wait_and_leave(agent: RawAgent) -> None:
        channel = await agent.open()
        agent.exec(channel, command)
        await agent.until("err")
        agent.send(CLOSE, number(channel))
        await agent.until("close")
        await asyncio.to_thread(approve, gateway)

    async def others(agent: RawAgent) -> None:
        with_variable = await agent.open()
        agent.request(with_variable, "env", text("LC_A"), text("1"))
        agent.exec(with_variable, command)
        await agent.until("err")
        agent.exec(await agent.open(), command.replace(" ", "  "))
        await agent.until("err")

    async def same(agent: RawAgent) -> None:
        agent.exec(await agent.open(), command)
        await agent.until("err")
        await agent.silence(1)

    play(gateway, wait_and_leave)
    play(gateway, others)
    assert names(place) == []
    play(gateway, same)
    assert names(place) == ["asked"]
    (place / "asked").unlink()
    play(gateway, same)
    assert names(place) == []


def test_floods_are_bounded_and_others_are_served(gateway: SshGateway) -> None:
    async def attack(agent: RawAgent) -> None:
        for count in range(5_000):
            agent.begin()
            agent.global_request(f"x@{count}")
        await agent.silence(2)

    heard = play(gateway, attack)
    assert sum(name == "opened" for name, _, _ in heard.heard) <= 64

    async def ask(agent: RawAgent) -> None:
        agent.exec(await agent.open(), "echo served")
        await agent.until("close")

    assert play(gateway, ask).output() == b"served\n"


HOSTILE = {
    "substitutions": "$(" * 8_000, "quotes": '"$(' * 5_000, "programs": "ls;" * 8_000, "wrappers": "sudo " * 4_000,
    "words": "rm " + "/etc/x " * 2_500, "texts": "sh -c " * 4_000, "braces": "rm " + "{a,b}" * 30,
    "expansions": "echo {1..999999999}", "brackets": "(" * 16_000, "lines": "\n" * 20_000 + "rm -rf /",
}  # fmt: skip


def test_hostile_command_lines_keep_nobody_waiting(target: Sshd) -> None:
    packs = [pack("ssh-no-destructive-commands"), pack("ssh-no-shell"), pack("ssh-approve-restarts")]
    for each in packs:
        del each["spec"]["match"]["connectionSelector"], each["spec"]["tests"]
    with ssh_gateway(target, *packs, ALLOW_ALL) as gateway:
        gateway.known_hosts()

        async def attack(agent: RawAgent) -> None:
            agent.exec(await agent.open(), "ls")
            await agent.until("close")
            for name, line in HOSTILE.items():
                begun = time.monotonic()
                agent.exec(await agent.open(), line)
                await agent.until("close", patience=30)
                assert time.monotonic() - begun < 10, name
                assert agent.status() in (0, 126), name

        heard = play(gateway, attack)
        assert b"Nothing is changed or removed at /etc/x." in heard.output("err")
