"""How a session begins: TLS, versions of the protocol, passwords, what may come with the connection."""

from __future__ import annotations

import re
import secrets
import socket
import ssl
import struct
import time
from collections.abc import Iterator

import psycopg
import pytest
from support.certificates import Authority
from support.gateway import TOKEN, Gateway, StartGateway
from support.scripted import Listener, read_message, read_startup
from support.servers import PASSWORD, Server
from support.wire import (
    GSS_REQUEST,
    PROTOCOL_3_2,
    SSL_REQUEST,
    Closed,
    Refused,
    Wire,
    errors,
    frame,
    query,
    startup,
)


def answer_to(gateway: Gateway, **parts: str) -> tuple[object, ...]:
    with psycopg.connect(gateway.dsn(**parts), connect_timeout=10) as connection:
        row = connection.execute("select 'in', current_user").fetchone()
        assert row is not None
        return row


def refusal(gateway: Gateway, **parts: str) -> str:
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(gateway.dsn(**parts), connect_timeout=10)
    return str(caught.value)


def told(gateway: Gateway, fields: dict[str, str], words: str) -> bool:
    """The agent hears that the database is away and an id; under that id the log says why, in these words."""
    assert (fields["S"], fields["C"]) == ("FATAL", "08001")
    assert words not in fields["M"], "how the database is reached is not the agent's business"
    found = re.search(r"\[(\w+)\]", fields["M"])
    assert found is not None, fields
    return any(words in line for line in gateway.log_text().splitlines() if found[1] in line)


# TLS towards the agent


def test_the_gateways_own_certificate_can_be_verified_in_full(gateway15: Gateway) -> None:
    for parts in (
        {"sslmode": "require"},
        {"sslmode": "verify-ca", "sslrootcert": str(gateway15.ca)},
        {"sslmode": "verify-full", "sslrootcert": str(gateway15.ca)},
        {"sslmode": "verify-full", "sslrootcert": str(gateway15.ca), "host": "localhost"},
    ):
        assert answer_to(gateway15, **parts) == ("in", "owner")


def test_another_authority_is_not_believed(gateway15: Gateway, authority: Authority) -> None:
    assert "certificate verify failed" in refusal(gateway15, sslmode="verify-full", sslrootcert=str(authority.other))


def test_without_tls_a_tls_listener_says_so(gateway15: Gateway) -> None:
    said = refusal(gateway15, sslmode="disable")
    assert "TLS" in said or "SSL" in said
    assert "timeout" not in said


def test_direct_tls_of_postgresql_17(gateway15: Gateway) -> None:
    assert answer_to(gateway15, sslmode="require", sslnegotiation="direct") == ("in", "owner")
    trusting = {"sslmode": "verify-full", "sslrootcert": str(gateway15.ca)}
    assert answer_to(gateway15, sslnegotiation="direct", **trusting) == ("in", "owner")


def test_direct_tls_without_its_alpn_is_refused(gateway15: Gateway) -> None:
    """Without ALPN another protocol's client could be led here (PostgreSQL: direct SSL requires ALPN)."""
    context = ssl.create_default_context(cafile=str(gateway15.ca))
    reply = b""
    with socket.create_connection((gateway15.host, gateway15.port), 10) as plain:
        try:
            with context.wrap_socket(plain, server_hostname=gateway15.host) as secured:
                secured.sendall(startup("planner", "app"))
                reply = secured.recv(1)
        except OSError:
            reply = b""
    assert reply in (b"", b"E"), "it asked for the password"


def test_tls_versions_before_1_2_are_refused(gateway15: Gateway) -> None:
    said = refusal(gateway15, ssl_min_protocol_version="TLSv1", ssl_max_protocol_version="TLSv1.1")
    assert "SSL" in said or "TLS" in said or "closed" in said


def test_channel_binding_is_not_needed_and_cannot_be_required(gateway15: Gateway) -> None:
    assert answer_to(gateway15, channel_binding="prefer") == ("in", "owner")
    assert answer_to(gateway15, channel_binding="disable") == ("in", "owner")
    begun = time.monotonic()
    assert "channel binding" in refusal(gateway15, channel_binding="require")
    assert time.monotonic() - begun < 5
    assert answer_to(gateway15) == ("in", "owner")


