"""How long a login takes: straight to PostgreSQL, through Ostiary with a static credential, and with a role a session.

The three take turns, so that what else the machine does falls on all alike. `python benchmarks/logins.py [ROUNDS]`.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1] / "tests")]

from support import gateway as gateways  # noqa: E402
from support import roles, servers  # noqa: E402
from support.gateway import ALLOW_ALL, Gateway  # noqa: E402
from support.servers import Server  # noqa: E402
from support.wire import Wire, query  # noqa: E402


def started(server: Server, name: str, **spec: object) -> Gateway:
    gateway = gateways.prepare(servers.scratch(f"logins-{name}"), server)
    connection = gateways.connection(server, gateway.port, **spec)  # type: ignore[arg-type]
    gateway.write(connection, *gateways.secrets_for(server), roles.admin_secret(), ALLOW_ALL)
    gateway.start()
    return gateway


def login(host: str, port: int, user: str, password: str) -> float:
    """Milliseconds from connect() to the first row."""
    begun = time.perf_counter()
    session = Wire.login(host, port, user=user, password=password, database="app")
    session.send(query("select 1"))
    session.until("Z")
    took = time.perf_counter() - begun
    session.close()
    return took * 1000


def main(rounds: int) -> None:
    server = servers.embedded("logins", durable=True, settings={"log_statement": "none"})
    gateways_: list[Gateway] = []
    try:
        roles.prepare(server)
        static = started(server, "static")
        own = started(server, "roles", credentials=roles.credentials())
        gateways_ += [static, own]
        ways = {
            "direct": (server.host, server.port, server.user, server.password),
            "Ostiary, static": (static.host, static.port, static.user, static.password),
            "Ostiary, postgresRole": (own.host, own.port, own.user, own.password),
        }
        took: dict[str, list[float]] = {name: [] for name in ways}
        for number in range(rounds + 5):
            for name, way in ways.items():
                found = login(*way)
                if number >= 5:
                    took[name].append(found)
        print(f"Login and one statement, {rounds} rounds, PostgreSQL {server.version}, SCRAM, no TLS, milliseconds")
        print("| way | p50 | p95 | against static |")
        print("| --- | --- | --- | --- |")
        for name, values in took.items():
            ratio = statistics.median(a / b for a, b in zip(values, took["Ostiary, static"], strict=True))
            p95 = statistics.quantiles(values, n=20)[-1]
            print(f"| {name} | {statistics.median(values):.1f} | {p95:.1f} | {ratio:.2f} |")
    finally:
        for gateway in gateways_:
            gateway.destroy()
        servers.destroy(server)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
