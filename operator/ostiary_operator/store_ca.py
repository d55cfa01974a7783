"""Who may sign the store's certificate: a file of the operator's pod, looked at again while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ostiary_operator.logging import get_logger

log = get_logger(__name__)

LOOK: Final = 10.0
"""Seconds between two looks. The kubelet itself needs up to a minute to bring a new version."""
LARGEST: Final = 128 * 1024
"""Characters. It becomes an annotation of pods, all of which may have 256 KiB together."""


def read(path: str) -> str:
    """The certificates in the file; empty if there is none, or what is in it is no certificate."""
    if not path:
        return ""
    try:
        text = Path(path).read_text("ascii")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeError) as error:
        log.warning("the authorities of the store cannot be read", file=path, reason=str(error))
        return ""
    if "-----BEGIN CERTIFICATE-----" not in text or "PRIVATE KEY-----" in text or len(text) > LARGEST:
        log.warning("this is no list of authorities, and is left out", file=path, characters=len(text))
        return ""
    return text


async def watch(path: str, known: str, changed: Callable[[str], None], every: float = LOOK) -> None:
    """Tells of each other content, until cancelled. A file that is gone changes nothing: a Secret is replaced so."""
    while True:
        await asyncio.sleep(every)
        found = await asyncio.to_thread(read, path)
        if found and found != known:
            known = found
            log.info("the store has other authorities; gateways are told", file=path)
            changed(found)
