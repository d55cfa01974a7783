"""What a client may ask for when it connects."""

from __future__ import annotations

import pytest

from ostiary_gateway.protocols.postgres.startup import Opening, Refusal, is_utf8, open_with, split_search_path
from ostiary_gateway.protocols.postgres.wire import (
    PROTOCOL_3_0,
    PROTOCOL_3_2,
    Cancel,
    EncryptionRequest,
    ProtocolViolation,
    Startup,
    cancel_request,
    parse_startup,
    startup_message,
)


def opened(version: int = PROTOCOL_3_0, database: str | None = "app", **parameters: str) -> Opening:
    return open_with(Startup(version, {"user": "u", **parameters}), database=database, connection="shop")


def test_startup_packets_are_read_back() -> None:
    packet = startup_message(PROTOCOL_3_0, {"user": "u", "database": "d"})
    assert parse_startup(packet[4:]) == Startup(PROTOCOL_3_0, {"user": "u", "database": "d"})
    assert parse_startup(cancel_request(7, b"k" * 32)[4:]) == Cancel(7, b"k" * 32)
    assert parse_startup((80877103).to_bytes(4, "big")) == EncryptionRequest(gss=False)


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\0\3",
        b"\0\2\0\0",
        b"\0\3\0\0user\0u",
        b"\0\3\0\0user\0u\0\0x",
        b"\0\3\0\0user\0u\0user\0v\0\0",
        b"\0\3\0\0\xff\xfe\0x\0\0",
        cancel_request(7, b"")[4:],
        cancel_request(7, b"k" * 257)[4:],
        (80877103).to_bytes(4, "big") + b"x",
    ],
)
def test_malformed_startup_packets_are_refused(packet: bytes) -> None:
    with pytest.raises(ProtocolViolation):
        parse_startup(packet)


@pytest.mark.parametrize("asked", ["app", "u", "shop", ""])
def test_the_connections_database_is_opened(asked: str) -> None:
    startup = Startup(PROTOCOL_3_0, {"user": "u", "database": asked})
    assert open_with(startup, database="app", connection="shop").database == "app"


def test_another_database_is_refused_by_name() -> None:
    with pytest.raises(Refusal, match='leads to the database "app", not to "other"') as refusal:
        open_with(Startup(PROTOCOL_3_0, {"user": "u", "database": "other"}), database="app", connection="shop")
    assert refusal.value.code == "3D000"


def test_without_a_database_of_its_own_the_client_chooses() -> None:
    startup = Startup(PROTOCOL_3_0, {"user": "u", "database": "other"})
    assert open_with(startup, database=None, connection="shop").database == "other"


def test_harmless_settings_pass_and_options_are_read_as_the_server_does() -> None:
    opening = opened(
        application_name="psql", TimeZone="UTC", options=r"-c statement_timeout=5s --search-path=a,\ b -cgeqo=off"
    )
    assert opening.settings == {
        "application_name": "psql", "timezone": "UTC", "statement_timeout": "5s", "search_path": "a, b", "geqo": "off",
    }  # fmt: skip


@pytest.mark.parametrize(
    "parameters",
    [
        {"role": "postgres"},
        {"session_authorization": "postgres"},
        {"session_replication_role": "replica"},
        {"standard_conforming_strings": "off"},
        {"client_encoding": "SJIS"},
        {"replication": "true"},
        {"replication": "database"},
        {"options": "-c role=postgres"},
        {"options": "--client-encoding=latin1"},
        {"options": "-c standard_conforming_strings=off"},
        {"options": "-d 5"},
        {"options": "garbage"},
    ],
)
def test_settings_that_policies_must_see_or_that_would_change_meaning_are_refused(parameters: dict[str, str]) -> None:
    with pytest.raises(Refusal):
        opened(**parameters)


def test_a_user_name_is_needed() -> None:
    with pytest.raises(Refusal, match="no PostgreSQL user name"):
        open_with(Startup(PROTOCOL_3_0, {}), database="app", connection="shop")


@pytest.mark.parametrize(
    ("version", "parameters", "minor", "negotiate"),
    [
        (PROTOCOL_3_0, {}, 0, None),
        (PROTOCOL_3_2, {}, 2, None),
        (PROTOCOL_3_0 + 1, {}, 0, ()),
        (PROTOCOL_3_0 + 9999, {}, 2, ()),
        (PROTOCOL_3_2, {"_pq_.grease": "1"}, 2, ("_pq_.grease",)),
    ],
)
def test_versions_are_negotiated(
    version: int, parameters: dict[str, str], minor: int, negotiate: tuple[str, ...] | None
) -> None:
    opening = open_with(Startup(version, {"user": "u", **parameters}), database="app", connection="shop")
    assert (opening.minor, opening.negotiate) == (minor, negotiate)


@pytest.mark.parametrize("name", ["UTF8", "utf-8", "Unicode", "UTF_8"])
def test_spellings_of_utf8(name: str) -> None:
    assert is_utf8(name)


@pytest.mark.parametrize(
    ("setting", "path"),
    [
        ('"$user", public', ("me", "public")),
        ("$user,public", ("me", "public")),
        ('Public, "Mixed Case", "a""b", "with,comma"', ("public", "Mixed Case", 'a"b', "with,comma")),
        ('""', ()),
        ("", ()),
    ],
)
def test_search_path_is_split_as_postgresql_does(setting: str, path: tuple[str, ...]) -> None:
    assert split_search_path(setting, "me") == path
