"""The gateway's login at an SSH target: what its certificate says, what a Secret may have, and what is never told."""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from support.ssh_logins import PUBLIC, private
from support.sshd import keygen

from ostiary_api.connection import Connection, SSHCertificateCredentials
from ostiary_api.secret import Secret
from ostiary_api.units import MANIFEST
from ostiary_gateway.credentials.ssh import CredentialError, TargetLogin, login_of, offered
from ostiary_gateway.credentials.ssh_certificate import key_id
from ostiary_gateway.identity.proof import Identity
from ostiary_policy.facts import SubjectFacts

AGENT = Identity(
    SubjectFacts(
        username="planner", uid="", groups=[], kind="User", namespace="", name="planner", claims={}, onBehalfOf=""
    ),
    "digest",
)


def connection(credentials: dict[str, Any]) -> Connection:
    return Connection.model_validate(
        {
            "metadata": {"name": "host", "namespace": "prod"},
            "spec": {
                "protocol": "SSH",
                "upstream": {"host": "h", "hostKeys": [PUBLIC]},
                "credentials": credentials,
                "listener": {"port": 2222},
            },
        },
        context=MANIFEST,
    )


def signed(**more: object) -> Connection:
    return connection({"sshCertificate": {"caSecretRef": {"name": "ca"}, "principals": ["deploy", "app"], **more}})


STATIC = connection({"static": {"secretRef": {"name": "key"}}})


def secrets(name: str, **data: str) -> dict[tuple[str, str], Secret]:
    made = Secret.model_validate({"metadata": {"name": name, "namespace": "prod"}, "stringData": data})
    return {("prod", name): made}


def login(
    made: Connection, there: dict[tuple[str, str], Secret], user: str = "deploy", source: str = ""
) -> TargetLogin:
    return login_of(made, there, user, AGENT, session="01abc", source=source)


def shown(made: TargetLogin, directory: Path) -> str:
    """What ssh-keygen says of its certificate."""
    (pair,) = made.keys
    path = directory / "id-cert.pub"
    line = asyncssh.import_certificate(f"{pair.algorithm.decode()} {_base64(pair.public_data)}")
    path.write_bytes(line.export_certificate("openssh"))
    return keygen("-L", "-f", str(path))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    ("kind", "signs"),
    [("ssh-ed25519", "ssh-ed25519"), ("ecdsa-sha2-nistp384", "ecdsa-sha2-nistp384"), ("ssh-rsa", "rsa-sha2-512")],
)
def test_a_certificate_is_for_one_login_one_minute_and_one_address(kind: str, signs: str, tmp_path: Path) -> None:
    there = secrets("ca", privateKey=private(kind))
    text = shown(login(signed(), there, source="10.0.0.7"), tmp_path)
    assert "ssh-ed25519-cert-v01@openssh.com user certificate" in text
    assert f"(using {signs})" in text
    assert 'Key ID: "ostiary session=01abc subject=planner"' in text
    after = text.partition("Principals:")[2]
    principals, _, rest = after.partition("Critical Options:")
    assert principals.split() == ["deploy"]
    options, _, extensions = rest.partition("Extensions:")
    assert options.split() == ["source-address", "10.0.0.7/32"]
    assert extensions.split() == ["permit-pty"]


def test_it_is_valid_from_a_little_before_now(tmp_path: Path) -> None:
    (pair,) = login(signed(ttl="2m"), secrets("ca", privateKey=private())).keys
    certificate = asyncssh.import_certificate(f"{pair.algorithm.decode()} {_base64(pair.public_data)}")
    now = time.time()
    assert -35 < certificate._valid_after - now < -25  # type: ignore[attr-defined]
    assert 115 < certificate._valid_before - now < 125  # type: ignore[attr-defined]


def test_each_login_has_a_key_and_a_serial_number_of_its_own() -> None:
    there = secrets("ca", privateKey=private())
    assert len({login(signed(), there).keys[0].public_data for _ in range(4)}) == 4


