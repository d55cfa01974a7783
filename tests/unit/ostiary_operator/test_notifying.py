"""What the operator keeps of what was told, and when it looks again. With a real API server: tests/e2e."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, cast

import pytest
from support.approvals import NOON, question

from ostiary_notify.notifier import Notifier
from ostiary_notify.sender import Message, Result, Sender
from ostiary_notify.settings import Notifications
from ostiary_operator.kube.client import ApiError
from ostiary_operator.notifying import Notifying

SETTINGS = Notifications.model_validate(
    {"receivers": [{"name": "oncall", "type": "Slack", "url": "https://a.example"}]}
)


class Server:
    def __init__(self, refuses: int = 0) -> None:
        self.asked: list[Any] = []
        self.refuses = refuses

    async def request(self, method: str, path: str, **more: Any) -> Any:
        self.asked.append((method, path.rpartition("/namespaces/")[2], more["body"]))
        if self.refuses:
            raise ApiError(self.refuses, "Refused", f"status {self.refuses}")


class Work:
    """What else is done."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def __call__(self, manifest: dict[str, Any]) -> float | None:
        self.seen.append(manifest["metadata"]["name"])
        return 600.0

    async def sweep(self, manifests: Iterable[dict[str, Any]]) -> int:
        return len(list(manifests))


class Post:
    def __init__(self) -> None:
        self.done: list[Callable[[Result], None]] = []

    def offer(self, receiver: str, message: Message, done: Callable[[Result], None]) -> bool:
        self.done.append(done)
        return True


def stored(namespace: str = "shop", name: str = "apr-1") -> dict[str, Any]:
    found = question(name).to_manifest()
    found["metadata"] |= {"namespace": namespace, "uid": "u", "resourceVersion": "7"}
    return found


def desk(server: Server) -> tuple[Notifying, Post, list[str]]:
    post, woken = Post(), list[str]()
    notifier = Notifier(SETTINGS, cast(Sender, post), woken.append, cluster=True, clock=lambda: NOON)
    return Notifying(Work(), notifier, server, "ostiary-system"), post, woken


async def test_what_was_told_is_written_for_the_version_that_was_read() -> None:
    server = Server()
    work, post, woken = desk(server)
    assert await work(stored()) == 600
    assert server.asked == []
    post.done[0]("sent")
    assert woken == ["shop/apr-1"]
    assert await work(stored()) == 600
    [(method, path, body)] = server.asked
    assert (method, path) == ("PATCH", "shop/approvalrequests/apr-1/status")
    assert body == {
        "metadata": {"uid": "u", "resourceVersion": "7"},
        "status": {"told": [{"receiver": "oncall", "steps": ["Asked"], "answers": 0}]},
    }


@pytest.mark.parametrize("status", [404, 409])
async def test_who_was_quicker_is_looked_at_again_and_nothing_is_told_twice(status: int) -> None:
    server = Server(status)
    work, post, _ = desk(server)
    await work(stored())
    post.done[0]("sent")
    assert await work(stored()) == 1.0
    server.refuses = 0
    assert await work(stored()) == 600
    assert len(post.done) == 1


async def test_the_operator_s_own_request_is_nobody_s_news() -> None:
    server = Server()
    work, post, _ = desk(server)
    await work(stored("ostiary-system", "ostiary-selfcheck"))
    await work({**stored(), "spec": {"nonsense": True}})
    assert post.done == []
    assert await work.sweep([stored()]) == 1
