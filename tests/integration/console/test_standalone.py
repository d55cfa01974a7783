"""A gateway, its console and PostgreSQL on one machine: an agent is watched, followed, approved, ended, replayed."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import stat
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.errors import AdminShutdown
from support.console import Browser
from support.gateway import Gateway, StartGateway, environment, ostiary, policy, run_ostiary
from support.servers import Server, free_port

RULES = policy(
    "console",
    [
        {"name": "no-drop", "action": "Deny", "expression": "sql.statements.exists(s, s.verb == 'DROP')",
         "message": "Dropping is not allowed.", "hint": "Ask the platform team."},
        {"name": "deletes", "action": "RequireApproval", "expression": "sql.statements.exists(s, s.verb == 'DELETE')",
         "approval": {"groups": ["dba"], "wait": "30s"}},
        {"name": "everything", "action": "Allow", "expression": "true"},
    ],
)  # fmt: skip
CANDIDATE = """
apiVersion: ostiary.dev/v1alpha1
kind: GatewayPolicy
metadata: {name: console}
spec:
  match: {protocols: [Postgres]}
  rules:
  - {name: no-selects, action: Deny, expression: "sql.statements.exists(s, s.verb == 'SELECT')"}
  - {name: everything, action: Allow, expression: "true"}
"""


@pytest.fixture(scope="module")
def gateway(pg18: Server, start_gateway: StartGateway) -> Gateway:
    return start_gateway(pg18, RULES)


class Program:
    """`ostiary console` as somebody starts it."""

    def __init__(self, gateway: Gateway) -> None:
        self.port = free_port()
        command = [*ostiary(), "console", "--data", str(gateway.data), "--listen", f"127.0.0.1:{self.port}"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment())
        assert self.process.stdout is not None
        self.said = ""
        deadline = time.monotonic() + 30
        while "Sign in once" not in self.said:
            line = self.process.stdout.readline().decode()
            self.said += line
            assert line, self.said
            assert time.monotonic() < deadline, self.said

    @property
    def link(self) -> str:
        found = re.search(r"http://\S+/signin/link/\S+", self.said)
        assert found is not None
        return found[0]

    def stop(self) -> None:
        self.process.terminate()
        assert self.process.wait(20) == 0
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def program(gateway: Gateway) -> Iterator[Program]:
    program = Program(gateway)
    yield program
    program.stop()


@pytest.fixture
async def browser(gateway: Gateway, program: Program) -> AsyncIterator[Browser]:
    link = gateway.run("console", "--link", "--data", str(gateway.data)).strip()
    async with Browser(f"http://127.0.0.1:{program.port}") as browser:
        answer = await browser.get(link.removeprefix(browser.base))
        assert answer.status == 303, await answer.text()
        yield browser


async def until(look: Callable[[], Awaitable[Any]], what: str, seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := await look()):
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.1)
    return found


async def session_of(browser: Browser, text: str) -> dict[str, Any]:
    """The newest request with this text, as soon as the console has it."""

    async def look() -> Any:
        found = (await browser.json(f"/sessions?view=requests&q={text}"))["requests"]
        return found[0] if found else None

    found: dict[str, Any] = await until(look, f"{text} is found")
    return found


async def test_the_first_link_is_good_once(program: Program) -> None:
    async with Browser(f"http://127.0.0.1:{program.port}") as first, Browser(first.base) as second:
        path = program.link.removeprefix(first.base)
        assert (await first.get(path)).status == 303
        assert (await first.get("/sessions")).status == 200
        assert (await second.get(path)).status == 403


async def test_what_an_agent_did_is_found_and_shown(gateway: Gateway, browser: Browser) -> None:
    with psycopg.connect(gateway.dsn(), autocommit=True) as agent:
        agent.execute("select %s as fruit, 42 as answer", ("papaya",))
        with pytest.raises(psycopg.Error):
            agent.execute("drop table nowhere_at_all")
        await session_of(browser, "nowhere_at_all")
        found = await session_of(browser, "fruit")
        assert found["username"] == "planner"
        page = await browser.text(f"/sessions/{found['session']}")
        assert "papaya" in page
        assert "answer" in page
        assert "Dropping is not allowed." in page
        assert (await browser.get(f"/requests/{found['session']}-{found['number']}")).status == 303
        whole = await browser.json(f"/sessions/{found['session']}/requests/{found['number']}")
        grid = whole["request"]["answered"][0]
        assert ([each["name"] for each in grid["columns"]], grid["rows"]) == (["fruit", "answer"], [["papaya", "42"]])
        denied = (await browser.json("/sessions?decision=Deny&view=requests&q=nowhere_at_all"))["requests"]
        assert [(each["rule"], each["outcome"]) for each in denied] == [("no-drop", "denied")]
    for path in ("/policies", "/connections"):
        text = await browser.text(path)
        assert "default/" in text or "console" in text
    assert "no-drop" in await browser.text("/policies")
    assert "Dropping is not allowed." in await browser.text("/policies")


async def test_a_session_is_followed_and_ended(gateway: Gateway, browser: Browser) -> None:
    with psycopg.connect(gateway.dsn(), autocommit=True) as agent, ThreadPoolExecutor(1) as pool:
        agent.execute("select 'seen before'")
        found = await session_of(browser, "seen")
        session = found["session"]
        stream = await browser.get(f"/sessions/{session}/follow?after={found['number']}", stream=True)
        asked = pool.submit(agent.execute, "select pg_sleep(60), 'runs long'")
        event = (await asyncio.wait_for(stream.content.readuntil(b"\n\n"), 10)).decode()
        while "runs long" not in event:
            event = (await asyncio.wait_for(stream.content.readuntil(b"\n\n"), 10)).decode()
        assert "event: requests" in event

        async def running() -> Any:
            live = (await browser.json("/live"))["sessions"]
            return [each for each in live if each["session"] == session and each["running"] and each["can_end"]]

        await until(running, "it is live")
        assert "runs long" in await browser.text("/live")
        text = await browser.text(f"/sessions/{session}/kill")
        assert "planner" in text
        answer = await browser.post(f"/sessions/{session}/kill", {"reason": "it holds a lock"})
        assert (answer.status, answer.headers["Location"]) == (303, f"/sessions/{session}?done=killed")
        with pytest.raises(AdminShutdown, match="it holds a lock"):
            asked.result(20)
        rest = (await asyncio.wait_for(stream.content.read(), 20)).decode()
        assert "event: state" in rest
        assert rest.endswith("event: bye\ndata: \n\n")
        assert "it holds a lock" in await browser.text(f"/sessions/{session}")


async def test_a_question_is_answered(gateway: Gateway, pg18: Server, browser: Browser) -> None:
    pg18.sql("create table if not exists console_orders (id int)")
    pg18.sql(f"grant all on console_orders to {pg18.user}")
    with psycopg.connect(gateway.dsn(), autocommit=True) as agent, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(agent.execute, "delete from console_orders")

        async def waits() -> Any:
            return (await browser.json("/approvals"))["waiting"]

        question = (await until(waits, "it waits"))[0]
        path = f"/approvals/{question['namespace']}/{question['name']}"
        text = await browser.text(path)
        assert "console_orders" in text
        assert "Delete on" in text, "the plan"
        wrong = await browser.post(f"{path}/decide", {"verdict": "Approve", "hash": "0" * 64})
        assert wrong.status == 409
        fields = {"verdict": "Approve", "hash": question["hash"], "reason": "fine"}
        answer = await browser.post(f"{path}/decide", fields)
        assert answer.headers["Location"] == f"{path}?done=approved"
        assert asked.result(20).rowcount == 0
        again = await browser.post(f"{path}/decide", {"verdict": "Deny", "hash": question["hash"]})
        assert again.status == 409
        assert "fine" in await browser.text(path)


async def test_policies_are_tried_on_what_was_recorded(gateway: Gateway, browser: Browser) -> None:
    with psycopg.connect(gateway.dsn(), autocommit=True) as agent:
        agent.execute("select 'to be replayed'")
    await session_of(browser, "replayed")
    await browser.get("/replay")
    answer = await browser.post("/replay", {"policies": CANDIDATE, "since": "1h"})
    text = await answer.text()
    assert answer.status == 200, text
    assert "no-selects" in text
    broken = await browser.post("/replay", {"policies": "kind: GatewayPolicy\nspec: [", "since": "1h"})
    assert broken.status == 422
    wrong = await browser.post("/replay", {"policies": CANDIDATE.replace("SELECT'", "SELECT"), "since": "1h"})
    assert wrong.status == 422
    assert "pasted" in await wrong.text()


async def test_its_store_verifies(gateway: Gateway, browser: Browser) -> None:
    with psycopg.connect(gateway.dsn(), autocommit=True) as agent:
        agent.execute("select 'to be verified'")
    await session_of(browser, "verified")
    told = run_ostiary("verify", "--store", f"sqlite:{gateway.data / 'store.db'}", check=False)
    assert "✓ The store is whole." in told, told


def test_the_socket_for_links_is_its_owners(gateway: Gateway, program: Program) -> None:
    path = gateway.data / "console.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_it_comes_with_the_gateway_and_goes_with_it(
    pg18: Server, start_gateway: StartGateway, tmp_path: Path
) -> None:
    gateway = start_gateway(pg18, RULES)
    gateway.stop()
    port = free_port()
    gateway.arguments = ("--console", f"127.0.0.1:{port}")
    gateway.start()

    async def link() -> Any:
        return re.search(rf"http://127.0.0.1:{port}/signin/link/\S+", gateway.log_text())

    found = await until(link, "a link is printed", 30)
    async with Browser(f"http://127.0.0.1:{port}") as browser:
        assert (await browser.get(found[0].removeprefix(browser.base))).status == 303
        with psycopg.connect(gateway.dsn(), autocommit=True) as agent:
            agent.execute("select 'beside it'")
        await session_of(browser, "beside")
        os.kill(gateway.pid, signal.SIGKILL)
        assert gateway.process is not None
        gateway.process.wait(10)

        async def gone() -> bool:
            try:
                await browser.get("/sessions")
            except OSError:
                return True
            return False

        await until(gone, "the console goes with a gateway that is killed")
