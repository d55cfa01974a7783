"""The service from its settings to its end: admin address, store, intake, background tasks."""

from __future__ import annotations

import asyncio
import ssl
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
from aiohttp import web

from ostiary_gateway.version import version
from ostiary_store.reach import Health, look, opened
from ostiary_store.service.counts import Counts, registry
from ostiary_store.service.identities import Identities, TokenFile, TokenReviews
from ostiary_store.service.intake import Intake
from ostiary_store.service.tasks import Service, Task, background, supervised
from ostiary_store.settings import GatewaysSettings, Settings, TLSSettings, host_and_port

if TYPE_CHECKING:
    from ostiary_gateway.kube.client import KubeClient
    from ostiary_store.objects import Bucket
    from ostiary_store.store import Store

LOOK: Final = 2.0
"""Seconds between questions whether the store is there."""
RELOAD: Final = 10.0
"""Seconds between looks at the files of the certificate."""
GRACE: Final = 10.0
"""Seconds that requests under way get when it stops."""
PROBE: Final = "health"

log = structlog.get_logger(__name__)


class CannotServe(Exception):
    """The settings name something that cannot be used. The text says what."""


async def serve(settings: Settings, stopping: asyncio.Event) -> None:
    """Until `stopping` is set. Raises CannotServe, or OSError if an address cannot be had."""
    counts, health = Counts(), Health()
    async with AsyncExitStack() as stack:
        cluster = _Cluster(settings, stack)
        identities = _identities(settings, cluster)
        tls = _TLS(settings.tls) if settings.tls is not None else None
        if settings.admin is not None:
            await _listen(stack, _admin(counts, health), settings.admin, None)
            log.info("admin address", address=settings.admin)
        bucket = _bucket(settings)
        store = await _opened(settings, bucket, stack, health, stopping)
        if store is None:
            return
        service = await _service(settings, store, bucket, counts, cluster)
        if identities is not None and settings.listen is not None:
            intake = Intake(
                service.ingest, identities, counts, max_body=settings.max_body, in_flight=settings.in_flight
            )
            await _listen(stack, intake.application(), settings.listen, None if tls is None else tls.context)
            log.info("gateways may hand over their records", address=settings.listen, tls=tls is not None)
        tasks = [Task("health", lambda: look(store, health, PROBE, LOOK)), *await background(service)]
        if tls is not None:
            tasks.append(Task("certificate", tls.follow))
        async with asyncio.TaskGroup() as group:
            running = [group.create_task(supervised(task, counts)) for task in tasks]
            await stopping.wait()
            log.info("stopping")
            for each in running:
                each.cancel()


async def _service(
    settings: Settings, store: Store, bucket: Bucket | None, counts: Counts, cluster: _Cluster
) -> Service:
    from ostiary_store.ingest import Ingest
    from ostiary_store.upkeep import Upkeep

    try:
        upkeep = await Upkeep.of(settings, store, cluster.client)
    except (OSError, ValueError) as problem:
        raise CannotServe(f"seal: {problem}") from problem
    ingest = Ingest(store, None if upkeep is None else upkeep.prover, bucket)
    return Service(settings, store, ingest, counts, cluster.stack, upkeep, bucket)


def _bucket(settings: Settings) -> Bucket | None:
    from ostiary_store.objects import open_bucket

    try:
        return None if settings.recordings is None else open_bucket(settings.recordings)
    except (OSError, ValueError) as problem:
        raise CannotServe(f"recordings: {problem}") from problem


async def _opened(
    settings: Settings, bucket: Bucket | None, stack: AsyncExitStack, health: Health, stopping: asyncio.Event
) -> Store | None:
    """The store, as soon as it is there; its address is read anew each time. None: it is to stop."""
    from ostiary_store.opening import open_store

    async def opening() -> Store:
        try:
            url = settings.store.read()
        except (OSError, ValueError) as problem:
            raise CannotServe(f"store: {problem}") from problem
        return await open_store(url, bucket=bucket)

    return await opened(opening, stack, health, stopping)


class _Cluster:
    """The API server, where it is needed."""

    def __init__(self, settings: Settings, stack: AsyncExitStack) -> None:
        self.stack = stack
        self._kubeconfig = settings.kubeconfig
        self._client: KubeClient | None = None

    def client(self) -> KubeClient:
        """One for all. Raises CannotServe."""
        if self._client is None:
            from ostiary_gateway.kube.access import from_kubeconfig, in_cluster
            from ostiary_gateway.kube.client import KubeClient
            from ostiary_gateway.kube.errors import ConfigError

            try:
                access = in_cluster() if self._kubeconfig is None else from_kubeconfig(self._kubeconfig)
            except ConfigError as problem:
                raise CannotServe(str(problem)) from problem
            self._client = KubeClient(access)
            self.stack.push_async_callback(self._client.close)
        return self._client


def _identities(settings: Settings, cluster: _Cluster) -> Identities | None:
    gateways = settings.gateways
    if gateways is None:
        return None
    return _tokens(gateways) if gateways.tokens is not None else TokenReviews(cluster.client())


def _tokens(gateways: GatewaysSettings) -> TokenFile:
    assert gateways.tokens is not None
    try:
        return TokenFile(gateways.tokens)
    except (OSError, ValueError) as problem:
        raise CannotServe(f"gateways.tokens: {problem}") from problem


class _TLS:
    """The server's certificate, read again when its files change."""

    def __init__(self, settings: TLSSettings) -> None:
        self._files: tuple[Path, Path] = settings.cert, settings.key
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        try:
            self._stamps = self._look()
            self.context.load_cert_chain(*self._files)
        except (OSError, ssl.SSLError) as problem:
            raise CannotServe(f"tls: {settings.cert} and {settings.key} cannot be used: {problem}") from problem

    def _look(self) -> list[tuple[int, int]]:
        return [((status := file.stat()).st_mtime_ns, status.st_ino) for file in self._files]

    async def follow(self) -> None:
        """Again and again."""
        while True:
            await asyncio.sleep(RELOAD)
            stamps = await asyncio.to_thread(self._look)
            if stamps != self._stamps:
                # Both files must fit each other; where they do not yet, the next look finds them.
                self.context.load_cert_chain(*self._files)
                self._stamps = stamps
                log.info("the certificate was read again")


def _admin(counts: Counts, health: Health) -> web.Application:
    metrics = registry(counts, version())

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def ready(_: web.Request) -> web.Response:
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(health.since))
        last = "nothing was taken in yet"
        if counts.last:
            last = f"something was taken in {time.time() - counts.last:.0f} s ago"
        store = f"[{'-' if health.trouble else '+'}] store: {health.trouble or 'it answers'}, since {since}"
        text = f"{store}\n[+] intake: {last}\n"
        return web.Response(text=text, status=503 if health.trouble else 200)

    async def scraped(request: web.Request) -> web.Response:
        from prometheus_client.exposition import choose_encoder

        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(metrics), headers={"Content-Type": content_type})

    made = web.Application(client_max_size=1024)
    made.router.add_get("/healthz", alive)
    made.router.add_get("/livez", alive)
    made.router.add_get("/readyz", ready)
    made.router.add_get("/metrics", scraped)
    return made


async def _listen(
    stack: AsyncExitStack, application: web.Application, address: str, tls: ssl.SSLContext | None
) -> None:
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=GRACE, keepalive_timeout=300)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    host, port = host_and_port(address)
    await web.TCPSite(runner, host, port, ssl_context=tls).start()
