"""The console from its settings to its end: store, ways in, sockets; in a cluster, or for a gateway on this machine."""

from __future__ import annotations

import asyncio
import os
import pwd
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ostiary_console.api_server import ApiServer
from ostiary_console.app import application
from ostiary_console.cluster_world import ClusterWorld
from ostiary_console.counts import Counts
from ostiary_console.gateways import Gateways, OwnTokens
from ostiary_console.guard import LOOPBACK, Guard
from ostiary_console.handling import Console
from ostiary_console.id_tokens import Rules
from ostiary_console.issuers import Issuer
from ostiary_console.links import Links
from ostiary_console.local_world import LocalWorld
from ostiary_console.rendering import Pages
from ostiary_console.rights import Rights
from ostiary_console.seals import Seal
from ostiary_console.serving import CannotServe, Certificate, admin_application, listen
from ostiary_console.settings import OIDCSettings, Settings
from ostiary_console.signed_in import Ended, Sessions
from ostiary_console.signing_in import Ways
from ostiary_gateway.admin.http import HttpServer, Request, Response
from ostiary_gateway.identity.issuer_keys import KeySources
from ostiary_gateway.kube.access import Access, from_kubeconfig, in_cluster
from ostiary_gateway.kube.errors import ConfigError
from ostiary_gateway.logging import get_logger
from ostiary_store.follow import Follower
from ostiary_store.ingest import Ingest
from ostiary_store.model import ALL, RequestQuery
from ostiary_store.reach import Health, look, opened
from ostiary_store.retention import Janitor
from ostiary_store.settings import host_and_port
from ostiary_store.signing import StoreKey
from ostiary_store.store import Store
from ostiary_store.upkeep import Upkeep

log = get_logger(__name__)

SOCKET: Final = "console.sock"
"""In the data directory: where its owner asks a running console for another link."""
KNOWN: Final = 15.0
"""Seconds for which it is believed which Connections there are recordings of."""
LOOK: Final = 5.0
"""Seconds between questions whether the store is there."""
PROBE: Final = "console/health"


def known_connections(store: Store) -> Callable[[], Awaitable[Collection[str]]]:
    """The Connections that anything is recorded of, as it was a moment ago."""
    last: tuple[float, frozenset[str]] = (-KNOWN, frozenset())
    looking = asyncio.Lock()

    async def known() -> Collection[str]:
        nonlocal last
        async with looking:
            if time.monotonic() - last[0] >= KNOWN:
                facets = await store.facets(RequestQuery(), ALL)
                found = set(facets.connections)
                # A gateway that has recorded nothing yet has a namespace all the same.
                found |= {str(each.get("gateway", "")) for each in await store.records()}
                last = time.monotonic(), frozenset(found)
        return last[1]

    return known


# -- in a cluster


async def serve(settings: Settings, stopping: asyncio.Event, told: Callable[[str], None] = lambda _: None) -> None:
    """Until `stopping` is set. `told` hears where it is. Raises CannotServe, or OSError if an address cannot be had."""
    from ostiary_store.opening import open_store

    health, counts = Health(), Counts()
    async with AsyncExitStack() as stack:
        if settings.admin is not None:
            await listen(stack, admin_application(health, counts), *host_and_port(settings.admin))
        certificate = Certificate(settings.tls.cert, settings.tls.key) if settings.tls is not None else None
        access = _access(settings)
        seal = _seal(settings)

        async def opening() -> Store:
            try:
                url, bucket = settings.store.read(), None
                if settings.store.recordings is not None:
                    from ostiary_store.objects import open_bucket

                    bucket = open_bucket(settings.store.recordings)
            except (OSError, ValueError) as problem:
                raise CannotServe(f"store: {problem}") from problem
            return await open_store(url, bucket=bucket)

        store = await opened(opening, stack, health, stopping)
        if store is None:
            return
        server = ApiServer(access)
        gateways = Gateways(store.records, OwnTokens(server.own))
        world = ClusterWorld(server, Rights(server, known_connections(store)), gateways)
        stack.push_async_callback(world.close)
        secure = urlsplit(settings.url).scheme == "https"
        sessions = Sessions(
            seal, Ended(store), secure=secure, idle=settings.sessions.idle, absolute=settings.sessions.absolute
        )
        keys = KeySources()
        stack.push_async_callback(keys.close)
        issuers = [_issuer(each, settings.url, keys) for each in settings.signin.oidc]
        ways = Ways(sessions, cluster=server, tokens=settings.signin.tokens, issuers=issuers)
        host = urlsplit(settings.url).hostname or ""
        console = Console(
            store, world, Pages(), Guard({host, *settings.hosts}, secure=secure, origins={settings.url}), sessions,
            ways, counts=counts, proxies=settings.trusted_proxies,
        )  # fmt: skip
        counts.streams = lambda: console.streams.taken
        tls = certificate.context if certificate is not None else None
        port = await listen(stack, application(console), *host_and_port(settings.listen), tls)
        log.info("the console is there", url=settings.url, address=settings.listen, port=port, tls=tls is not None)
        told(settings.url)
        work: list[Any] = [look(store, health, PROBE, LOOK)]
        if certificate is not None:
            work.append(certificate.follow())
        await _until(stopping, *work)