@pytest.mark.parametrize(
    ("more", "source", "options"),
    [
        ({"sourceAddress": "Omit"}, "10.0.0.7", ["(none)"]),
        ({}, "", ["(none)"]),
        ({}, "::ffff:10.0.0.7", ["source-address", "10.0.0.7/32"]),
        ({}, "2001:db8::7", ["source-address", "2001:db8::7/128"]),
        ({}, "fe80::1%eth0", ["(none)"]),
    ],
)
def test_it_is_bound_to_the_gateways_address(
    more: dict[str, str], source: str, options: list[str], tmp_path: Path
) -> None:
    text = shown(login(signed(**more), secrets("ca", privateKey=private()), source=source), tmp_path)
    assert text.partition("Critical Options:")[2].partition("Extensions:")[0].split() == options


def test_what_it_permits_is_what_the_connection_lists(tmp_path: Path) -> None:
    listed = ["permit-port-forwarding", "permit-agent-forwarding", "permit-X11-forwarding", "permit-user-rc"]
    text = shown(login(signed(extensions=listed), secrets("ca", privateKey=private())), tmp_path)
    assert sorted(text.partition("Extensions:")[2].split()) == sorted(listed)
    text = shown(login(signed(extensions=[]), secrets("ca", privateKey=private())), tmp_path)
    assert text.partition("Extensions:")[2].split() == ["(none)"]
    assert SSHCertificateCredentials.model_fields["extensions"].default == ("permit-pty",)


def test_a_key_id_is_one_printable_line() -> None:
    assert key_id("1", "a b\n\x1bé") == "ostiary session=1 subject=a?b???"
    assert len(key_id("1", "x" * 500)) == len("ostiary session=1 subject=") + 128
    assert key_id("1", "x" * 500).endswith("x...")


def test_a_secret_with_a_key_or_with_a_password() -> None:
    by_key = login(STATIC, secrets("key", username="ci", privateKey=private("ssh-rsa")), "ci")
    assert (by_key.username, len(by_key.keys), by_key.password) == ("ci", 1, "")
    by_password = login(STATIC, secrets("key", username="ci", password="hunter2"), "ci")
    assert (by_password.username, by_password.keys, by_password.password) == ("ci", (), "hunter2")
    assert "hunter2" not in repr(by_password)
    assert "SSHKeyPair" not in repr(by_key)


def test_the_logins_that_are_offered() -> None:
    assert offered(signed(), {}) == ("deploy", "app")
    assert offered(STATIC, secrets("key", username="ci", password="x")) == ("ci",)
    with pytest.raises(CredentialError, match="'root' is no login of Connection host"):
        login(signed(), {}, "root")


PKCS8 = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_private_key("pkcs8-pem").decode()
DSA = asyncssh.generate_private_key("ssh-dss").export_private_key("openssh").decode()
ENCRYPTED = asyncssh.generate_private_key("ssh-ed25519").export_private_key("openssh", passphrase="p").decode()


def test_pem_will_do() -> None:
    assert login(signed(), secrets("ca", privateKey=PKCS8)).keys


@pytest.mark.parametrize(
    ("made", "there", "says"),
    [
        (signed(), {}, "Secret prod/ca is missing; Connection host needs it"),
        (signed(), secrets("ca", other="x"), "Secret prod/ca has no privateKey"),
        (signed(), secrets("ca", privateKey=ENCRYPTED), "is encrypted; take the passphrase off"),
        (signed(), secrets("ca", privateKey=DSA), "use Ed25519, ECDSA or RSA"),
        (signed(), secrets("ca", privateKey=PUBLIC), "is no private key"),
        (signed(), secrets("ca", privateKey=private()[:200]), "is no private key"),
        (STATIC, {}, "Secret prod/key is missing"),
        (STATIC, secrets("key", password="x"), "Secret prod/key has no username"),
        (STATIC, secrets("key", username="deploy"), "has neither privateKey nor password"),
        (STATIC, secrets("key", username="deploy", privateKey="x"), "is no private key"),
    ],
)
def test_what_cannot_be_used_is_told_without_any_of_it(
    made: Connection, there: dict[tuple[str, str], Secret], says: str
) -> None:
    with pytest.raises(CredentialError, match=says) as told:
        login(made, there)
    assert "BEGIN" not in str(told.value)
    assert told.value.__cause__ is None
    assert told.value.__context__ is None or told.value.__suppress_context__
