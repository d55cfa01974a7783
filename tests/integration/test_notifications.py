"""`ostiary serve --notifications`: an agent asks, people are told by a real receiver, and that is all it can do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml
from psycopg.errors import InsufficientPrivilege
from support import gateway as gateways
from support import servers
from support.gateway import Gateway, policy, run_ostiary
from support.receivers import SECRET, Receiver, receiver, verify
from support.servers import Server

RULES = [
    {"name": "ask", "action": "RequireApproval", "expression": "sql.statements.exists(s, s.writes)",
     "approval": {"groups": ["dba"], "wait": "0s"}},
    {"name": "rest", "action": "Allow", "expression": "true"},
]  # fmt: skip


@pytest.fixture
def bot() -> Iterator[Receiver]:
    with receiver() as found:
        yield found


@pytest.fixture
def told(bot: Receiver, tmp_path: Path) -> tuple[str, str]:
    path = tmp_path / "notifications.yaml"
    (tmp_path / "whsec").write_text(SECRET)
    where = {"name": "bot", "type": "Webhook", "url": bot.url, "insecure": True}
    receivers = [{**where, "secretFiles": [str(tmp_path / "whsec")]}]
    path.write_text(yaml.safe_dump({"receivers": receivers}))
    return ("--notifications", str(path))


@pytest.fixture
def gateway(pg18: Server) -> Iterator[Gateway]:
    found = gateways.prepare(servers.scratch(f"told-{servers.free_port()}"), pg18)
    yield found
    found.destroy()


def ask(gateway: Gateway, statement: str) -> None:
    with psycopg.connect(gateway.dsn(), autocommit=True) as session, pytest.raises(InsufficientPrivilege):
        session.execute(statement)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_people_are_told_once_and_after_a_restart_not_again(
    pg18: Server, gateway: Gateway, bot: Receiver, told: tuple[str, str], workers: str
) -> None:
    gateway.write(gateways.connection(pg18, gateway.port), *gateways.secrets_for(pg18), policy("agents", RULES))
    gateway.arguments = (*told, "--workers", workers)
    gateway.start()
    ask(gateway, "create table told_of (n int)")
    [came] = bot.wait(1)
    verify(came)
    data = came.json["data"]
    assert (data["step"], data["request"]["summary"]) == ("Asked", "create table told_of (n int)")
    name = data["approval"]["name"]
    assert data["command"] == f"ostiary approval {name}"
    gateway.stop()
    gateway.start()
    run_ostiary("deny", name, "--data", str(gateway.data), "--reason", "not today")
    assert [each.json["type"] for each in bot.wait(2)] == ["approval.asked", "approval.denied"]
    assert bot.taken[1].json["data"]["reason"] == "not today"
    assert len(bot.came) == 2
    assert SECRET not in gateway.log_text()


def test_settings_that_are_wrong_start_nothing(tmp_path: Path) -> None:
    path = tmp_path / "notifications.yaml"
    path.write_text("receivers:\n- {name: a, type: Webhook, url: 'https://a.example'}\n")
    said = run_ostiary("serve", str(tmp_path), "--notifications", str(path), check=False)
    assert "notifications.yaml:2: receivers[0]: a Webhook is signed" in said
