"""A lobby for the Kubernetes API without sockets: what a client and an API server say, and what each of them hears."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
import yaml
from support.api_gateway import ALLOW_ALL, Plane, connection, secrets_for
from support.cluster import Cluster
from support.gateway import TOKEN, Manifest, agent_token
from support.servers import scratch

from ostiary_gateway.audit.event import ApprovalStep, LoginRefused, Recorder, SessionOpened, SessionRecord
from ostiary_gateway.audit.intake import Pending
from ostiary_gateway.audit.recorder import FileRecorder
from ostiary_gateway.checkpoint import Checkpoint
from ostiary_gateway.counters import Counters
from ostiary_gateway.feed.loading import Loaded, load
from ostiary_gateway.identity.authenticators import Authenticators
from ostiary_gateway.identity.issuer_keys import KeySources
from ostiary_gateway.identity.tokens import TokenIdentities
from ostiary_gateway.protocols import Site
from ostiary_gateway.protocols.kubernetes.lobby import KubernetesLobby
from ostiary_gateway.protocols.kubernetes.relay import Relay
from ostiary_gateway.protocols.kubernetes.upstream import ServerConnection, Upstream, UpstreamError
from ostiary_policy.decision import Decision

OTHER_TOKEN = "another-agent's-token-of-enough-entropy-987654321"
UPSTREAM_TOKEN = "the-gateway's-own-token"
_PLANE = Plane(Cluster({}), "https://api.test:6443", "", UPSTREAM_TOKEN)


class SlowDisk:
    """A Recorder whose records are durable when it is told so."""

    pressure = False

    def __init__(self) -> None:
        self.pending: list[Pending] = []

    def session_opened(self, event: SessionOpened) -> SessionRecord:
        return self

    def login_refused(self, event: LoginRefused) -> None: ...

    def approval(self, event: ApprovalStep) -> None: ...

    async def relieved(self) -> None: ...

    def begin(
        self, number: int, at: float, text: str, detail: Mapping[str, object] | bytes, decision: Decision, durable: bool
    ) -> Pending | None:
        self.pending.append(Pending())
        return self.pending[-1] if durable else None

    def response(self, number: int, data: bytes | bytearray | memoryview) -> None: ...

    def end(
        self, number: int, at: float, outcome: str, detail: Mapping[str, object] | bytes, rows: int, size: int
    ) -> None: ...

    def closed(self, at: float, reason: str, requests: int) -> None: ...

    async def close(self) -> None: ...


class Wire(asyncio.Transport):
    """One side's end: what was written to it waits in `heard`."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = b""
        self.closed = self.aborted = self.paused = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.closed:
            self.heard += data

    def writelines(self, parts: object) -> None:
        self.write(b"".join(parts))  # type: ignore[call-overload]

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("192.0.2.7", 50000) if name == "peername" else default

    def take(self) -> bytes:
        """What was heard since the last time."""
        heard, self.heard = self.heard, b""
        return heard


class Client:
    """One client's connection."""

    def __init__(self, talk: Talk) -> None:
        self.wire = Wire()
        self.relay = Relay(talk.lobby, lambda: None)
        talk.lobby.relays.add(self.relay)
        self.relay.connection_made(self.wire)
        self.task = asyncio.get_running_loop().create_task(self.relay.run())
        self.task.add_done_callback(lambda _: talk.lobby.relays.discard(self.relay))

    async def says(self, *requests: bytes) -> bytes:
        """What it hears then, without anything from the server."""
        await asyncio.sleep(0)
        self.relay.data_received(b"".join(requests))
        return await self.hears()

    async def hears(self) -> bytes:
        await settled()
        return self.wire.take()

    def leaves(self) -> None:
        self.wire.closed = True
        self.relay.connection_lost(None)


class Server:
    """One connection to the API server."""

    def __init__(self, upstream: Upstream) -> None:
        self.wire = Wire()
        self.connection = ServerConnection(upstream, None)
        self.connection.connection_made(self.wire)

    def heard(self) -> bytes:
        return self.wire.take()

    def says(self, data: bytes) -> None:
        self.connection.data_received(data)

    def closes(self) -> None:
        self.wire.closed = True
        self.connection.connection_lost(None)


