"""Approvals as ApprovalRequest objects of a cluster: gateways ask and use grants, people answer, the operator counts.

Names follow from the request, so that replicas that ask at once make one question: who comes second finds it there. A
grant is used by a write that the API server takes from one only, because it names the resourceVersion that it changes.
Nothing is counted here: what the status does not say is not so.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, Final, TypeVar, cast

from ostiary_api import counting
from ostiary_api.approval import ApprovalRequest
from ostiary_api.connection import Connection
from ostiary_api.counting import OPEN, NotGranted, state_of
from ostiary_gateway.approvals import objects
from ostiary_gateway.approvals.local import MAX_OPEN
from ostiary_gateway.approvals.objects import Manifest
from ostiary_gateway.approvals.store import ApprovalsError, Step, TooManyQuestions, Transition
from ostiary_gateway.kube.client import KubeClient
from ostiary_gateway.kube.errors import ApiError, KubeError, Unreachable
from ostiary_gateway.kube.reflector import Change, Key, Reflector
from ostiary_gateway.kube.resources import APPROVAL_REQUESTS, name_of
from ostiary_gateway.logging import get_logger

T = TypeVar("T")

log = get_logger(__name__)

MANAGER: Final = "ostiary-gateway"
"""Field manager of a gateway's writes."""
FIRST: Final = 5.0
"""Seconds that the first questions of a process wait until it has read what is there."""
TRIES: Final = 8
"""Names that are tried, and writes that meet another's."""


