"""An SSH gateway as it runs in a pod: ServiceAccounts as agents, keys of Secrets, replicas that know each other's."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from support.cluster import Cluster
from support.gateway import TOKEN, Manifest, run_ostiary
from support.pods import Operator, PodGateway, packed, pod_gateway
from support.servers import free_port
from support.ssh_gateway import ALLOW_ALL, certificate
from support.sshd import Sshd, make_key, sshd
from support.waiting import until

from ostiary_api.names import child_name

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def target() -> Iterator[Sshd]:
    with sshd("pod") as server:
        yield server


@pytest.fixture
def operator(cluster: Cluster, target: Sshd, request: pytest.FixtureRequest) -> Iterator[Operator]:
    """A namespace with a gateway `web`, which may review tokens, and what is in its bundle."""
    namespace = f"ssh-{hashlib.sha256(request.node.name.encode()).hexdigest()[:10]}-{os.getpid()}"
    cluster.ok("create", "namespace", namespace)
    made = Operator(replace(cluster, namespace=namespace), "web")
    made.account()
    role = f"{namespace}-reviews"
    cluster.ok("create", "clusterrole", role, "--verb=create", "--resource=tokenreviews.authentication.k8s.io")
    account = f"--serviceaccount={namespace}:{child_name('web')}"
    cluster.ok("create", "clusterrolebinding", role, f"--clusterrole={role}", account)
    made.apply(
        secret("ssh-ca", privateKey=target.user_authority.read_text()),
        secret("host-key", privateKey=private()),
        secret("login-ca", privateKey=private()),
        secret("planner", "ostiary.dev/token", username="planner", sha256=hashlib.sha256(TOKEN.encode()).hexdigest()),
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "agent"}},
    )
    made.secrets = ["ssh-ca", "host-key", "login-ca", "planner"]
    made.connections = [connection(target, free_port())]
    made.policies = [ALLOW_ALL]
    yield made
    cluster.ok("delete", "clusterrolebinding,clusterrole", role)
    cluster.ok("delete", "namespace", namespace, "--wait=false")


@pytest.fixture
def gateway(operator: Operator) -> Iterator[PodGateway]:
    """Its pod, with the bundle in force."""
    revision = operator.publish()
    made = pod_gateway(operator, port=port_of(operator))
    try:
        made.start()
        made.until_serving(revision)
        yield made
    finally:
        made.destroy()


def private(**more: Any) -> str:
    return asyncssh.generate_private_key("ssh-ed25519").export_private_key("openssh", **more).decode()


def secret(name: str, kind: str = "Opaque", **values: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "data": packed(**values)}


def connection(target: Sshd, port: int) -> Manifest:
    return {
        "apiVersion": "ostiary.dev/v1alpha1",
        "kind": "Connection",
        "metadata": {"name": "web"},
        "spec": {
            "protocol": "SSH",
            "upstream": {"host": target.host, "port": target.port, "hostKeys": [target.host_key]},
            "credentials": certificate(target),
            "listener": {"port": port, "hostKeyRef": {"name": "host-key"}},
            "authentication": {"sshCertificates": {"caSecretRef": {"name": "login-ca"}}},
        },
    }


def port_of(operator: Operator) -> int:
    spec: Any = operator.connections[0]["spec"]
    return int(spec["listener"]["port"])


def account_token(operator: Operator) -> str:
    return operator.cluster.ok("create", "token", "agent", "--audience", "ostiary").strip()


class Agent:
    """Plain ssh, with a token for a password or a key with its certificate."""

    def __init__(self, gateway: PodGateway, target: Sshd, place: Path) -> None:
        self.user = target.user
        self.place = place
        self.known = place / "known_hosts"
        self.at(gateway)

    def at(self, gateway: PodGateway) -> None:
        self.port = gateway.port
        keys = subprocess.run(
            ["ssh-keyscan", "-t", "ed25519", "-p", str(gateway.port), gateway.host], capture_output=True, text=True
        )
        self.known.write_text(keys.stdout)

    @property
    def host_key(self) -> str:
        return " ".join(self.known.read_text().split()[1:3])

    def ssh(self, *arguments: str, token: str = "", key: Path | None = None, user: str = "") -> tuple[int, str, str]:
        asking = self.place / "askpass"
        asking.write_text('#!/bin/sh\nprintf "%s\\n" "$OSTIARY_TOKEN"\n')
        asking.chmod(0o700)
        way = ["-o", "PreferredAuthentications=password", "-o", "NumberOfPasswordPrompts=1", "-i", "none"]
        if key is not None:
            way = ["-o", "PreferredAuthentications=publickey", "-i", str(key), "-o", f"CertificateFile={key}-cert.pub"]
        done = subprocess.run(
            ["ssh", "-F", "none", "-o", f"UserKnownHostsFile={self.known}", "-o", "IdentitiesOnly=yes", *way]
            + ["-p", str(self.port), "-l", user or self.user, "127.0.0.1", *arguments],
            env={**os.environ, "OSTIARY_TOKEN": token, "SSH_ASKPASS": str(asking), "SSH_ASKPASS_REQUIRE": "force"},
            capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    def certificate(self, token: str) -> Path:
        key = self.place / "id"
        if not key.exists():
            make_key(key)
        code, out, err = self.ssh(key.with_suffix(".pub").read_text(), token=token, user="certificate@ostiary.dev")
        assert code == 0, err
        Path(f"{key}-cert.pub").write_text(out)
        return key


@pytest.fixture
def agent(gateway: PodGateway, target: Sshd, tmp_path: Path) -> Agent:
    return Agent(gateway, target, tmp_path)


def test_a_service_account_is_an_agent_and_its_token_the_password(
    operator: Operator, gateway: PodGateway, agent: Agent
) -> None:
    code, out, err = agent.ssh("echo", "hi", token=account_token(operator))
    assert (code, out) == (0, "hi\n"), err
    (session,) = map(json.loads, run_ostiary("sessions", "--data", str(gateway.data), "--json").splitlines())
    assert session["username"] == f"system:serviceaccount:{operator.cluster.namespace}:agent"


def test_replicas_show_one_host_key_and_know_each_others_certificates(
    operator: Operator, gateway: PodGateway, agent: Agent
) -> None:
    token = account_token(operator)
    key, shown = agent.certificate(token), agent.host_key
    assert agent.ssh("echo", "here", key=key)[:2] == (0, "here\n")
    revision = operator.publish()
    other = pod_gateway(operator, host="127.0.0.2", port=gateway.port)
    try:
        other.start()
        other.until_serving(revision)
        keys = subprocess.run(
            ["ssh-keyscan", "-t", "ed25519", "-p", str(other.port), other.host], capture_output=True, text=True
        )
        assert shown in keys.stdout
        gateway.kill()
        agent.known.write_text(keys.stdout)
        done = subprocess.run(
            ["ssh", "-F", "none", "-o", f"UserKnownHostsFile={agent.known}", "-i", str(key), "-p", str(other.port)]
            + ["-o", "BatchMode=yes", "-o", f"CertificateFile={key}-cert.pub", "-l", agent.user]
            + [other.host, "echo there"],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (0, "there\n"), done.stderr
    finally:
        other.destroy()


def test_a_service_account_that_is_gone_takes_its_certificate_with_it(
    operator: Operator, gateway: PodGateway, agent: Agent
) -> None:
    key = agent.certificate(account_token(operator))
    assert agent.ssh("true", key=key)[0] == 0
    operator.delete("serviceaccount", "agent")

    def refused() -> str:
        code, _, err = agent.ssh("true", key=key)
        return err if code == 255 else ""

    assert "does not exist any more" in until(refused, "the certificate is refused", 60, every=2)


def test_a_key_that_cannot_be_used_closes_the_connection_and_says_why(
    operator: Operator, gateway: PodGateway, target: Sshd, tmp_path: Path
) -> None:
    operator.apply(secret("host-key", privateKey=private(passphrase="secret", cipher_name="aes256-ctr")))
    gateway.until_serving(operator.publish())

    def told() -> str:
        code, _, err = Agent(gateway, target, tmp_path).ssh("true", token=TOKEN)
        return err if code == 255 else ""

    text = until(told, "the login is refused", 30, every=1)
    assert "This Connection is not ready" in text
    assert "is encrypted; take the passphrase off" in text
    state = gateway.state()
    assert state is not None
    assert any("listener.hostKeyRef" in problem.field for problem in state.problems)


def test_who_gets_into_the_pod_sees_and_ends_sessions(gateway: PodGateway, agent: Agent) -> None:
    data = ("--data", str(gateway.data))
    assert run_ostiary("sessions", "--live", *data).strip() == "No session is open."
    asking = agent.ssh("true", token=TOKEN)
    assert asking[0] == 0
    process = subprocess.Popen(
        ["ssh", "-F", "none", "-o", f"UserKnownHostsFile={agent.known}", "-i", "none", "-p", str(gateway.port)]
        + ["-o", "PreferredAuthentications=password", "-l", agent.user, "127.0.0.1", "sleep 60"],
        env={**os.environ, "OSTIARY_TOKEN": TOKEN, "SSH_ASKPASS": str(agent.place / "askpass"),
             "SSH_ASKPASS_REQUIRE": "force"},
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip

    def running() -> list[str]:
        lines = run_ostiary("sessions", "--live", "--json", *data).splitlines()
        return [line for line in lines if "sleep 60" in line]

    found = until(running, "the command runs", 20)
    run_ostiary("kill", json.loads(found[0])["session"], "--reason", "enough", *data)
    _, err = process.communicate(timeout=20)
    assert ": enough." in err