async def _until(stopping: asyncio.Event, *work: Any) -> None:
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(each) for each in work]
        await stopping.wait()
        log.info("stopping")
        for task in running:
            task.cancel()


def _access(settings: Settings) -> Access:
    kubeconfig = None if isinstance(settings.cluster, bool) else settings.cluster.kubeconfig
    try:
        return in_cluster() if kubeconfig is None else from_kubeconfig(kubeconfig)
    except ConfigError as problem:
        raise CannotServe(f"cluster: {problem}") from problem


def _seal(settings: Settings) -> Seal:
    try:
        keys = [file.read_bytes() for file in settings.sessions.key_files] or [os.urandom(32)]
        return Seal(keys)
    except (OSError, ValueError) as problem:
        raise CannotServe(f"sessions.keyFiles: {problem}") from problem


def _issuer(settings: OIDCSettings, url: str, keys: KeySources) -> Issuer:
    try:
        authorities = settings.ca_file.read_text() if settings.ca_file is not None else None
        rules = Rules(
            settings.issuer, settings.client_id, settings.username_claim, settings.prefix, settings.groups_claim or "",
            settings.groups_prefix, settings.required_claims,
        )  # fmt: skip
        return Issuer(
            settings.name, settings.label or settings.name, rules, secret=settings.secret, scopes=settings.scopes,
            redirect=f"{url}/signin/callback", keys=keys, authorities=authorities,
            impersonate=settings.use == "Impersonate",
        )  # fmt: skip
    except (OSError, ValueError) as problem:
        raise CannotServe(f"signin.oidc {settings.name}: {problem}") from problem


# -- on this machine


@dataclass(frozen=True, slots=True)
class Local:
    """A console for the gateway whose data directory is `data`. `store`: another one than its own."""

    data: Path
    listen: tuple[str, int]
    store: str = ""
    socket: Path | None = None
    tls: tuple[Path, Path] | None = None
    url: str = ""
    """What people type, where that is not the address."""


async def serve_local(setting: Local, stopping: asyncio.Event, told: Callable[[str], None]) -> None:
    """Until `stopping` is set. `told` gets a link to sign in with. Raises CannotServe or OSError."""
    from ostiary_store.opening import open_store

    host, _ = setting.listen
    if setting.tls is None and host not in LOOPBACK:
        raise CannotServe("off loopback it needs a certificate: give --tls-cert and --tls-key")
    certificate = Certificate(*setting.tls) if setting.tls is not None else None
    health = Health()
    async with AsyncExitStack() as stack:
        store = await opened(
            lambda: open_store(setting.store or f"sqlite:{setting.data / 'store.db'}"), stack, health, stopping
        )
        if store is None:
            return
        links = Links()
        secure = certificate is not None
        world = LocalWorld(setting.data, setting.socket)
        # The port is known only when it listens, and the name of the cookie has it.
        sessions = Sessions(
            Seal([os.urandom(32)]), Ended(None), secure=secure, idle=8 * 3600.0, absolute=24 * 3600.0,
            mark=f"-{setting.listen[1]}",
        )  # fmt: skip
        names = {host, *(LOOPBACK if host in LOOPBACK else ())}
        if setting.url:
            names.add(urlsplit(setting.url).hostname or "")
        guard = Guard(names, secure=secure, origins={setting.url} if setting.url else ())
        console = Console(
            store, world, Pages(), guard, sessions, Ways(sessions, local=person()), links=links
        )  # fmt: skip
        console.counts.streams = lambda: console.streams.taken
        port = await listen(
            stack, application(console), *setting.listen, certificate.context if certificate is not None else None
        )
        shown = f"[{host}]" if ":" in host else host
        base = setting.url or f"{'https' if secure else 'http'}://{shown}:{port}"

        def link() -> str:
            return f"{base}/signin/link/{links.make()}"

        await _for_links(stack, setting.data, link)
        log.info("the console is there", url=base)
        told(link())
        work: list[Any] = [look(store, health, PROBE, LOOK)]
        if certificate is not None:
            work.append(certificate.follow())
        if not setting.store:
            upkeep = await _upkeep(store, setting.data)
            work.append(Follower(setting.data, Ingest(store, None if upkeep is None else upkeep.prover)).run())
            if upkeep is not None:
                work.append(upkeep.run())
        await _until(stopping, *work)


async def _upkeep(store: Store, data: Path) -> Upkeep | None:
    """What signs the store of one machine, with a key beside it, and removes what Connections do not want kept."""
    try:
        key = await asyncio.to_thread(StoreKey.load, data / "store.key", create=True)
    except (OSError, ValueError) as problem:
        log.warning("the store is not signed, and nothing is removed by age", problem=str(problem))
        return None
    prover = key.prover()
    return Upkeep(store, key, prover=prover, janitor=Janitor(store, prover=prover))


async def _for_links(stack: AsyncExitStack, data: Path, link: Callable[[], str]) -> None:
    async def made(_: Request) -> Response:
        return Response(link())

    server = HttpServer({("POST", "/link"): made})
    try:
        await server.listen_unix(data / SOCKET)
    except OSError as problem:
        log.warning("no other links can be asked for", path=str(data / SOCKET), problem=str(problem))
        return
    stack.push_async_callback(server.close)


def person() -> str:
    """The user of this machine who runs the console."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"uid:{os.getuid()}"
