"""How agents prove who they are, with real clients: JWTs of an issuer behind HTTPS, certificates with SPIFFE ids."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import psycopg
import pytest
from support import gateway as gateways
from support import servers
from support.certificates import Authority, KeyPair, TrustDomain
from support.gateway import ALLOW_ALL, TOKEN, Gateway, Manifest, metrics, policy, secret
from support.jwts import AUDIENCE, IssuerServer, Json, SigningKey, claims, ec_key, rsa_key
from support.servers import Server
from support.waiting import until

DENIED = psycopg.errors.InsufficientPrivilege
ID = "spiffe://example.org/agents/planner"

Put = Callable[..., Gateway]


@pytest.fixture(scope="module")
def domain() -> Iterator[TrustDomain]:
    directory = servers.scratch("domain")
    yield TrustDomain(directory)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def key() -> SigningKey:
    return ec_key("first")


@pytest.fixture
def issuer(authority: Authority, key: SigningKey) -> Iterator[IssuerServer]:
    """Its certificate is for localhost, of the CA that Secret idp-ca holds."""
    with IssuerServer(authority.server, key).running() as running:
        yield running


@pytest.fixture
def put(pg18: Server, authority: Authority, domain: TrustDomain) -> Iterator[Put]:
    """`put(policies…, authentication={…}, gateway=…)`: a gateway, or the same one with other manifests."""
    started: list[Gateway] = []

    def write(*policies: Manifest, authentication: Json, gateway: Gateway | None = None) -> Gateway:
        found = gateway or gateways.prepare(servers.scratch(f"identity-{servers.free_port()}"), pg18, tls=True)
        found.write(
            gateways.connection(pg18, found.port, tls=True, authentication=authentication),
            *gateways.secrets_for(pg18),
            secret("idp-ca", ca__crt=authority.ca.read_bytes()),
            secret("trust", ca__crt=domain.bundle),
            *(policies or (ALLOW_ALL,)),
        )
        if gateway is None:
            started.append(found)
            found.start()
        else:
            before = metrics(found.admin("/metrics")[1])["ostiary_bundle_loads_total"]
            until(lambda: metrics(found.admin("/metrics")[1])["ostiary_bundle_loads_total"] > before, "reloaded")
        return found

    yield write
    for gateway in started:
        gateway.destroy()


def corp(issuer: IssuerServer, **more: object) -> Json:
    return {
        "name": "corp", "issuer": issuer.issuer, "audiences": [AUDIENCE], "caRef": {"name": "idp-ca"},
        "clockSkew": "0s", **more,
    }  # fmt: skip


def jwt(issuer: IssuerServer, key: SigningKey, subject: str = "planner", **more: object) -> str:
    return key.token(claims(subject, iss=issuer.issuer, **more))


def refusal(gateway: Gateway, **parts: str) -> str:
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(gateway.dsn(**parts), connect_timeout=20)
    return str(caught.value)


def recorded(gateway: Gateway, kind: str, count: int) -> list[Json]:
    """Events of a kind from the record, as many as there must be; they are written a moment after they happened."""
    found: list[Json] = []

    def are_there() -> bool:
        lines = [json.loads(line) for line in gateway.run("export").splitlines()]
        found[:] = [line for line in lines if line["type"] == kind and line.get("connection") == "default/app"]
        return len(found) >= count

    until(are_there, f"{count} events {kind}")
    assert len(found) == count
    return found


def reasons(gateway: Gateway, count: int = 1) -> list[str]:
    """Why logins were refused."""
    return [event["reason"] for event in recorded(gateway, "refused", count)]


def subjects(gateway: Gateway, count: int) -> list[Json]:
    """The sessions that were opened."""
    return recorded(gateway, "open", count)


def psql(gateway: Gateway, statement: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["psql", "-XAt", "-c", statement],
        env={**os.environ, **gateway.environment(), **environment}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


# JWTs


def test_an_agent_logs_in_with_a_jwt_by_discovery(put: Put, issuer: IssuerServer, key: SigningKey) -> None:
    only = policy(
        "only-data",
        [{"name": "team", "action": "Allow", "expression": "request.subject.claims.team == 'data'"}],
        match={"protocols": ["Postgres"], "subjects": [{"kind": "Group", "name": "corp:agents"}]},
    )
    gateway = put(only, authentication={"oidc": [corp(issuer, groupsClaim="groups", claims=["team"])]})
    token = jwt(issuer, key, groups=["agents"], team="data")

    with psycopg.connect(gateway.dsn(password=token)) as connection:
        assert connection.execute("select 'psycopg'").fetchone() == ("psycopg",)
    done = psql(gateway, "select 'psql'", PGPASSWORD=token)
    assert (done.stdout, done.stderr) == ("psql\n", "")

    async def with_asyncpg() -> object:
        context = ssl.create_default_context(cafile=str(gateway.ca))
        connection = await asyncpg.connect(
            host=gateway.host, port=gateway.port, user="x", password=token, database="app", ssl=context
        )
        try:
            return await connection.fetchval("select 'asyncpg'")
        finally:
            await connection.close()

    assert asyncio.run(with_asyncpg()) == "asyncpg"
    assert issuer.asked == ["/.well-known/openid-configuration", "/keys"], "the keys are kept"

    other_team = jwt(issuer, key, groups=["agents"], team="web")
    with psycopg.connect(gateway.dsn(password=other_team)) as connection, pytest.raises(DENIED):
        connection.execute("select 1")
    with psycopg.connect(gateway.dsn()) as connection, pytest.raises(DENIED):
        connection.execute("select 1")

    opened = subjects(gateway, 5)
    assert opened[0]["subject"]["username"] == "corp:planner"
    assert opened[0]["detail"]["authentication"] == {"method": "oidc", "issuer": issuer.issuer}
    record = gateway.run("export") + gateway.log_text()
    assert token.rpartition(".")[2] not in record


def test_psql_reads_a_jwt_from_a_password_file(put: Put, issuer: IssuerServer, key: SigningKey) -> None:
    gateway = put(authentication={"oidc": [corp(issuer)]})
    file = gateway.directory / "pgpass"
    file.write_text(f"*:*:*:*:{jwt(issuer, key)}\n")
    file.chmod(0o600)
    environment = {name: value for name, value in gateway.environment().items() if name != "PGPASSWORD"}
    done = subprocess.run(
        ["psql", "-XAtw", "-c", "select 'in'"],
        env={**os.environ, **environment, "PGPASSFILE": str(file)}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "in\n", done.stderr


def test_a_refusal_says_what_is_wrong_what_is_expected_and_where_it_is_recorded(
    put: Put, issuer: IssuerServer, key: SigningKey
) -> None:
    gateway = put(authentication={"oidc": [corp(issuer)]})
    attempts = {
        "it is for another audience": jwt(issuer, key, aud="another"),
        "it expired 6": jwt(issuer, key, exp=int(time.time()) - 60),
        "its signature is wrong": jwt(issuer, ec_key("first")),
        "its issuer is not one": key.token(claims(iss="https://evil.example")),
        "the issuer does not have the key": jwt(issuer, ec_key("unknown")),
        "algorithm RS512 is not one": jwt(issuer, rsa_key("first", "RS512")),
    }
    for says, token in attempts.items():
        said = refusal(gateway, password=token)
        assert "FATAL" in said
        assert says in said
        assert "HINT:  Send " in said
        assert f"a JWT of {issuer.issuer} for the audience {AUDIENCE}" in said
    told = reasons(gateway, len(attempts))
    assert all(any(says in reason for reason in told) for says in attempts)
    counted = metrics(gateway.admin("/metrics")[1])
    assert counted['ostiary_login_failures_total{connection="default/app",reason="jwt"}'] == len(attempts)
    everything = gateway.run("export") + gateway.log_text()
    for token in attempts.values():
        assert not any(part in everything for part in token.split(".")), "a part of a token was kept"


def test_a_new_key_of_the_issuer_is_fetched_when_its_first_token_comes(
    put: Put, issuer: IssuerServer, key: SigningKey
) -> None:
    gateway = put(authentication={"oidc": [corp(issuer)]})
    psycopg.connect(gateway.dsn(password=jwt(issuer, key))).close()
    second = rsa_key("second")
    assert "does not have the key" in refusal(gateway, password=jwt(issuer, second))
    issuer.keys = (key, second)
    fetched = issuer.fetches()

    def is_in() -> bool:
        try:
            psycopg.connect(gateway.dsn(password=jwt(issuer, second))).close()
        except psycopg.OperationalError:
            return False
        return True

    until(is_in, "the new key is known")
    assert issuer.fetches() == fetched + 1, "it was not asked by every login"


def test_an_issuer_that_is_away_holds_up_nobody_else(put: Put, issuer: IssuerServer, key: SigningKey) -> None:
    gateway = put(authentication={"oidc": [corp(issuer)]})
    issuer.silent = True
    with psycopg.connect(gateway.dsn()) as canary:
        waiting = subprocess.Popen(
            ["psql", "-XAt", "-c", "select 1"],
            env={**os.environ, **gateway.environment(PGPASSWORD=jwt(issuer, key))},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        until(lambda: bool(issuer.asked), "the issuer was asked")
        assert canary.execute("select 'alive'").fetchone() == ("alive",)
        psycopg.connect(gateway.dsn()).close()
        assert waiting.poll() is None, "others came in while this one waits"
        said = waiting.communicate(timeout=30)[1]
    assert f"The keys of {issuer.issuer} cannot be had now" in said
    assert "Try again later" in said
    assert "there was no answer within 5 s" in reasons(gateway)[0]


def test_the_last_good_keys_serve_while_the_issuer_is_away(put: Put, issuer: IssuerServer, key: SigningKey) -> None:
    gateway = put(authentication={"oidc": [corp(issuer)]})
    psycopg.connect(gateway.dsn(password=jwt(issuer, key))).close()
    issuer.stop()
    psycopg.connect(gateway.dsn(password=jwt(issuer, key))).close()
    assert "does not have the key" in refusal(gateway, password=jwt(issuer, ec_key("made-up")))


@pytest.mark.parametrize(
    ("set_up", "says"),
    [
        (lambda server: setattr(server, "status", 500), "status 500"),
        (lambda server: setattr(server, "body", b"<html>"), "not plain JSON"),
        (lambda server: setattr(server, "body", b'{"keys": []}'), "no usable key"),
        (lambda server: setattr(server, "body", b" " * 600_000), "longer than 512 KiB"),
        (lambda server: setattr(server, "redirect", "https://evil.example/keys"), "status 302"),
        (lambda server: setattr(server, "discovery", {"issuer": "https://evil.example"}), "another issuer"),
        (
            lambda server: setattr(
                server, "discovery", {"issuer": server.issuer, "jwks_uri": "http://localhost/keys"}
            ),
            "no jwks_uri that begins with https",
        ),
        (lambda server: setattr(server, "headers", {"Content-Encoding": "gzip"}), "not plain JSON"),
    ],
    ids=["error", "page", "empty", "endless", "redirect", "other-issuer", "plain-http", "compressed"],
)
def test_an_issuer_that_answers_nonsense_lets_nobody_in(
    put: Put, issuer: IssuerServer, key: SigningKey, set_up: Callable[[IssuerServer], None], says: str
) -> None:
    set_up(issuer)
    if says == "not plain JSON" and issuer.headers:
        issuer.body = gzip.compress(b"{}")
    gateway = put(authentication={"oidc": [corp(issuer)]})
    assert "cannot be had now" in refusal(gateway, password=jwt(issuer, key))
    assert says in reasons(gateway)[0]


def test_an_issuer_of_another_authority_is_not_believed(put: Put, issuer: IssuerServer, key: SigningKey) -> None:
    gateway = put(authentication={"oidc": [corp(issuer, caRef={"name": "trust"})]})
    assert "cannot be had now" in refusal(gateway, password=jwt(issuer, key))
    assert "certificate verify failed" in reasons(gateway)[0]
    assert issuer.asked == []


def test_a_session_ends_when_its_jwt_has_expired(put: Put, issuer: IssuerServer, key: SigningKey) -> None:
    gateway = put(authentication={"oidc": [corp(issuer)]})
    token = jwt(issuer, key, lasts=8)
    agent = psycopg.connect(gateway.dsn(password=token), autocommit=True)
    with agent, psycopg.connect(gateway.dsn()) as other:
        assert agent.execute("select 1").fetchone() == (1,)
        with psycopg.connect(gateway.dsn(password=token), autocommit=True) as busy:
            assert busy.execute("select pg_sleep(15), 'finished'").fetchone() == ("", "finished")
        with pytest.raises(psycopg.OperationalError, match="has expired"):
            agent.execute("select 1")
        assert other.execute("select 1").fetchone() == (1,), "a token of a Secret does not expire"
    assert "expired" in refusal(gateway, password=token)


def test_a_session_may_outlive_its_jwt_where_the_connection_says_so(
    put: Put, issuer: IssuerServer, key: SigningKey
) -> None:
    gateway = put(authentication={"oidc": [corp(issuer)], "sessionsOutliveCredential": True})
    with psycopg.connect(gateway.dsn(password=jwt(issuer, key, lasts=2)), autocommit=True) as agent:
        time.sleep(8)
        assert agent.execute("select 1").fetchone() == (1,)


def test_an_issuer_that_is_removed_or_changed_takes_its_sessions_along(
    put: Put, issuer: IssuerServer, key: SigningKey
) -> None:
    gateway = put(authentication={"oidc": [corp(issuer)]})
    with psycopg.connect(gateway.dsn(), autocommit=True) as other:
        with psycopg.connect(gateway.dsn(password=jwt(issuer, key)), autocommit=True) as agent:
            put(gateway=gateway, authentication={"oidc": [corp(issuer)], "sessionsOutliveCredential": True})
            assert agent.execute("select 1").fetchone() == (1,), "nothing of the issuer has changed"
            put(gateway=gateway, authentication={"oidc": [corp(issuer, audiences=["another"])]})
            with pytest.raises(psycopg.OperationalError, match="issuer of the agent's JWT was removed or changed"):
                agent.execute("select 1")
        put(gateway=gateway, authentication={"oidc": [corp(issuer)]})
        assert issuer.fetches() == 1, "its keys outlived the reloads"
        with psycopg.connect(gateway.dsn(password=jwt(issuer, key)), autocommit=True) as agent:
            put(gateway=gateway, authentication={})
            with pytest.raises(psycopg.OperationalError, match="removed or changed"):
                agent.execute("select 1")
        assert other.execute("select 1").fetchone() == (1,)
    assert "takes no JWTs" in refusal(gateway, password=jwt(issuer, key))


# Certificates


def mtls(mode: str = "Optional", **more: object) -> Json:
    return {"mtls": {"caRef": {"name": "trust"}, "trustDomain": "example.org", "mode": mode, **more}}


def shown(pair: KeyPair) -> dict[str, str]:
    return {"sslcert": str(pair.certificate), "sslkey": str(pair.key)}


def test_an_agent_comes_in_by_its_certificate_without_a_password(put: Put, domain: TrustDomain) -> None:
    only = policy(
        "only-planner",
        [{"name": "all", "action": "Allow", "expression": "true"}],
        match={"protocols": ["Postgres"], "subjects": [{"kind": "Workload", "name": ID}]},
    )
    gateway = put(only, authentication=mtls())
    svid = domain.issue(ID)
    for parts in ({}, {"sslnegotiation": "direct"}, {"ssl_max_protocol_version": "TLSv1.2"}, {"require_auth": "none"}):
        with psycopg.connect(gateway.dsn(password="", **shown(svid), **parts)) as connection:
            assert connection.execute("select 'in'").fetchone() == ("in",), parts
    done = psql(gateway, "select 'psql'", PGPASSWORD="", PGSSLCERT=str(svid.certificate), PGSSLKEY=str(svid.key))
    assert (done.stdout, done.stderr) == ("psql\n", "")

    nothing = gateway.directory / "pgpass"
    nothing.touch(0o600)

    async def with_asyncpg() -> object:
        context = ssl.create_default_context(cafile=str(gateway.ca))
        context.load_cert_chain(svid.certificate, svid.key)
        connection = await asyncpg.connect(
            host=gateway.host, port=gateway.port, user="x", database="app", ssl=context, passfile=nothing
        )
        try:
            return await connection.fetchval("select 'asyncpg'")
        finally:
            await connection.close()

    assert asyncio.run(with_asyncpg()) == "asyncpg"
    with psycopg.connect(gateway.dsn()) as connection, pytest.raises(DENIED):
        connection.execute("select 1")
    opened = subjects(gateway, 7)
    assert (opened[0]["subject"]["kind"], opened[0]["subject"]["username"]) == ("Workload", ID)
    assert opened[0]["detail"]["authentication"] == {"method": "mtls", "certificate": ID}
    assert opened[-1]["subject"]["kind"] == "User"


def test_certificates_that_are_no_svids_of_the_trust_domain_are_refused_in_words(
    put: Put, domain: TrustDomain
) -> None:
    gateway = put(authentication=mtls())
    attempts = {
        "another trust domain": domain.issue("spiffe://other.org/agents/planner"),
        "exactly one URI": domain.issue(ID, "spiffe://example.org/admin"),
        "CA:TRUE": domain.issue(ID, ca=True),
        "keyUsage must have digitalSignature": domain.issue(ID, usage="sign-certificates"),
        "no SPIFFE id": domain.issue("https://example.org/planner"),
    }
    for says, pair in attempts.items():
        said = refusal(gateway, **shown(pair))
        assert says in said
        assert "trust domain example.org" in said
    told = reasons(gateway, len(attempts))
    assert all(any(says in reason for reason in told) for says in attempts)
    counted = metrics(gateway.admin("/metrics")[1])
    assert counted['ostiary_login_failures_total{connection="default/app",reason="certificate"}'] == len(attempts)


@pytest.mark.parametrize("version", ["TLSv1.2", "TLSv1.3"])
def test_certificates_that_the_handshake_refuses_are_recorded_with_their_reason(
    put: Put, domain: TrustDomain, version: str
) -> None:
    gateway = put(authentication=mtls())
    directory = servers.scratch("stranger")
    stranger = TrustDomain(directory)
    attempts = {
        "certificate has expired": (domain.issue(ID, begins=-900, lasts=-300), "alert certificate expired"),
        "certificate is not yet valid": (domain.issue(ID, begins=900, lasts=1800), "alert bad certificate"),
        "unable to get local issuer certificate": (stranger.issue(ID), "alert unknown ca"),
    }
    for pair, alert in attempts.values():
        said = refusal(gateway, ssl_min_protocol_version=version, ssl_max_protocol_version=version, **shown(pair))
        assert alert in said
    told = reasons(gateway, len(attempts))
    assert all(event["client"]["address"] == "127.0.0.1" for event in recorded(gateway, "refused", len(attempts)))
    assert [next((says for says in attempts if says in reason), reason) for reason in told] == list(attempts)
    psycopg.connect(gateway.dsn()).close()
    shutil.rmtree(directory)


def test_required_refuses_who_shows_none_and_says_how(put: Put, domain: TrustDomain) -> None:
    gateway = put(authentication=mtls("Required"))
    said = refusal(gateway)
    assert "asks for a client certificate, and none was shown" in said
    assert "sslcert and sslkey" in said
    psycopg.connect(gateway.dsn(**shown(domain.issue(ID)))).close()


def test_with_token_wants_both(put: Put, domain: TrustDomain, issuer: IssuerServer, key: SigningKey) -> None:
    gateway = put(authentication={**mtls("WithToken"), "oidc": [corp(issuer)]})
    svid = shown(domain.issue(ID))
    assert "none was shown" in refusal(gateway, password=jwt(issuer, key))
    assert "no token that is known" in refusal(gateway, password="wrong", **svid)
    psycopg.connect(gateway.dsn(password=jwt(issuer, key), **svid)).close()
    psycopg.connect(gateway.dsn(password=TOKEN, **svid)).close()
    assert [line["subject"]["username"] for line in subjects(gateway, 2)] == ["corp:planner", "planner"]


def test_a_session_ends_when_its_certificate_has_expired(put: Put, domain: TrustDomain) -> None:
    gateway = put(authentication=mtls())
    svid = domain.issue(ID, lasts=4)
    with psycopg.connect(gateway.dsn(**shown(svid)), autocommit=True) as agent:
        assert agent.execute("select 1").fetchone() == (1,)
        time.sleep(11)
        with pytest.raises(psycopg.OperationalError, match="has expired"):
            agent.execute("select 1")


def test_service_accounts_by_their_svids(put: Put, domain: TrustDomain) -> None:
    only = policy(
        "only-planner",
        [{"name": "all", "action": "Allow", "expression": "true"}],
        match={
            "protocols": ["Postgres"],
            "subjects": [{"kind": "ServiceAccount", "namespace": "agents", "name": "planner"}],
        },
    )
    gateway = put(only, authentication=mtls(serviceAccounts=True))
    with psycopg.connect(gateway.dsn(**shown(domain.issue("spiffe://example.org/ns/agents/sa/planner")))) as agent:
        assert agent.execute("select 1").fetchone() == (1,)
    other = shown(domain.issue("spiffe://example.org/ns/other/sa/planner"))
    with psycopg.connect(gateway.dsn(**other)) as agent, pytest.raises(DENIED):
        agent.execute("select 1")


def test_other_authorities_end_the_sessions_of_the_old_ones(put: Put, domain: TrustDomain, tmp_path: Path) -> None:
    gateway = put(authentication=mtls())
    with psycopg.connect(gateway.dsn(**shown(domain.issue(ID))), autocommit=True) as agent:
        others = [item for item in gateway.connection_manifests if item["metadata"] != {"name": "trust"}]
        both = domain.bundle + TrustDomain(tmp_path).bundle
        before = metrics(gateway.admin("/metrics")[1])["ostiary_bundle_loads_total"]
        gateway.write(*others, secret("trust", ca__crt=both), ALLOW_ALL)
        until(lambda: metrics(gateway.admin("/metrics")[1])["ostiary_bundle_loads_total"] == before + 1, "reloaded")
        assert agent.execute("select 1").fetchone() == (1,), "one more authority harms nobody"
        gateway.write(*others, secret("trust", ca__crt=TrustDomain(tmp_path).bundle), ALLOW_ALL)
        until(lambda: metrics(gateway.admin("/metrics")[1])["ostiary_bundle_loads_total"] == before + 2, "reloaded")
        with pytest.raises(psycopg.OperationalError, match="authorities, trust domain or meaning have changed"):
            agent.execute("select 1")
    assert "alert unknown ca" in refusal(gateway, **shown(domain.issue(ID)))