class ScriptedUpstream(Upstream):
    """Its connections are Servers. `away`: why there are none."""

    def __init__(self, talk: Talk) -> None:
        super().__init__(talk.lobby.upstream.login)
        self.talk = talk
        self.away = ""

    async def connect(self) -> ServerConnection:
        if self.away:
            raise UpstreamError(self.away)
        made = Server(self)
        self.talk.servers.append(made)
        return made.connection


@dataclass
class Talk:
    """A lobby, its record, and the connections to the API server that were made, in order."""

    lobby: KubernetesLobby
    checkpoint: Checkpoint
    directory: Path
    servers: list[Server]
    upstream: ScriptedUpstream

    def client(self) -> Client:
        return Client(self)

    @property
    def server(self) -> Server:
        """The last one."""
        return self.servers[-1]

    def policies(self, *policies: Manifest, **spec: object) -> None:
        """Another bundle, as a reload brings it."""
        found = _load(self.directory, policies, spec)
        self.checkpoint.bundle = found.bundle
        self.lobby.replace(_site(found))


@asynccontextmanager
async def talking(*policies: Manifest, disk: SlowDisk | None = None, **spec: object) -> AsyncIterator[Talk]:
    """A lobby with these policies (without any: everything is allowed), whose Connection has this spec."""
    directory = scratch(f"talk-{id(spec)}")
    recorder: Recorder | None = disk
    try:
        found = _load(directory, policies, {"audit": "Relaxed", **spec})
        recorder = recorder or await FileRecorder.open(directory / "audit.db")
        checkpoint = Checkpoint(found.bundle, recorder, Counters())
        lobby = KubernetesLobby(_site(found), checkpoint, checkpoint.counters)
        talk = Talk(lobby, checkpoint, directory, [], None)  # type: ignore[arg-type]
        talk.upstream = lobby.upstream = ScriptedUpstream(talk)
        yield talk
        lobby.stop("The test is over.")
        await settled()
    finally:
        if recorder is not None:
            await recorder.close()
        shutil.rmtree(directory, ignore_errors=True)


async def settled() -> None:
    """Everything that needs no time has happened."""
    for _ in range(12):
        await asyncio.sleep(0)


def request(line: str, *headers: str, token: str = TOKEN, body: bytes = b"") -> bytes:
    """`GET /path`, with a token."""
    lines = [f"{line} HTTP/1.1", "Host: gateway.test", *headers]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if body:
        lines += [f"Content-Length: {len(body)}", "Content-Type: application/json"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def response(body: bytes = b"{}", status: str = "200 OK", *headers: str) -> bytes:
    """With a length."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def head_of(answer: bytes) -> tuple[str, dict[str, str]]:
    """Status line without the version, and headers."""
    lines = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    return lines[0].removeprefix("HTTP/1.1 "), dict(line.split(": ", 1) for line in lines[1:])


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def status_of(answer: bytes) -> dict[str, object]:
    """The Status document of one answer."""
    found = orjson.loads(body_of(answer))
    assert isinstance(found, dict)
    return found


def _load(directory: Path, policies: tuple[Manifest, ...], spec: dict[str, object]) -> Loaded:
    manifests = directory / "manifests"
    manifests.mkdir(parents=True, exist_ok=True)
    made = connection(_PLANE, 6443, **spec)
    made["spec"]["upstream"] = {"server": _PLANE.server, "tls": {"mode": "Require"}}  # type: ignore[index]
    secrets = [each for each in secrets_for(_PLANE) if each["metadata"]["name"] != "api-ca"]  # type: ignore[index]
    other = agent_token("other-token", OTHER_TOKEN, "other")
    file = manifests / "all.yaml"
    file.write_text(yaml.safe_dump_all([made, *secrets, other, *(policies or (ALLOW_ALL,))]))
    file.chmod(0o600)
    found = load([manifests])
    assert isinstance(found, Loaded), found
    return found


def _site(found: Loaded) -> Site:
    made = next(iter(found.manifests.connections.values()))
    secrets = {
        (each.metadata.namespace or "default", each.metadata.name): each for each in found.manifests.secrets.values()
    }
    return Site(made, None, Authenticators(made, TokenIdentities(secrets.values()), secrets, KeySources()), secrets)
