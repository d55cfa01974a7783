"""examples/session-roles as it stands: the server prepared with its setup.sql, a gateway with its manifests."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
import yaml
from support import gateway as gateways
from support import roles, servers
from support.gateway import ROOT, Gateway
from support.servers import Server

EXAMPLE = ROOT / "examples" / "session-roles"


@pytest.fixture(params=["pg15", "pg18"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    found: Server = request.getfixturevalue(request.param)
    found.recreate(found.database)
    found.sql("create table orders (id int); insert into orders values (1)")
    found.sql((EXAMPLE / "setup.sql").read_text())
    yield found
    found.recreate(found.database)
    found.sql("drop role app_rw, gateway_admin", "postgres")


@pytest.fixture
def gateway(server: Server) -> Iterator[Gateway]:
    found = gateways.prepare(servers.scratch(f"gateway-{servers.free_port()}"), server, tls=True)
    connection, admin = yaml.safe_load_all((EXAMPLE / "app.yaml").read_text())
    connection["spec"]["upstream"]["port"] = server.port
    connection["spec"]["listener"]["port"] = found.port
    token = gateways.agent_token("planner-token", gateways.TOKEN, gateways.AGENT)
    found.write(connection, admin, token, yaml.safe_load((EXAMPLE / "policy.yaml").read_text()))
    found.start()
    yield found
    found.destroy()


def test_the_example_works_as_it_stands(server: Server, gateway: Gateway) -> None:
    with psycopg.connect(gateway.dsn(), autocommit=True) as session:
        row = session.execute("select current_user, session_user, count(*) from orders").fetchone()
        assert row is not None
        assert (row[0], row[2]) == ("app_rw", 1)
        assert roles.agents(server) == [row[1]]
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="given to it, and stays"):
            session.execute("set role none")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="do not change roles"):
            session.execute("alter role app_rw password 'mine'")
    assert roles.none_left(server)
    assert '"level": "error"' not in gateway.log_text()
