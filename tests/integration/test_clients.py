"""Unmodified clients see through an allow-all gateway what they see directly."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.gateway import Gateway, reports_equal
from support.presence import missing
from support.servers import Server

pytestmark = [pytest.mark.clients, pytest.mark.slow]

CLIENTS = Path(__file__).parents[1] / "clients"


@dataclass(frozen=True)
class Client:
    """How to build and run a client program."""

    name: str
    command: tuple[str, ...]
    directory: str
    needs: tuple[tuple[str, str], ...] = ()
    """Programs, and what to type where one is missing."""
    build: tuple[str, ...] = ()
    built: str = ""
    """What the build makes; it is not built again while this is there and newer than the sources."""
    sources: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


ALL = (
    Client("psycopg", (sys.executable, "psycopg_session.py"), "python"),
    Client("asyncpg", (sys.executable, "asyncpg_session.py"), "python"),
    Client("sqlalchemy-psycopg", (sys.executable, "sqlalchemy_session.py", "psycopg"), "python"),
    Client("sqlalchemy-asyncpg", (sys.executable, "sqlalchemy_session.py", "asyncpg"), "python"),
    Client("psql", (sys.executable, "session.py"), "psql"),
    Client(
        "jdbc",
        ("java", "-Dfile.encoding=UTF-8", "-cp", "target/classes:target/lib/*", "Session"),
        "jdbc",
        (("java", "apt-get install -y default-jdk"), ("mvn", "apt-get install -y maven")),
        ("mvn", "-q", "-B", "compile"),
        "target/classes/Session.class",
        ("pom.xml", "src/main/java/Session.java"),
    ),
    Client(
        "pgx",
        ("target/session",),
        "pgx",
        (("go", "apt-get install -y golang"),),
        ("go", "build", "-o", "target/session", "."),
        "target/session",
        ("go.mod", "go.sum", "main.go"),
    ),
    Client(
        "node-postgres",
        ("node", "session.mjs"),
        "node",
        (("node", "apt-get install -y nodejs"), ("npm", "apt-get install -y npm")),
        ("npm", "ci", "--no-audit", "--no-fund"),
        "node_modules/.package-lock.json",
        ("package-lock.json",),
    ),
)

DIFFERENCES: dict[str, dict[str, str]] = {
    "psql": {"not UTF-8": "the gateway pins client_encoding to UTF8, so that what is decided is what runs"},
}
"""Steps that may differ, and why."""


def ready(client: Client) -> None:
    for program, hint in client.needs:
        if shutil.which(program) is None:
            missing(f"{program} is not here: {hint}")
    if not client.build:
        return
    directory = CLIENTS / client.directory
    built = directory / client.built
    newest = max((directory / source).stat().st_mtime for source in client.sources)
    if built.exists() and built.stat().st_mtime >= newest:
        return
    done = subprocess.run(client.build, cwd=directory, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{' '.join(client.build)}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    built.touch()


def report(client: Client, variables: dict[str, str]) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
    done = subprocess.run(
        client.command,
        cwd=CLIENTS / client.directory,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, f"{client} failed:\n{done.stderr[-4000:]}\n{done.stdout[-1000:]}"
    return done.stdout


def compare(client: Client, server: Server, direct: dict[str, str], through: dict[str, str]) -> None:
    ready(client)
    server.recreate(server.database)
    first = report(client, direct)
    server.recreate(server.database)
    second = report(client, through)
    allowed = DIFFERENCES.get(client.name, {})
    different = [line for line in reports_equal(first, second) if line.partition(":\n")[0] not in allowed]
    assert not different, "\n".join(different)


@pytest.mark.parametrize("client", ALL, ids=str)
def test_a_session_in_clear_is_the_same_as_directly(client: Client, pg18: Server, gateway18: Gateway) -> None:
    psql = {"PSQL": str(pg18.bindir / "psql")}
    compare(client, pg18, pg18.environment(**psql), gateway18.environment(**psql))


@pytest.mark.parametrize("client", ALL, ids=str)
def test_a_session_over_tls_is_the_same_as_directly(client: Client, pg15: Server, gateway15: Gateway) -> None:
    psql = {"PSQL": str(pg15.bindir / "psql")}
    trusting = {"PGSSLMODE": "verify-full", "PGSSLROOTCERT": str(pg15.ca)}
    through = gateway15.environment(**psql, PGSSLMODE="verify-full", PGSSLROOTCERT=str(gateway15.ca))
    compare(client, pg15, pg15.environment(**psql, **trusting), through)
