"""The operator as a process of the test: its real settings, ServiceAccount and rights, from the chart."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from support.cluster import ROOT, Cluster
from support.servers import free_port

PATIENCE = 120.0
"""Seconds until something that must happen counts as not happening."""


@dataclass(frozen=True)
class Release:
    """What the chart brings to a cluster, in one system namespace: all but running pods."""

    cluster: Cluster
    system: str
    directory: Path

    @property
    def of_system(self) -> Cluster:
        """kubectl in the system namespace."""
        return replace(self.cluster, namespace=self.system)

    def settings(self, **changes: object) -> Path:
        """The operator's settings as the chart wrote them, with short times, and changes."""
        maps = self.of_system.get("configmap")["items"]
        text = next(each["data"]["operator.yaml"] for each in maps if "operator.yaml" in (each.get("data") or {}))
        read: dict[str, Any] = yaml.safe_load(text)
        read["watch"] = {"inactivityTimeout": "4s", "staleAfter": "8s", "connectTimeout": "2s", "requestTimeout": "5s"}
        read["leaderElection"] |= {"leaseDuration": "8s", "renewDeadline": "6s", "retryPeriod": "500ms"}
        read["log"] = {"level": "debug", "format": "json"}
        path = self.directory / f"settings-{len(list(self.directory.glob('settings-*')))}.yaml"
        path.write_text(yaml.safe_dump(read | changes))
        return path

    def kubeconfig(self, account: str) -> Path:
        """Access as a ServiceAccount of the system namespace."""
        token = self.of_system.ok("create", "token", account, "--duration=2h").strip()
        found = json.loads(self.cluster.ok("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
        found["users"] = [{"name": "me", "user": {"token": token}}]
        found["contexts"] = [{"name": "me", "context": {"cluster": found["clusters"][0]["name"], "user": "me"}}]
        found["current-context"] = "me"
        path = self.directory / f"{account}.kubeconfig"
        path.write_text(json.dumps(found))
        path.chmod(0o600)
        return path


def install(cluster: Cluster, system: str, directory: Path, *values: str) -> Release:
    """Apply what `helm template` makes of the chart, under names of its own; tests of the release are left out.

    So are the admission policies: there is one set of them in a cluster, and other tests are about them.
    """
    sets = [argument for value in (f"fullnameOverride={system}", *values) for argument in ("--set", value)]
    made = subprocess.run(
        ["helm", "template", "ostiary", str(ROOT / "charts" / "ostiary"), "--namespace", system, "--no-hooks", *sets],
        env=cluster.environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    cluster.ok("apply", "--server-side", "--force-conflicts", "-f", "-", text=_namespace(system))
    there = replace(cluster, namespace=system)
    kept = [each for each in yaml.safe_load_all(made.stdout) if each and "Admission" not in each["kind"]]
    for namespace in {each["metadata"].get("namespace", system) for each in kept}:
        part = [each for each in kept if each["metadata"].get("namespace", system) == namespace]
        where = replace(cluster, namespace=namespace)
        where.ok("apply", "--server-side", "--force-conflicts", "-f", "-", text=yaml.safe_dump_all(part))
    for plural in ("connections", "gatewaypolicies", "approvalrequests"):
        there.ok("wait", "--for=condition=Established", "--timeout=60s", f"crd/{plural}.ostiary.dev")
    return Release(cluster, system, directory)


def _namespace(name: str) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})


@dataclass
class Operator:
    """One replica."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path
    name: str
    _seen: int = field(default=0)

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of an answer of the admin address; status 0: no answer."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=20) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    @property
    def ready(self) -> bool:
        """Whether /readyz says so."""
        return self.get("/readyz")[0] == 200

    def metric(self, name: str, **labels: str) -> float:
        """Sum of a metric's samples that have these labels."""
        total = 0.0
        for line in self.get("/metrics")[1].splitlines():
            head, _, value = line.rpartition(" ")
            if head.partition("{")[0] == name and all(f'{key}="{text}"' in head for key, text in labels.items()):
                total += float(value)
        return total

    @property
    def leads(self) -> bool:
        """Whether this replica holds the Lease."""
        return self.metric("ostiary_operator_leader") == 1.0

    @property
    def writes(self) -> float:
        """Children and statuses written so far."""
        return sum(
            self.metric("ostiary_operator_applies_total", result=result) for result in ("created", "updated", "failed")
        ) + self.metric("ostiary_operator_status_writes_total", result="written")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal, and wait for the end."""
        self.process.send_signal(number)
        self.process.wait(30)

    def tail(self) -> str:
        """The end of its log, for messages of tests that fail."""
        return self.log.read_text()[-6000:]


@contextmanager
def operator(release: Release, name: str, settings: Path | None = None) -> Iterator[Operator]:
    """A running replica, which is ended with the block."""
    account = f"{release.system}-operator"
    port = free_port()
    log = release.directory / f"{name}.log"
    environment = os.environ | {
        "POD_NAME": name,
        "POD_NAMESPACE": release.system,
        "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("crds", "gateway", "operator")),
    }
    command = [
        sys.executable, "-m", "ostiary_operator", "run", "--config", str(settings or release.settings()),
        "--kubeconfig", str(release.kubeconfig(account)), "--admin", f"127.0.0.1:{port}",
    ]  # fmt: skip
    with log.open("ab") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    running = Operator(process, f"http://127.0.0.1:{port}", log, name)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)


def eventually(holds: Callable[[], object], *, seconds: float = PATIENCE, why: Callable[[], str] = str) -> None:
    """Wait until it holds; fails with what `why` tells."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, why()
        time.sleep(0.1)
