"""Candidate policies against what was recorded: made from what is in force and what somebody pasted, within bounds.

Deciding is work for a processor, so it goes on in a thread; what it reads it asks the loop for.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

import yaml

from ostiary_api.manifests import parse_files
from ostiary_api.secret_uses import secrets_of_policy
from ostiary_console.world import Manifest
from ostiary_gateway.audit.reader import Session
from ostiary_gateway.feed.loading import Rejected
from ostiary_policy.bundle import Bundle
from ostiary_store.blocking import Loop, StoreReader
from ostiary_store.model import Scope, SessionQuery
from ostiary_store.replay.candidate import compile_candidate
from ostiary_store.replay.judging import Replay
from ostiary_store.replay.recorded import requests
from ostiary_store.replay.report import Report
from ostiary_store.store import Store

LONGEST: Final = 20.0
"""Seconds of one replay; what was reached by then is shown."""
MOST: Final = 200_000
"""Requests of one replay."""
PAGE: Final = 100
_IN_FORCE: Final = "in force"
_T = TypeVar("_T")


class Unfit(Exception):
    """The candidate cannot be used: what is wrong, a line each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


@dataclass(frozen=True, slots=True)
class Candidate:
    """What decides in the replay, and what does now."""

    bundle: Bundle
    now: Bundle | None


def candidate(
    given: Mapping[str, str], policies: Sequence[Manifest], connections: Sequence[Manifest], *, only: bool
) -> Candidate:
    """`given`: what was pasted or uploaded, by name. Policies in force of other names stay, unless `only` it counts.
    Raises Unfit."""
    pasted = parse_files(given)
    if pasted.problems:
        raise Unfit([str(each) for each in pasted.problems])
    if not pasted.policies:
        raise Unfit(["There is no GatewayPolicy in it."])
    staying = [each for each in policies if _key(each) not in pasted.policies and not only]
    tried = {**given, _IN_FORCE: _text(staying)}
    base = {_IN_FORCE: _text([*connections, *policies])}
    # Keys of masks are not for the console, and no verdict depends on them.
    tried["keys of masks"] = _keys({**tried, **base})
    outcome = compile_candidate(tried, {_IN_FORCE: _text(connections)})
    problems = [str(each) for each in outcome.problems]
    if isinstance(outcome, Rejected) or problems:
        raise Unfit(problems)
    if not outcome.bundle.connections:
        raise Unfit(["No Connection is known that these policies could be for."])
    now = compile_candidate({**base, "keys of masks": tried["keys of masks"]}, {})
    return Candidate(outcome.bundle, None if isinstance(now, Rejected) or now.problems else now.bundle)


def _key(manifest: Manifest) -> str:
    metadata = manifest.get("metadata") or {}
    return f"{metadata.get('namespace') or 'default'}/{metadata.get('name')}"


def _text(manifests: Sequence[Manifest]) -> str:
    """As files have them: what the API server adds is left out."""
    plain = []
    for each in manifests:
        metadata = each.get("metadata") or {}
        kept = {name: metadata[name] for name in ("namespace", "name", "labels") if metadata.get(name)}
        plain.append(
            {"apiVersion": each["apiVersion"], "kind": each["kind"], "metadata": kept, "spec": each.get("spec") or {}}
        )
    return yaml.safe_dump_all(plain, sort_keys=False) if plain else ""


def _keys(texts: Mapping[str, str]) -> str:
    found = parse_files(texts)
    wanted: dict[tuple[str, str], set[str]] = {}
    for policy in found.policies.values():
        for use in secrets_of_policy(policy):
            wanted.setdefault((policy.metadata.namespace, use.name), set()).update(use.keys)
    made: list[dict[str, Any]] = [
        {
            "apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": namespace, "name": name},
            "stringData": dict.fromkeys(sorted(keys), "0" * 64),
        }
        for (namespace, name), keys in sorted(wanted.items())
        if found.secret(namespace, name) is None
    ]  # fmt: skip
    return yaml.safe_dump_all(made) if made else ""


class _ThisLoop(Loop):
    """The loop that runs already, asked from a thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def run(self, what: Coroutine[object, object, _T]) -> _T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    def close(self) -> None:
        pass


async def replay(
    store: Store, scope: Scope, chosen: Candidate, *, since: float, connection: str = ""
) -> tuple[Report, float]:
    """What would change among the requests that may be seen; the seconds that it took."""
    stop = threading.Event()
    began = time.monotonic()
    query = SessionQuery(connection=connection or None, limit=PAGE)
    reader_loop = _ThisLoop(asyncio.get_running_loop())
    working = asyncio.create_task(
        asyncio.to_thread(_decide, reader_loop, store, scope, chosen, query, since, stop, began + LONGEST)
    )
    try:
        return await asyncio.shield(working), time.monotonic() - began
    finally:
        # A thread cannot be cancelled: it looks now and then whether it is still wanted.
        stop.set()


def _decide(
    loop: _ThisLoop, store: Store, scope: Scope, chosen: Candidate, query: SessionQuery, since: float,
    stop: threading.Event, until: float,
) -> Report:  # fmt: skip
    made = Replay(chosen.bundle, chosen.now)
    reader = StoreReader(loop, store)

    def sessions() -> Iterator[Session]:
        for session in loop.each(_sessions(store, scope, query)):
            if session.closed is None or session.closed >= since:
                yield reader.view(session)

    for recorded in requests(reader, sessions(), since=since):
        if stop.is_set() or made.report.requests >= MOST or time.monotonic() >= until:
            made.report.complete = False
            break
        made.add(recorded)
    return made.report


async def _sessions(store: Store, scope: Scope, query: SessionQuery) -> AsyncIterator[Any]:
    while True:
        page = await store.sessions(query, scope)
        for row in page.sessions:
            yield row
        if not page.next:
            return
        query = replace(query, after=page.next)
