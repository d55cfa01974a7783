"""`ostiary verify --store`: asks the store, the anchors and the keys, and tells what was found."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.text import Text

from ostiary_cli.errors import CommandError

if TYPE_CHECKING:
    from ostiary_gateway.kube.client import KubeClient
    from ostiary_store.objects import Bucket
    from ostiary_store.verify import Wanted
    from ostiary_store.verify_report import StoreReport

EVERY = 0.2
"""Seconds between two lines of progress."""


def run(
    url: str | None, config: Path | None, keys: Path | None, anchors: Sequence[str], wanted: Wanted, *, as_json: bool
) -> int:
    """Prints the report; the exit status of the command. url: else the one in `config`, settings of the service."""
    from ostiary_store.verify_report import told

    report = asyncio.run(_verified(url, config, keys, anchors, wanted))
    if as_json:
        click.echo(json.dumps(report.fields(), ensure_ascii=False, indent=2))
        return report.exit_status
    console = Console(highlight=False)
    *lines, verdict = told(report)
    for line in lines:
        console.print(Text(line), soft_wrap=True)
    mark, style = ("✓", "bold green") if report.ok else ("✗", "bold red")
    console.print(Text(f"{mark} {verdict}", style), soft_wrap=True)
    return report.exit_status


async def _verified(
    url: str | None, config: Path | None, keys: Path | None, anchors: Sequence[str], wanted: Wanted
) -> StoreReport:
    from ostiary_cli.stores import must_be_there
    from ostiary_gateway.audit.keys import read_public_keys
    from ostiary_store.anchors import read
    from ostiary_store.model import StoreError
    from ostiary_store.opening import open_store
    from ostiary_store.verify import verify_store

    client: KubeClient | None = None

    async def kube() -> KubeClient:
        nonlocal client
        client = client or _kube()
        return client

    try:
        public = None if keys is None else await asyncio.to_thread(read_public_keys, keys)
        noted = [anchor for where in anchors for anchor in await read(where, kube)]
    except (OSError, ValueError) as error:
        raise CommandError(f"The keys or anchors cannot be read: {error}") from error
    finally:
        if client is not None:
            await client.close()
    progress = _Progress()
    address, bucket = await asyncio.to_thread(_where, url, config)
    must_be_there(address)
    try:
        store = await open_store(address, bucket=bucket, make=False)
        try:
            return await verify_store(
                store, wanted, keys=public, anchors=noted, progress=progress, bucket=bucket is not None
            )
        finally:
            progress.done()
            await store.close()
    except LookupError as error:
        raise CommandError(f"{error}", "List sessions: ostiary sessions --store URL") from error
    except StoreError as error:
        raise CommandError(f"The store cannot be checked: {error}") from error


def _where(url: str | None, config: Path | None) -> tuple[str, Bucket | None]:
    """The address of the store, and the bucket of its long responses."""
    from ostiary_store.objects import open_bucket
    from ostiary_store.settings import SettingsError, load

    if config is None:
        return str(url), None
    try:
        settings = load(config)
        bucket = None if settings.recordings is None else open_bucket(settings.recordings)
        return url or settings.store.read(), bucket
    except (SettingsError, OSError, ValueError) as error:
        raise CommandError(f"The settings in {config} cannot be used: {error}") from error


def _kube() -> KubeClient:
    from ostiary_gateway.kube.access import from_kubeconfig, in_cluster
    from ostiary_gateway.kube.client import KubeClient
    from ostiary_gateway.kube.errors import ConfigError

    path = os.environ.get("KUBECONFIG", "").partition(os.pathsep)[0]
    try:
        if not path and "KUBERNETES_SERVICE_HOST" in os.environ:
            return KubeClient(in_cluster())
        return KubeClient(from_kubeconfig(Path(path) if path else Path.home() / ".kube" / "config"))
    except ConfigError as error:
        raise ValueError(f"{error}") from error


class _Progress:
    """A line on a terminal that says how far it is."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._next = time.monotonic() + 1
        self._written = False

    def __call__(self, sessions: int, requests: int) -> None:
        now = time.monotonic()
        if self._shown and now >= self._next:
            self._next, self._written = now + EVERY, True
            sys.stderr.write(f"\r{sessions:,} sessions, {requests:,} requests looked at ")
            sys.stderr.flush()

    def done(self) -> None:
        if self._written:
            sys.stderr.write("\r\033[K")
