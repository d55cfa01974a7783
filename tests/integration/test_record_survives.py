"""What a server ran is in the record, whatever happens to the gateway or its disk. Real servers, real kills."""

from __future__ import annotations

import os
import re
import resource
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from support import servers
from support.gateway import Gateway, StartGateway
from support.servers import Server

from ostiary_gateway.audit.reader import Reader
from ostiary_gateway.audit.verify import verify

ROUNDS = 20
CLIENTS = 8
MARK = re.compile(r"ran \d+/\d+/\d+")


@pytest.fixture(scope="module")
def telling() -> Iterator[Server]:
    """A server that logs every statement before it runs it."""
    server = servers.embedded("telling", settings={"log_statement": "all"})
    yield server
    servers.destroy(server)


def client(gateway: Gateway, round_: int, number: int) -> None:
    """Statements that no other is like, until the gateway is gone."""
    count = 0
    try:
        with psycopg.connect(gateway.dsn(), autocommit=True) as session:
            while True:
                count += 1
                session.execute(f"select 'ran {round_}/{number}/{count}'".encode())
    except psycopg.Error:
        return
        return


def kill_under_load(gateway: Gateway, round_: int, seconds: float) -> None:
    """Start, let the clients run, kill -9."""
    before = gateway.server.log_size()
    gateway.start()
    threads = [threading.Thread(target=client, args=(gateway, round_, number)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    while len(MARK.findall(gateway.server.log_text(before))) <= CLIENTS * 3:
        assert time.monotonic() < deadline, "there was no load"
        time.sleep(0.02)
    time.sleep(seconds)
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGKILL)
    gateway.process.wait()
    for thread in threads:
        thread.join()


def whole(data: Path) -> None:
    report = verify(data)
    assert report.ok, [str(finding) for finding in report.findings[:5]]


def recorded(data: Path) -> set[str]:
    with Reader.open(data) as reader:
        return {
            mark
            for session in reader.sessions()
            for request in reader.requests(session)
            if request.begun is not None
            for mark in MARK.findall(str(request.begun.fields["text"]))
        }


@pytest.mark.slow
def test_after_twenty_kills_no_statement_ran_without_its_record(telling: Server, start_gateway: StartGateway) -> None:
    gateway = start_gateway(telling, audit="Strict")
    gateway.stop()
    ran: set[str] = set()
    for round_ in range(ROUNDS):
        before = telling.log_size()
        kill_under_load(gateway, round_, 0.05 + 0.011 * round_)
        whole(gateway.data)  # also before anybody has tidied up
        these = set(MARK.findall(telling.log_text(before)))
        assert not these - recorded(gateway.data)
        ran |= these
    gateway.start()
    gateway.stop()
    whole(gateway.data)
    assert not ran - recorded(gateway.data)
    with Reader.open(gateway.data) as reader:
        assert sum(1 for _ in reader.sessions(state="lost")) > ROUNDS
        assert not list(reader.sessions(state="open"))


def test_a_relaxed_record_is_whole_after_a_kill(telling: Server, start_gateway: StartGateway) -> None:
    gateway = start_gateway(telling, audit="Relaxed")
    gateway.stop()
    for round_ in range(3):
        kill_under_load(gateway, 100 + round_, 0.5)
        whole(gateway.data)
    gateway.start()
    gateway.stop()
    whole(gateway.data)
    with Reader.open(gateway.data) as reader:
        lost = list(reader.sessions(state="lost"))
        assert len(lost) > CLIENTS
        assert sum(session.requests for session in lost) > CLIENTS


def test_a_full_disk_refuses_requests_and_the_gateway_goes_on_when_there_is_room(
    telling: Server, start_gateway: StartGateway
) -> None:
    gateway = start_gateway(telling, audit="Strict")
    with psycopg.connect(gateway.dsn(), autocommit=True) as session:
        for _ in range(20):
            session.execute(f"select '{os.urandom(8000).hex()}'".encode())
        size = (gateway.data / "audit.log").stat().st_size
        assert size > gateway.log.stat().st_size + 20_000
        _, hard = resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (size, hard))
        before = telling.log_size()
        for count in range(20):
            with pytest.raises(psycopg.errors.IoError, match="the audit record cannot be written"):
                session.execute(f"select 'ran 900/0/{count}'".encode())
        assert "ran 900" not in telling.log_text(before)
        resource.prlimit(gateway.pid, resource.RLIMIT_FSIZE, (hard, hard))
        deadline = time.monotonic() + 20
        while True:
            try:
                session.execute("select 'ran 901/0/1'")
                break
            except psycopg.errors.IoError:
                assert time.monotonic() < deadline, "it did not recover"
                time.sleep(0.1)
    gateway.stop()
    whole(gateway.data)
    assert "ran 901/0/1" in recorded(gateway.data)
