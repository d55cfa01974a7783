"""What a gateway recorded, in a real store, sent to a sink that fails: line by line as `ostiary export` has it."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
from prometheus_client import generate_latest
from support import gateway as gateways
from support import servers, store_service
from support.gateway import ALLOW_ALL
from support.receivers import Came, Receiver, receiver
from support.servers import Server

from ostiary_gateway.audit.event import ApprovalStep, LoginRefused, SessionOpened, SessionRecord
from ostiary_gateway.audit.export import export
from ostiary_gateway.audit.reader import Reader
from ostiary_gateway.audit.recorder import FileRecorder
from ostiary_policy.decision import Action, Decision, RuleRef
from ostiary_store.exports.exporter import Exporter
from ostiary_store.ingest import Ingest
from ostiary_store.model import RecordRef
from ostiary_store.opening import open_store
from ostiary_store.service.counts import Counts, registry
from ostiary_store.service.tasks import Service, background
from ostiary_store.settings import ExportSettings, parse
from ostiary_store.store import Store

ALLOW = Decision(Action.ALLOW, RuleRef("prod", "agents", "reads", "sha256:1"), "")
DENY = Decision(Action.DENY, RuleRef("prod", "agents", "no-drop", "sha256:1"), "Dropping is not allowed.")
_COUNT = itertools.count()


@pytest.fixture(params=["sqlite", "postgresql"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    if request.param == "sqlite":
        address = f"sqlite:{tmp_path / 'store.db'}"
    else:
        server: Server = request.getfixturevalue("pg18")
        login = f"{server.user}:{quote(server.password, safe='')}@{server.host}:{server.port}"
        address = f"postgresql://{login}/{server.database}?schema=exports_{next(_COUNT)}"
    found = await open_store(address)
    yield found
    await found.close()


class Gateway:
    """Records, and hands over what it recorded."""

    def __init__(self, recorder: FileRecorder, path: Path, store: Store) -> None:
        self.recorder, self.path = recorder, path
        header = path.with_suffix(".log").read_bytes()[:64]
        self.ref = RecordRef(header[16:32], header, "prod/app", "app-0")
        self.ingest = Ingest(store)

    def open(self, name: str) -> SessionRecord:
        opened = SessionOpened(
            name, time.time(), "prod/app", "Postgres", {"username": "planner", "groups": ["agents"]},
            {"address": "10.0.0.7", "application": "psql"}, {"database": "app"}, "Full",
        )  # fmt: skip
        return self.recorder.session_opened(opened)

    async def hand_over(self) -> None:
        marker = self.open(f"marker{next(_COUNT):04d}")
        waiting = marker.begin(1, time.time(), "select 0", {}, ALLOW, durable=True)
        if waiting is not None:
            await waiting
        marker.end(1, time.time(), "ok", {"tags": ["SELECT 1"]}, 1, 0)
        marker.closed(time.time(), "done", 1)
        await asyncio.sleep(0.05)
        place = await self.ingest.place(self.ref)
        data = self.path.with_suffix(".log").read_bytes()[place.position :]
        await self.ingest.take(self.ref, place, data)


def run(session: SessionRecord, number: int, decision: Decision = ALLOW, response: bytes = b"") -> None:
    session.begin(number, time.time(), f"select {number}", {"parameters": ["a"]}, decision, durable=False)
    if response:
        session.response(number, response)
    outcome = "ok" if decision is ALLOW else "denied"
    session.end(number, time.time(), outcome, {"tags": ["SELECT 1"]}, 1, len(response))


def lines(came: list[Came]) -> list[dict[str, Any]]:
    return [json.loads(line) for each in came for line in gzip.decompress(each.body).splitlines()]


def settings(siem: Receiver, **more: Any) -> ExportSettings:
    values = {"name": "siem", "type": "JSONLines", "url": siem.url, "insecure": True, "every": "100ms", "timeout": "2s"}
    return ExportSettings.model_validate({**values, **more})


async def test_every_line_of_the_record_arrives_as_ostiary_export_has_it(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "data" / "audit.db"
    recorder = await FileRecorder.open(path)
    gateway = Gateway(recorder, path, store)
    sessions = [gateway.open(f"session{number}") for number in range(3)]
    with receiver() as siem:
        exporter = Exporter(store, settings(siem, responses="base64", batch="8Ki"), pauses=(0.05, 0.5))
        task = asyncio.create_task(exporter.run())
        for turn in range(8):
            for session in sessions:
                run(session, 3 * turn + 1)
                run(session, 3 * turn + 2, DENY)
                run(session, 3 * turn + 3, response=b"x" * 300)
            await gateway.hand_over()
            # It fails in every manner while the record grows.
            siem.usual = 503 if turn in (2, 3) else 200
            siem.answers += [["reset"], [500], [], ["hang"], [(429, {"Retry-After": "1"}, b"")], [302], [413], []][turn]
        recorder.login_refused(LoginRefused("l1", time.time(), "prod/app", {"address": "::1"}, "wrong token"))
        recorder.approval(
            ApprovalStep(time.time(), "prod/apr-1", "Asked", "prod/app", "ab", "planner", "session0", "", "", "", "")
        )
        for session in sessions:
            session.closed(time.time(), "the client went away", 24)
        await gateway.hand_over()
        siem.usual = 200
        await recorder.close()
        await gateway.ingest.take(
            gateway.ref, place := await gateway.ingest.place(gateway.ref),
            path.with_suffix(".log").read_bytes()[place.position :],
        )  # fmt: skip
        with Reader.open(path) as reader:
            found = export(reader, reader.sessions(gateway=True, newest_first=False), responses="base64")
            wanted = [json.loads(line) for line in found]
        async with asyncio.timeout(60):
            while sum(line["type"] == "close" for line in lines(siem.taken)) < sum(
                line["type"] == "close" for line in wanted
            ) or exporter.counts.problem:
                await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    got = lines(siem.taken)
    # The record says of a session what it came to, once; as it happens that is said at its begin and at its end.
    plain = [line for line in got if line["type"] != "session"]
    assert {json.dumps(line) for line in plain} == {
        json.dumps(line) for line in wanted if line["type"] != "session"
    }
    assert {json.dumps(line) for line in got if line["type"] == "session"} >= {
        json.dumps(line) for line in wanted if line["type"] == "session" and line["protocol"] != "Gateway"
    }
    for number in range(3):
        mine = [line["request"] for line in got if line["type"] == "request" and line["session"] == f"session{number}"]
        assert list(dict.fromkeys(mine)) == [f"session{number}-{each}" for each in range(1, 25)]


async def test_the_service_exports_and_says_how_it_stands(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "data" / "audit.db"
    recorder = await FileRecorder.open(path)
    gateway = Gateway(recorder, path, store)
    run(gateway.open("session0"), 1, DENY)
    await gateway.hand_over()
    with receiver() as siem, receiver(500) as down:
        text = f"""
