"""Certificates for agents: read as ssh-keygen writes them, written as it reads them, and nothing of them guessed."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import asyncssh
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.sshd import keygen, make_key, sign

from ostiary_gateway.protocols.ssh import certificates
from ostiary_gateway.protocols.ssh.certificates import BadCertificate
from ostiary_gateway.protocols.ssh.host_keys import HostKeyError, own_key, public_line

AUTHORITY = asyncssh.generate_private_key("ssh-ed25519")
KEY = certificates.public_key(public_line(asyncssh.generate_private_key("ssh-ed25519")))


def made(key: bytes = KEY) -> bytes:
    return certificates.sign(
        AUTHORITY, "ssh-ed25519", key, serial=2**63 - 1, key_id="a b", principals=["p", "q"], after=100, before=2**32,
        extensions={"x@ostiary.dev": b"\0\xff", "a@ostiary.dev": b""},
    )  # fmt: skip


def blob_of(path: Path) -> bytes:
    return base64.b64decode(path.read_text().split()[1])


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa"])
@pytest.mark.parametrize("authority", ["ed25519", "rsa", "ecdsa"])
def test_what_ssh_keygen_has_signed_is_read(tmp_path: Path, kind: str, authority: str) -> None:
    make_key(tmp_path / "ca", authority)
    make_key(tmp_path / "id", kind)
    options = ("-z", "7", "-V", "20260101000000Z:20270101000000Z", "-O", "source-address=10.0.0.0/8", "-O", "no-pty")
    blob = blob_of(sign(tmp_path / "ca", tmp_path / "id", "somebody", "deploy,app", *options))
    found = certificates.read(blob)
    assert (found.serial, found.kind, found.key_id) == (7, certificates.USER, b"somebody")
    assert found.principals == (b"deploy", b"app")
    assert found.valid_before - found.valid_after == 365 * 86_400
    assert set(found.critical) == {b"source-address"}
    assert b"permit-pty" not in found.extensions
    assert found.key == blob_of(tmp_path / "id.pub")
    assert found.authority == blob_of(tmp_path / "ca.pub")
    public = asyncssh.import_public_key((tmp_path / "ca.pub").read_text())
    assert public.verify(found.signed, found.signature)
    assert not public.verify(found.signed + b"x", found.signature)


def test_what_is_signed_here_is_read_by_ssh_keygen_and_by_asyncssh(tmp_path: Path) -> None:
    path = tmp_path / "id-cert.pub"
    path.write_text(certificates.line_of(made(), "comment") + "\n")
    shown = keygen("-L", "-f", str(path))
    assert f"Public key: ED25519-CERT {certificates.fingerprint(KEY)}" in shown
    assert "Serial: 9223372036854775807" in shown
    assert 'Key ID: "a b"' in shown
    assert "x@ostiary.dev" in shown
    read = asyncssh.import_certificate(path.read_text())
    assert read.key.public_data == KEY
    found = certificates.read(made())
    assert found.extensions[b"x@ostiary.dev"] == certificates.string(b"\0\xff")


def test_nothing_may_stand_behind_it_and_nothing_may_be_missing() -> None:
    blob = made()
    for end in range(len(blob)):
        with pytest.raises(BadCertificate):
            certificates.read(blob[:end])
    with pytest.raises(BadCertificate, match="behind its end"):
        certificates.read(blob + b"\0")
    with pytest.raises(BadCertificate, match="too long"):
        certificates.read(blob + bytes(certificates.MAX_CERTIFICATE))


@given(st.data())
def test_a_changed_certificate_is_refused_or_its_signature_is_wrong(data: st.DataObject) -> None:
    blob = bytearray(made())
    at = data.draw(st.integers(0, len(blob) - 1))
    blob[at] ^= data.draw(st.integers(1, 255))
    try:
        found = certificates.read(bytes(blob))
    except BadCertificate:
        return
    public = AUTHORITY.convert_to_public()
    try:
        verified = found.authority == public.public_data and public.verify(found.signed, found.signature)
    except (ValueError, asyncssh.ProtocolError):
        verified = False
    assert not verified


@given(st.binary(max_size=300))
def test_noise_is_no_certificate(noise: bytes) -> None:
    certificates.is_certificate(noise)
    for blob in (noise, certificates.string(b"ssh-ed25519-cert-v01@openssh.com") + noise):
        with pytest.raises(BadCertificate):
            certificates.read(blob)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("", "no public key"),
        ("ssh-ed25519", "no public key"),
        ("ssh-ed25519 !!!!", "no public key"),
        ("ssh-ed25519 AAAA", "cut off"),
        ("ssh-rsa " + base64.b64encode(KEY).decode(), "another kind of key"),
        ("x " + "A" * 40_000, "no public key"),
        (public_line(asyncssh.generate_private_key("ssh-rsa", key_size=1024)), "needs 2048 bits"),
        (public_line(asyncssh.generate_private_key("ssh-dss")), "'ssh-dss' are not taken"),
    ],
)
def test_what_is_no_public_key_is_refused_in_words(line: str, says: str) -> None:
    with pytest.raises(BadCertificate, match=says):
        certificates.public_key(line)


def test_a_certificate_is_told_from_a_key_by_its_name() -> None:
    assert certificates.is_certificate(made())
    assert not certificates.is_certificate(KEY)
    assert not certificates.is_certificate(b"")
    with pytest.raises(BadCertificate, match="it is a key"):
        certificates.read(KEY)


# The gateway's own keys


def test_a_gateway_makes_its_keys_once_and_for_itself(tmp_path: Path) -> None:
    first = own_key(tmp_path / "data", "host_key")
    assert public_line(own_key(tmp_path / "data", "host_key")) == public_line(first)
    assert public_line(own_key(tmp_path / "data", "login_ca")) != public_line(first)
    folder = tmp_path / "data" / "ssh"
    assert stat.S_IMODE((folder / "host_key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (folder / "host_key.pub").read_text().startswith(public_line(first))
    assert sorted(each.name for each in folder.iterdir() if "new" in each.name) == []


def test_a_damaged_key_is_not_replaced_behind_anybodys_back(tmp_path: Path) -> None:
    own_key(tmp_path, "host_key")
    (tmp_path / "ssh" / "host_key").write_text("damaged")
    with pytest.raises(HostKeyError, match="remove it to make a new one"):
        own_key(tmp_path, "host_key")
