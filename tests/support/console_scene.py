"""A gateway with its console: two Connections, agents that look, work and misbehave, and a question that waits."""

from __future__ import annotations

import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from support import gateway as gateways
from support import ssh_gateway
from support.gateway import Manifest
from support.servers import Server, free_port
from support.ssh_gateway import SshGateway
from support.ssh_pairs import Side, through
from support.sshd import Sshd
from support.waiting import until

XSS = "<img src=x onerror=alert(1)><script>alert(2)</script>"
MANY = 130
"""Requests of the long session."""
ORDERS = 400

CUSTOMERS = f"""
create table customers (id int primary key, name text, email text, card text, city text);
insert into customers select g, (array['Ada','Grace','Edsger','Barbara','Donald','Radia'])[g % 6 + 1] || ' ' || g,
  'customer' || g || '@example.com', '4242424242424242', (array['Göteborg','Malmö','Lund'])[g % 3 + 1]
  from generate_series(1, 60) g;
create table orders (id int primary key, customer int, state text, placed date);
insert into orders select g, g % 60 + 1, 'new', date '2026-11-01' + g % 20 from generate_series(1, {ORDERS}) g;
analyze
"""

SHOP = gateways.policy(
    "guard-rails",
    [
        {"name": "no-drop", "action": "Deny", "expression": "sql.statements.exists(s, s.verb == 'DROP')",
         "message": "Nothing is dropped by agents.", "hint": "Ask the platform team to retire it."},
        {"name": "bounded-changes", "action": "Deny",
         "expression": "sql.statements.exists(s, s.verb in ['DELETE', 'UPDATE'] && !s.hasWhere)",
         "message": "A DELETE or UPDATE without WHERE changes every row.",
         "hint": "Say which rows you mean with WHERE."},
        {"name": "big-writes", "action": "RequireApproval",
         "expression": "sql.statements.exists(s, s.writes) && sql.estimatedRows > 50",
         "approval": {"groups": ["dba"], "wait": "0s", "pendingTTL": "1h"}},
        {"name": "work", "action": "Allow", "expression": "true"},
        {"name": "pii", "action": "Mask", "masking": [
            {"column": "public.customers.email", "strategy": {"type": "Partial", "keepFirst": 2, "keepLast": 4}},
            {"detector": "CreditCard", "strategy": {"type": "Partial", "keepLast": 4}}]},
    ],
)  # fmt: skip
NEXT = gateways.policy(
    "next", [{"name": "no-cards", "action": "Deny", "message": "Cards are not for agents.",
              "expression": "sql.statements.exists(s, s.text.contains('card'))"}], enforcement="Audit",
)  # fmt: skip
HOSTS = ssh_gateway.policy(
    "hosts",
    ssh_gateway.rule("no-rm", "ssh.kind == 'exec' && ssh.commands.exists(c, c.program == 'rm')", "Deny",
                     message="Agents remove nothing here.", hint="Move it to /var/tmp/removed."),
    ssh_gateway.rule("work"),
)  # fmt: skip


@dataclass
class Scene:
    """What runs, and where."""

    gateway: SshGateway
    server: Server
    port: int
    """Of the Connection to PostgreSQL."""
    console: int
    shop: str = "default/shop"
    host: str = "default/web-1"
    stop: list[Callable[[], None]] = field(default_factory=list)

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.console}"

    def dsn(self, application: str = "planner-loop") -> str:
        return (
            f"host={self.gateway.host} port={self.port} user={gateways.AGENT} password={gateways.TOKEN} "
            f"dbname=shop sslmode=disable application_name='{application}'"
        )

    def link(self) -> str:
        """One that signs in, once."""
        return self.gateway.run("console", "--link").strip().rpartition(" ")[2]

    def ask(self, statement: str) -> None:
        """An agent asks for something, whatever comes of it."""
        with psycopg.connect(self.dsn(), autocommit=True) as session:
            _try(session, statement)

    def recorded(self) -> list[dict[str, Any]]:
        """Sessions, as the local record has them."""
        lines = self.gateway.run("export").splitlines()
        return [found for found in map(json.loads, lines) if found["type"] == "session"]


