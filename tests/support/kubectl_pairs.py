"""The same session of kubectl twice, directly and through the gateway: what people see of both must be the same."""

from __future__ import annotations

import difflib
import json
import re
import subprocess
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from support.api_gateway import ApiGateway

PATIENCE = 180.0
"""Seconds until something that must happen counts as not happening."""
IMAGE = "localhost/python:3.13-slim"
"""Python, sh and tar: what the cluster's nodes have, and what exec and cp need."""

_VARIES = (
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "UID"),
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "TIME"),
    (r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", "TIME"),
    (r'(resourceVersion"?: ?)"\d+"', r"\1RV"),
    (r"https://[\w.-]+:\d+", "https://SERVER"),
    (r"\b10\.25\d\.\d+\.\d+\b", "IP"),
    (r"\w{3} \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}", "TIME"),
    (r"/tmp/(LIVE|MERGED)-\d+", r"/tmp/\1"),
    (r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ [+-]\d{4}", "TIME"),
    (r"^[WEI]\d{4} [\d:.]+ +\d+ ", "LOG "),
    (r"pod-template-hash=\w+", "pod-template-hash=HASH"),
    (r"containerd://[0-9a-f]+", "CONTAINER"),
    (r"\b[0-9a-f]{64}\b", "DIGEST"),
    (r"\b127\.0\.0\.1:\d+\b", "LOCAL"),
    # A pod of a ReplicaSet, a Job; and what generateName makes.
    (r"-[bcdfghjklmnpqrstvwxz2456789]{5}\b", "-XXXXX"),
    (r"\b(\d+d)?(\d+h)?(\d+m)?\d+(\.\d+)?m?s\b", "AGE"),
    (r"\b\d+m\b", "AGE"),
    # How often an event has come is a matter of when one looks.
    (r"\bAGE \(x\d+ over AGE\)", "AGE"),
    (r"[ \t]+", " "),
)


@dataclass
class Kubectl:
    """One side: kubectl with one kubeconfig in one namespace. Keeps what was typed and what was seen of it."""

    environment: Mapping[str, str]
    namespace: str
    directory: Path
    program: str = "kubectl"
    seen: list[str] = field(default_factory=list)

    def __call__(self, *arguments: str, text: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        """Run it, and note what it printed."""
        done = self.aside(*arguments, text=text, **variables)
        self.note(arguments, done.returncode, done.stdout, done.stderr)
        return done

    def ok(self, *arguments: str, manifest: object = None, text: str = "", **variables: str) -> str:
        """Standard output of what must succeed."""
        done = self(*arguments, text=text if manifest is None else json.dumps(manifest), **variables)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def fails(self, *arguments: str, manifest: object = None, text: str = "") -> str:
        """Standard error of what must not succeed."""
        done = self(*arguments, text=text if manifest is None else json.dumps(manifest))
        assert done.returncode != 0, f"kubectl {' '.join(arguments)}\n{done.stdout}"
        return done.stderr

    def aside(
        self, *arguments: str, manifest: object = None, text: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """Run it without noting it: what is looked at until it is as it should be."""
        return subprocess.run(
            self._command(arguments), input=text if manifest is None else json.dumps(manifest),
            env={**self.environment, **variables}, cwd=self.directory, capture_output=True, text=True, timeout=PATIENCE,
        )  # fmt: skip

    def get(self, *arguments: str) -> Any:
        """An object or a list of them, not noted."""
        done = self.aside("get", *arguments, "-o", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @contextmanager
    def running(self, *arguments: str, stdin: int | None = subprocess.DEVNULL) -> Iterator[subprocess.Popen[str]]:
        """While it runs; ended with the block. What it printed is not noted."""
        process = subprocess.Popen(
            self._command(arguments), env=dict(self.environment), cwd=self.directory, text=True,
            stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        with process:
            try:
                yield process
            finally:
                process.kill()

    def fetch(self, source: str, target: str) -> None:
        """`kubectl cp` out of a pod. Its words are not noted: it ends with the archive, before or after tar's."""
        done = self.aside("cp", source, target)
        assert done.returncode == 0, done.stderr

    @contextmanager
    def forwarding(self, what: str, port: int) -> Iterator[int]:
        """The local port of a `kubectl port-forward`."""
        with self.running("port-forward", what, f":{port}") as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            local = re.search(r"127\.0\.0\.1:(\d+)", first)
            assert local is not None, first
            yield int(local[1])

    def until(self, holds: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
        """Wait for something."""
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, f"not within {seconds:.0f} s: {what}"
            time.sleep(0.2)

    def file(self, name: str, content: object) -> str:
        """A file in the directory where kubectl runs: text as it is, anything else as JSON. Returns its name."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return name

    def note(self, arguments: tuple[str, ...], code: int, *printed: str) -> None:
        """Keep what was seen, without what differs between any two runs."""
        self.seen.append(self._plain(f"$ {self.program} {' '.join(arguments)} → {code}"))
        lines = [self._plain(line).strip() for part in printed for line in part.splitlines()]
        # kubectl's own log, when a WebSocket ends before it has looked at all that came: on either side, now and then.
        self.seen += [line for line in lines if "Unknown stream id" not in line]

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        # kubectl would take what follows `--` for arguments of its own command.
        return [self.program, f"--namespace={self.namespace}", *arguments]

    def _plain(self, text: str) -> str:
        text = text.replace(self.namespace, "NAMESPACE")
        for pattern, stands_for in _VARIES:
            text = re.sub(pattern, stands_for, text)
        return text


@contextmanager
def both(gateway: ApiGateway, directory: Path, program: str = "kubectl") -> Iterator[tuple[Kubectl, Kubectl]]:
    """Directly and through the gateway, as the same account of the API server, in a new namespace each."""
    admin, tag = gateway.plane.cluster, uuid.uuid4().hex[:6]
    found = []
    for way, kubeconfig in (("direct", gateway.plane.kubeconfig(directory)), ("gateway", gateway.kubeconfig())):
        place = directory / way
        place.mkdir()
        environment = {**admin.environment, "KUBECONFIG": str(kubeconfig), "KUBECACHEDIR": str(place / "cache")}
        found.append(Kubectl(environment, f"kubectl-{way}-{tag}", place, program))
    names = [each.namespace for each in found]
    for name in names:
        admin.ok("create", "namespace", name)
    yield found[0], found[1]
    admin.ok("delete", "namespace", *names, "--wait=false")


def page(port: int) -> bytes:
    """What a web server at a local port shows."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60) as answer:
        found: bytes = answer.read()
        return found


class Scenario(Protocol):
    """A session: what is typed, and what is expected of it in any case."""

    def __call__(self, k: Kubectl) -> None: ...


def same(scenario: Scenario, direct: Kubectl, gateway: Kubectl) -> None:
    """Play it on both sides; fails with a diff where these saw different things."""
    for side in (direct, gateway):
        scenario(side)
    assert len(direct.seen) > 1
    difference = difflib.unified_diff(direct.seen, gateway.seen, "directly", "through the gateway", "", "", 3, "")
    told = "\n".join(difference)
    assert not told, told