def test_a_client_that_wants_scram_hears_of_a_password(gateway15: Gateway) -> None:
    assert answer_to(gateway15, require_auth="password") == ("in", "owner")
    assert "password" in refusal(gateway15, require_auth="scram-sha-256")


def test_gss_is_declined_and_then_tls_is_spoken(gateway15: Gateway) -> None:
    with socket.create_connection((gateway15.host, gateway15.port), 10) as connection:
        connection.sendall(GSS_REQUEST)
        assert connection.recv(1) == b"N"
        connection.sendall(SSL_REQUEST)
        assert connection.recv(1) == b"S"


def test_words_said_before_tls_are_not_taken_as_said_inside(gateway15: Gateway, pg15: Server) -> None:
    """Bytes that a man in the middle put behind the SSLRequest must not be read as the client's."""
    mark = pg15.log_size()
    with socket.create_connection((gateway15.host, gateway15.port), 10) as connection:
        connection.sendall(SSL_REQUEST + startup("planner", "app") + frame("p", TOKEN.encode() + b"\0"))
        reply = connection.recv(1)
        if reply == b"S":
            connection.settimeout(10)
            rest = b""
            while data := _recv(connection):
                rest += data
            assert b"R" not in rest[:1], "the injected startup was answered"
    assert "planner" not in pg15.log_text(mark)


def _recv(connection: socket.socket) -> bytes:
    try:
        return connection.recv(4096)
    except ConnectionResetError:
        return b""


# Versions of the protocol


@pytest.mark.parametrize("version", ["3.0", "3.2", "latest"])
def test_libpq_18_speaks_each_version(gateway18: Gateway, version: str) -> None:
    assert answer_to(gateway18, min_protocol_version=version, max_protocol_version=version) == ("in", "owner")


def test_a_cancel_key_of_3_2_is_longer_and_works(gateway18: Gateway) -> None:
    wire = gateway18.login(protocol=PROTOCOL_3_2)
    assert 4 < len(wire.key[1]) <= 256
    wire.send(query("select pg_sleep(30)"))
    time.sleep(0.3)
    with socket.create_connection((gateway18.host, gateway18.port), 10) as connection:
        connection.sendall(wire.cancel_request())
        assert connection.recv(1) == b""
    assert [e["C"] for e in errors(wire.until())] == ["57014"]
    assert wire.rows("select 1") == [["1"]]
    wire.close()


def test_a_cancel_key_of_3_0_has_four_bytes(gateway18: Gateway) -> None:
    wire = gateway18.login()
    assert len(wire.key[1]) == 4
    wire.close()


def test_a_newer_minor_version_and_unknown_options_are_negotiated(gateway18: Gateway) -> None:
    wire = Wire.open(gateway18.host, gateway18.port)
    wire.send(startup("planner", "app", 196608 + 99, **{"_pq_.magic": "on"}))
    messages = []
    while not messages or messages[-1].type != "R":
        messages.append(wire.receive())
    negotiated = [m for m in messages if m.type == "v"]
    assert len(negotiated) == 1
    minor, count = struct.unpack_from("!ii", negotiated[0].body)
    assert minor in (2, PROTOCOL_3_2)
    assert (count, negotiated[0].body[8:]) == (1, b"_pq_.magic\0")
    wire.close()


@pytest.mark.parametrize("version", [0x20000, 0x40000, 0, 0x7FFFFFFF, 0x10000])
def test_other_major_versions_are_refused(gateway18: Gateway, version: int) -> None:
    wire = Wire.open(gateway18.host, gateway18.port)
    wire.send(startup("planner", "app", version))
    message = wire.receive()
    assert message.type == "E"
    assert message.fields["S"] == "FATAL"
    assert message.fields["C"] in ("0A000", "08P01")
    with pytest.raises(Closed):
        wire.receive()
    wire.close()


