"""The admin address, over real HTTP: what a probe and a scraper get."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from ostiary_gateway.admin.health import Check
from ostiary_gateway.admin.server import AdminError, AdminServer
from ostiary_gateway.counters import DECISION_BUCKETS, Counters


@dataclass
class Admin:
    url: str = ""
    counters: Counters = field(default_factory=Counters)
    checks: list[Check] = field(default_factory=list)

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as response:
            return response.status, await response.text()

    async def samples(self) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
        _, text = await self.get("/metrics")
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


@pytest.fixture
async def admin() -> AsyncIterator[Admin]:
    made = Admin()
    server = AdminServer(("127.0.0.1", 0), made.counters, lambda: made.checks, "1.2.3")
    host, port = await server.start()
    made.url = f"http://{host}:{port}"
    yield made
    await server.stop()
    await server.stop()


def labels(**values: str) -> frozenset[tuple[str, str]]:
    return frozenset(values.items())


async def test_healthz_says_that_the_process_answers(admin: Admin) -> None:
    assert await admin.get("/healthz") == (200, "ok\n")


async def test_readyz_names_what_is_not_ready(admin: Admin) -> None:
    admin.checks[:] = [Check("bundle", True), Check("record", True)]
    assert await admin.get("/readyz") == (200, "[+] bundle\n[+] record\nready\n")
    admin.checks[1] = Check("record", False, "the disk is full")
    assert await admin.get("/readyz") == (503, "[+] bundle\n[-] record: the disk is full\nnot ready\n")


async def test_metrics_are_what_was_counted(admin: Admin) -> None:
    count = admin.counters
    count.session_opened("prod/app")
    count.session_opened("prod/app")
    count.session_closed("prod/app")
    count.request("prod/app", "Postgres", "Deny")
    count.denied("prod/guard", "no-drop")
    count.denied("", "")
    count.upstream_error("prod/app", "connect")
    count.login_refused("prod/app", "token")
    count.transferred("prod/app", "to_client", 1000)
    count.record_dropped = lambda: 2
    count.record_queue = lambda: 41
    count.bundle_loaded("r1", 1700000000.0)
    count.reload_failed()
    found = await admin.samples()
    app = labels(connection="prod/app")
    assert found["ostiary_sessions_total", app] == 2
    assert found["ostiary_sessions_open", app] == 1
    assert found["ostiary_requests_total", labels(connection="prod/app", protocol="Postgres", decision="Deny")] == 1
    assert found["ostiary_denials_total", labels(policy="prod/guard", rule="no-drop")] == 1
    assert found["ostiary_denials_total", labels(policy="", rule="")] == 1
    assert found["ostiary_upstream_errors_total", labels(connection="prod/app", reason="connect")] == 1
    assert found["ostiary_login_failures_total", labels(connection="prod/app", reason="token")] == 1
    assert found["ostiary_transferred_bytes_total", labels(connection="prod/app", direction="to_client")] == 1000
    assert found["ostiary_record_dropped_total", labels()] == 2
    assert found["ostiary_record_queue_bytes", labels()] == 41
    assert found["ostiary_bundle_info", labels(revision="r1")] == 1
    assert found["ostiary_bundle_loaded_timestamp_seconds", labels()] == 1700000000.0
    assert found["ostiary_bundle_loads_total", labels()] == 1
    assert found["ostiary_bundle_load_failures_total", labels()] == 1
    assert found["ostiary_build_info", labels(version="1.2.3")] == 1


async def test_decision_latency_is_a_histogram_with_inclusive_bounds(admin: Admin) -> None:
    for seconds in (DECISION_BUCKETS[0], 30e-6, 2.0):
        admin.counters.decided(seconds)
    found = await admin.samples()
    assert found["ostiary_decision_seconds_bucket", labels(le=str(DECISION_BUCKETS[0]))] == 1
    assert found["ostiary_decision_seconds_bucket", labels(le=str(DECISION_BUCKETS[1]))] == 2
    assert found["ostiary_decision_seconds_bucket", labels(le="1.0")] == 2
    assert found["ostiary_decision_seconds_bucket", labels(le="+Inf")] == 3
    assert found["ostiary_decision_seconds_count", labels()] == 3
    assert found["ostiary_decision_seconds_sum", labels()] == pytest.approx(2.000055)


async def test_an_address_in_use_is_said_with_what_to_do(admin: Admin) -> None:
    port = int(admin.url.rsplit(":", 1)[1])
    second = AdminServer(("127.0.0.1", port), Counters(), list, "1.2.3")
    with pytest.raises(AdminError, match="choose another one with --admin"):
        await second.start()
