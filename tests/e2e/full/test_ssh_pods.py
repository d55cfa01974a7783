"""The example of SSH in a cluster: sshd in a pod for the host, an agent with ssh in another, and who approves."""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import sshd as keys
from support.cluster import ROOT
from support.full_cluster import FullCluster
from support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

EXAMPLE = ROOT / "examples" / "ssh" / "cluster"
IMAGE = "localhost/ssh:target"


@dataclass
class World:
    """The example in a namespace of these tests, and its host in another."""

    cluster: FullCluster
    host: FullCluster
    private: dict[str, str]
    """What agents must never see: private keys, by what they are for."""

    def agent(self, *command: str) -> subprocess.CompletedProcess[str]:
        """A program in the agent's pod."""
        return self.cluster.kubectl("exec", "deploy/deployer", "--", *command)

    def ssh(self, *command: str) -> subprocess.CompletedProcess[str]:
        """`ssh web …` as the agent."""
        return self.agent("ssh", "-F", "/scripts/ssh_config", "web", *command)

    def tool(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.agent(program, "-F", "/scripts/ssh_config", *arguments)

    def gateways(self) -> list[str]:
        """The gateway's pods."""
        listed = self.cluster.get("pods", "-l", "app.kubernetes.io/name=ostiary-gateway")["items"]
        return [each["metadata"]["name"] for each in listed]

    def ostiary(self, pod: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """In a gateway's pod, on its record."""
        data = ["--data", "/var/lib/ostiary"]
        return self.cluster.kubectl("exec", pod, "-c", "gateway", "--", "ostiary", *arguments, *data)

    def recorded(self, request: str) -> tuple[str, str]:
        """The pod that has the record of a request, and its transcript: a session is in the record of one replica."""
        found = ((pod, self.ostiary(pod, "session", request)) for pod in self.gateways())
        pod, done = next((pod, done) for pod, done in found if done.returncode == 0)
        return pod, done.stdout


@pytest.fixture(scope="module")
def world(release: FullCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    namespace = f"ssh-{uuid.uuid4().hex[:6]}"
    there, outside = release.within(namespace), release.within(f"{namespace}-host")
    place = tmp_path_factory.mktemp("keys")
    for name in ("host_key", "user_ca", "gateway"):
        keys.make_key(place / name)
    outside.ok("create", "namespace", outside.namespace)
    outside.ok(
        "create", "secret", "generic", "keys", f"--from-file=host_key={place / 'host_key'}",
        f"--from-file=user_ca.pub={place / 'user_ca.pub'}",
    )  # fmt: skip
    apply(outside, *host())
    lines = {"connection": _public(place / "host_key"), "gateway": _public(place / "gateway")}
    manifests = example(namespace, f"web.{outside.namespace}.svc", lines)
    apply(there, *[each for each in manifests if each["kind"] == "Namespace"])
    there.ok("create", "secret", "generic", "web-ca", f"--from-file=privateKey={place / 'user_ca'}")
    there.ok("create", "secret", "generic", "web-gateway-key", f"--from-file=privateKey={place / 'gateway'}")
    outside.ok("wait", "--for=condition=Ready", "pod/web", "--timeout=120s")
    apply(there, *[each for each in manifests if each["kind"] != "Namespace"])
    there.ok("rollout", "status", "deployment/deployer", "--timeout=120s")
    there.ok("wait", "--for=condition=Programmed", "connection/web", "--timeout=240s")
    there.ok("wait", "--for=condition=UpstreamReachable", "connection/web", "--timeout=120s")
    yield World(there, outside, {name: (place / name).read_text() for name in ("user_ca", "gateway", "host_key")})
    release.ok("delete", "namespace", namespace, outside.namespace, "--wait=false")


def example(namespace: str, host_name: str, lines: dict[str, str]) -> list[dict[str, Any]]:
    """The example's manifests, with what a user puts in: the host, the public keys, the agent's image."""
    texts = [path.read_text() for path in sorted(EXAMPLE.glob("*.yaml"))]
    text = "\n---\n".join(texts).replace("demo", namespace).replace("web-1.example.com", host_name)
    text = text.replace("registry.example.com/agent:1", IMAGE)
    key = r"ssh-ed25519 AAAA[A-Za-z0-9+/=]+"
    text = re.sub(rf"(hostKeys:.*\n *- ){key}", lambda found: found[1] + lines["connection"], text)
    text = re.sub(rf"(svc ){key}", lambda found: found[1] + lines["gateway"], text)
    return [each for each in yaml.safe_load_all(text) if each]


def host() -> list[dict[str, Any]]:
    """A pod that runs sshd and a web server, and its Service."""
    container = {
        "name": "host",
        "image": IMAGE,
        "ports": [{"containerPort": 22}],
        "readinessProbe": {"tcpSocket": {"port": 22}, "periodSeconds": 1},
        "volumeMounts": [{"name": "keys", "mountPath": "/keys", "readOnly": True}],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "containers": [container],
            "volumes": [{"name": "keys", "secret": {"secretName": "keys"}}],
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 22}]},
    }
    return [pod, service]


def apply(cluster: FullCluster, *manifests: dict[str, Any]) -> None:
    cluster.ok("apply", "-f", "-", manifest={"apiVersion": "v1", "kind": "List", "items": list(manifests)})


def _public(path: Path) -> str:
    return " ".join(path.with_name(path.name + ".pub").read_text().split()[:2])


def request_of(said: str) -> str:
    """The id of the record in what the gateway says."""
    found = re.search(r"\[(\S+-\d+)\]", said)
    assert found is not None, said
    return found[1]