# Who comes in


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", PASSWORD, "\u00e9" * 20, "x" * 5000])
def test_a_wrong_token_is_refused_before_the_database_is_asked(gateway18: Gateway, pg18: Server, token: str) -> None:
    mark = pg18.log_size()
    with pytest.raises(Refused) as caught:
        Wire.login(gateway18.host, gateway18.port, user="planner", password=token, database="app")
    fields = caught.value.message.fields
    assert (fields["S"], fields["C"]) == ("FATAL", "28P01")
    if token:
        assert token not in str(fields)
    assert "connection" not in pg18.log_text(mark)
    assert token not in gateway18.log_text() or not token


def test_no_user_name_is_believed_the_token_says_who_comes(gateway18: Gateway) -> None:
    for name in ("planner", "postgres", "somebody else", "owner"):
        assert answer_to(gateway18, user=name) == ("in", "owner")


def test_the_tokens_of_others_do_not_open_a_database_that_is_not_the_connections(gateway18: Gateway) -> None:
    with pytest.raises(Refused) as caught:
        Wire.login(gateway18.host, gateway18.port, user="planner", password=TOKEN, database="postgres")
    assert caught.value.message.fields["C"] == "3D000"
    assert "app" in caught.value.message.fields["M"]


@pytest.mark.parametrize("mode", ["true", "database", "on", "1"])
def test_replication_is_refused(gateway18: Gateway, mode: str) -> None:
    with pytest.raises(Refused) as caught:
        gateway18.login(replication=mode)
    assert caught.value.message.fields["S"] == "FATAL"


def test_settings_of_the_connection_reach_the_server(gateway18: Gateway) -> None:
    wire = gateway18.login(application_name="agent 7", search_path="pg_temp, public", DateStyle="German")
    assert wire.parameters["application_name"] == "agent 7"
    assert wire.rows("show search_path; show datestyle") == [["pg_temp, public"], ["German, DMY"]]
    wire.close()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("standard_conforming_strings", "off"),
        ("client_encoding", "SJIS"),
        ("session_replication_role", "replica"),
        ("role", "postgres"),
        ("session_authorization", "postgres"),
        ("options", "-c standard_conforming_strings=off"),
        ("options", "--client_encoding=SJIS"),
        ("options", "-c role=postgres"),
    ],
)
def test_settings_that_would_change_what_a_statement_means_are_refused(
    gateway18: Gateway, name: str, value: str
) -> None:
    with pytest.raises(Refused) as caught:
        gateway18.login(**{name: value})
    fields = caught.value.message.fields
    assert fields["S"] == "FATAL"
    assert fields["M"]


def test_the_parameters_of_the_server_reach_the_client(gateway18: Gateway, pg18: Server) -> None:
    direct = Wire.login(pg18.host, pg18.port, user=pg18.user, password=pg18.password, database=pg18.database)
    through = gateway18.login()
    assert through.parameters == direct.parameters
    direct.close()
    through.close()


def test_the_databases_password_is_nowhere(gateway18: Gateway) -> None:
    wire = gateway18.login()
    wire.simple("select 1/0")
    wire.close()
    for path in [gateway18.log, *gateway18.data.rglob("*")]:
        if path.is_file():
            assert PASSWORD.encode() not in path.read_bytes(), path
            assert TOKEN.encode() not in path.read_bytes(), path


# Towards the database


@pytest.fixture
def restored(pg15: Server, authority: Authority) -> Iterator[Server]:
    yield pg15
    pg15.use_certificate(authority.server)
    time.sleep(0.3)


@pytest.mark.parametrize("which", ["wrong_name", "expired"])
def test_a_database_with_a_bad_certificate_gets_no_password(
    restored: Server, authority: Authority, start_gateway: StartGateway, which: str
) -> None:
    restored.use_certificate(getattr(authority, which))
    time.sleep(0.3)
    gateway = start_gateway(restored)
    with pytest.raises(Refused) as caught:
        gateway.login()
    assert told(gateway, caught.value.message.fields, "certificate")
    lenient = start_gateway(restored, upstream_tls="Require")
    assert lenient.login().rows("select 1") == [["1"]]


