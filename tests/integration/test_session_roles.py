"""`postgresRole`: a login role for each session, made by the gateway and gone with the session."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from support import roles
from support.gateway import Gateway, Manifest, StartGateway, metrics, policy
from support.servers import Server

RULES = policy(
    "guard",
    [
        {
            "name": "big-writes",
            "action": "Deny",
            "expression": "sql.statements.exists(s, s.verb == 'UPDATE') && sql.estimatedRows > 500",
            "messageExpression": "'This would change about ' + string(sql.estimatedRows) + ' rows.'",
        },
        {
            "name": "not-as-reader",
            "action": "Deny",
            "expression": "sql.user == 'app_ro'",
            "message": "the readers' role is not for agents",
        },
        {
            "name": "cards",
            "action": "Mask",
            "expression": "true",
            "masking": [{"column": "public.accounts.card", "strategy": {"type": "Partial", "keepLast": 4}}],
        },
        {"name": "rest", "action": "Allow", "expression": "true"},
    ],
)


@pytest.fixture(scope="module", params=["pg15", "pg18"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    found: Server = request.getfixturevalue(request.param)
    roles.prepare(found)
    yield found
    roles.clean(found)


@pytest.fixture(scope="module")
def gateway(server: Server, start_gateway: StartGateway) -> Iterator[Gateway]:
    found = roles.gateway_with_roles(start_gateway, server, RULES)
    yield found
    found.stop()
    assert roles.session_roles(server) == [], "a gateway that stops leaves nothing behind"


@pytest.fixture
def agent(gateway: Gateway) -> Iterator[psycopg.Connection]:
    with psycopg.connect(gateway.dsn(), autocommit=True) as connection:
        yield connection


def one(connection: psycopg.Connection, sql: str) -> object:
    row = connection.execute(sql).fetchone()
    assert row is not None
    return row[0] if len(row) == 1 else row


def counted(gateway: Gateway, event: str) -> float:
    found = metrics(gateway.admin("/metrics")[1])
    return found.get(f'ostiary_session_roles_total{{connection="default/app",event="{event}"}}', 0.0)


def logged(gateway: Gateway, words: str) -> dict[str, object] | None:
    lines = [json.loads(line) for line in gateway.log_text().splitlines() if line.startswith("{")]
    return next((line for line in lines if words in json.dumps(line)), None)


# the role


def test_the_role_that_ran_a_statement_is_in_the_servers_log_and_gone_after_the_session(
    server: Server, gateway: Gateway
) -> None:
    since = server.log_size()
    with psycopg.connect(gateway.dsn(), autocommit=True) as session:
        role = one(session, "select session_user")
        assert one(session, "select 'who ran this'") == "who ran this"
        assert roles.agents(server) == [role]
    assert re.fullmatch(r"ostiary_[a-z2-7]{6}_[a-z2-7]{6}_planner_[0-9a-z]{20}", str(role))
    ran = next(line for line in server.log_text(since).splitlines() if "who ran this" in line)
    assert f"user={role} " in ran
    assert roles.none_left(server)
    recorded = gateway.run("session", str(role).rsplit("_", 1)[1])
    assert f"login       {role} as app_rw" in recorded, "the role's name ends with the session's id"


def test_it_has_no_rights_but_those_of_its_groups_and_not_for_long(server: Server, agent: psycopg.Connection) -> None:
    role = one(agent, "select session_user")
    assert server.sql(
        "select rolcanlogin, rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls, rolconnlimit, "
        f"rolvaliduntil between now() + interval '14 min' and now() + interval '15 min' from pg_roles "
        f"where rolname = '{role}'"
    ) == "f|f|f|f|f|f|1|t"  # fmt: skip
    groups = f"select roleid::regrole from pg_auth_members where member = '{role}'::regrole"
    assert server.sql(groups) == "app_rw"
    comment = server.sql(f"select shobj_description('{role}'::regrole, 'pg_authid')")
    assert "of planner at Connection default/app" in comment


def test_a_password_that_it_gives_itself_opens_nothing(server: Server, agent: psycopg.Connection) -> None:
    """The connection limit alone would not do: between the end of the session and of its role there is a moment."""
    role = str(one(agent, "select session_user"))
    agent.execute("set role none")
    agent.execute("alter role session_user password 'mine'")
    with pytest.raises(psycopg.OperationalError, match="is not permitted to log in"):
        psycopg.connect(host=server.host, port=server.port, dbname=server.database, user=role, password="mine")


def test_a_session_acts_as_its_first_group(agent: psycopg.Connection) -> None:
    assert one(agent, "select current_user") == "app_rw"
    assert one(agent, "select count(*) from accounts") == 50, "row-level security is the group's"
    agent.execute("reset role")
    assert one(agent, "select current_user") == "app_rw"
    agent.execute("discard all")
    assert one(agent, "select count(*) from accounts") == 50


def test_an_agent_cannot_become_who_it_is_no_member_of(agent: psycopg.Connection) -> None:
    for name in ("app_ro", roles.ADMIN, "owner"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            agent.execute(f"set role {name}")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        agent.execute("create role more login")


def test_many_agents_at_once_have_a_role_each(server: Server, gateway: Gateway) -> None:
    together = threading.Barrier(24)

    def session(_: int) -> object:
        with psycopg.connect(gateway.dsn(), autocommit=True) as connection:
            found = one(connection, "select session_user")
            together.wait(30)
            return found

    with ThreadPoolExecutor(24) as pool:
        found = list(pool.map(session, range(24)))
    assert len(set(found)) == 24
    assert roles.none_left(server)


# policies with it


def test_plans_are_made_with_the_agents_rights_and_row_level_security(agent: psycopg.Connection) -> None:
    """The table has 5,000 rows; the agent may see 50 of them, and so change no more."""
    assert agent.execute("update accounts set tenant = tenant").rowcount == 50
    agent.execute("set role none")
    assert agent.execute("update accounts set tenant = tenant").rowcount == 50


def test_a_big_write_is_found_by_its_plan(server: Server, agent: psycopg.Connection) -> None:
    server.sql("create policy all_of_them on accounts to app_rw using (true)")
    try:
        for role in ("app_rw", "none"):
            agent.execute(f"set role {role}")
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match=r"about 5\d{3} rows"):
                agent.execute("update accounts set tenant = tenant")
    finally:
        server.sql("drop policy all_of_them on accounts")


def test_masks_hold(agent: psycopg.Connection) -> None:
    assert one(agent, "select card from accounts limit 1") == "*************** 1111"[1:].replace(" ", "*")
    assert "4111" not in str(one(agent, "select upper(card) from accounts limit 1"))
    agent.execute("set role none")
    assert "4111" not in str(one(agent, "select card from accounts limit 1"))


def test_rules_see_the_role_that_a_session_acts_as(
    server: Server, start_gateway: StartGateway, gateway: Gateway
) -> None:
    both = roles.gateway_with_roles(start_gateway, server, RULES, member_of=("app_rw", "app_ro"))
    with psycopg.connect(both.dsn(), autocommit=True) as session:
        assert one(session, "select current_user") == "app_rw"
        session.execute("set role app_ro")
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="the readers' role is not for agents"):
            session.execute("select 1")
    both.stop()


# its end


def test_a_cancel_request_reaches_the_session(gateway: Gateway) -> None:
    with psycopg.connect(gateway.dsn(), autocommit=True) as session:
        timer = threading.Timer(0.5, session.cancel)
        timer.start()
        with pytest.raises(psycopg.errors.QueryCanceled):
            session.execute("select pg_sleep(30)")
        timer.join()
        assert one(session, "select 1") == 1


def test_a_client_that_vanishes_in_the_middle_leaves_no_role_and_no_process(server: Server, gateway: Gateway) -> None:
    session = psycopg.connect(gateway.dsn(), autocommit=True)
    role = one(session, "select session_user")
    session.pgconn.send_query(b"select pg_sleep(600)")
    assert roles.until(lambda: "active" in server.sql(f"select state from pg_stat_activity where usename = '{role}'"))
    session.pgconn.finish()
    assert roles.none_left(server)
    assert server.sql("select count(*) from pg_stat_activity where query = 'select pg_sleep(600)'") == "0"


def test_what_an_agent_makes_belongs_to_its_group(server: Server, gateway: Gateway) -> None:
    with psycopg.connect(gateway.dsn(), autocommit=True) as session:
        session.execute("create table made (a int)")
    assert roles.none_left(server)
    assert server.sql("select relowner::regrole from pg_class where relname = 'made'") == "app_rw"


def test_what_it_makes_as_the_login_role_is_handed_to_the_group(server: Server, gateway: Gateway) -> None:
    server.recreate("elsewhere")
    server.sql("create table granted (a int); alter table granted owner to app_rw", "elsewhere")
    with psycopg.connect(gateway.dsn(), autocommit=True) as session:
        role = one(session, "select session_user")
        session.execute("set role none")
        session.execute("create table own (a int)")
        session.execute("create function own() returns int language sql as 'select 1'")
        session.execute("grant select on own to public")
        session.execute("alter default privileges grant select on tables to app_rw")
        session.execute("select lo_create(4711)")
        server.sql(f'set role app_rw; grant select on granted to "{role}"', "elsewhere")
    assert roles.none_left(server)
    assert server.sql("select relowner::regrole from pg_class where relname = 'own'") == "app_rw"
    assert server.sql("select proowner::regrole from pg_proc where proname = 'own'") == "app_rw"
    assert server.sql("select lomowner::regrole from pg_largeobject_metadata where oid = 4711") == "app_rw"
    assert "ostiary" not in server.sql("select relacl from pg_class where relname = 'granted'", "elsewhere")
    server.sql("drop database elsewhere", "postgres")


def test_a_role_that_cannot_be_dropped_is_held_and_said(server: Server, gateway: Gateway) -> None:
    """Only its grantor or a superuser can take back what somebody else granted to it."""
    failures = counted(gateway, "failed")
    server.sql("create table granted (a int)")
    with psycopg.connect(gateway.dsn(), autocommit=True) as session:
        role = str(one(session, "select session_user"))
        server.sql(f'grant select on granted to "{role}"')
    assert roles.until(lambda: counted(gateway, "failed") == failures + 1)
    said = logged(gateway, "cannot be dropped: it is tried again")
    assert said is not None
    assert (said["role"], said["can_log_in"]) == (role, False)
    assert "privileges for table public.granted" in str(said["problem"])
    assert f'DROP OWNED BY "{role}"' in str(said["problem"])
    stuck = 'ostiary_session_roles_stuck{connection="default/app"}'
    assert metrics(gateway.admin("/metrics")[1])[stuck] == 1
    held = f"select rolcanlogin, rolvaliduntil = '-infinity' from pg_roles where rolname = '{role}'"
    assert server.sql(held) == "f|t"
    server.sql(f'drop owned by "{role}"; drop role "{role}"; drop table granted')


# gateways that die, and others


def test_after_kill_9_the_next_start_sweeps(server: Server, start_gateway: StartGateway) -> None:
    other = roles.gateway_with_roles(start_gateway, server)
    lost = psycopg.connect(other.dsn(), autocommit=True)
    role = one(lost, "select session_user")
    assert other.process is not None
    other.process.send_signal(signal.SIGKILL)
    other.process.wait()
    assert role in roles.session_roles(server)
    lost.close()
    other.start()
    assert roles.until(lambda: role not in roles.session_roles(server))
    assert roles.until(lambda: counted(other, "swept") >= 1)
    assert logged(other, str(role)) is not None
    other.stop()
    assert roles.none_left(server)


def test_two_gateways_leave_each_others_roles_alone(
    server: Server, gateway: Gateway, start_gateway: StartGateway
) -> None:
    with psycopg.connect(gateway.dsn(), autocommit=True) as session:
        mine = one(session, "select session_user")
        other = roles.gateway_with_roles(start_gateway, server)
        with psycopg.connect(other.dsn(), autocommit=True) as second:
            theirs = one(second, "select session_user")
            assert {mine, theirs} <= set(roles.agents(server))
        assert roles.until(lambda: theirs not in roles.agents(server))
        assert roles.agents(server) == [mine]
        assert counted(other, "swept") == 0
        other.stop()
        assert one(session, "select 1") == 1
    assert roles.none_left(server)


def test_another_credential_ends_sessions_and_their_roles(server: Server, start_gateway: StartGateway) -> None:
    other = roles.gateway_with_roles(start_gateway, server)
    manifests = other.connection_manifests
    with psycopg.connect(other.dsn(), autocommit=True) as session:
        before = one(session, "select session_user")
        changed: list[Manifest] = json.loads(json.dumps(manifests).replace('"15m"', '"20m"'))
        other.write(*changed, RULES)
        assert roles.until(lambda: before not in roles.session_roles(server))
        with pytest.raises(psycopg.errors.AdminShutdown):
            session.execute("select 1")
    with psycopg.connect(other.dsn(), autocommit=True) as session:
        assert one(session, "select session_user") != before
    other.stop()
    assert roles.none_left(server)


# what is not set up


def refused(gateway: Gateway) -> dict[str, object]:
    """What the log says of a login that failed; the agent hears no more than an id."""
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(gateway.dsn(), connect_timeout=20)
    said = str(caught.value)
    assert "cannot be reached now" in said
    assert not re.search("role|GRANT|gateway_admin|app_", said)
    record = re.search(r"\[(\w+)\]", said)
    assert record is not None
    line = logged(gateway, record[1])
    assert line is not None
    return line


def test_an_administrator_that_may_not_create_roles(server: Server, start_gateway: StartGateway) -> None:
    server.sql(f"alter role {roles.ADMIN} nocreaterole")
    try:
        other = roles.gateway_with_roles(start_gateway, server)
        advice = f'ALTER ROLE \\"{roles.ADMIN}\\" CREATEROLE'
        assert roles.until(lambda: logged(other, advice) is not None), "said at start"
        assert f'ALTER ROLE "{roles.ADMIN}" CREATEROLE' in str(refused(other)["problem"])
        other.stop()
    finally:
        server.sql(f"alter role {roles.ADMIN} createrole")


def test_a_group_that_does_not_exist(server: Server, start_gateway: StartGateway) -> None:
    other = roles.gateway_with_roles(start_gateway, server, member_of=("app_rw", "no_such"))
    said = str(refused(other)["problem"])
    assert 'the role no_such of memberOf does not exist: CREATE ROLE "no_such" NOLOGIN' in said
    assert ("WITH ADMIN OPTION" in said) == (server.version >= 16)
    other.stop()


def test_a_group_that_the_administrator_may_not_grant(server: Server, start_gateway: StartGateway) -> None:
    server.sql("create role ungranted" if server.version >= 16 else "create role ungranted superuser")
    try:
        other = roles.gateway_with_roles(start_gateway, server, member_of=("ungranted",))
        said = str(refused(other)["problem"])
        if server.version >= 16:
            assert f'GRANT "ungranted" TO "{roles.ADMIN}" WITH ADMIN OPTION' in said
        else:
            assert "ungranted of memberOf is a superuser" in said
        other.stop()
    finally:
        server.sql("drop role ungranted")


def test_an_administrator_that_cannot_log_in(server: Server, start_gateway: StartGateway) -> None:
    wrong = roles.admin_secret(password="quite wrong")
    other = roles.gateway_with_roles(start_gateway, server, secret=wrong)
    said = str(refused(other)["problem"])
    assert f"as {roles.ADMIN}: password authentication failed" in said
    assert "quite wrong" not in other.log_text()
    other.stop()


def test_the_server_comes_back_and_so_do_the_roles(server: Server, gateway: Gateway) -> None:
    """The administrator's connections are lost with it."""
    with psycopg.connect(gateway.dsn(), autocommit=True):
        server.sql(f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{roles.ADMIN}'")
    time.sleep(0.1)
    with psycopg.connect(gateway.dsn(), autocommit=True) as session:
        assert one(session, "select 1") == 1
    assert roles.none_left(server)