def test_the_conditions_say_that_all_is_well(world: World) -> None:
    status = world.cluster.get("gwconn", "web")["status"]
    conditions = {each["type"]: each["status"] for each in status["conditions"]}
    assert conditions == dict.fromkeys(["Accepted", "ResolvedRefs", "Programmed", "UpstreamReachable"], "True")
    assert status["endpoint"] == {"host": f"ostiary-web.{world.cluster.namespace}.svc", "port": 22}


def test_an_agent_looks_around(world: World) -> None:
    done = world.ssh("id -un; uname -n")
    assert (done.returncode, done.stdout) == (0, "deploy\nweb\n"), done.stderr
    done = world.ssh("ls /no/such/place")
    assert (done.returncode, done.stdout) == (2, "")
    assert "No such file or directory" in done.stderr


def test_files_go_where_a_policy_lets_them(world: World) -> None:
    config = "/scripts/ssh_config"
    assert world.tool("scp", config, "web:/tmp/config").returncode == 0
    assert world.ssh("cat /tmp/config").stdout == world.agent("cat", config).stdout
    done = world.tool("scp", config, "web:/home/deploy/config")
    assert done.returncode != 0
    assert "ermission denied" in done.stderr


def test_rm_rf_is_denied_and_the_record_says_so(world: World) -> None:
    assert world.ssh("touch /tmp/keep; ls /tmp").returncode == 126
    done = world.ssh("sudo rm -rf /var/lib/app")
    assert done.returncode == 126
    assert "Files are removed below /tmp only, and by their names." in done.stderr
    assert "rm /tmp/NAME" in done.stderr
    request = request_of(done.stderr)
    _, transcript = world.recorded(request)
    assert "sudo rm -rf /var/lib/app" in transcript
    assert "removal" in transcript
    _, session = world.recorded(request.rpartition("-")[0])
    assert f"system:serviceaccount:{world.cluster.namespace}:deployer" in session
    for command in ("$(echo rm) -rf /", "bash -c 'rm -rf /'", "find / -delete", "echo cm0gLXJmIC8K | base64 -d | sh"):
        assert world.ssh(command).returncode == 126, command


def test_there_is_no_shell_no_terminal_and_no_tunnel(world: World) -> None:
    done = world.ssh()
    assert (done.returncode, "There is no shell here" in done.stderr) == (126, True)
    assert world.agent("ssh", "-F", "/scripts/ssh_config", "-tt", "web", "id").returncode == 126
    done = world.agent("ssh", "-F", "/scripts/ssh_config", "-W", "127.0.0.1:8080", "web")
    assert done.returncode == 255
    assert "ostiary: " in done.stderr


def test_a_restart_waits_for_a_person_and_then_runs_and_is_replayed(world: World) -> None:
    def web() -> str:
        return world.host.ok("exec", "web", "--", "pgrep", "-f", "http.server").strip()

    before = web()
    arguments = ["exec", "deploy/deployer", "--", "ssh", "-F", "/scripts/ssh_config", "web", "sudo service web restart"]
    asking = subprocess.Popen(
        ["kubectl", "-n", world.cluster.namespace, *arguments],
        env=world.cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until(lambda: bool(world.cluster.get("apr")["items"]), seconds=60)
    asked = world.cluster.get("apr")["items"][0]
    assert "sudo service web restart" in asked["spec"]["request"]["summary"]
    assert web() == before, "it has run before anybody decided"
    decision = {"approver": "olga", "verdict": "Approve", "reason": "new configuration"}
    patch = [{"op": "add", "path": "/spec/decisions/-", "value": decision}]
    world.cluster.ok(
        "patch", "apr", asked["metadata"]["name"], "--type=json", "-p", json.dumps(patch),
        "--as=olga", "--as-group=sre", "--as-group=system:authenticated",
    )  # fmt: skip
    out, errors = asking.communicate(timeout=90)
    assert (asking.returncode, "web" in out) == (0, True), (out, errors)
    assert "approval" in errors
    assert web() != before

    listed = (json.loads(line) for pod in world.gateways() for line in _sessions(world, pod))
    session = next(each["session"] for each in listed if "service web restart" in json.dumps(each))
    pod, transcript = world.recorded(session)
    assert "olga" in transcript
    assert "ok: run: web" in transcript
    done = world.ostiary(pod, "session", session, "--cast", "-")
    assert done.returncode == 0, done.stderr
    header, *events = [json.loads(line) for line in done.stdout.splitlines()]
    assert header["version"] == 2
    assert "ok: run: web" in "".join(event[2] for event in events if event[1] == "o")


def _sessions(world: World, pod: str) -> list[str]:
    return world.ostiary(pod, "export").stdout.splitlines()


def test_who_shows_no_token_gets_nowhere(world: World) -> None:
    done = world.agent("env", "SSH_ASKPASS=/bin/false", "ssh", "-F", "/scripts/ssh_config", "web", "id")
    assert done.returncode == 255
    assert "ermission denied" in done.stderr


def test_no_private_key_is_anywhere_that_an_agent_or_the_record_shows(world: World) -> None:
    secrets = [_body(text) for text in world.private.values()]
    places = [
        world.agent("sh", "-c", "cat /proc/*/environ /proc/*/cmdline /scripts/* /tmp/* 2>/dev/null; env").stdout,
        world.cluster.ok("get", "events,configmaps,gwconn,gwpol,apr,pods", "-o", "yaml"),
        *(world.cluster.ok("logs", pod, "-c", "gateway") for pod in world.gateways()),
        *(world.ostiary(pod, "export").stdout for pod in world.gateways()),
    ]
    for place in places:
        assert place
        assert not [each for each in secrets if each in place]


def _body(key: str) -> str:
    """A line of the key's base64 that is in no other key: the public half comes before it."""
    return key.splitlines()[3][:40]
