"""A database that dies or lies in the middle of an answer: the client hears of it, other sessions do not."""

from __future__ import annotations

import os
import signal
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from support import servers
from support.canary import Canary
from support.gateway import Gateway, StartGateway
from support.presence import missing
from support.scripted import MARKER, Listener, Saboteur, Script, reset, say
from support.servers import Server, Unavailable
from support.wire import SYNC, Closed, Message, Refused, bind, describe, execute, frame, parse, query

ROW_DESCRIPTION = frame("T", struct.pack("!h", 1) + b"a\0" + struct.pack("!ihihih", 0, 0, 25, -1, -1, 0))
ROW = frame("D", struct.pack("!hi", 1, 5) + b"whole")
HALF_ROW = b"D" + struct.pack("!ihi", 1010, 1, 1000) + b"half a row"
READY = frame("Z", b"I")


@pytest.fixture(scope="module")
def behind(pg18: Server) -> Iterator[Saboteur]:
    """A real PostgreSQL, until the marker is heard."""
    with Saboteur(pg18.host, pg18.port) as saboteur:
        yield saboteur


@pytest.fixture(scope="module")
def gateway(behind: Saboteur, pg18: Server, start_gateway: StartGateway) -> Gateway:
    return start_gateway(replace(pg18, port=behind.port, process=None))


@pytest.fixture
def canary(gateway: Gateway) -> Iterator[Canary]:
    with Canary(gateway.login) as canary:
        yield canary
        canary.check()
    assert gateway.alive


def heard_by_the_client(gateway: Gateway, data: bytes) -> list[Message]:
    """Everything until the gateway hangs up; a hang is a TimeoutError."""
    wire = gateway.login()
    wire.send(data)
    messages: list[Message] = []
    try:
        while True:
            messages.append(wire.receive())
    except Closed:
        return messages
    finally:
        wire.close()


SABOTAGE: dict[str, Script] = {
    "at once": reset,
    "politely": say(then=lambda connection: connection.close()),
    "after RowDescription": say(ROW_DESCRIPTION),
    "in the middle of a row": say(ROW_DESCRIPTION, ROW, HALF_ROW),
    "in the middle of a header": say(ROW_DESCRIPTION, ROW, b"D\0\0"),
    "after a row": say(ROW_DESCRIPTION, ROW),
    "before ReadyForQuery": say(ROW_DESCRIPTION, ROW, frame("C", b"SELECT 1\0")),
    "in the middle of an error": say(frame("E", b"SERROR\0VERROR\0C22012\0Mdivision\0\0")[:-6]),
    "with a length below four": say(ROW_DESCRIPTION, b"D" + struct.pack("!i", 3) + b"xxxx", after=2),
    "with a negative length": say(ROW_DESCRIPTION, b"D" + struct.pack("!i", -2) + b"xxxx", after=2),
    "with an unknown message": say(ROW_DESCRIPTION, frame("\x01", b"what"), after=2),
    "with zeros": say(bytes(1000), after=2),
    "with more cells than there are": say(ROW_DESCRIPTION, frame("D", struct.pack("!hi", 9, 1) + b"x"), READY, after=2),
    "with a cell beyond its row": say(ROW_DESCRIPTION, frame("D", struct.pack("!hi", 1, 99) + b"x"), READY, after=2),
    "with a lying RowDescription": say(frame("T", struct.pack("!h", 700) + b"a\0"), READY, after=2),
    "with an error without end": say(frame("E", b"SERROR"), READY, after=2),
    "in the middle of COPY": say(frame("H", b"\0\0\1\0\0"), frame("d", b"1\n"), b"d\0\0\1\0half"),
}


@pytest.mark.parametrize("protocol", ["simple", "extended"])
@pytest.mark.parametrize("how", SABOTAGE)
def test_a_database_that_breaks_off(
    gateway: Gateway, behind: Saboteur, canary: Canary, how: str, protocol: str
) -> None:
    """Whole frames only, then an error that says what happened, then the end."""
    behind.script = SABOTAGE[how]
    sql = f"select '{MARKER}'"
    data = query(sql) if protocol == "simple" else parse(sql) + bind() + describe("P") + execute() + SYNC
    messages = heard_by_the_client(gateway, data)
    assert messages, f"{how}: closed without a word"
    last = messages[-1]
    assert last.type == "E", f"{how}: the last message is {last}"
    assert last.fields["S"] == "FATAL"
    assert last.fields["C"][:2] in ("08", "57"), last.fields
    assert "Traceback" not in gateway.log_text()