class ClusterApprovals:
    """The questions of one gateway in its namespace. `start` it, `close` it.

    `unusable`, if not empty, says why nobody may be asked now: the operator found that answers could be forged.
    `tell` hears of what this process did, and of what became of the questions that it asked.
    """

    def __init__(
        self,
        client: KubeClient,
        namespace: str,
        gateway: str,
        *,
        tell: Callable[[Transition], None] = lambda _: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.unusable = ""
        self._client = client
        self._namespace = namespace
        self._gateway = gateway
        self._tell = tell
        self._clock = clock
        self._reflector = Reflector(
            client, APPROVAL_REQUESTS, namespace, label_selector=objects.selector(gateway), on_change=self._changed
        )
        self._known: dict[Key, ApprovalRequest] = {}
        self._of_hash: defaultdict[str, set[Key]] = defaultdict(set)
        self._mine: set[str] = set()
        """Uids of the questions that this process asked, as long as they are open."""
        self._waiting: defaultdict[Key, set[asyncio.Future[None]]] = defaultdict(set)
        self._writes: set[asyncio.Task[object]] = set()
        self._following: asyncio.Task[None] | None = None
        self._closed = False

    def start(self) -> None:
        """Follows the questions from now on. What the API server does is survived."""
        self._following = asyncio.get_running_loop().create_task(self._reflector.run())

    @property
    def pending(self) -> int:
        """Questions of this gateway that wait for an answer."""
        return sum(state_of(each.status) == "Pending" for each in self._known.values())

    # -- Approvals

    async def find(self, connection: Connection, hash: str) -> ApprovalRequest | None:
        await self._ready()
        keys = self._of_hash.get(hash, ())
        found = [each for each in map(self._known.__getitem__, keys) if objects.asks(each, connection, hash)]
        still = [each for each in found if self._open(each)]
        # With a grant before one that waits; of several the oldest, so that all replicas take the same.
        still.sort(key=lambda each: (state_of(each.status) != "Approved", objects.number_of(each.metadata.name)))
        return still[0] if still else None

    async def ask(self, draft: ApprovalRequest) -> ApprovalRequest:
        await self._ready()
        spec = draft.spec
        who, where = spec.requester.username, spec.connection_ref.name
        waiting = sum(
            each.spec.requester.username == who and each.spec.connection_ref.name == where
            for each in self._known.values()
            if self._open(each)
        )
        if waiting >= MAX_OPEN:
            raise TooManyQuestions(f"{who} has {MAX_OPEN} open questions at {where}, the most that are kept")
        return await self._write(self._ask(draft))

    async def take(self, request: ApprovalRequest, session: str) -> ApprovalRequest | None:
        await self._ready()
        return await self._write(self._take(request, session))

    async def wait(self, request: ApprovalRequest, seconds: float) -> ApprovalRequest:
        key = (request.metadata.namespace, request.metadata.name)
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            now = self._known.get(key)
            left = deadline - asyncio.get_running_loop().time()
            if now is None or now.metadata.uid != request.metadata.uid:
                return request
            if self._closed or left <= 0 or state_of(now.status) != "Pending":
                return now
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting[key].add(future)
            try:
                await asyncio.wait((future,), timeout=left)
            finally:
                self._waiting[key].discard(future)
                if not self._waiting[key]:
                    del self._waiting[key]

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for key in list(self._waiting):
            self._wake(key)
        if self._following is not None:
            self._following.cancel()
        await asyncio.gather(*self._writes, *filter(None, (self._following,)), return_exceptions=True)

    # -- what is there

    async def _ready(self) -> None:
        if self._closed:
            raise ApprovalsError("the approvals are closed: the gateway is shutting down")
        if self.unusable:
            raise ApprovalsError(self.unusable)
        if not self._reflector.synced.is_set():
            try:
                async with asyncio.timeout(FIRST):
                    await self._reflector.synced.wait()
            except TimeoutError:
                why = self._reflector.problem or "it has not answered yet"
                raise ApprovalsError(f"the API server does not say what is asked already: {why}") from None

    def _open(self, request: ApprovalRequest) -> bool:
        """Not closed, and no grant whose time is over by this clock: the operator may be away and not say so."""
        status = request.status
        if status is None or state_of(status) != "Approved":
            return state_of(status) in OPEN
        return status.grant_expires_at is not None and self._clock() < status.grant_expires_at.timestamp()

    def _changed(self, change: Change, item: Manifest) -> None:
        objects.light(item)
        if change == "DELETED":
            self._forget(name_of(item), str(item["metadata"].get("uid", "")))
        elif (found := objects.parsed(item)) is None:
            log.warning("an ApprovalRequest is passed over: it is not as this version of Ostiary makes them",
                        name="/".join(name_of(item)))  # fmt: skip
        else:
            self._learn(found)

    def _learn(self, found: ApprovalRequest) -> ApprovalRequest:
        """What is newer of it and of what is known."""
        key = (found.metadata.namespace, found.metadata.name)
        old = self._known.get(key)
        if old is not None and old.metadata.uid == found.metadata.uid:
            if objects.version(found) <= objects.version(old):
                return old
            self._became(old, found)
        self._known[key] = found
        self._of_hash[found.spec.request.hash].add(key)
        self._wake(key)
        return found

    def _forget(self, key: Key, uid: str) -> None:
        old = self._known.get(key)
        if old is None or old.metadata.uid != uid:
            return
        del self._known[key]
        self._mine.discard(uid)
        hash = old.spec.request.hash
        self._of_hash[hash].discard(key)
        if not self._of_hash[hash]:
            del self._of_hash[hash]
        self._wake(key)

    def _became(self, old: ApprovalRequest, new: ApprovalRequest) -> None:
        """Tells what others have done with a question of ours."""
        if new.metadata.uid not in self._mine:
            return
        counted = {each.approver for each in old.status.approvals} if old.status is not None else set()
        for each in new.status.approvals if new.status is not None else ():
            if each.approver not in counted:
                self._note("Answered", new, by=each.approver, verdict=each.verdict, reason=each.reason)
        before, after = state_of(old.status), state_of(new.status)
        if after == before:
            return
        if after == "Approved":
            self._note("Approved", new, by=", ".join(counting.approvers(new)))
        elif after == "Denied" and new.status is not None:
            denial = next((each for each in new.status.approvals if each.verdict == "Deny"), None)
            self._note("Denied", new, by=denial.approver if denial else "", reason=denial.reason if denial else "")
        elif after == "Expired":
            self._note("Expired", new)
        if after not in OPEN:
            self._mine.discard(new.metadata.uid)

    def _note(self, step: Step, request: ApprovalRequest, **more: str) -> None:
        self._tell(Transition(self._clock(), step, request, **more))

    def _wake(self, key: Key) -> None:
        for future in self._waiting.get(key, ()):
            if not future.done():
                future.set_result(None)

    # -- writes

    async def _write(self, work: Coroutine[Any, Any, T]) -> T:
        """What was begun is finished and told, though nobody waits for it any more."""
        task = asyncio.get_running_loop().create_task(work)
        self._writes.add(cast("asyncio.Task[object]", task))
        task.add_done_callback(self._written)
        return await asyncio.shield(task)

    def _written(self, task: asyncio.Task[T]) -> None:
        self._writes.discard(cast("asyncio.Task[object]", task))
        if not task.cancelled():
            task.exception()  # whoever waits has it

    async def _ask(self, draft: ApprovalRequest) -> ApprovalRequest:
        hash = draft.spec.request.hash
        known = [each for each in map(self._known.__getitem__, self._of_hash.get(hash, ())) if _same(each, draft)]
        for each in known:
            if self._open(each):
                return each
        number = max((objects.number_of(each.metadata.name) for each in known), default=0)
        for _ in range(TRIES):
            number += 1
            manifest = objects.manifest(draft, self._gateway, number)
            try:
                made = await self._client.create(APPROVAL_REQUESTS, self._namespace, manifest)
            except ApiError as problem:
                if not problem.already_exists:
                    raise ApprovalsError(_refused("the question cannot be put", problem)) from problem
                there = await self._get(objects.name(hash, number))
                if there is not None and _same(there, draft) and self._open(there):
                    return self._learn(there)
                # Closed, or another request's with the same name: the next number is free or says the same.
                continue
            except KubeError as problem:
                # If it came to the API server all the same, the next try finds it there.
                raise ApprovalsError(f"the question cannot be put: {problem}") from problem
            objects.light(made)
            asked = objects.parsed(made)
            if asked is None:
                raise ApprovalsError("the API server's CRD of ApprovalRequest is of another version: upgrade it")
            self._mine.add(asked.metadata.uid)
            self._note("Asked", asked, by=asked.spec.requester.username)
            return self._learn(asked)
        raise ApprovalsError(f"the names of {TRIES} questions from {objects.name(hash, number)} back are taken")

    async def _take(self, request: ApprovalRequest, session: str) -> ApprovalRequest | None:
        key = (request.metadata.namespace, request.metadata.name)
        now: ApprovalRequest | None = self._known.get(key, request)
        for _ in range(TRIES):
            if now is None or not _same(now, request) or now.metadata.uid != request.metadata.uid:
                return None
            try:
                patch = self._use(now, session)
            except NotGranted:
                return None
            if why := objects.unproven(now):
                raise ApprovalsError(f"{now.metadata.name} says that it is approved, but {why}")
            try:
                answer = await self._client.patch(
                    APPROVAL_REQUESTS, *key, patch, subresource="status", field_manager=MANAGER
                )
            except ApiError as problem:
                now = await self._get(key[1])
                if now is not None and state_of(now.status) == "Approved" and not problem.conflict:
                    raise ApprovalsError(_refused("the grant cannot be used", problem)) from problem
                continue
            except KubeError as problem:
                if not isinstance(problem, Unreachable) or not problem.sent:
                    raise ApprovalsError(f"the grant cannot be used: {problem}") from problem
                used = await self._used_after_all(key[1], session, problem)
            else:
                objects.light(answer)
                used = objects.parsed(answer) or now
            self._mine.discard(used.metadata.uid)
            self._note("Consumed", used, by=session)
            return self._learn(used)
        return None

    def _use(self, request: ApprovalRequest, session: str) -> Manifest:
        """A merge patch that only holds for this resourceVersion."""
        moment = datetime.fromtimestamp(int(self._clock()), UTC)
        status = counting.consumed(request, moment, by=f"session {session}")
        # Word for word: the API server takes it only if the other conditions stay as they are.
        written = status.model_dump(mode="json", by_alias=True, exclude_unset=True)
        return {
            "metadata": {"uid": request.metadata.uid, "resourceVersion": request.metadata.resource_version},
            "status": {name: written[name] for name in ("conditions", "consumedAt", "state")},
        }

    async def _used_after_all(self, name: str, session: str, problem: Unreachable) -> ApprovalRequest:
        """The write got no answer: it is done if the object says that this session did it. Raises ApprovalsError."""
        found = await self._get(name)
        if found is not None and found.status is not None:
            used = next((each.message for each in found.status.conditions if each.type == "Consumed"), "")
            if used.endswith(f"session {session}."):
                return found
        raise ApprovalsError(f"the API server did not say whether the grant {name} was used, and it may be: {problem}")

    async def _get(self, name: str) -> ApprovalRequest | None:
        try:
            item = await self._client.get(APPROVAL_REQUESTS, self._namespace, name)
        except ApiError as problem:
            if problem.not_found:
                return None
            raise ApprovalsError(_refused(f"{name} cannot be read", problem)) from problem
        except KubeError as problem:
            raise ApprovalsError(f"{name} cannot be read: {problem}") from problem
        objects.light(item)
        return objects.parsed(item)


def _same(one: ApprovalRequest, other: ApprovalRequest) -> bool:
    return one.spec.request.hash == other.spec.request.hash and one.spec.connection_ref == other.spec.connection_ref


def _refused(what: str, problem: ApiError) -> str:
    return f"{what}, the API server refuses: {problem}"
