"""Stores for commands: one that an address names, or the data directory's own, brought up to date first."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.status import Status

from ostiary_cli.errors import CommandError
from ostiary_gateway.audit.transcript_words import bytes_text
from ostiary_store.blocking import StoreRecords
from ostiary_store.follow import Follower, Progress
from ostiary_store.ingest import Ingest
from ostiary_store.model import StoreError
from ostiary_store.opening import open_store
from ostiary_store.signing import StoreKey

NAME: Final = "store.db"
KEY: Final = "store.key"
"""Of a data directory's own store, and what signs it."""
QUIET: Final = 0.5
"""Seconds after which it is told what is worked on."""


def must_be_there(url: str) -> None:
    """Raises CommandError: opening a file that is not there would make an empty store, in which all is well."""
    if url.startswith("sqlite:") and not Path(url.removeprefix("sqlite:")).is_file():
        raise CommandError(f"There is no store at {url.removeprefix('sqlite:')}.", "Give another address: --store URL")


@contextmanager
def open_stored(url: str) -> Iterator[StoreRecords]:
    """A store; its errors as those of a command."""
    must_be_there(url)
    next_step = "Is it there, and are the name and the password right? Give another: --store URL"
    with _told(next_step), StoreRecords.open(open_store(url, make=False)) as stored:
        yield stored


@contextmanager
def open_own(data: Path) -> Iterator[StoreRecords]:
    """The store of a data directory, with everything that its record has now."""
    if not data.is_dir() or not any(data.glob("audit*.log")):
        raise CommandError(
            f"There is no record in {data}.",
            "Give the directory that the gateway was started with, or a store: --data DIR, --store URL",
        )
    next_step = "Read the record itself: ostiary sessions, ostiary session"
    with _told(next_step), StoreRecords.open(open_store(f"sqlite:{data / NAME}")) as stored:
        _catch_up(stored, data)
        yield stored


def _catch_up(stored: StoreRecords, data: Path) -> None:
    console = Console(stderr=True, highlight=False)
    status: Status | None = None
    began = time.monotonic()

    def told(progress: Progress) -> None:
        nonlocal status
        if status is None and time.monotonic() - began > QUIET and sys.stderr.isatty():
            status = console.status("")
            status.start()
        if status is not None:
            done, there = bytes_text(progress.taken), bytes_text(progress.there)
            status.update(f"Reading the record into {NAME}: {done} of {there}")

    async def catch_up() -> None:
        # What is taken in here is proven as what a console takes in, or its seals would doubt it.
        key = await asyncio.to_thread(StoreKey.load, data / KEY, create=True)
        async with Follower(data, Ingest(stored.store, key.prover())) as follower:
            await follower.catch_up(told)

    try:
        stored.loop.run(catch_up())
    finally:
        if status is not None:
            status.stop()


@contextmanager
def _told(next_step: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise  # who reads the output has seen enough
    except (StoreError, OSError, ValueError) as error:
        raise CommandError(str(error), next_step) from error