def test_an_answer_that_nobody_asked_for_is_not_passed_on(gateway: Gateway, behind: Saboteur, canary: Canary) -> None:
    """Rows and ReadyForQuery beyond the question would put client and gateway out of step."""
    behind.script = say(
        ROW_DESCRIPTION, ROW, frame("C", b"SELECT 1\0"), READY, ROW_DESCRIPTION, ROW, READY, READY, after=1
    )
    messages = heard_by_the_client(gateway, query(f"select '{MARKER}'"))
    assert [m.type for m in messages].count("Z") <= 1
    assert messages[-1].type == "E"


def test_a_huge_row_that_breaks_off_does_not_hang(gateway: Gateway, behind: Saboteur, canary: Canary) -> None:
    half = b"D" + struct.pack("!ihi", 400_000_010, 1, 400_000_000)
    behind.script = say(ROW_DESCRIPTION, half + b"x" * 5_000_000)
    begun = time.monotonic()
    heard_by_the_client(gateway, query(f"select '{MARKER}'"))
    assert time.monotonic() - begun < 15


def test_a_row_of_a_gigabyte_that_never_comes_costs_nothing(gateway: Gateway, behind: Saboteur, canary: Canary) -> None:
    before = gateway.resident()
    behind.script = say(ROW_DESCRIPTION, b"D" + struct.pack("!ihi", 1_000_000_010, 1, 1_000_000_000) + b"x", after=2)
    heard_by_the_client(gateway, query(f"select '{MARKER}'"))
    assert gateway.resident() - before < 32 << 20


def test_a_backend_that_is_terminated(gateway: Gateway, pg18: Server, canary: Canary) -> None:
    wire = gateway.login()
    pid = wire.rows("select pg_backend_pid()")[0][0]
    pg18.sql(f"select pg_terminate_backend({pid})")
    messages: list[Message] = []
    try:
        while True:
            messages.append(wire.receive())
    except Closed:
        pass
    assert [m.fields["C"] for m in messages if m.type == "E"][:1] == ["57P01"]
    wire.close()


def test_a_backend_that_is_killed_in_the_middle_of_a_row(start_gateway: StartGateway, pg18: Server) -> None:
    """kill -9 takes every session of that server with it; those of another server of the gateway go on."""
    try:
        victim = servers.embedded("victim")
    except Unavailable as failure:
        missing(str(failure))
    try:
        gateway = start_gateway(victim)
        other = start_gateway(pg18)
        with Canary(other.login) as canary:
            wire = gateway.login()
            pid = int(wire.rows("select pg_backend_pid()")[0][0] or "0")
            wire.send(query("select repeat('x', 5000000) from generate_series(1, 400)"))
            assert wire.until("D")
            os.kill(pid, signal.SIGKILL)
            messages: list[Message] = []
            with pytest.raises(Closed):
                while True:
                    messages.append(wire.receive())
            # A row of 5 MB goes on as it comes: after a part of one nothing whole can follow.
            assert not messages or messages[-1].type in "ED"
            canary.check()
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                back = gateway.login()
            except Refused as refused:
                if refused.message.fields["C"] not in ("57P03", "57P02", "08006", "08001"):
                    raise
                time.sleep(0.2)
                continue
            assert back.rows("select 'again'") == [["again"]]
            break
        else:
            pytest.fail("the database is back, and the gateway does not find it")
    finally:
        servers.destroy(victim)


def test_a_database_that_never_answers_the_login(pg18: Server, start_gateway: StartGateway) -> None:
    """The agent is told within a bounded time; meanwhile others come in."""

    def silent(connection: socket.socket) -> None:
        while connection.recv(4096):
            pass

    listener = Listener(silent)
    gateway = start_gateway(replace(pg18, port=listener.port, process=None))
    begun = time.monotonic()
    with pytest.raises(Refused) as caught:
        gateway.login(timeout=90)
    assert caught.value.message.fields["C"][:2] in ("08", "57")
    assert time.monotonic() - begun < 75
    assert gateway.alive
    listener.close()


@pytest.mark.parametrize(
    "greeting",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        bytes(100),
        frame("E", b"SFATAL\0C57P03\0Mthe database system is starting up\0\0"),
        frame("Z", b"I"),
        b"R" + struct.pack("!ii", 0x7FFFFFFF, 0),
        b"",
    ],
    ids=["http", "zeros", "starting up", "ready at once", "2 GB", "nothing"],
)
def test_what_is_no_database_is_not_taken_for_one(pg18: Server, start_gateway: StartGateway, greeting: bytes) -> None:
    listener = Listener(say(greeting, then=lambda connection: connection.close()))
    gateway = start_gateway(replace(pg18, port=listener.port, process=None))
    with pytest.raises(Refused) as caught:
        gateway.login(timeout=30)
    assert caught.value.message.fields["C"][:2] in ("08", "57")
    assert "Traceback" not in gateway.log_text()
    listener.close()
