"""The service: it says how it is, starts its tasks again, and ends when it is told."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from click.testing import CliRunner
from support.servers import free_port

from ostiary_cli.main import cli
from ostiary_gateway.audit.event import SessionOpened
from ostiary_gateway.audit.recorder import FileRecorder
from ostiary_store.model import ALL, SessionQuery, StoreError
from ostiary_store.opening import open_store
from ostiary_store.service import run, tasks
from ostiary_store.service.counts import MOST_RECORDS, Counts, registry
from ostiary_store.service.run import CannotServe
from ostiary_store.service.tasks import Task, supervised
from ostiary_store.settings import parse
from ostiary_store.sqlite.store import SqliteStore


@asynccontextmanager
async def serving(settings: str, folder: Path) -> AsyncIterator[asyncio.Event]:
    stopping = asyncio.Event()
    task = asyncio.create_task(run.serve(parse(settings, folder=folder), stopping))
    try:
        yield stopping
    finally:
        stopping.set()
        async with asyncio.timeout(20):
            await task


async def get(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession() as session:
        for _ in range(200):
            try:
                async with session.get(f"http://127.0.0.1:{port}{path}") as answer:
                    return answer.status, await answer.text()
            except aiohttp.ClientConnectionError:
                await asyncio.sleep(0.05)
    raise AssertionError("nobody answers")


async def test_it_says_how_it_is(tmp_path: Path) -> None:
    port = free_port()
    async with serving(f"store: {{url: 'sqlite:{tmp_path}/store.db'}}\nadmin: 127.0.0.1:{port}", tmp_path):
        assert await get(port, "/healthz") == (200, "ok\n")
        for _ in range(100):
            status, text = await get(port, "/readyz")
            if status == 200:
                break
            await asyncio.sleep(0.05)
        assert re.search(r"\[\+\] store: it answers, since 20", text)
        assert "nothing was taken in yet" in text
        status, text = await get(port, "/metrics")
        assert status == 200
        assert 'ostiary_store_task_running{task="health"} 1.0' in text


async def test_a_database_that_is_away_is_waited_for(tmp_path: Path) -> None:
    port, nobody = free_port(), free_port()
    settings = f"store: {{url: 'postgresql://me@127.0.0.1:{nobody}/x'}}\nadmin: 127.0.0.1:{port}"
    async with serving(settings, tmp_path):
        status, text = await get(port, "/readyz")
        assert status == 503
        assert "[-] store" in text
        assert (await get(port, "/healthz"))[0] == 200


async def test_it_follows_the_records_of_this_machine(tmp_path: Path) -> None:
    recorder = await FileRecorder.open(tmp_path / "data" / "audit.db")
    session = recorder.session_opened(
        SessionOpened("s1", time.time(), "prod/app", "Postgres", {"username": "planner"}, {}, {}, "Full")
    )
    port = free_port()
    settings = f"store: {{url: 'sqlite:{tmp_path}/store.db'}}\nadmin: 127.0.0.1:{port}\nfollow: [data]"
    async with serving(settings, tmp_path):
        session.closed(time.time(), "done", 0)
        for _ in range(200):
            text = (await get(port, "/metrics"))[1]
            if re.search(r"ostiary_store_follow_waiting_bytes\{.*\} 0.0", text) and recorder.position > 1000:
                break
            await asyncio.sleep(0.05)
        await recorder.close()
    store = await SqliteStore.open(tmp_path / "store.db")
    assert (await store.session("s1", ALL)).username == "planner"
    await store.close()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("store: {urlEnv: OSTIARY_NOT_SET}", "OSTIARY_NOT_SET is not set"),
        ("store: {urlFile: none}", "none"),
        (
            "store: {url: 'sqlite:x'}\nlisten: 127.0.0.1:0\ngateways: {tokens: none, insecure: true}",
            "gateways.tokens",
        ),
        (
            "store: {url: 'sqlite:x'}\nlisten: 127.0.0.1:0\ngateways: {tokens: t}\ntls: {cert: none, key: none}",
            "tls: ",
        ),
        ("store: {url: 'sqlite:x'}\nlisten: 127.0.0.1:0\ngateways: {tokenReview: true, insecure: true}", "no pod"),
        ("store: {url: 'sqlite:x'}\nrecordings: {bucket: 'file://x/y'}", "recordings: "),
    ],
)
async def test_what_cannot_be_served_is_named(
    settings: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    (tmp_path / "t").write_text("")
    with pytest.raises(CannotServe, match=said):
        await run.serve(parse(settings, folder=tmp_path), asyncio.Event())


async def test_a_task_that_fails_is_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "BACKOFF", (0.001, 0.01))
    counts = Counts()
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs < 4:
            raise ValueError("not yet")
        await asyncio.Event().wait()

    running = asyncio.create_task(supervised(Task("work", work), counts))
    async with asyncio.timeout(5):
        while runs < 4:
            await asyncio.sleep(0.001)
    assert counts.tasks["work"] == (True, 3)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def test_metrics_do_not_grow_without_end() -> None:
    counts = Counts()
    for number in range(MOST_RECORDS + 50):
        counts.heard(number.to_bytes(16, "big"), "prod/app", f"pod-{number}", number)
    assert len(counts.records) == MOST_RECORDS
    counts.heard(bytes(15) + b"\xff", "prod/app", "pod-1049", 7)  # a pod that was started anew
    families = {family.name: family for family in registry(counts, "1").collect()}
    assert len(families["ostiary_store_record_bytes"].samples) == MOST_RECORDS - 1


def test_settings_that_are_wrong_are_said_with_their_place(tmp_path: Path) -> None:
    file = tmp_path / "store.yaml"
    file.write_text("store: {url: sqlite:x}\nlissten: y\n")
    done = CliRunner().invoke(cli, ["store", "serve", "--config", str(file)])
    assert done.exit_code == 1
    assert "did you mean listen?" in done.output
    file.write_text("store: {urlEnv: OSTIARY_NOT_SET}\n")
    done = CliRunner().invoke(cli, ["store", "serve", "--config", str(file)])
    assert done.exit_code == 3
    assert "OSTIARY_NOT_SET is not set" in done.output


async def test_a_store_is_opened_by_the_settings_of_its_service(tmp_path: Path) -> None:
    file = tmp_path / "store.yaml"
    file.write_text(f"store: {{url: 'sqlite:{tmp_path}/store.db'}}\nrecordings: {{bucket: 'file://{tmp_path}/b'}}\n")
    store = await open_store(str(file))
    assert (await store.sessions(SessionQuery(), ALL)).sessions == []
    await store.close()
    file.write_text("store: {urlEnv: OSTIARY_NOT_SET}\n")
    with pytest.raises(StoreError, match="OSTIARY_NOT_SET is not set"):
        await open_store(str(file))
    with pytest.raises(StoreError, match="cannot be read"):
        await open_store(str(tmp_path / "none.yaml"))
