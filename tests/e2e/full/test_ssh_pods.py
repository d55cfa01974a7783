"""The example of SSH in a cluster: sshd in a pod for the host, an agent with ssh in another, and who approves."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator

import pytest
from support.full_cluster import FullCluster
from support.ssh_pods import SshPods, ssh_pods
from support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def world(release: FullCluster) -> Iterator[SshPods]:
    with ssh_pods(release) as made:
        yield made


def request_of(said: str) -> str:
    """The id of the record in what the gateway says."""
    found = re.search(r"\[(\S+-\d+)\]", said)
    assert found is not None, said
    return found[1]


def test_the_conditions_say_that_all_is_well(world: SshPods) -> None:
    status = world.cluster.get("gwconn", "web")["status"]
    conditions = {each["type"]: each["status"] for each in status["conditions"]}
    assert conditions == dict.fromkeys(["Accepted", "ResolvedRefs", "Programmed", "UpstreamReachable"], "True")
    assert status["endpoint"] == {"host": f"ostiary-web.{world.cluster.namespace}.svc", "port": 22}


def test_an_agent_looks_around(world: SshPods) -> None:
    done = world.ssh("id -un; uname -n")
    assert (done.returncode, done.stdout) == (0, "deploy\nweb\n"), done.stderr
    done = world.ssh("ls /no/such/place")
    assert (done.returncode, done.stdout) == (2, "")
    assert "No such file or directory" in done.stderr


def test_files_go_where_a_policy_lets_them(world: SshPods) -> None:
    config = "/scripts/ssh_config"
    assert world.tool("scp", config, "web:/tmp/config").returncode == 0
    assert world.ssh("cat /tmp/config").stdout == world.agent("cat", config).stdout
    done = world.tool("scp", config, "web:/home/deploy/config")
    assert done.returncode != 0
    assert "ermission denied" in done.stderr


def test_rm_rf_is_denied_and_the_record_says_so(world: SshPods) -> None:
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


def test_there_is_no_shell_no_terminal_and_no_tunnel(world: SshPods) -> None:
    done = world.ssh()
    assert (done.returncode, "There is no shell here" in done.stderr) == (126, True)
    assert world.agent("ssh", "-F", "/scripts/ssh_config", "-tt", "web", "id").returncode == 126
    done = world.agent("ssh", "-F", "/scripts/ssh_config", "-W", "127.0.0.1:8080", "web")
    assert done.returncode == 255
    assert "ostiary: " in done.stderr


def test_a_restart_waits_for_a_person_and_then_runs_and_is_replayed(world: SshPods) -> None:
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


def _sessions(world: SshPods, pod: str) -> list[str]:
    return world.ostiary(pod, "export").stdout.splitlines()


def test_who_shows_no_token_gets_nowhere(world: SshPods) -> None:
    done = world.agent("env", "SSH_ASKPASS=/bin/false", "ssh", "-F", "/scripts/ssh_config", "web", "id")
    assert done.returncode == 255
    assert "ermission denied" in done.stderr


def test_no_private_key_is_anywhere_that_an_agent_or_the_record_shows(world: SshPods) -> None:
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
