"""The fence around asyncssh's private parts: all that transport.py uses of them is there, and is what it is taken for.

A new asyncssh may change any of it without a word. Then this fails before anything else does.
"""

from __future__ import annotations

import ast
import inspect
from importlib.metadata import version
from pathlib import Path
from typing import Final

import asyncssh
from asyncssh import encryption
from asyncssh.connection import SSHClientConnection, SSHConnection, SSHServerConnection
from asyncssh.crypto.cipher import GCMCipher
from support.ssh_legs import legs

from ostiary_gateway.protocols.ssh import transport, transport_leg
from ostiary_gateway.protocols.ssh.transport import ClientLeg, Leg, TargetLeg
from ostiary_gateway.protocols.ssh.transport_offers import CIPHERS, KEY_EXCHANGES, client_options, server_options
from ostiary_gateway.protocols.ssh.transport_seal import Opener, Sealer

SOURCES: Final = [Path(module.__file__ or "").with_suffix(".py") for module in (transport, transport_leg)]
OURS: Final = {name for leg in (Leg, ClientLeg, TargetLeg) for name in vars(leg)} | {
    "_sealer", "_opener", "_parted", "_waiting", "_asked", "_trust",
}  # fmt: skip


def test_asyncssh_is_the_one_that_the_fence_was_built_around() -> None:
    assert version("asyncssh") == "2.24.1", "read connection.py anew, then change this"


def test_every_private_name_that_is_used_is_one_of_asyncssh_s() -> None:
    used = _private_names()
    theirs = set(dir(SSHServerConnection)) | set(dir(SSHClientConnection))
    for kind in (SSHConnection, SSHServerConnection, SSHClientConnection):
        theirs |= _set_in(kind)
    assert used - OURS - theirs == set()
    assert len(used & theirs) > 30, "the names were not found at all"


def test_what_is_overridden_takes_the_same_arguments() -> None:
    for leg, base in ((Leg, SSHConnection), (ClientLeg, SSHServerConnection), (TargetLeg, SSHClientConnection)):
        for name, method in vars(leg).items():
            overridden = getattr(base, name, None)
            if not inspect.isfunction(method) or not inspect.isfunction(overridden) or name == "__init__":
                continue
            ours, theirs = inspect.signature(method).parameters, inspect.signature(overridden).parameters
            if any(each.kind is each.VAR_POSITIONAL for each in ours.values()):
                continue
            assert list(ours)[: len(theirs)] == list(theirs)[: len(ours)], name
            assert len([each for each in ours.values() if each.default is each.empty]) <= len(theirs), name


def test_packets_are_looked_up_where_the_legs_take_them() -> None:
    source = inspect.getsource(SSHConnection._recv_packet)
    assert "handler = self._channels[recv_chan]" in source
    assert "handler.process_packet(pkttype, seq, packet)" in source
    assert "self._recv_encryption.decrypt_packet(" in source


def test_new_keys_are_set_by_assignment_so_that_no_key_is_used_by_two_objects() -> None:
    assert "self._send_encryption = next_enc_sc" in inspect.getsource(SSHConnection.send_newkeys)
    assert "self._recv_encryption = self._next_recv_encryption" in inspect.getsource(SSHConnection._process_newkeys)
    cipher = GCMCipher("aes128-gcm", bytes(16), bytes(range(12)))
    assert (cipher._key, cipher._iv) == (bytes(16), bytes(range(12)))


async def test_both_directions_of_both_legs_are_ours_under_a_quick_cipher() -> None:
    async with legs() as talk:
        for leg in (talk.client, talk.target):
            assert type(leg._send_encryption) is Sealer
            assert type(leg._recv_encryption) is Opener
            assert leg._strict_kex, "without it a prefix of packets can be cut off (CVE-2023-48795)"


def test_ours_and_asyncssh_s_aes_gcm_understand_each_other() -> None:
    key, iv = bytes(range(16)), bytes(range(12, 24))
    theirs = encryption.GCMEncryption(GCMCipher("aes128-gcm", key, iv))
    opener, sealer = Opener(key, iv), Sealer(key, iv)
    for payload in (b"\x14", b"x" * 100, bytes(32_000)):
        padding = 16 - (len(payload) + 1) % 16
        padding += 16 if padding < 4 else 0
        packet = bytes((padding,)) + payload + bytes(padding)
        head = len(packet).to_bytes(4)
        body, tag = theirs.encrypt_packet(0, head, packet)
        assert opener.open(head, body[4:] + tag) == packet

    theirs = encryption.GCMEncryption(GCMCipher("aes128-gcm", key, iv))
    for payload in (b"\x14", b"x" * 100, bytes(32_000)):
        sealed = sealer.seal(payload)
        opened = theirs.decrypt_packet(0, sealed[:16], sealed[16:-16], 4, sealed[-16:])
        assert opened is not None
        assert opened[1 : -opened[0]] == payload


def test_a_nonce_is_never_used_twice_and_wraps_only_in_its_counter() -> None:
    sealer = Sealer(bytes(16), b"\1\2\3\4" + b"\xff" * 8)
    assert [sealer._nonce() for _ in range(3)] == [
        b"\1\2\3\4" + b"\xff" * 8, b"\1\2\3\4" + bytes(8), b"\1\2\3\4" + bytes(7) + b"\1",
    ]  # fmt: skip


async def test_nothing_of_the_connection_protocol_is_asyncssh_s() -> None:
    """None of its handlers for messages from 80 on can be reached by a packet."""
    async with legs() as talk:
        for number in (80, 81, 82, 90, 91, 92):
            assert number in SSHConnection._packet_handlers, "or nothing is left to be kept from"
        for number in range(80, 101):
            talk.target.send(bytes((number,)) + bytes(4))
        packets = await talk.at_client.heard(21)
        assert [packet[0] for packet in packets] == list(range(80, 101))
        assert talk.at_target.packets == []
        assert dict(talk.client._channels) == {}


def test_only_ciphers_with_authentication_or_counters_are_offered_and_no_compression() -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    for options in (server_options([key]), client_options()):
        assert [name.decode() for name in options.encryption_algs] == list(CIPHERS)
        assert list(options.compression_algs) == [b"none"]
        assert not any(b"sha1" in name for name in options.mac_algs)
        assert [name.decode() for name in options.kex_algs] == list(KEY_EXCHANGES)
        assert not any(b"sha1" in name or name == b"ssh-rsa" for name in (*options.kex_algs, *options.signature_algs))


def _private_names() -> set[str]:
    """Of instances: `self._name`, `leg._name`, and those that are looked up in asyncssh's objects."""
    return {
        node.attr
        for source in SOURCES
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and isinstance(node.value, ast.Name)
        and node.value.id in ("self", "leg")
    } - {"_leg", "_transport", "_over"}


def _set_in(kind: type) -> set[str]:
    """Attributes that its methods set."""
    tree = ast.parse(inspect.getsource(kind))
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and isinstance(node.value, ast.Name)
    }
