"""Approvals in the gateway's data directory: one SQLite file, shared by all processes that serve from it.

Every change is one transaction that is on the disk when it returns (journal WAL, synchronous FULL), and starts with
the write lock, so that of several processes one only can use a grant. States are worked out by `ostiary_api.counting`.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeVar, cast

from ostiary_api import counting
from ostiary_api.approval import ApprovalRequest, ApproverDecision, Verdict
from ostiary_api.connection import Connection
from ostiary_api.counting import OPEN, NotGranted, State, state_of
from ostiary_gateway.approvals import files
from ostiary_gateway.approvals.store import ApprovalsError, Step, TooManyQuestions, Transition

T = TypeVar("T")

LOOK: Final = 0.2
"""Seconds between looks for what other processes have changed, while somebody waits."""
MAX_OPEN: Final = 50
"""Questions that one subject may have open at one Connection: people must be able to read them."""
MAX_ANSWERS: Final = 32


class Refused(Exception):
    """An answer that does not count. `code` is a word for programs, the message is for the person."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Answer:
    """What a person said. `acting` says in what capacity; `operator`: by right of owning the gateway."""

    approver: str
    verdict: Verdict
    reason: str
    acting: str = ""
    operator: bool = False
    uid: int | None = None


class LocalApprovals:
    """The store on one file. `open` it; methods belong to the event loop that opened it.

    `tell` hears of every transition that this process made, after it is durable.
    """

    def __init__(self, path: Path, tell: Callable[[Transition], None], clock: Callable[[], float]) -> None:
        self.pending = 0
        """Questions that are open, as seen last."""
        self._path = path
        self._tell = tell
        self._clock = clock
        self._connection: sqlite3.Connection
        self._thread = ThreadPoolExecutor(1, "approvals")
        self._waiting: dict[tuple[str, str], set[asyncio.Future[None]]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._changes: set[asyncio.Task[object]] = set()
        self._closed = False

    @classmethod
    async def open(
        cls, path: Path, *, tell: Callable[[Transition], None] = lambda _: None, clock: Callable[[], float] = time.time
    ) -> LocalApprovals:
        """Opens or makes the file. Raises ApprovalsError."""
        store = cls(path, tell, clock)
        try:
            await store._run(store._open)
            await store.sweep()
        except BaseException:
            store._thread.shutdown(wait=False)
            raise
        return store

    # -- Approvals

    async def find(self, connection: Connection, hash: str) -> ApprovalRequest | None:
        return await self._change(lambda work: work.open_of(connection.metadata.namespace, hash))

    async def ask(self, draft: ApprovalRequest) -> ApprovalRequest:
        return await self._change(lambda work: work.ask(draft))

    async def take(self, request: ApprovalRequest, session: str) -> ApprovalRequest | None:
        return await self._change(lambda work: work.take(request, session))

    async def wait(self, request: ApprovalRequest, seconds: float) -> ApprovalRequest:
        key = (request.metadata.namespace, request.metadata.name)
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiting = self._waiting.setdefault(key, set())
            waiting.add(future)
            try:
                if self._closed:
                    return request
                now = await self.get(*key)
                left = deadline - asyncio.get_running_loop().time()
                if now is None or state_of(now.status) != "Pending" or left <= 0:
                    return now if now is not None else request
                self._look()
                await asyncio.wait((future,), timeout=left)
            finally:
                waiting.discard(future)
                if not waiting and self._waiting.get(key) is waiting:
                    del self._waiting[key]

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for key in list(self._waiting):
            self._wake(key)
        if self._looking is not None:
            self._looking.cancel()
        await asyncio.gather(*self._changes, *filter(None, (self._looking,)), return_exceptions=True)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown(wait=False)

    # -- for people

    async def get(self, namespace: str, name: str) -> ApprovalRequest | None:
        """One question, as it stands now."""
        return await self._change(lambda work: work.get(namespace, name))

    async def answer(self, namespace: str, name: str, answer: Answer) -> ApprovalRequest:
        """Counts an answer. Raises Refused, or KeyError if there is no such question."""
        return await self._change(lambda work: work.answer(namespace, name, answer))

    async def listed(self, *, closed: bool = False, limit: int = 200) -> list[files.Kept]:
        """The open questions, the newest first; with `closed` all of them."""
        return await self._change(lambda work: files.kept(work.connection, closed=closed, limit=limit))

    async def matching(self, name: str) -> list[files.Kept]:
        """Those whose name begins so, in any namespace, with or without `apr-`."""
        return await self._change(lambda work: files.matching(work.connection, name))

    async def sweep(self) -> None:
        """Closes what has expired, and forgets what was closed long ago."""
        await self._change(lambda work: work.sweep())

    # -- inside

    def _open(self) -> None:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._path.chmod(0o600)
        self._connection = files.connect(self._path)

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except (sqlite3.Error, OSError, ValueError) as problem:
            raise ApprovalsError(f"the approvals in {self._path} cannot be read or written: {problem}") from problem

    async def _change(self, change: Callable[[_Work], T]) -> T:
        """One transaction; its transitions are told and who waits is woken once it is durable."""
        if self._closed:
            raise ApprovalsError("the approvals are closed: the gateway is shutting down")

        def work() -> tuple[T, _Work, int]:
            with _transaction(self._connection):
                done = _Work(self._connection, self._clock())
                result = change(done)
            return result, done, files.pending(self._connection)

        task = asyncio.get_running_loop().create_task(self._finish(work))
        self._changes.add(cast("asyncio.Task[object]", task))
        task.add_done_callback(self._changed)
        # What was begun is finished and told, though nobody waits for it any more.
        return await asyncio.shield(task)

    def _changed(self, task: asyncio.Task[T]) -> None:
        self._changes.discard(cast("asyncio.Task[object]", task))
        if not task.cancelled():
            task.exception()  # whoever waits has it

    async def _finish(self, work: Callable[[], tuple[T, _Work, int]]) -> T:
        result, done, self.pending = await self._run(work)
        for transition in done.transitions:
            self._tell(transition)
            self._wake((transition.request.metadata.namespace, transition.request.metadata.name))
        return result

    def _wake(self, key: tuple[str, str]) -> None:
        for future in self._waiting.get(key, ()):
            if not future.done():
                future.set_result(None)

    def _look(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.get_running_loop().create_task(self._look_around())

    async def _look_around(self) -> None:
        """Other processes and the clock change what is waited for too."""
        while self._waiting and not self._closed:
            await asyncio.sleep(LOOK)
            try:
                await self.sweep()
                pending = await self._run(lambda: files.pending_names(self._connection))
            except ApprovalsError:
                pending = set()  # who waits shall find out
            for key in list(self._waiting):
                if key not in pending:
                    self._wake(key)


class _Work:
    """What is done inside one transaction."""

    def __init__(self, connection: sqlite3.Connection, now: float) -> None:
        self.connection = connection
        self.now = now
        self.moment = datetime.fromtimestamp(now, UTC)
        self.transitions: list[Transition] = []

    def get(self, namespace: str, name: str) -> ApprovalRequest | None:
        found = files.load(self.connection, namespace, name)
        return None if found is None else self._counted(found)

    def open_of(self, namespace: str, hash: str) -> ApprovalRequest | None:
        name = files.open_name(self.connection, namespace, hash)
        found = None if name is None else self.get(namespace, name)
        return found if found is not None and state_of(found.status) in OPEN else None

    def ask(self, draft: ApprovalRequest) -> ApprovalRequest:
        namespace = draft.metadata.namespace
        found = self.open_of(namespace, draft.spec.request.hash)
        if found is not None:
            return found
        who, where = draft.spec.requester.username, draft.spec.connection_ref.name
        if files.open_count(self.connection, namespace, where, who) >= MAX_OPEN:
            raise TooManyQuestions(f"{who} has {MAX_OPEN} open questions at {where}, the most that are kept")
        request = self._counted(self._named(draft), quiet=True)
        files.insert(self.connection, request, state_of(request.status))
        self._note("Asked", request, by=who)
        return request

    def _named(self, draft: ApprovalRequest) -> ApprovalRequest:
        while files.load(self.connection, draft.metadata.namespace, draft.metadata.name) is not None:
            draft = draft.model_copy(update={"metadata": draft.metadata.model_copy(update={"name": new_name()})})
        return draft

    def take(self, request: ApprovalRequest, session: str) -> ApprovalRequest | None:
        now = self.get(request.metadata.namespace, request.metadata.name)
        if now is None or now.spec.request.hash != request.spec.request.hash:
            return None
        try:
            status = counting.consume(now, self.moment)
        except NotGranted:
            return None
        used = now.model_copy(update={"status": status})
        self._save(used)
        self._note("Consumed", used, by=session)
        return used

    def answer(self, namespace: str, name: str, answer: Answer) -> ApprovalRequest:
        request = self.get(namespace, name)
        if request is None:
            raise KeyError(name)
        self._check(request, answer)
        said = ApproverDecision(approver=answer.approver, verdict=answer.verdict, reason=answer.reason)
        request = counting.with_answer(request, said)
        files.insert_answer(
            self.connection, namespace, name, answer.approver, answer.acting, answer.operator, answer.uid, self.now
        )
        self._note(
            "Answered", request, by=answer.approver, verdict=answer.verdict, reason=answer.reason, acting=answer.acting
        )
        return self._counted(request, changed=True)

    def _check(self, request: ApprovalRequest, answer: Answer) -> None:
        """The same rules as the API server enforces in a cluster."""
        state = state_of(request.status)
        if state != "Pending":
            raise Refused("closed", f"{request.metadata.name} is closed: {_CLOSED[state]}")
        if counting.is_own(request, answer.approver):
            raise Refused("own", f"{answer.approver} asked for this, or it was asked for on their behalf.")
        if any(each.approver == answer.approver for each in request.spec.decisions):
            raise Refused("answered", f"{answer.approver} has answered already; an answer is not changed.")
        if answer.operator and files.operator_answered(
            self.connection, request.metadata.namespace, request.metadata.name
        ):
            raise Refused("answered", "root and the gateway's own user count as one person, and one of them answered.")
        if len(request.spec.decisions) >= MAX_ANSWERS:
            raise Refused("closed", f"{request.metadata.name} has {MAX_ANSWERS} answers, the most that are kept.")

    def sweep(self) -> None:
        for namespace, name in files.due(self.connection, self.now):
            self.get(namespace, name)
        files.forget(self.connection, self.now)

    def _counted(self, request: ApprovalRequest, *, changed: bool = False, quiet: bool = False) -> ApprovalRequest:
        before = state_of(request.status)
        status = counting.count(request, self.moment)
        if status == request.status and not changed:
            return request
        request = request.model_copy(update={"status": status})
        if quiet:
            return request
        self._save(request)
        after = state_of(status)
        if after == "Approved" != before:
            self._note("Approved", request, by=", ".join(counting.approvers(request)))
        elif after == "Denied" != before:
            denial = next(each for each in status.approvals if each.verdict == "Deny")
            self._note("Denied", request, by=denial.approver, reason=denial.reason)
        elif after == "Expired" != before:
            self._note("Expired", request)
        return request

    def _save(self, request: ApprovalRequest) -> None:
        files.update(self.connection, request, state_of(request.status))

    def _note(self, step: Step, request: ApprovalRequest, **more: str) -> None:
        self.transitions.append(Transition(self.now, step, request, **more))


_CLOSED: Final[dict[State, str]] = {
    "Approved": "it is approved already.",
    "Denied": "it was denied.",
    "Expired": "nobody answered in time, or the grant was not used in time.",
    "Consumed": "it was approved, and the request ran.",
}

_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"


def new_name() -> str:
    """`apr-` and eight characters: short enough to type; it opens nothing, so it need not be unguessable."""
    return "apr-" + "".join(secrets.choice(_ALPHABET) for _ in range(8))


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("begin immediate")
    try:
        yield
        connection.execute("commit")
    except BaseException:
        if connection.in_transaction:
            connection.execute("rollback")
        raise
