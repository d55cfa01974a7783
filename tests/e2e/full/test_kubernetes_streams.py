"""exec, attach, cp, port-forward, logs and debug through a gateway, over WebSocket and over SPDY; what is recorded."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support import api_gateway
from support.api_gateway import ALLOW_ALL, ApiGateway, policy, rule
from support.full_cluster import FullCluster
from support.gateway import metrics
from support.kubectl_objects import Manifest, container, pod
from support.servers import free_port
from support.terminals import terminal
from support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

TICKS = "python3 -m http.server 8080 2>/dev/null & i=0; while true; do echo tick $i; i=$((i+1)); sleep 0.2; done"
CARD = "4111 1111 1111 1111"
WAYS = {"websocket": "true", "spdy": "false"}
"""How kubectl begins a stream, and what it is told so by; from 1.31 on it begins with WebSocket, before with SPDY."""


@dataclass
class Agent:
    """kubectl through the gateway, one way."""

    gateway: ApiGateway
    namespace: str
    way: str

    @property
    def environment(self) -> dict[str, str]:
        found = self.gateway.as_agent().environment
        switches = ("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "KUBECTL_PORT_FORWARD_WEBSOCKETS")
        return {**found, **dict.fromkeys(switches, WAYS[self.way])}

    def command(self, *arguments: str) -> list[str]:
        return ["kubectl", "--namespace", self.namespace, *arguments]

    def run(self, *arguments: str, data: bytes = b"", cwd: Path | None = None) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.command(*arguments), input=data, env=self.environment, capture_output=True, timeout=120, cwd=cwd
        )

    def ok(self, *arguments: str, data: bytes = b"", cwd: Path | None = None) -> bytes:
        done = self.run(*arguments, data=data, cwd=cwd)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
        process = subprocess.Popen(
            self.command(*arguments), env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        with process:
            try:
                yield process
            finally:
                process.kill()

    def last(self, subresource: str) -> dict[str, Any]:
        """What the record says of the newest request for this, with its recorded stream as `said`."""
        found: dict[str, Any] = {}

        def ended() -> bool:
            records = self.gateway.records()
            ours = [
                each for each in records
                if each["type"] == "request" and each["detail"].get("subresource") == subresource
            ]  # fmt: skip
            found.clear()
            if ours and "outcome" in ours[-1]:
                found.update(ours[-1])
                found["said"] = [
                    each["stream"] for each in records if each.get("request") == found["request"] and "stream" in each
                ]
            return bool(found)

        until(ended, f"the end of {subresource} in the record")
        return found


def said(record: dict[str, Any], channel: str) -> str:
    return "".join(each.get("text", "") for each in record["said"] if each["channel"] == channel)


@pytest.fixture(scope="module")
def namespace(full_cluster: FullCluster) -> Iterator[str]:
    name = f"streams-{uuid.uuid4().hex[:8]}"
    full_cluster.ok("create", "namespace", name)
    yield name
    full_cluster.ok("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def made(full_cluster: FullCluster) -> Iterator[ApiGateway]:
    gateway = api_gateway.prepare(api_gateway.plane(full_cluster), recording="Full")
    try:
        gateway.start()
        yield gateway
    finally:
        gateway.destroy()


@pytest.fixture
def gateway(made: ApiGateway) -> Iterator[ApiGateway]:
    """One that allows everything, unless a test has it do something else."""
    yield made
    change(made, ALLOW_ALL)


def change(gateway: ApiGateway, *policies: Manifest) -> None:
    """Other policies; they are in force when this returns."""
    file, before = gateway.manifests / "all.yaml", loaded_at(gateway)
    written = file.read_text()
    gateway.configure(*policies, recording="Full")
    if file.read_text() != written:
        until(lambda: loaded_at(gateway) != before, "the new policies in force")


def loaded_at(gateway: ApiGateway) -> float:
    """When the policies in force were loaded."""
    return metrics(gateway.admin("/metrics")[1])["ostiary_bundle_loaded_timestamp_seconds"]


@pytest.fixture(params=WAYS)
def agent(gateway: ApiGateway, namespace: str, request: pytest.FixtureRequest, box: None) -> Agent:
    return Agent(gateway, namespace, request.param)


@pytest.fixture(scope="module")
def box(full_cluster: FullCluster, namespace: str) -> None:
    """A pod that counts and serves files, one that repeats what it is told, and one that has failed once."""
    there = full_cluster.within(namespace)
    listening = pod("listener", "cat")
    listening["spec"]["containers"][0] |= {"stdin": True, "tty": False}
    once = "if [ -e /kept/x ]; then echo second; sleep 3600; else touch /kept/x; echo first; exit 1; fi"
    failing = pod("failing", once)
    failing["spec"]["containers"][0]["volumeMounts"] = [{"name": "kept", "mountPath": "/kept"}]
    failing["spec"]["volumes"] = [{"name": "kept", "emptyDir": {}}]
    for each in (pod("box", TICKS), listening, failing):
        there.ok("apply", "-f", "-", manifest=each)
    there.ok("wait", "--for=condition=Ready", "pod/box", "pod/listener", "--timeout=120s")


# -- exec


def test_output_errors_and_the_exit_status(agent: Agent) -> None:
    done = agent.run("exec", "box", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout) == (7, b"out\n")
    assert done.stderr == b"err\ncommand terminated with exit code 7\n"
    record = agent.last("exec")
    assert (record["outcome"], record["result"]["exitCode"]) == ("ok", 7)
    assert record["result"]["transport"] == {"websocket": "WebSocket", "spdy": "SPDY"}[agent.way]
    assert (said(record, "stdout"), said(record, "stderr")) == ("out\n", "err\n")
    assert record["detail"]["exec"]["command"] == ["sh", "-c", "echo out; echo err >&2; exit 7"]


def test_what_is_sent_to_a_command_comes_to_it_and_its_end_too(agent: Agent) -> None:
    data = os.urandom(3_000_000)
    assert agent.ok("exec", "-i", "box", "--", "cat", data=data) == data
    record = agent.last("exec")
    assert (record["result"]["stdinBytes"], record["result"]["stdoutBytes"]) == (3_000_000, 3_000_000)
    assert "closed" in [each["channel"] for each in record["said"]]


def test_a_command_that_is_not_there_says_so(agent: Agent) -> None:
    done = agent.run("exec", "box", "--", "no-such-program")
    assert done.returncode != 0
    assert b"no-such-program" in done.stderr
    missing = agent.run("exec", "no-such-pod", "--", "true")
    assert b'pods "no-such-pod" not found' in missing.stderr


def test_a_shell_at_a_terminal_and_its_cast(agent: Agent, tmp_path: Path) -> None:
    with terminal(agent.command("exec", "-it", "box", "--", "sh"), agent.environment) as screen:
        screen.until("# ")
        screen.type("echo $((6*7)); stty size\r")
        screen.until("42\r\n30 100")
        screen.resize(120, 50)
        screen.type("while [ \"$(stty size)\" != '50 120' ]; do sleep 0.1; done; echo big''ger\r")
        screen.until("bigger")
        screen.type("exit 5\r")
        assert screen.ended() == 5
    record = agent.last("exec")
    assert record["result"]["exitCode"] == 5
    sizes = [(each["columns"], each["rows"]) for each in record["said"] if each["channel"] == "resize"]
    assert (sizes[0], sizes[-1]) == ((100, 30), (120, 50))
    assert "exit 5\r" in said(record, "stdin")
    cast = tmp_path / "shell.cast"
    agent.gateway.run("session", record["request"], "--cast", str(cast))
    header, *events = (json.loads(line) for line in cast.read_text().splitlines())
    assert (header["version"], header["width"], header["height"]) == (2, 100, 30)
    assert "42\r\n" in "".join(text for _, code, text in events if code == "o")
    assert [120, 50] in [[int(part) for part in text.split("x")] for _, code, text in events if code == "r"]
    assert [at for at, _, _ in events] == sorted(at for at, _, _ in events)
    shown = agent.gateway.run("session", record["request"])
    assert "exit 5" in shown
    assert "42" in shown


def test_files_are_copied_both_ways(agent: Agent, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "inner").mkdir(parents=True)
    (source / "large").write_bytes(os.urandom(2_000_000))
    (source / "inner" / "small").write_text("hello\n")
    target = f"/tmp/{agent.way}"
    agent.ok("cp", "source", f"box:{target}", cwd=tmp_path)
    assert agent.ok("exec", "box", "--", "sha256sum", f"{target}/large").split()[0].decode() == digest(source / "large")
    agent.ok("cp", f"box:{target}", "back", cwd=tmp_path)
    for name in ("large", "inner/small"):
        assert digest(tmp_path / "back" / name) == digest(source / name)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# -- attach and debug


def test_attach_shows_what_a_container_writes_and_gives_it_what_is_typed(agent: Agent) -> None:
    with agent.running("attach", "box") as process:
        assert process.stdout is not None
        assert [process.stdout.readline()[:5] for _ in range(3)] == [b"tick "] * 3
    assert agent.last("attach")["outcome"] == "ok"
    with agent.running("attach", "-i", "listener") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"hello there\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"hello there\n"


def test_debug_attaches_to_a_container_of_its_own(agent: Agent) -> None:
    name = f"look-{agent.way}"
    image = container()["image"]
    arguments = ["debug", "box", f"--image={image}", "--image-pull-policy=Never", f"--container={name}", "-it"]
    with terminal(agent.command(*arguments, "--", "sh"), agent.environment) as screen:
        screen.type("echo in''side $((6*7))\r")
        screen.until("inside 42")
        screen.type("exit\r")
        screen.ended()
    assert "inside 42" in said(agent.last("attach"), "stdout")


# -- port-forward


@contextmanager
def forwarding(agent: Agent) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """While it runs: the process, and where it listens."""
    port = free_port()
    with agent.running("port-forward", "pod/box", f"{port}:8080", "--address=127.0.0.1") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"Forwarding from")
        yield process, f"http://127.0.0.1:{port}"


def test_a_port_is_forwarded_for_many_connections(agent: Agent) -> None:
    agent.ok("exec", "box", "--", "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' x > /tmp/file")
    with forwarding(agent) as (_, url):
        for _ in range(5):
            with urllib.request.urlopen(f"{url}/tmp/file", timeout=60) as answer:
                assert len(answer.read()) == 3_000_000
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"{url}/no-such-file", timeout=60)
    record = agent.last("portforward")
    result = record["result"]
    assert record["outcome"] == "ok"
    assert result["connections"] == 6
    assert result["toClientBytes"] > 15_000_000
    assert {each["port"] for each in result["forwarded"]} == {"8080"}
    assert all(len(each["sha256"]["toClient"]) == 64 for each in result["forwarded"])
    assert record["said"] == [], "its bytes are not kept"
    assert "6 connections" in agent.gateway.run("session", record["request"])


# -- logs


def test_logs(gateway: ApiGateway, namespace: str, box: None) -> None:
    agent = Agent(gateway, namespace, "websocket")
    with agent.running("logs", "-f", "box", "--since=1s") as process:
        assert process.stdout is not None
        numbers = [int(process.stdout.readline().split()[1]) for _ in range(5)]
        assert numbers == list(range(numbers[0], numbers[0] + 5)), "each as it is written"
    stamped = agent.ok("logs", "box", "--tail=2", "--timestamps").decode().splitlines()
    assert len(stamped) == 2
    assert all(line[:2] == "20" and " tick " in line for line in stamped)
    until(lambda: b"second" in agent.run("logs", "failing").stdout, "the second try")
    assert agent.ok("logs", "failing", "--previous") == b"first\n"


# -- deciding


def test_the_command_is_a_fact(agent: Agent) -> None:
    only_date = policy(
        "only-date",
        rule("pods", "k8s.verb != 'connect'"),
        rule("date", "k8s.subresource == 'exec' && k8s.exec.command == ['date', '-u'] && !k8s.exec.tty"),
        rule("others", "k8s.subresource == 'exec' && k8s.exec.command[0] == 'sh'", "Deny", message="No shells here."),
    )
    change(agent.gateway, only_date)
    assert b"UTC" in agent.ok("exec", "box", "--", "date", "-u")
    done = agent.run("exec", "box", "--", "sh", "-c", "date -u")
    assert done.returncode == 1
    assert b"No shells here." in done.stderr
    assert agent.run("port-forward", "pod/box", f"{free_port()}:8080").returncode == 1
    denied = agent.last("exec")
    assert (denied["outcome"], denied["decision"]["rule"]["rule"]) == ("denied", "others")


NO_STREAMS = policy(
    "no-streams",
    rule("reads", "k8s.verb != 'connect'"),
    rule("closed", "k8s.verb == 'connect'", "Deny", message="Nobody connects now."),
)


def test_a_command_ends_when_the_policies_would_not_let_it_begin(agent: Agent) -> None:
    with agent.running("exec", "box", "--", "sh", "-c", "echo begun; sleep 600") as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        change(agent.gateway, NO_STREAMS)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"The policies that are in force now do not let it through: Nobody connects now." in errors
    record = agent.last("exec")
    assert record["outcome"] == "lost"
    assert said(record, "stdout") == "begun\n"
    assert said(record, "note"), "the record has why"


def test_a_command_that_is_allowed_still_goes_on(agent: Agent) -> None:
    other = policy("other", rule("all", "k8s.resource != 'secrets'"))
    with agent.running("exec", "-i", "box", "--", "cat") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"before\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"before\n"
        change(agent.gateway, other)
        process.stdin.write(b"after\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"after\n"
        process.stdin.close()
        assert process.wait(60) == 0


def test_a_port_forward_ends_when_the_policies_would_not_let_it_begin(agent: Agent) -> None:
    with forwarding(agent) as (process, url):
        with urllib.request.urlopen(f"{url}/etc/hostname", timeout=60) as answer:
            assert answer.read() == b"box\n"
        change(agent.gateway, NO_STREAMS)
        process.communicate(timeout=60)
    assert agent.last("portforward")["outcome"] == "lost"


# -- masks


MASKED = policy(
    "masked",
    rule("all"),
    rule(
        "cards", "true", "Mask", masking=[{"detector": "CreditCard", "strategy": {"type": "Partial", "keepLast": 4}}],
    ),
)  # fmt: skip


def test_output_is_masked_as_it_streams(agent: Agent) -> None:
    change(agent.gateway, MASKED)
    first, second = CARD[:9], CARD[9:]
    script = f"printf 'card: {first}'; sleep 0.1; echo '{second}'; echo 'again {CARD}' >&2; exit 4"
    done = agent.run("exec", "box", "--", "sh", "-c", script)
    assert done.returncode == 4
    assert done.stdout.startswith(b"card: ")
    assert done.stdout.endswith(b"1111\n")
    for text in (done.stdout, done.stderr):
        assert CARD.encode() not in text
        assert b"4111" not in text
    record = agent.last("exec")
    assert said(record, "stdout").encode() == done.stdout, "the record holds what the agent saw"
    data = os.urandom(300_000).replace(b"4", b"x")
    assert agent.ok("exec", "-i", "box", "--", "cat", data=data) == data


def test_a_masked_terminal_shows_what_is_typed(agent: Agent) -> None:
    change(agent.gateway, MASKED)
    with terminal(agent.command("exec", "-it", "box", "--", "sh"), agent.environment) as screen:
        screen.until("# ")
        screen.type("n='4111 1111'; echo \"<$n 1111 1111>\"\r")
        shown = screen.until("1111>\r\n")
        assert b"<" in shown
        assert CARD.encode() not in shown
        screen.type("exit\r")
        assert screen.ended() == 0


# -- other clients


def test_the_python_client(gateway: ApiGateway, namespace: str, box: None) -> None:
    """kubernetes-client for Python: v4.channel.k8s.io over WebSocket, and the kubelet's channels for ports."""
    pytest.importorskip("kubernetes")
    program = f"""
import urllib.request
from kubernetes import client, config
from kubernetes.stream import stream, portforward
config.load_kube_config()
api = client.CoreV1Api()
def run(command, **more):
    return stream(api.connect_get_namespaced_pod_exec, "box", {namespace!r}, command=command, stderr=True, stdin=True,
                  stdout=True, tty=False, _preload_content=False, **more)
found = run(["sh", "-c", "read line; echo got $line; exit 3"])
found.write_stdin("hello\\n")
found.run_forever(timeout=60)
print(found.read_stdout().strip(), found.returncode)
forward = portforward(api.connect_get_namespaced_pod_portforward, "box", {namespace!r}, ports="8080")
socket = forward.socket(8080)
socket.sendall(b"GET /etc/hostname HTTP/1.0\\r\\n\\r\\n")
data = b""
while piece := socket.recv(65536):
    data += piece
print(data.splitlines()[-1].decode())
"""
    environment = {**os.environ, "KUBECONFIG": str(gateway.kubeconfig())}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["got hello 3", "box"], done.stderr


def test_nothing_but_pods_streams_can_be_upgraded(gateway: ApiGateway, namespace: str, box: None) -> None:
    for path in (f"/api/v1/namespaces/{namespace}/pods?watch=1", f"/api/v1/namespaces/{namespace}/pods/box/proxy/"):
        said = upgraded(gateway, path)
        assert said.startswith(b"HTTP/1.1 400 "), said
        assert b"Only exec, attach and port-forward" in said


def upgraded(gateway: ApiGateway, path: str) -> bytes:
    """The answer to a WebSocket handshake."""
    import socket
    import ssl

    context = ssl.create_default_context(cafile=str(gateway.ca))
    head = (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {gateway.password}\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n"
    )
    plain = socket.create_connection((gateway.host, gateway.port), timeout=30)
    with context.wrap_socket(plain, server_hostname=gateway.host) as wrapped:
        wrapped.sendall(head.encode())
        return wrapped.recv(65536)

