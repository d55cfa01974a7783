"""The first packets of a client that nobody knows yet, and the login at a server that nobody should trust."""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from support.fuzzing import Target

from ostiary_gateway.protocols.postgres import wire
from ostiary_gateway.protocols.postgres.auth import KeyCache, Login, LoginFailed
from ostiary_gateway.protocols.postgres.startup import SETTINGS, Opening, Refusal, open_with, split_search_path
from ostiary_gateway.protocols.postgres.wire import ProtocolViolation, Startup, parse_startup
from ostiary_gateway.tls import own_certificate

PASSWORD = "correct horse battery staple"
NONCE = b"rOprNGfwEbeRWgbNEkqO"
KEYS = KeyCache()


@cache
def certificate() -> bytes:
    """Some server's, DER."""
    with TemporaryDirectory() as folder:
        pem, _ = own_certificate(Path(folder), "127.0.0.1")
        return x509.load_pem_x509_certificate(pem.read_bytes()).public_bytes(Encoding.DER)


def run_startup(data: bytes) -> Opening | str | None:
    """A packet's body, its length taken off."""
    try:
        packet = parse_startup(data)
        if not isinstance(packet, Startup):
            return None
        opening = open_with(packet, database="app" if len(data) % 2 else None, connection="app")
    except (ProtocolViolation, Refusal) as problem:
        return str(problem)
    assert opening.settings.keys() <= SETTINGS
    assert opening.minor in (0, 2)
    assert not any("\0" in part for item in opening.settings.items() for part in item)
    again = parse_startup(wire.startup_message(packet.version, packet.parameters)[4:])
    assert again == packet
    assert all(split_search_path(opening.settings.get("search_path", ""), "role"))
    return opening


def run_login(data: bytes) -> None:
    """Bodies of Authentication messages, each behind its length in a byte; the first byte: is there TLS?"""
    if not data:
        return
    encrypted = bool(data[0] & 1)
    login = Login("agent", PASSWORD, KEYS, certificate=certificate() if encrypted else None, nonce=NONCE)
    said, told, position, challenged = b"", "", 1, False
    try:
        while position < len(data) and not login.done:
            length = data[position]
            body = data[position + 1 : position + 1 + length]
            position += 1 + length
            challenged = challenged or body[:4] == b"\0\0\0\x0a"
            said += login.authentication(body) or b""
    except (LoginFailed, ProtocolViolation) as problem:
        told = str(problem)
    assert PASSWORD not in told
    assert encrypted or PASSWORD.encode() not in said, "the password in clear text on an unencrypted connection"
    assert base64.b64encode(PASSWORD.encode()) not in said
    # Whoever asked for SCRAM must prove that it knows the password, which these bytes cannot.
    assert not (challenged and login.done)


STARTUP = Target("startup", run_startup)
LOGIN = Target("login", run_login, longest=600)


def test_startup_packets() -> None:
    STARTUP.replay(6000)


def test_servers_that_authenticate_strangely() -> None:
    LOGIN.replay(4000)
