"""Connections, GatewayPolicies and ApprovalRequests, watched by kopf; its handlers only hand on what they are given.

kopf runs in a thread and an event loop of its own. Embedded in a loop that is not its alone it would take the signal
handlers of the process, and at its end cancel every task that was begun after its start, ours among them; and an error
of a watch that it takes for fatal ends it. So it is run here, apart, and begun again when it ends.

No finalizers, no annotations, no peering, no posting of events: `@kopf.on.event` handlers patch nothing. Two things
that kopf does not tell are found out beside it, in its HTTP session:

- whether a watch is alive. Bookmarks end inside of kopf, so the bytes of its streams are counted;
- what was deleted while a watch was down: after an outage kopf lists, and tells what is there, not what is missing. So
  after each of its lists the store is compared with a list of names (metadata only) of our own.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import CancelledError
from typing import Any, Final

import aiohttp
import kopf
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from ostiary_operator.inventory import Store, uid_of
from ostiary_operator.kube.client import Access, ApiError, Client
from ostiary_operator.kube.kinds import Kind, Manifest, key_of
from ostiary_operator.logging import get_logger
from ostiary_operator.pulse import Pulse
from ostiary_operator.settings import Watching

log = get_logger(__name__)

_LISTEN: Final = 0.5
"""Seconds between two looks at how many bytes have come."""
_SETTLE: Final = 0.25
"""Seconds between kopf's list and ours: its handlers are run by then, mostly; what is late does no harm."""
_LONGEST_PAUSE: Final = 30.0
_EXIT: Final = 5.0
"""Seconds for kopf to end its tasks."""


class _NoDifferences(kopf.DiffBaseStorage):
    """Kopf keeps what it has handled, and works out what is different, for handlers of a kind that are not used here.
    It would copy every object at every event for that."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[Any] | None = None) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Nothing: objects of others are not written to."""


