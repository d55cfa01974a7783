"""Certificates, both ways: the gateway's at a real sshd, and an agent's own at the gateway with a real ssh."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.gateway import TOKEN, Manifest, agent_token, ostiary, secret
from support.ssh_gateway import ALLOW_ALL, SshGateway, connection, secrets_for, ssh_gateway
from support.ssh_pairs import Side, through
from support.sshd import Sshd, keygen, make_key, sshd
from support.waiting import until


@pytest.fixture(scope="module")
def target() -> Iterator[Sshd]:
    with sshd("certificates") as server:
        yield server


@pytest.fixture(scope="module")
def gateway(target: Sshd) -> Iterator[SshGateway]:
    with ssh_gateway(target) as made:
        yield made


@pytest.fixture
def agent(gateway: SshGateway, tmp_path: Path) -> Side:
    return through(gateway, tmp_path)


def certificate(gateway: SshGateway, key: Path, *more: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    command = [*ostiary(), "ssh", "cert", "host", str(gateway.manifests), "--data", str(gateway.data)]
    return subprocess.run(
        [*command, "--identity", str(key), *more], capture_output=True, text=True, timeout=60,
        env={**os.environ, "OSTIARY_TOKEN": token},
    )  # fmt: skip


def rewrite(gateway: SshGateway, *manifests: Manifest, **spec: object) -> None:
    """Other manifests, or with none those it began with, with this spec; returns when they are in force."""
    before = gateway.log_text().count("bundle in force")
    if manifests:
        gateway.write(*manifests, ALLOW_ALL)
    else:
        gateway.configure(**spec)
    until(lambda: gateway.log_text().count("bundle in force") > before, "the manifests are in force", 20)


def by_key(agent: Side, key: Path) -> list[str]:
    """Options of ssh with which only this key and its certificate are tried."""
    options = ("PreferredAuthentications=publickey", f"IdentityFile={key}", f"CertificateFile={key}-cert.pub")
    command = ["ssh", *(f"-o{option}" for option in options), "-F", str(agent.config)]
    return [*command, "target"]


# At the target


def test_what_the_target_sees_is_a_certificate_for_this_session(
    target: Sshd, gateway: SshGateway, agent: Side
) -> None:
    since = target.log_size()
    agent.ok("true")
    text = until(lambda: log if "Accepted publickey" in (log := target.log_text(since)) else "", "a login", 20)
    assert "ED25519-CERT" in text
    assert "ID ostiary session=" in text
    assert "subject=planner (serial " in text


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_authorities_of_every_kind_sign(target: Sshd, gateway: SshGateway, agent: Side, kind: str) -> None:
    authority = target.directory / f"ca-{kind}"
    make_key(authority, kind)
    with (target.directory / "user_ca.pub").open("a") as file:
        file.write(authority.with_suffix(".pub").read_text())
    others = [each for each in secrets_for(target) if each["metadata"]["name"] != "ssh-ca"]  # type: ignore[index]
    manifests = (connection(target, gateway.port), *others, secret("ssh-ca", privateKey=authority.read_bytes()))
    rewrite(gateway, *manifests)
    public = authority.with_suffix(".pub").read_text().split()[1]
    try:
        until(lambda: public in gateway_ca(gateway), "the manifests are there", 10)
        until(lambda: agent.ssh("target", "true", noted=False).code == 0 and seen(target, authority), "a login", 30)
    finally:
        rewrite(gateway)


def gateway_ca(gateway: SshGateway) -> str:
    return subprocess.run(
        [*ostiary(), "ssh", "ca", "host", str(gateway.manifests)], capture_output=True, text=True, timeout=60
    ).stdout


def seen(target: Sshd, authority: Path) -> bool:
    fingerprint = keygen("-lf", str(authority.with_suffix(".pub"))).split()[1]
    return fingerprint in target.log_text()


def test_a_static_key(target: Sshd, gateway: SshGateway, agent: Side) -> None:
    rewrite(gateway, credentials={"static": {"secretRef": {"name": "ssh-key"}}})
    try:
        since = target.log_size()
        agent.ok("true")
        until(lambda: "ssh2: ED25519 SHA256:" in target.log_text(since), "a login by key", 20)
    finally:
        rewrite(gateway)


def test_the_private_keys_are_nowhere(target: Sshd, gateway: SshGateway, agent: Side) -> None:
    agent.ok("true")
    key = "".join(target.user_authority.read_text().split("\n")[2:5])
    places = [gateway.log, *gateway.data.rglob("*"), Path(f"/proc/{gateway.pid}/environ")]
    places.append(Path(f"/proc/{gateway.pid}/cmdline"))
    for place in places:
        if place.is_file():
            content = place.read_bytes()
            assert key[70:130].encode() not in content.replace(b"\n", b""), place
            assert TOKEN.encode() not in content, place


# The agent's own


def test_an_agent_gets_a_certificate_and_needs_no_token_any_more(gateway: SshGateway, agent: Side) -> None:
    key = agent.directory / "id_ed25519"
    make_key(key)
    done = certificate(gateway, key)
    assert done.returncode == 0, done.stderr
    assert f"Written: {key}-cert.pub, for planner at default/host, valid until " in done.stderr
    shown = keygen("-L", "-f", f"{key}-cert.pub")
    assert 'Key ID: "ostiary connection=default/host subject=planner"' in shown
    assert "ostiary:default/host" in shown
    assert TOKEN not in Path(f"{key}-cert.pub").read_text()
    environment = {"OSTIARY_TOKEN": "", "SSH_ASKPASS_REQUIRE": "never"}
    answer = agent.run([*by_key(agent, key), "echo", "hi"], **environment)
    assert (answer.code, answer.out, answer.err) == (0, b"hi\n", b"")


def test_plain_ssh_can_ask_for_one_too(gateway: SshGateway, agent: Side) -> None:
    key = agent.directory / "id_rsa"
    make_key(key, "rsa")
    done = agent.ssh("-l", "certificate@ostiary.dev", "target", key.with_suffix(".pub").read_text(), noted=False)
    assert done.code == 0, done.err
    Path(f"{key}-cert.pub").write_bytes(done.out)
    assert agent.run([*by_key(agent, key), "echo", "hi"]).out == b"hi\n"


def test_a_revoked_token_takes_its_certificates_with_it(target: Sshd, gateway: SshGateway, agent: Side) -> None:
    key = agent.directory / "id_ed25519"
    make_key(key)
    token = "a-third-agent's-token-of-enough-entropy-5566"
    kept = (connection(target, gateway.port), *secrets_for(target))
    rewrite(gateway, *kept, agent_token("third", token, "third"))
    until(lambda: certificate(gateway, key, token=token).returncode == 0, "the token counts", 20)
    with agent_running(agent, key) as process:
        rewrite(gateway)
        _, err = process.communicate(timeout=30)
        assert b"The agent's token was revoked or changed." in err
    again = agent.run([*by_key(agent, key), "true"], SSH_ASKPASS_REQUIRE="never")
    assert again.code == 255
    assert "no token that is known for the Connection host" in again.err.decode()


def agent_running(agent: Side, key: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [*by_key(agent, key), "echo begun; sleep 60"], env=agent.environment, cwd=agent.directory,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == b"begun\n"
    return process


def test_no_certificate_for_who_has_no_token(gateway: SshGateway, agent: Side) -> None:
    key = agent.directory / "id_ed25519"
    make_key(key)
    done = certificate(gateway, key, token="wrong")
    assert done.returncode == 3
    assert "refuses the login: ostiary: The password is no token that is known" in done.stderr


def test_the_token_goes_to_no_stranger(gateway: SshGateway, agent: Side) -> None:
    key, known = agent.directory / "id_ed25519", agent.directory / "empty"
    make_key(key)
    known.write_text("")
    command = [*ostiary(), "ssh", "cert", "--server", f"127.0.0.1:{gateway.port}", "--known-hosts", str(known)]
    done = subprocess.run(
        [*command, "--identity", str(key)], capture_output=True, text=True, timeout=60,
        env={**os.environ, "OSTIARY_TOKEN": TOKEN},
    )  # fmt: skip
    assert done.returncode == 3
    assert "is not known, so it does not get the token" in done.stderr


def test_the_printed_configuration_is_all_that_ssh_needs(gateway: SshGateway, agent: Side) -> None:
    key, file, known = agent.directory / "id_ed25519", agent.directory / "config", agent.directory / "known"
    make_key(key)
    assert certificate(gateway, key).returncode == 0
    config = [*ostiary(), "ssh", "config", "host", str(gateway.manifests), "--data", str(gateway.data)]
    config += ["--identity", str(key), "--known-hosts", str(known)]
    file.write_text(subprocess.run(config, capture_output=True, text=True, check=True, timeout=60).stdout)
    done = agent.run(["ssh", "-F", str(file), "-o", "BatchMode=yes", "host", "echo", "hi"])
    assert (done.code, done.out, done.err) == (0, b"hi\n", b"")
    agent.file("data", b"content")
    done = agent.run(["sftp", "-F", str(file), "-b", "-", "host"], f"put data {agent.remote}/data\n".encode())
    assert done.code == 0, done.err
    assert (agent.remote / "data").read_bytes() == b"content"
