"""The operator's part in approvals, on a real API server: what it does about each ApprovalRequest, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from ostiary_gateway.kube.access import Access, Login
from ostiary_operator.approval_work import Approving
from ostiary_operator.kube.client import ApiError
from ostiary_operator.reconcile.approvals import Retention


class Requests:
    """Requests as the operator's client makes them."""

    def __init__(self, access: Access, session: aiohttp.ClientSession) -> None:
        self.access = access
        self.session = session

    async def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        head = {"Authorization": f"Bearer {self.access.token}", "Content-Type": content_type, **(headers or {})}
        data = None if body is None else json.dumps(body)
        url = self.access.server + path
        async with self.session.request(method, url, params=query, data=data, headers=head) as answer:
            told = json.loads(await answer.read())
            if answer.status >= 400:
                raise ApiError(answer.status, str(told.get("reason", "")), str(told.get("message", "")))
            return told


@asynccontextmanager
async def requests(access: Access) -> AsyncIterator[Requests]:
    connector = aiohttp.TCPConnector(ssl=Login(access).context())
    async with aiohttp.ClientSession(connector=connector) as session:
        yield Requests(access, session)
    await asyncio.sleep(0.1)  # TLS connections say good-bye


@asynccontextmanager
async def counting(
    access: Access, namespace: str, system: str, retention: Retention | None = None
) -> AsyncIterator[Approving]:
    """Counts in this namespace, by a watch, until it is left."""
    async with requests(access) as api:
        approving = Approving(api, system, retention)
        task = asyncio.create_task(_follow(api, namespace, approving))
        try:
            yield approving
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _follow(api: Requests, namespace: str, approving: Approving) -> None:
    path = f"/apis/ostiary.dev/v1alpha1/namespaces/{namespace}/approvalrequests"
    known: dict[str, Any] = {}
    timers: dict[str, asyncio.TimerHandle] = {}
    due: asyncio.Queue[str] = asyncio.Queue()

    async def work() -> None:
        while True:
            name = await due.get()
            if name in known and (seconds := await approving(known[name])) is not None:
                timers[name] = asyncio.get_running_loop().call_later(max(0.05, seconds), due.put_nowait, name)

    listed = await api.request("GET", path)
    known |= {each["metadata"]["name"]: each for each in listed["items"]}
    for name in known:
        due.put_nowait(name)
    worker = asyncio.create_task(work())
    query = {"watch": "true", "resourceVersion": listed["metadata"]["resourceVersion"]}
    head = {"Authorization": f"Bearer {api.access.token}"}
    timeout = aiohttp.ClientTimeout(total=None)
    try:
        url = api.access.server + path
        async with api.session.get(url, params=query, headers=head, timeout=timeout, read_bufsize=2**22) as events:
            async for line in events.content:
                event = json.loads(line)
                name = event["object"]["metadata"]["name"]
                known[name] = event["object"]
                if event["type"] == "DELETED":
                    del known[name]
                due.put_nowait(name)
    finally:
        worker.cancel()
        for timer in timers.values():
            timer.cancel()
        await asyncio.gather(worker, return_exceptions=True)