class KopfFeed:
    """Fills the stores of some kinds from kopf's events, in the loop that called `run`."""

    def __init__(
        self, access: Access, client: Client, stores: Mapping[Kind, Store], pulse: Pulse, settings: Watching,
        *, namespaces: tuple[str, ...] = (),
    ) -> None:  # fmt: skip
        self._access = access
        self._client = client
        self._stores = dict(stores)
        self._pulse = pulse
        self._settings = settings
        self._namespaces = namespaces
        self._loop: asyncio.AbstractEventLoop
        self._stopping = False
        self._stop_kopf: Callable[[], object] = lambda: None
        self._streams: dict[str, dict[str, ClientResponse]] = {}
        """Plural → path → the watch's open response."""
        self._counted: dict[int, int] = {}
        self._prunes: dict[Kind, asyncio.TimerHandle] = {}
        self._pruning: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until cancelled."""
        self._loop = asyncio.get_running_loop()
        stop, ended = threading.Event(), asyncio.Event()
        thread = threading.Thread(target=self._in_thread, args=(stop, ended), name="kopf", daemon=True)
        thread.start()
        try:
            async with asyncio.TaskGroup() as group:
                listening = group.create_task(self._listen())
                await ended.wait()
                listening.cancel()
        finally:
            self._stopping = True
            stop.set()
            with contextlib.suppress(RuntimeError):  # kopf's loop is closed already
                self._stop_kopf()
            for timer in self._prunes.values():
                timer.cancel()
            for task in self._pruning:
                task.cancel()
            await asyncio.gather(*self._pruning, return_exceptions=True)
            await asyncio.to_thread(thread.join, _EXIT + 2.0)
        raise RuntimeError("kopf's thread has ended")

    # In kopf's thread

    def _in_thread(self, stop: threading.Event, ended: asyncio.Event) -> None:
        failures = 0
        try:
            while not stop.is_set():
                begun = time.monotonic()
                reason = "it has ended"
                try:
                    asyncio.run(self._operate(stop))
                except (Exception, CancelledError, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever it is
                    reason = f"{type(error).__name__}: {error}"
                if stop.is_set():
                    return
                failures = 0 if time.monotonic() - begun > 60.0 else failures + 1
                pause = min(_LONGEST_PAUSE, 0.5 * 2.0 ** min(failures, 8))
                log.warning("kopf is begun anew", reason=reason, seconds=round(pause, 1))
                for kind in self._stores:
                    self._pulse.trouble(kind.kind, reason)
                stop.wait(pause)
        finally:
            self._hand(ended.set)

    async def _operate(self, stop: threading.Event) -> None:
        # Not the thread's own event: kopf would wait for that in a thread, which would outlive a kopf that has failed,
        # and its loop could not be closed.
        flag = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._stop_kopf = lambda: loop.call_soon_threadsafe(flag.set)
        if stop.is_set():
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # kopf's own, about being embedded
            await kopf.operator(
                registry=self._registry(),
                settings=self._kopf_settings(),
                standalone=True,
                clusterwide=not self._namespaces,
                namespaces=self._namespaces,
                stop_flag=flag,
                identity=None,
            )

    def _kopf_settings(self) -> kopf.OperatorSettings:
        made = kopf.OperatorSettings()
        made.peering.standalone = True
        made.posting.enabled = False
        made.persistence.diffbase_storage = _NoDifferences()
        # The CRDs are there before the operator (the chart brings both), and what has none is told by readiness.
        made.scanning.disabled = True
        # This is for a process that is kopf's own: it would be killed.
        made.process.ultimate_exiting_timeout = None
        made.watching.server_timeout = int(self._settings.server_timeout)
        made.watching.client_timeout = self._settings.server_timeout + self._settings.inactivity_timeout
        made.watching.connect_timeout = self._settings.connect_timeout
        made.watching.inactivity_timeout = self._settings.inactivity_timeout
        made.watching.reconnect_backoff = 0.2
        made.watching.chunk_size = 500
        made.networking.request_timeout = self._settings.request_timeout
        made.networking.connect_timeout = self._settings.connect_timeout
        made.networking.error_backoffs = (0.2, 0.5, 1, 2, 3, 5)
        made.queueing.idle_timeout = 1.0
        made.queueing.exit_timeout = 1.0
        return made

    def _registry(self) -> kopf.OperatorRegistry:
        registry = kopf.OperatorRegistry()

        @kopf.on.login(registry=registry)
        async def login(**_: Any) -> kopf.AiohttpSession:
            return kopf.AiohttpSession(server=self._access.server, aiohttp_session=self._access.session(self._overhear))

        for kind in self._stores:
            handler = functools.partial(self._event, kind)
            kopf.on.event(kind.group, kind.version, kind.plural, registry=registry, id=kind.plural)(handler)
        return registry

    async def _event(self, kind: Kind, event: Mapping[str, Any], **_: Any) -> None:
        """The handler: hands on, and does nothing else."""
        body: Manifest = dict(event["object"])
        self._hand(functools.partial(self._take, kind, event["type"], body))

    async def _overhear(self, request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        """Sees kopf's requests: remembers the streams of watches, notices lists, and what goes wrong."""
        url = request.url
        plural = url.path.rpartition("/")[2]
        kind = next((kind for kind in self._stores if kind.plural == plural), None)
        try:
            response = await handler(request)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if kind is not None:
                self._pulse.trouble(kind.kind, str(error) or type(error).__name__)
            raise
        if kind is None:
            return response
        if response.status >= 400:
            self._pulse.trouble(kind.kind, f"{response.status} {response.reason}")
            return response
        if "watch" in url.query:
            self._streams.setdefault(plural, {})[url.path] = response
            self._pulse.hear(kind.kind)
        elif not url.query.get("continue"):
            self._hand(functools.partial(self._listed, kind))
        return response

    def _hand(self, call: Callable[[], None]) -> None:
        try:
            self._loop.call_soon_threadsafe(call)
        except RuntimeError:  # our loop is closed: the process ends
            self._stopping = True

    # In our loop

    def _take(self, kind: Kind, what: str | None, body: Manifest) -> None:
        if self._stopping:
            return
        self._pulse.hear(kind.kind)
        manifest = body | {"apiVersion": kind.api_version, "kind": kind.kind}
        if what == "DELETED":
            self._stores[kind].remove(manifest)
        else:
            self._stores[kind].put(manifest)

    def _listed(self, kind: Kind) -> None:
        if self._stopping:
            return
        self._pulse.hear(kind.kind)
        if (timer := self._prunes.pop(kind, None)) is not None:
            timer.cancel()
        self._prunes[kind] = self._loop.call_later(_SETTLE, self._begin_prune, kind)

    def _begin_prune(self, kind: Kind) -> None:
        self._prunes.pop(kind, None)
        task = self._loop.create_task(self._prune(kind))
        self._pruning.add(task)
        task.add_done_callback(self._pruning.discard)

    async def _prune(self, kind: Kind) -> None:
        """Compare the store with what there is: remove what is gone, and wait for what kopf has not told yet."""
        store = self._stores[kind]
        try:
            known = store.known()
            uids: dict[str, str] = {}
            for namespace in self._namespaces or ("",):
                items, _ = await self._client.list(kind, namespace=namespace, metadata_only=True)
                uids |= {key_of(item): uid_of(item) for item in items}
        except (ApiError, aiohttp.ClientError, TimeoutError, OSError) as error:
            log.debug("names cannot be listed", kind=kind.kind, reason=str(error) or type(error).__name__)
            self._prunes[kind] = self._loop.call_later(1.0, self._begin_prune, kind)
            return
        missing = [key for key, uid in uids.items() if (found := store.get(key)) is None or uid_of(found) != uid]
        store.keep(uids, known)
        if missing:
            # Its events are still on their way.
            self._prunes.setdefault(kind, self._loop.call_later(0.5, self._begin_prune, kind))
        else:
            self._pulse.listed(kind.kind)

    async def _listen(self) -> None:
        """Every now and then: from which watches have bytes come, bookmarks included?"""
        while True:
            await asyncio.sleep(_LISTEN)
            for kind in self._stores:
                streams = self._streams.get(kind.plural, {})
                for path, response in list(streams.items()):
                    count = response.content.total_bytes
                    if response.closed:
                        streams.pop(path, None)
                        self._counted.pop(id(response), None)
                    elif self._counted.get(id(response)) != count:
                        self._counted[id(response)] = count
                        self._pulse.hear(kind.kind)
