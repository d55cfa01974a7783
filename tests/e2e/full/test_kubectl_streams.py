"""kubectl's streams through a gateway that allows everything: logs, exec, attach, cp, port-forward, debug, run."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from support.kubectl_objects import container, pod
from support.kubectl_pairs import IMAGE, Kubectl, page, same

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

Sides = tuple[Kubectl, Kubectl]
READS = "while read -r line; do echo got $line; done; echo over"


def ready(k: Kubectl, *names: str) -> None:
    k.ok("wait", "--for=condition=Ready", *(f"pod/{name}" for name in names), "--timeout=120s")


def test_logs(sides: Sides) -> None:
    def session(k: Kubectl) -> None:
        counts = "for n in 1 2 3 4 5; do echo line $n; done; exec sleep 1000"
        ends = "for n in $(seq 1 2000); do echo $n of many; done"
        talks = "n=0; while true; do n=$((n+1)); echo tick $n; sleep 0.2; done"
        several = pod("several")
        several["spec"]["containers"] = [container("one", counts), container("two", counts)]
        k.ok("create", "-f", "-", manifest=several)
        k.ok("create", "-f", "-", manifest=pod("talks", talks))
        k.ok("create", "-f", "-", manifest=pod("ends", ends) | {
            "spec": {"containers": [container(script=ends)], "restartPolicy": "Never"}})  # fmt: skip
        ready(k, "several", "talks")
        k.ok("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/ends", "--timeout=120s")
        for each in ("one", "two"):
            k.until(lambda each=each: "line 5" in k.aside("logs", "several", "-c", each).stdout, "it has printed")  # type: ignore[misc]
        k.ok("logs", "several", "-c", "one")
        # One container before the other, or not.
        every = k.aside("logs", "several", "--all-containers", "--prefix", "--tail=2").stdout
        k.note(("logs", "--all-containers"), 0, "\n".join(sorted(every.splitlines())))
        k.ok("logs", "several")
        k.ok("logs", "ends", "--limit-bytes=100")
        assert len(k.ok("logs", "ends").splitlines()) == 2000
        assert len(k.ok("logs", "-f", "ends").splitlines()) == 2000
        k.ok("logs", "ends", "--tail=3", "--timestamps")
        k.fails("logs", "several", "-c", "three")
        k.fails("logs", "several", "-c", "one", "--previous")
        k.fails("logs", "none")
        with k.running("logs", "-f", "talks", "--tail=1") as following:
            assert following.stdout is not None
            seen = [int(following.stdout.readline().split()[1]) for _ in range(10)]
        assert seen == list(range(seen[0], seen[0] + 10))

    same(session, *sides)


def test_exec(sides: Sides) -> None:
    def session(k: Kubectl) -> None:
        k.ok("create", "-f", "-", manifest=pod("web"))
        ready(k, "web")
        k.ok("exec", "web", "--", "echo", "one  two")
        assert k("exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 7").returncode == 7
        assert k.ok("exec", "-i", "web", "--", "cat", text="what is said\n") == "what is said\n"
        k.fails("exec", "web", "--", "no-such-program")
        k.fails("exec", "web", "-c", "none", "--", "true")
        k.fails("exec", "none", "--", "true")
        much = "x" * 3_000_000
        echoed = k.aside("exec", "-i", "web", "--", "sha256sum", text=much)
        assert echoed.stdout.split()[0] == hashlib.sha256(much.encode()).hexdigest()
        poured = k.aside("exec", "web", "--", "sh", "-c", "head -c 3000000 /dev/zero | tr '\\0' y")
        assert poured.stdout == "y" * 3_000_000
        # A process that kubectl leaves alone.
        with k.running("exec", "web", "--", "sleep", "600"):
            there = ("exec", "web", "--", "sh", "-c", "grep -l 'slee[p]' /proc/[0-9]*/cmdline")
            k.until(lambda: k.aside(*there).returncode == 0, "it runs")

    same(session, *sides)


@contextmanager
def terminal(k: Kubectl, *arguments: str) -> Iterator[int]:
    """A kubectl that has a terminal; its other end."""
    ours, theirs = pty.openpty()
    command = [k.program, f"--namespace={k.namespace}", *arguments]
    process = subprocess.Popen(
        command, env=dict(k.environment), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    )
    os.close(theirs)
    try:
        yield ours
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def reads(end: int, text: str) -> str:
    """What the terminal shows, up to this text."""
    shown, deadline = "", time.monotonic() + 120
    while text not in shown:
        assert time.monotonic() < deadline, shown
        if select.select([end], [], [], 1.0)[0]:
            shown += os.read(end, 4096).decode()
    return shown


def test_a_shell_with_a_terminal(sides: Sides) -> None:
    def session(k: Kubectl) -> None:
        k.ok("create", "-f", "-", manifest=pod("web"))
        ready(k, "web")
        with terminal(k, "exec", "-it", "web", "--", "sh") as end:
            os.write(end, b"test -t 0 && echo a-$((40+2))-terminal\n")
            assert "a-42-terminal" in reads(end, "a-42-terminal")
            os.write(end, b"exit\n")

    same(session, *sides)


def test_attach_and_run(sides: Sides) -> None:
    def session(k: Kubectl) -> None:
        open_pod = pod("listens", READS)
        open_pod["spec"]["containers"][0] |= {"stdin": True, "stdinOnce": True}
        open_pod["spec"]["restartPolicy"] = "Never"
        k.ok("create", "-f", "-", manifest=open_pod)
        ready(k, "listens")
        k.ok("attach", "-i", "listens", "--quiet", text="one\ntwo\n")
        k.ok("wait", "--for=jsonpath={.status.phase}=Succeeded", "pod/listens", "--timeout=120s")
        k.ok("logs", "listens")
        ran = k.aside(
            "run", "once", "--rm", "-i", "--quiet", "--restart=Never", f"--image={IMAGE}", "--image-pull-policy=Never",
            "--command", "--", "python3", "-c", "import sys; print(len(sys.stdin.read()))", text="12345",
        )  # fmt: skip
        assert ran.stdout.split()[0] == "5", ran.stderr

    same(session, *sides)


def test_cp(sides: Sides) -> None:
    def session(k: Kubectl) -> None:
        k.ok("create", "-f", "-", manifest=pod("web"))
        ready(k, "web")
        content = os.urandom(2_000_000)
        (k.directory / "there").write_bytes(content)
        k.ok("cp", "there", "web:/tmp/there")
        k.fetch("web:/tmp/there", "back")
        assert (k.directory / "back").read_bytes() == content
        k.file("folder/a", "a")
        k.file("folder/b/c", "c")
        k.ok("cp", "folder", "web:/tmp/folder")
        k.ok("exec", "web", "--", "sh", "-c", "cd /tmp/folder; find . -type f | sort")
        k.fetch("web:/tmp/folder", "again")
        assert (k.directory / "again" / "b" / "c").read_text() == "c"
        # What tar says of it comes or not: kubectl ends as soon as it has read an empty archive.
        k.aside("cp", "web:/tmp/none", "none")
        assert not (k.directory / "none").exists()

    same(session, *sides)


def test_port_forward(sides: Sides) -> None:
    def session(k: Kubectl) -> None:
        k.ok("create", "-f", "-", manifest=pod("web", labels={"app": "web"}))
        k.ok("create", "service", "clusterip", "web", "--tcp=80:8080")
        ready(k, "web")
        for what in ("pod/web", "service/web"):
            port = 8080 if what.startswith("pod") else 80
            with k.forwarding(what, port) as local:
                assert all(b"Directory listing" in page(local) for _ in range(5))
        # Nobody listens there in the pod.
        with k.forwarding("pod/web", 9) as local, pytest.raises(OSError):
            page(local)
        k.fails("port-forward", "pod/none", ":80")

    same(session, *sides)


def test_debug(sides: Sides) -> None:
    def session(k: Kubectl) -> None:
        k.ok("create", "-f", "-", manifest=pod("web"))
        ready(k, "web")
        k.ok("debug", "web", f"--image={IMAGE}", "--image-pull-policy=Never", "--container=looks", "--profile=general",
             "--", "sh", "-c", "echo looked; sleep 1000")  # fmt: skip
        k.until(lambda: "looked" in k.aside("logs", "web", "-c", "looks").stdout, "the container has begun")
        found = k.get("pod", "web")["spec"]["ephemeralContainers"]
        k.note(("get", "ephemeral containers"), 0, json.dumps(found))
        k.ok("debug", "web", "--copy-to=copy", "--container=web", "--profile=general", "--", "sleep", "1000")
        ready(k, "copy")
        k.ok("get", "pod", "copy", "-o", "jsonpath={.spec.containers[0].command}")

    same(session, *sides)


def test_a_pod_is_reached_by_its_proxy(sides: Sides) -> None:
    def session(k: Kubectl) -> None:
        k.ok("create", "-f", "-", manifest=pod("web", labels={"app": "web"}))
        k.ok("create", "service", "clusterip", "web", "--tcp=80:8080")
        ready(k, "web")
        path = f"/api/v1/namespaces/{k.namespace}"
        assert "Directory listing" in k.ok("get", "--raw", f"{path}/pods/web:8080/proxy/")
        service = ("get", "--raw", f"{path}/services/web:80/proxy/")
        k.until(lambda: k.aside(*service).returncode == 0, "the Service is known")
        k.ok(*service)
        k.fails("get", "--raw", f"{path}/pods/web:8080/proxy/none")

    same(session, *sides)
