"""`ostiary search`, and the commands that read a record, asked of a store instead."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from ostiary_cli.main import cli
from ostiary_gateway.audit.event import SessionOpened
from ostiary_gateway.audit.recorder import FileRecorder

sys.path.insert(0, str(Path(__file__).parents[2]))

from support.batches import ALLOW, ASK, DENY, NOTED

Run = Callable[..., Result]

REQUESTS = [
    ("select * from customers", ALLOW, "ok"),
    ("drop table orders", DENY, "denied"),
    ("select 'DROP'  ,  'TABLE' from audit_log", ALLOW, "ok"),
    ("update orders set total = 0", ASK, "denied"),
    ("select \x1b[31m secret", NOTED, "error"),
]


async def _record(data: Path) -> None:
    recorder = await FileRecorder.open(data / "audit.db")
    for name, connection, username in (("first", "shop/app", "planner"), ("second", "shop/ledger", "executor")):
        session = recorder.session_opened(
            SessionOpened(name, time.time(), connection, "Postgres", {"username": username}, {}, {}, "Full")
        )
        for number, (text, decision, outcome) in enumerate(REQUESTS, 1):
            waiting = session.begin(number, time.time(), text, {}, decision, True)
            if waiting is not None:
                await waiting
            session.response(number, b"x" * 10)
            session.end(number, time.time(), outcome, {"tags": ["SELECT 1"]}, 1, 10)
        session.closed(time.time(), "the client went away", 5)
    await recorder.close()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    asyncio.run(_record(tmp_path))
    return tmp_path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.delenv("OSTIARY_STORE", raising=False)

    def run(*arguments: object, **environment: str) -> Result:
        return CliRunner().invoke(cli, [str(each) for each in arguments], env=environment)

    return run


def found(result: Result) -> list[str]:
    assert result.exit_code == 0, result.output
    return [json.loads(line)["request"] for line in result.stdout.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "requests"),
    [
        (["drop"], "second-3 second-2 first-3 first-2"),
        (["DROP TABLE"], "second-2 first-2"),
        (["drop", "table"], "second-3 second-2 first-3 first-2"),
        (["drop", "--action", "Deny"], "second-2 first-2"),
        (["drop", "--connection", "shop/app"], "first-3 first-2"),
        (["--user", "executor", "--outcome", "error"], "second-5"),
        (["--rule", "big-writes", "--policy", "shop/agents"], "second-4 first-4"),
        (["--would-deny"], "second-5 first-5"),
        (["--session", "sec", "select"], "second-5 second-3 second-1"),
        (["--", "select", "-drop", "-secret"], "second-1 first-1"),
        (["cust*", "--since", "7d"], "second-1 first-1"),
        (["cust*", "--until", "7d"], ""),
        (["--limit", "1"], "second-5"),
    ],
)
def test_what_is_found(run: Run, data: Path, arguments: list[str], requests: str) -> None:
    told = run("search", "--json", "--data", data, *arguments)
    assert " ".join(found(told)) == requests


def test_a_table_for_people(run: Run, data: Path) -> None:
    told = run("search", "DROP TABLE", "--connection", "shop/app", "--since", "7d", "--action", "Deny", "--data", data)
    assert told.exit_code == 0
    line, _ = (line for line in told.stdout.splitlines() if "first-2" in line)
    for cell in ("first-2", "planner", "shop/app", "✗ no-drop", "denied", "drop table orders"):
        assert cell in line
    assert "ostiary session first-2" in told.stdout
    assert "\x1b" not in run("search", "secret", "--data", data).stdout
    assert run("search", "nothing", "--data", data).stdout == "No request fits.\n"


def test_what_came_since_the_last_search_is_found(run: Run, data: Path) -> None:
    assert len(found(run("search", "--json", "--data", data))) == 10
    (data / "store.db").unlink()
    assert len(found(run("search", "--json", "--data", data))) == 10


def test_where_there_is_nothing_to_search(run: Run, data: Path, tmp_path: Path) -> None:
    for arguments in (["--data", tmp_path / "no"], ["--store", f"sqlite:{tmp_path}/no.db"], ["--store", "mysql://x"],
                      ["--data", data, "--session", "none"]):  # fmt: skip
        told = run("search", "x", *arguments)
        assert told.exit_code == 3
        assert "Next:" in told.stderr
    assert not (tmp_path / "no.db").exists()


@pytest.mark.parametrize(
    "command", [["sessions"], ["sessions", "--json"], ["session", "first"], ["session", "first-3"], ["export"]]
)
def test_a_store_tells_what_the_record_tells(run: Run, data: Path, command: list[str]) -> None:
    run("search", "--data", data)
    store = f"sqlite:{data / 'store.db'}"
    mine = run(*command, "--data", data)
    assert mine.exit_code == 0
    assert sorted(run(*command, "--store", store).stdout.splitlines()) == sorted(mine.stdout.splitlines())
    assert sorted(run(*command, OSTIARY_STORE=store).stdout.splitlines()) == sorted(mine.stdout.splitlines())
    # What stands on the command line goes before the environment.
    assert run(*command, "--data", data, OSTIARY_STORE="sqlite:/nowhere").stdout == mine.stdout


def test_what_is_live_is_asked_of_a_gateway(run: Run, data: Path) -> None:
    told = run("sessions", "--live", "--store", f"sqlite:{data / 'store.db'}")
    assert told.exit_code == 2
