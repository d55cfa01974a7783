"""What a session role's login is worth, and where it is seen: in the gateway's memory, and nowhere else."""

from __future__ import annotations

import base64
import hashlib
import os
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from support import gateway as gateways
from support import roles, servers
from support.gateway import ALLOW_ALL, ROOT, Gateway
from support.servers import Server

SPY = """
import secrets
from types import SimpleNamespace
from ostiary_gateway.credentials import postgres_role

def token_bytes(count):
    made = secrets.token_bytes(count)
    with open({path!r}, "a") as file:
        file.write(made.hex() + chr(10))
    return made

postgres_role.secrets = SimpleNamespace(token_bytes=token_bytes)
"""
"""Imported by the gateway's process before anything else: it tells the test what was drawn."""


@pytest.fixture(params=["pg15", "pg18"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    found: Server = request.getfixturevalue(request.param)
    roles.prepare(found)
    yield found
    roles.clean(found)


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    """The file that says what random bytes the gateway has drawn for roles, in hex."""
    path = tmp_path / "drawn"
    (tmp_path / "sitecustomize.py").write_text(textwrap.dedent(SPY.format(path=str(path))))
    return path


@pytest.fixture
def gateway(server: Server, drawn: Path) -> Iterator[Gateway]:
    tls = server.ca is not None
    found = gateways.prepare(servers.scratch(f"gateway-{servers.free_port()}"), server, tls=tls)
    paths = [drawn.parent, ROOT / "crds", ROOT / "gateway"]
    found.environment_variables = {"PYTHONPATH": os.pathsep.join(map(str, paths))}
    connection = gateways.connection(server, found.port, tls=tls, credentials=roles.credentials())
    found.write(connection, *gateways.secrets_for(server), roles.admin_secret(), ALLOW_ALL)
    found.start()
    yield found
    found.destroy()


def shapes(secret: bytes) -> list[bytes]:
    """The ways in which it might be written."""
    return [
        secret, secret.hex().encode(), secret.hex().upper().encode(), base64.b64encode(secret),
        base64.urlsafe_b64encode(secret), repr(secret)[2:-1].encode(),
    ]  # fmt: skip


def test_it_is_in_no_log_no_event_no_error_and_not_in_the_record(server: Server, gateway: Gateway, drawn: Path) -> None:
    server.sql("alter system set log_min_messages = 'debug1'; ", "postgres")
    server.sql("alter system set log_connections = on", "postgres")
    server.sql("select pg_reload_conf()", "postgres")
    since, errors = server.log_size(), ""
    try:
        with psycopg.connect(gateway.dsn(), autocommit=True) as session:
            role = session.execute("select session_user").fetchone()
            with pytest.raises(psycopg.errors.InsufficientPrivilege) as caught:
                session.execute("select rolpassword from pg_authid")
            errors += repr(caught.value) + str(caught.value.diag.message_detail)
        server.sql(f"alter role {roles.ADMIN} nocreaterole")
        with pytest.raises(psycopg.OperationalError) as refused:
            psycopg.connect(gateway.dsn())
        errors += str(refused.value)
        told = gateway.admin("/metrics")[1] + gateway.admin("/readyz")[1]
    finally:
        for setting in ("log_min_messages", "log_connections"):
            server.sql(f"alter system reset {setting}", "postgres")
        server.sql("select pg_reload_conf()", "postgres")
    gateway.stop()
    assert role is not None
    bytes_drawn = [bytes.fromhex(line) for line in drawn.read_text().split()]
    long = [each for each in bytes_drawn if len(each) == 32]
    client_keys = long[0::2]
    assert len(client_keys) >= 2, "a session that was let in, and one that was not"
    log = server.log_text(since)
    stored = base64.b64encode(hashlib.sha256(client_keys[0]).digest()).decode()
    assert f"CREATE ROLE \"{role[0]}\"" in log
    assert stored in log, "the log has the verifier, from which nobody can log in: so the search finds what is there"
    files = [path for path in gateway.data.rglob("*") if path.is_file()]
    assert any(path.name == "audit.db" for path in files)
    places = {str(path): path.read_bytes() for path in files}
    places |= {"log of the server": log.encode(), "log of the gateway": gateway.log_text().encode()}
    places |= {"errors": errors.encode(), "admin address": told.encode()}
    for key in client_keys:
        for name, content in places.items():
            assert not any(shape in content for shape in shapes(key)), name


def test_the_servers_log_has_every_statement_of_the_administrator_and_no_password_in_clear(
    server: Server, gateway: Gateway
) -> None:
    since = server.log_size()
    with psycopg.connect(gateway.dsn(), autocommit=True):
        pass
    assert roles.none_left(server)
    made = [line for line in server.log_text(since).splitlines() if "CREATE ROLE" in line]
    assert made
    assert all(" PASSWORD 'SCRAM-SHA-256$4096:" in line for line in made)
    assert all(f"user={roles.ADMIN} app=ostiary roles " in line for line in made)