def test_a_database_without_tls_is_not_spoken_to_in_clear(pg18: Server, start_gateway: StartGateway) -> None:
    gateway = start_gateway(pg18, upstream_tls="Require")
    with pytest.raises(Refused) as caught:
        gateway.login()
    assert told(gateway, caught.value.message.fields, "TLS")


def test_scram_with_channel_binding_is_used_over_tls(gateway15: Gateway, pg15: Server) -> None:
    assert gateway15.login().rows("select ssl from pg_stat_ssl where pid = pg_backend_pid()") == [["t"]]


def _challenge(connection: socket.socket, kind: int, more: bytes = b"") -> bytes:
    """What the gateway answers to a request for authentication; empty if it hangs up."""
    read_startup(connection)
    connection.sendall(frame("R", struct.pack("!i", kind) + more))
    letter, body = read_message(connection)
    return letter.encode() + body


@pytest.mark.parametrize(("kind", "more"), [(3, b""), (10, b"SCRAM-SHA-1\0\0"), (7, b""), (99, b"")])
def test_a_false_database_does_not_learn_the_password(
    pg18: Server, start_gateway: StartGateway, kind: int, more: bytes
) -> None:
    """In clear, the password is not given to whoever answers at the address."""
    heard: list[bytes] = []
    listener = Listener(lambda connection: heard.append(_challenge(connection, kind, more)))
    false = Server(18, pg18.bindir, pg18.directory, listener.port, None)
    gateway = start_gateway(false)
    with pytest.raises(Refused) as caught:
        gateway.login()
    assert caught.value.message.fields["S"] == "FATAL"
    assert all(not answer.startswith(b"p") for answer in heard)
    assert all(PASSWORD.encode() not in answer for answer in heard)
    listener.close()


def test_a_database_that_cannot_prove_that_it_knows_the_password_is_left(
    pg18: Server, start_gateway: StartGateway
) -> None:
    """SCRAM is mutual: a server that lets everybody in with a wrong signature is an impostor (RFC 5802)."""

    def impostor(connection: socket.socket) -> None:
        read_startup(connection)
        connection.sendall(frame("R", struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0"))
        _, body = read_message(connection)
        nonce = body.rpartition(b"r=")[2].decode()
        challenge = f"r={nonce}{secrets.token_hex(8)},s=c2FsdHNhbHRzYWx0,i=4096"
        connection.sendall(frame("R", struct.pack("!i", 11) + challenge.encode()))
        read_message(connection)
        connection.sendall(frame("R", struct.pack("!i", 12) + b"v=" + b"A" * 43 + b"="))
        connection.sendall(frame("R", struct.pack("!i", 0)) + frame("Z", b"I"))
        read_message(connection)

    listener = Listener(impostor)
    gateway = start_gateway(Server(18, pg18.bindir, pg18.directory, listener.port, None))
    with pytest.raises(Refused) as caught:
        gateway.login()
    assert caught.value.message.fields["S"] == "FATAL"
    listener.close()


def test_a_database_that_is_not_there_is_named_in_the_error(pg18: Server, start_gateway: StartGateway) -> None:
    listener = Listener(lambda connection: None)
    port = listener.port
    listener.close()
    gateway = start_gateway(Server(18, pg18.bindir, pg18.directory, port, None))
    begun = time.monotonic()
    with pytest.raises(Refused) as caught:
        gateway.login()
    fields = caught.value.message.fields
    assert fields["C"].startswith("08") or fields["C"] == "57P03"
    assert time.monotonic() - begun < 15
    assert gateway.alive


def test_the_databases_own_refusal_is_in_the_gateways_log(pg18: Server, start_gateway: StartGateway) -> None:
    gateway = start_gateway(pg18, database="not_there")
    gateway.database = "not_there"
    with pytest.raises(Refused) as caught:
        gateway.login()
    assert told(gateway, caught.value.message.fields, 'database \\"not_there\\" does not exist')


def test_the_admin_address_answers_probes_and_prometheus(gateway18: Gateway) -> None:
    assert gateway18.admin("/healthz")[0] == 200
    assert gateway18.admin("/readyz")[0] == 200
    assert "ostiary" in gateway18.admin("/metrics")[1]
