"""Two legs, the core between them and a desk that may take its time: what is waited for, and how it all ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import cast

from support.ssh_talks import Line, no, yes

from ostiary_gateway.protocols.ssh import wire
from ostiary_gateway.protocols.ssh.desk import Desk
from ostiary_gateway.protocols.ssh.questions import Admission, Question
from ostiary_gateway.protocols.ssh.relay import Relay
from ostiary_gateway.protocols.ssh.transport import Leg
from ostiary_policy.answer import Reason


class FakeLeg(Line):
    """Hears what a leg would have sent."""

    heard_at = 1.0
    peer_version = "SSH-2.0-Fake"
    received = 0

    def __init__(self) -> None:
        super().__init__()
        self.goodbye = ""
        self.reading = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def disconnect(self, code: int, message: str) -> None:
        self.goodbye = self.goodbye or f"{code} {message}"


Policy = Callable[[Question], Admission | Awaitable[Admission]]


class FakeDesk:
    def __init__(self, policy: Policy) -> None:
        self.decide = policy
        self.ends = ""
        spec = SimpleNamespace(
            recording="Metadata",
            keeps_files=False,
            limits=SimpleNamespace(max_recorded_bytes=1 << 20, max_request_bytes=100),
        )
        self.gate = SimpleNamespace(connection=SimpleNamespace(spec=spec), name="ns/box", id="s")

    def refuse(self, _question: Question, code: str, _reason: Reason, message: str, _hint: str) -> Admission:
        return no(f"{code}: {message}")

    def still(self, question: Question, admission: Admission) -> str:
        return self.ends


class World:
    """A relay that runs, with both legs in hand."""

    def __init__(self, policy: Policy = lambda _question: yes()) -> None:
        self.client, self.target = FakeLeg(), FakeLeg()
        self.desk = FakeDesk(policy)
        self.relay = Relay(cast(Desk, self.desk), cast(Leg, self.client))
        self.running = asyncio.create_task(self.relay.run())

    def attach(self) -> None:
        self.relay.attach(cast(Leg, self.target))

    async def c(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.relay.client_side.packet(payload)
        self.relay.client_side.batch_done()
        await turns()

    async def t(self, *payloads: bytes) -> None:
        for payload in payloads:
            self.relay.target_side.packet(payload)
        self.relay.target_side.batch_done()
        await turns()

    async def exec(self, command: bytes = b"true") -> None:
        await self.c(wire.open_channel(b"session", 7, 10_000, 32_768))
        await self.t(wire.confirmation(0, 3, 0, 32_768))
        await self.c(wire.request(0, b"exec", True, wire.string(command)))

    async def reason(self) -> str:
        return await asyncio.wait_for(self.running, 5)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_comes_before_the_target_is_there_waits_for_it() -> None:
    world = World()
    await world.c(wire.open_channel(b"session", 7, 10_000, 32_768))
    assert world.client.heard() == []
    world.attach()
    assert world.target.heard() == ["OPEN session 0 window 10000 limit 32768"]
    world.relay.client_side.lost("")
    assert await world.reason() == "the client left"


async def test_a_target_that_cannot_be_reached_is_told_as_a_goodbye() -> None:
    world = World()
    await world.c(wire.open_channel(b"session", 7, 10_000, 32_768))
    world.relay.target_away("The host cannot be reached now. [s]")
    assert await world.reason() == "The host cannot be reached now. [s]"
    assert world.client.goodbye == "11 The host cannot be reached now. [s]"


async def test_a_decision_may_take_its_time_and_tell_of_it() -> None:
    decided: asyncio.Future[Admission] = asyncio.get_running_loop().create_future()

    def policy(question: Question) -> Awaitable[Admission]:
        assert question.tell is not None
        question.tell("ostiary: Waiting for apr-1.")
        return decided

    world = World(policy)
    world.attach()
    await world.exec()
    assert world.client.heard()[-1] == "ERR 7 ostiary: Waiting for apr-1.\\n"
    assert world.relay.busy
    assert not world.relay.idle
    assert len(world.target.heard()) == 1
    decided.set_result(yes())
    await turns()
    assert world.target.heard() == ["REQUEST 3 exec ? true"]
    world.relay.client_side.lost("it broke")
    assert await world.reason() == "the client was lost: it broke"
    assert world.target.goodbye


async def test_who_leaves_while_it_is_decided_ends_the_waiting() -> None:
    ended: list[str] = []

    async def decide() -> Admission:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")
        raise AssertionError

    world = World(lambda _question: decide())
    world.attach()
    await world.exec()
    await world.c(wire.close(0))
    assert ended == ["cancelled"]
    to = wire.string(b"a") + wire.u32(1) + wire.string(b"") + wire.u32(0)
    await world.c(wire.open_channel(b"direct-tcpip", 8, 1000, 1000, to))
    world.relay.client_side.lost("")
    assert await world.reason() == "the client left"
    assert ended == ["cancelled"] * 2


async def test_a_session_that_is_cancelled_ends_its_requests_and_both_legs() -> None:
    said = yes()
    world = World(lambda _question: said)
    world.attach()
    await world.exec()
    world.running.cancel()
    await asyncio.wait([world.running])
    assert said.ended == "lost"
    assert world.client.goodbye
    assert world.target.goodbye


async def test_a_target_that_goes_is_told_to_what_runs_and_then_to_the_client() -> None:
    said = yes()
    world = World(lambda _question: said)
    world.attach()
    await world.exec()
    world.client.heard()
    world.relay.target_side.lost("Connection lost")
    assert await world.reason() == "The target has closed the connection: Connection lost"
    assert world.client.heard() == ["ERR 7 ostiary: The target has closed the connection.\\n"]
    assert world.client.goodbye == "10 The target has closed the connection."
    assert said.ended == "lost"


async def test_who_breaks_the_protocol_hears_how() -> None:
    world = World()
    world.attach()
    await world.c(wire.eof(5))
    assert await world.reason() == ("The client broke the protocol: a packet came for a channel that is not open.")
    assert world.client.goodbye.startswith("2 The client broke the protocol")


async def test_leaving_waits_for_what_runs_and_stopping_does_not() -> None:
    world = World()
    world.attach()
    await world.exec()
    world.relay.leave("The gateway is updated.")
    await world.t(wire.exit_status(0, 0), wire.close(0))
    assert not world.running.done()
    await world.c(wire.close(0))
    assert await world.reason() == "The gateway is updated."
    world = World()
    world.attach()
    await world.exec()
    world.client.heard()
    world.relay.stop("Enough.")
    assert await world.reason() == "Enough."
    assert world.client.heard() == ["ERR 7 ostiary: Enough.\\n"]
    assert world.client.goodbye == "11 Enough."


async def test_one_request_is_ended_and_the_session_goes_on() -> None:
    said = yes()
    world = World(lambda _question: said)
    world.attach()
    await world.exec()
    assert world.relay.end_request(1, "Ended by ann.")
    assert not world.relay.end_request(1, "Ended by ann.")
    assert said.detail["ended"] == "Ended by ann."
    assert not world.running.done()
    await world.c(wire.close(0))
    await asyncio.sleep(0)
    world.running.cancel()
    await asyncio.wait([world.running])


async def test_other_policies_end_what_they_would_not_let_through() -> None:
    world = World()
    world.attach()
    await world.exec()
    world.relay.recheck()
    assert "CLOSE 7" not in world.client.heard()
    world.desk.ends = "Not any more."
    world.relay.recheck()
    assert "CLOSE 7" in world.client.heard()
    world.running.cancel()
    await asyncio.wait([world.running])


async def test_a_side_that_does_not_read_stops_the_other() -> None:
    world = World()
    world.relay.client_side.pause()
    world.attach()
    assert not world.target.reading
    world.relay.client_side.resume()
    assert world.target.reading
    world.relay.target_side.pause()
    assert not world.client.reading
    world.relay.target_side.resume()
    assert world.client.reading
    world.running.cancel()
    await asyncio.wait([world.running])


async def test_what_is_denied_is_told_without_waiting() -> None:
    world = World(lambda _question: no())
    world.attach()
    await world.exec()
    assert world.client.heard()[-3:] == ["REQUEST 7 exit-status 126", "EOF 7", "CLOSE 7"]
    world.running.cancel()
    await asyncio.wait([world.running])


async def test_a_command_that_is_too_long_is_refused_unseen() -> None:
    world = World()
    world.attach()
    await world.exec(b"x" * 101)
    assert any(b"size: It is 101 bytes long; limits.maxRequestBytes" in each for each in world.client.payloads)
    assert "CLOSE 3" in world.target.heard()
    world.running.cancel()
    await asyncio.wait([world.running])
