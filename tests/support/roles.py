"""A server with groups and an administrator for session roles, and gateways that log in with such roles."""

from __future__ import annotations

import time
from collections.abc import Callable

from support.gateway import ALLOW_ALL, Gateway, Manifest, StartGateway, secret
from support.servers import Server

ADMIN = "gateway_admin"
ADMIN_PASSWORD = "the administrator's own: 1c9a"
SETUP = f"""
create role app_rw nologin;
create role app_ro nologin;
create role {ADMIN} login createrole password '{ADMIN_PASSWORD.replace("'", "''")}';
revoke connect on database app from public;
grant connect on database app to {ADMIN}, app_rw, app_ro;
grant usage, create on schema public to app_rw;
create table accounts (id int primary key, tenant text not null, card text not null);
insert into accounts select n, case when n % 100 = 0 then 'mine' else 'theirs' end, '4111 1111 1111 1111'
  from generate_series(1, 5000) n;
alter table accounts enable row level security;
create policy mine on accounts to app_rw using (tenant = 'mine');
create policy readers on accounts to app_ro using (true);
grant select, insert, update, delete on accounts to app_rw;
grant select on accounts to app_ro;
analyze accounts;
"""


def prepare(server: Server) -> None:
    """Groups, the administrator, a table with row-level security, and %u in the server's log."""
    server.recreate(server.database)
    server.sql("alter system set log_line_prefix = '%m [%p] user=%u app=%a '", "postgres")
    server.sql("select pg_reload_conf()", "postgres")
    server.sql(SETUP)
    if server.version >= 16:
        server.sql(f"grant app_rw, app_ro to {ADMIN} with admin option, inherit false, set false")


def clean(server: Server) -> None:
    """As it was before."""
    server.recreate(server.database)
    for name in session_roles(server):
        server.sql(f"""drop role "{name}";""", "postgres")
    server.sql(f"drop role app_rw, app_ro, {ADMIN}", "postgres")
    server.sql("alter system reset log_line_prefix", "postgres")
    server.sql("select pg_reload_conf()", "postgres")


def credentials(*member_of: str, ttl: str = "15m", admin: str = "db-admin") -> Manifest:
    return {"postgresRole": {"adminSecretRef": {"name": admin}, "memberOf": list(member_of or ("app_rw",)), "ttl": ttl}}


def admin_secret(name: str = "db-admin", username: str = ADMIN, password: str = ADMIN_PASSWORD) -> Manifest:
    return secret(name, username=username, password=password)


def gateway_with_roles(
    start_gateway: StartGateway, server: Server, *policies: Manifest, member_of: tuple[str, ...] = ("app_rw",),
    secret: Manifest | None = None,
) -> Gateway:  # fmt: skip
    """`ostiary serve` before a server that was prepared; TLS on both legs where the server has it."""
    manifests = (*(policies or (ALLOW_ALL,)), secret or admin_secret())
    return start_gateway(server, *manifests, tls=server.ca is not None, credentials=credentials(*member_of))


def session_roles(server: Server) -> list[str]:
    """All that are there, by the server's own catalog."""
    found = server.sql("select rolname from pg_roles where rolname ~ '^ostiary_' order by 1", "postgres")
    return found.split("\n") if found else []


def agents(server: Server) -> list[str]:
    """Without the roles of the gateway's own connections aside."""
    return [name for name in session_roles(server) if name.split("_")[3] != "ostiary"]


def none_left(server: Server) -> bool:
    """True as soon as no agent's session has left a role; False if that takes too long."""
    return until(lambda: not agents(server))


def until(holds: Callable[[], bool], seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if holds():
            return True
        time.sleep(0.05)
    return False