def _try(session: psycopg.Connection[Any], statement: str, *values: object) -> None:
    with suppress(psycopg.Error):
        done = session.execute(statement.encode(), values or None)
        if done.description:
            done.fetchall()


def statements(scene: Scene) -> None:
    """What an agent does to a shop."""
    with psycopg.connect(scene.dsn(), autocommit=True) as session:
        _try(session, "select id, name, email, card from customers where city = 'Göteborg' order by id limit 8")
        _try(session, "select state, count(*) as orders, min(placed) from orders group by state")
        _try(session, "select o.id, c.name from orders o join customers c on c.id = o.customer where o.id = %s", 7)
        _try(session, "delete from orders")
        _try(session, "update orders set state = 'packed' where id = 12")
        _try(session, "drop table customers")
        _try(session, "select nme from customers")
        _try(session, f"select '{XSS}' as \"<b>bold</b>\", '{XSS}' as other")
        _try(session, "select null as nothing, true as yes, 12345678.9 as amount")
    with psycopg.connect(scene.dsn(XSS), autocommit=True) as session:
        for number in range(1, MANY + 1):
            _try(session, f"select {number} as step, name from customers where id = {number % 60 + 1}")


def questions(scene: Scene) -> None:
    """Two that wait for a person."""
    scene.ask("update orders set state = 'shipped'\n where placed < date '2026-11-15' and state = 'new'")
    scene.ask(f"delete from orders where placed < date '2026-11-19' -- {XSS}")


def commands(side: Side) -> None:
    """What an agent does on a host."""
    side.there("report.txt", b"week 47: all is well\n")
    side.ssh("target", "cd ~ && uname -s; echo one; echo two >&2; exit 3")
    side.ssh("target", "cat /etc/hostname | tr a-z A-Z; eval \"$X\"")
    side.ssh("target", "rm -rf /var/lib/important")
    side.ssh("target", f"echo '{XSS}'")
    side.tool("scp", "-s", f"target:{side.remote}/report.txt", "report.txt")
    with side.terminal("target", columns=90, rows=24) as screen:
        time.sleep(0.8)  # until the shell has its prompt, whatever that is
        screen.type("PS1='deploy$ '\r")
        screen.until("deploy$ ")
        for line in ("echo 'Disk:'; df -h / | tail -1", "printf '\\033[32mgreen\\033[0m \\033[1mbold\\033[0m\\n'"):
            screen.type(f"{line}; echo don''e\r")
            screen.until("done")
            time.sleep(0.3)
        screen.type("exit\r")
        screen.ended()


@contextmanager
def scene(
    server: Server, target: Sshd, place: Path, *more: Manifest, arguments: tuple[str, ...] = ()
) -> Iterator[Scene]:
    """Everything of it, with what the agents did in the store; an agent waits in a slow statement."""
    server.recreate("shop")
    server.sql(CUSTOMERS, "shop")
    console, port = free_port(), free_port()
    gateway = ssh_gateway.prepare(target, arguments=("--console", f"127.0.0.1:{console}", "--drain", "1", *arguments))
    gateway.configure(HOSTS, name="web-1")
    held = [each for each in gateways.secrets_for(server) if each["metadata"] != {"name": "planner-token"}]
    shop = gateways.connection(server, port, name="shop", database="shop")
    gateway.write(shop, *held, SHOP, NEXT, *more, file="shop.yaml")
    made = Scene(gateway, server, port, console)
    pool = ThreadPoolExecutor(1)
    try:
        gateway.start()
        until(lambda: listening(made.base), "the console answers", 30)
        side = through(gateway, place)
        with ThreadPoolExecutor(2) as working:
            for each in (working.submit(statements, made), working.submit(commands, side)):
                each.result()
        questions(made)
        pool.submit(made.ask, "select pg_sleep(600) -- a report that takes its time")
        yield made
    finally:
        try:
            gateway.stop()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            gateway.destroy()


def listening(base: str) -> bool:
    """Whether a console answers there."""
    try:
        with urllib.request.urlopen(f"{base}/signin", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def chromium() -> str:
    """The browser; empty if there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or ""
