"""The demo's run: start everything, play the scenes, show what is in the record."""

from __future__ import annotations

import asyncio
import os
import secrets
import shlex
import shutil
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from ostiary_cli import agent_token
from ostiary_cli.commands.token import manifest as token_manifest
from ostiary_cli.demo import approving, shop
from ostiary_cli.demo.clients import Client, Target
from ostiary_cli.demo.forgery import forge
from ostiary_cli.demo.scenes import SCENES, STORY, Scene
from ostiary_cli.demo.show import Show
from ostiary_cli.embedded_postgres import EmbeddedPostgres
from ostiary_gateway.audit.reader import Reader
from ostiary_gateway.audit.verify import verify
from ostiary_gateway.feed.directory import DirectoryFeed
from ostiary_gateway.feed.fact_sources import fact_sources
from ostiary_gateway.feed.service import served
from ostiary_gateway.server import Gateway

AGENT = "planner"
GROUP = "agents"
NAMESPACE = "demo"


@dataclass(slots=True)
class Stage:
    """Everything that runs, and what was not as expected."""

    directory: Path
    client: Client
    show: Show
    agent: Target
    database: Target
    admin: tuple[str, int]
    answers: bool = True
    """Whether the demo approves by itself what needs a person."""
    wrong: list[str] = field(default_factory=list)

    @property
    def data(self) -> Path:
        return self.directory / "data"

    async def play(self) -> None:
        """All of it."""
        await self._strangers()
        for scene in SCENES:
            await self._scene(scene)
        self._note("A large update", await approving.play(self, answer=self.answers))
        await self._record()

    @property
    def program(self) -> str:
        """How `ostiary` is called here."""
        # `make demo` runs the command where the shell does not look for it.
        path = Path(sys.argv[0])
        script = shlex.quote(os.path.relpath(path)) if path.name == "ostiary" else f"{sys.executable} -m ostiary_cli"
        return "ostiary" if shutil.which("ostiary") else script

    def called(self, arguments: str) -> str:
        """A command for this demo's gateway, as it can be pasted."""
        return f"{self.program} {arguments} --data {shlex.quote(str(self.data))}"

    async def _scene(self, scene: Scene) -> None:
        seen = await self.client.run(self.agent, [scene.statement])
        held = await self.client.run(self.database, [scene.truth])
        wrong = scene.check(seen.text, held.text)
        if not wrong and seen.failed != (scene.expect == "denied"):
            wrong = f"it was to be {scene.expect}"
        self._note(scene.title, wrong)
        self.show.scene(scene, self.client.name, seen.text, held.text, wrong)

    async def _strangers(self) -> None:
        """The agent has no other way in: its token opens the gateway only, and the gateway only with a token."""
        around = Target(self.database.host, self.database.port, shop.ROLE, self.agent.password, shop.DATABASE)
        guess = Target(self.agent.host, self.agent.port, AGENT, agent_token.generate(), shop.DATABASE, self.agent.ca)
        tries = []
        for title, target, answer in (
            ("Around the gateway, with its token", around, "password authentication failed"),
            ("With a made-up token", guess, "no token that is known"),
        ):
            outcome = await self.client.run(target, ["select 1"])
            wrong = "" if outcome.failed and answer in outcome.text else "it was not turned away"
            self._note(title, wrong)
            tries.append((title, outcome.text, wrong))
        self.show.strangers(tries)

    async def _record(self) -> None:
        seen = await self.client.run(self.agent, STORY)
        self._note("A recorded session", "" if "[email]" in seen.text and seen.failed else "it did not go as expected")
        await asyncio.sleep(0.3)  # the last events of a session are written a moment after it
        with Reader.open(self.data) as reader:
            session = next(reader.sessions(limit=1), None)
            if session is None:
                self._note("The record", "it has no session")
            else:
                self._note("The record", "" if session.denied == 1 else f"it has {session.denied} denials, not 1")
                self.show.transcript(reader, session)
        report = await asyncio.to_thread(verify, self.data)
        self._note("Verify", "" if report.ok else str(report.findings[0]))
        forged = await asyncio.to_thread(self._forge)
        self._note("Verify, after a forgery", "" if forged else "the forgery was not found")
        self.show.verification(report, forged)

    def _forge(self) -> str:
        """What verify says of a copy in which somebody turned a denial into something harmless."""
        copy = self.directory / "forged"
        copy.mkdir()
        with sqlite3.connect(f"file:{self.data / 'audit.db'}?mode=ro", uri=True) as index:
            with sqlite3.connect(copy / "audit.db") as target:
                index.backup(target)
            target.close()
        index.close()
        shutil.copy(self.data / "audit.log", copy / "audit.log")
        forge(copy / "audit.log", b"drop database shop", b"select 1")
        shutil.copy(self.data / "audit.pub", copy / "audit.pub")
        report = verify(copy)
        return "" if report.ok else str(report.findings[0])

    def _note(self, title: str, wrong: str) -> None:
        if wrong:
            self.wrong.append(f"{title}: {wrong}")


@asynccontextmanager
async def staged(directory: Path, client: Client, show: Show) -> AsyncIterator[Stage]:
    """A database, a gateway in front of it, an agent's token."""
    with show.waiting("Starting PostgreSQL 18"):
        server = EmbeddedPostgres()
        await asyncio.to_thread(server.start)
    try:
        with show.waiting("Filling the shop"):
            password = secrets.token_urlsafe(24)
            await shop.build(shop.Place(server.host, server.port, server.user, server.password), password)
        token = agent_token.generate()
        write_manifests(directory / "manifests", server.port, free_port(), password, token)
        admin = ("127.0.0.1", free_port())
        feed = DirectoryFeed([directory / "manifests"], fact_sources=fact_sources())
        async with served(feed, data=directory / "data", admin=admin) as gateway:
            host, port = _endpoint(gateway)
            agent = Target(host, port, AGENT, token, shop.DATABASE, directory / "data" / "tls" / "ca.crt")
            owner = Target(server.host, server.port, server.user, server.password, shop.DATABASE)
            yield Stage(directory, client, show, agent, owner, admin)
    finally:
        await asyncio.to_thread(server.stop)


def write_manifests(directory: Path, upstream_port: int, port: int, password: str, token: str) -> None:
    """The shop's manifests as examples/shop has them, with the ports and Secrets of this run."""
    directory.mkdir(parents=True)
    source = Path(__file__).parent / "manifests"
    (connection,) = yaml.safe_load_all((source / "connection.yaml").read_text("utf-8"))
    connection["spec"]["upstream"]["port"] = upstream_port
    connection["spec"]["listener"]["port"] = port
    (directory / "connection.yaml").write_text(yaml.safe_dump(connection, sort_keys=False), "utf-8")
    shutil.copy(source / "policies.yaml", directory / "policies.yaml")
    credentials = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "shop-db", "namespace": NAMESPACE},
        "stringData": {"username": shop.ROLE, "password": password},
    }
    for name, text in (
        ("secret-shop-db.yaml", yaml.safe_dump(credentials, sort_keys=False)),
        ("secret-token.yaml", token_manifest(token, AGENT, GROUP, NAMESPACE, f"token-{AGENT}")),
    ):
        (directory / name).touch(0o600)
        (directory / name).write_text(text, "utf-8")


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _endpoint(gateway: Gateway) -> tuple[str, int]:
    return gateway.endpoints[NAMESPACE, "shop"]
