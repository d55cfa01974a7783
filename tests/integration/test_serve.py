"""`ostiary serve` as an operator meets it: reloads, health, metrics, and the record read while it runs."""

from __future__ import annotations

import json
import signal

import psycopg
import pytest
from support.gateway import ALLOW_ALL, Gateway, StartGateway, connection, metrics, policy, secrets_for
from support.servers import Server
from support.waiting import until

READ_ONLY = policy(
    "allow-all",
    [{"name": "reads", "action": "Allow", "expression": "sql.statements.all(s, s.readOnly)"}],
)
WRONG = policy("allow-all", [{"name": "reads", "action": "Allow", "expression": "sql.nonsense"}])


@pytest.fixture
def gateway(pg18: Server, start_gateway: StartGateway) -> Gateway:
    return start_gateway(pg18)


def rewrite(gateway: Gateway, *policies: dict[str, object]) -> None:
    gateway.write(connection(gateway.server, gateway.port), *secrets_for(gateway.server), *policies)


def may_write(session: psycopg.Connection[tuple[object, ...]]) -> bool:
    try:
        session.execute("create temporary table if not exists t (a int)")
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True


def test_an_open_session_follows_a_changed_policy(gateway: Gateway) -> None:
    with psycopg.connect(gateway.dsn(), autocommit=True) as session:
        assert may_write(session)
        rewrite(gateway, READ_ONLY)
        until(lambda: not may_write(session), "writes are denied")
        assert session.execute("select 1").fetchone() == (1,)


def test_a_policy_that_does_not_compile_changes_nothing_and_is_logged(gateway: Gateway) -> None:
    rewrite(gateway, WRONG)
    until(lambda: "policies not accepted" in gateway.log_text(), "the problem is logged")
    entries = [json.loads(line) for line in gateway.log_text().splitlines()]
    problem = next(entry for entry in entries if "nonsense" in entry["event"])
    assert problem["object"] == "GatewayPolicy default/allow-all"
    assert problem["file"].startswith(str(gateway.manifests / "all.yaml"))
    with psycopg.connect(gateway.dsn(), autocommit=True) as session:
        assert may_write(session)
    status, text = gateway.admin("/readyz")
    assert status == 200
    assert "1 problem in policies" in text


def test_a_file_that_is_no_yaml_changes_nothing(gateway: Gateway) -> None:
    (gateway.manifests / "more.yaml").write_text("kind: [")
    until(lambda: "manifests refused" in gateway.log_text(), "the problem is logged")
    with psycopg.connect(gateway.dsn(), autocommit=True) as session:
        assert may_write(session)
    assert metrics(gateway.admin("/metrics")[1])["ostiary_bundle_load_failures_total"] == 1


def test_a_revoked_token_opens_nothing(gateway: Gateway) -> None:
    others = [item for item in secrets_for(gateway.server) if item["type"] != "ostiary.dev/token"]
    gateway.write(connection(gateway.server, gateway.port), *others, ALLOW_ALL)

    def refused() -> bool:
        try:
            psycopg.connect(gateway.dsn()).close()
        except psycopg.OperationalError as error:
            return "no token that is known" in str(error)
        return False

    until(refused, "the token is refused")


def test_sighup_loads_at_once(gateway: Gateway) -> None:
    before = metrics(gateway.admin("/metrics")[1])["ostiary_bundle_loads_total"]
    assert gateway.process is not None
    gateway.process.send_signal(signal.SIGHUP)
    until(lambda: metrics(gateway.admin("/metrics")[1])["ostiary_bundle_loads_total"] > before, "a second load")


def test_sigterm_ends_sessions_with_words_and_the_process_with_0(gateway: Gateway) -> None:
    assert gateway.process is not None
    process = gateway.process
    with psycopg.connect(gateway.dsn(), autocommit=True) as session:
        session.execute("select 1")
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
        with pytest.raises(psycopg.OperationalError, match="shutting down"):
            session.execute("select 1")


def test_sigterm_lets_a_transaction_finish_and_a_second_one_does_not(pg18: Server, start_gateway: StartGateway) -> None:
    gateway = start_gateway(pg18)
    assert gateway.process is not None
    with psycopg.connect(gateway.dsn()) as busy, psycopg.connect(gateway.dsn()) as stuck:
        busy.execute("create temp table t (n int)")
        stuck.execute("select 1")
        gateway.process.send_signal(signal.SIGTERM)
        until(lambda: "sessions may finish what they do" in gateway.log_text(), "the end has begun")
        busy.execute("insert into t values (1)")
        busy.commit()
        assert gateway.process.poll() is None
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(10) == 0
        with pytest.raises(psycopg.OperationalError, match="shutting down"):
            stuck.execute("select 1")


def test_metrics_count_what_happened(gateway: Gateway) -> None:
    with psycopg.connect(gateway.dsn(), autocommit=True) as session:
        session.execute("select 1")
        during = metrics(gateway.admin("/metrics")[1])
    assert during['ostiary_sessions_open{connection="default/app"}'] == 1
    assert during['ostiary_requests_total{connection="default/app",decision="Allow",protocol="Postgres"}'] >= 1
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(gateway.dsn(password="wrong"))
    after = metrics(gateway.admin("/metrics")[1])
    assert after['ostiary_login_failures_total{connection="default/app",reason="token"}'] == 1
    assert gateway.admin("/healthz") == (200, "ok\n")
    assert gateway.admin("/readyz")[0] == 200


def test_the_record_is_read_by_the_commands_while_the_gateway_runs(gateway: Gateway) -> None:
    rewrite(gateway, READ_ONLY)
    with psycopg.connect(gateway.dsn(), autocommit=True) as session:
        until(lambda: not may_write(session), "writes are denied")
        session.execute("select 'a marker' as found")
    until(lambda: '"state": "closed"' in gateway.run("sessions", "--json"), "the session is closed in the record")
    listed = json.loads(gateway.run("sessions", "--json").splitlines()[0])
    assert listed["username"] == gateway.user
    assert listed["denied"] >= 1
    assert gateway.run("sessions", "--since", "1h", "--user", "somebody else").strip() == "No session fits."
    transcript = gateway.run("session", listed["id"][:12])
    assert "a marker" in transcript
    assert "Deny" in transcript
    lines = [json.loads(line) for line in gateway.run("export", "--session", listed["id"]).splitlines()]
    marked = next(line["request"] for line in lines if "a marker" in (line.get("text") or ""))
    assert "a marker" in gateway.run("session", marked)
    assert "Deny" not in gateway.run("session", marked)
    assert "whole" in gateway.run("verify")


def test_a_second_gateway_on_the_same_data_is_told_to_go_elsewhere(gateway: Gateway) -> None:
    told = gateway.run("serve", str(gateway.manifests), "--admin", "off", check=False)
    assert "Next:" in told
    assert "--data DIR" in told