store: {{url: "sqlite:x"}}
exports:
- {{name: siem, type: OCSF, url: "{siem.url}", insecure: true, every: 100ms}}
- {{name: down, type: OTLP, url: "{down.url}", insecure: true, every: 100ms, connections: [prod/*]}}
"""
        counts = Counts()
        service = Service(parse(text), store, gateway.ingest, counts, None)  # type: ignore[arg-type]
        tasks = {each.name: asyncio.ensure_future(each.run()) for each in await background(service)}
        assert set(tasks) == {"export siem", "export down"}
        async with asyncio.timeout(20):
            while not siem.taken or not down.came:
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.3)
        metrics = generate_latest(registry(counts, "0")).decode()
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)
    await recorder.close()
    assert 'ostiary_store_export_up{export="siem"} 1.0' in metrics
    assert 'ostiary_store_export_up{export="down"} 0.0' in metrics
    assert 'ostiary_store_export_lag_seconds{export="siem"} 0.0' in metrics
    assert 'ostiary_store_export_failures_total{export="down"}' in metrics
    assert {line["class_uid"] for line in lines(siem.taken)} >= {3002, 6005}


@pytest.mark.slow
def test_from_psql_to_the_siem_whoever_is_killed_meanwhile(pg18: Server) -> None:
    """Every statement that a client got an answer to arrives, in the order of its session."""
    service = store_service.prepare("exported")
    gateway = gateways.prepare(servers.scratch(f"exported-{servers.free_port()}"), pg18)
    with receiver() as siem:
        sink = f"name: siem, type: JSONLines, url: '{siem.url}', insecure: true, every: 100ms, timeout: 2s"
        service.more = f"exports: [{{{sink}}}]\n"
        try:
            service.start()
            gateway.arguments = service.arguments
            gateway.write(gateways.connection(pg18, gateway.port), *gateways.secrets_for(pg18), ALLOW_ALL)
            gateway.start()
            count = 0
            with psycopg.connect(gateway.dsn(), autocommit=True) as session:
                for trouble in ("none", "siem", "service", "database", "none"):
                    siem.usual = 503 if trouble == "siem" else 200
                    for _ in range(150):
                        count += 1
                        session.execute(f"select 'export {count}'".encode())
                    if trouble == "service":
                        service.kill()
                    if trouble == "database":
                        store_service.kill_database(service.database)
                    for _ in range(150):
                        count += 1
                        session.execute(f"select 'export {count}'".encode())
                    if trouble == "service":
                        service.start()
                    if trouble == "database":
                        service.database.start()
            siem.usual = 200
            wanted = [f"select 'export {number}'" for number in range(1, count + 1)]
            deadline = time.monotonic() + 90
            while (got := exported(siem)) != wanted:
                assert time.monotonic() < deadline, f"{len(got)} of {count}\n{service.log.read_text()[-3000:]}"
                time.sleep(0.5)
        finally:
            gateway.destroy()
            service.destroy()


def exported(siem: Receiver) -> list[str]:
    """Statements in the order in which they came first."""
    texts = (line.get("text", "") for line in lines(siem.taken) if line["type"] == "request")
    return list(dict.fromkeys(text for text in texts if text.startswith("select 'export ")))
