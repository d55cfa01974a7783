"""Controllers at work through a gateway that allows everything: client-go's informers, and an operator of kopf."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.api_gateway import ApiGateway
from support.cluster import Cluster
from support.kubectl_objects import config_map, widgets
from support.presence import missing
from support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

CLIENTS = Path(__file__).parents[2] / "clients"
SECONDS = os.environ.get("E2E_CONTROLLER_SECONDS", "60")
"""How long the informers are at work."""


@pytest.fixture(scope="module")
def informers() -> str:
    """The program, built."""
    go = shutil.which("go")
    if go is None:
        missing("no go here: apt-get install -y golang")
    command = [go, "build", "-trimpath", "-o", "target/informers", "."]
    built = subprocess.run(command, cwd=CLIENTS / "informers", capture_output=True, text=True, timeout=1800)
    assert built.returncode == 0, built.stderr
    return str(CLIENTS / "informers" / "target" / "informers")


def test_informers_see_what_they_see_directly_and_no_update_is_lost(
    gateway: ApiGateway, namespace: str, informers: str, tmp_path: Path
) -> None:
    """Four workers write what they have from the cache while somebody else changes it: who is late must be told."""
    before = gateway.resident()
    done = subprocess.run(
        [informers], capture_output=True, text=True, timeout=float(SECONDS) + 300,
        env={
            **gateway.plane.cluster.environment, "NAMESPACE": namespace, "SECONDS_TO_WORK": SECONDS,
            "KUBECONFIG": str(gateway.kubeconfig()),
            "DIRECT_KUBECONFIG": str(gateway.plane.kubeconfig(tmp_path)),
        },
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:] + gateway.log_text()[-4000:]
    report = json.loads(done.stdout)
    print(json.dumps(report | {"residentBefore": before, "residentAfter": gateway.resident()}))
    assert report["missed"] == []
    assert report["events"] == report["directEvents"] > 100
    assert report["stale"] == []
    assert report["cached"] == report["objects"]
    assert report["stored"] == report["counted"] > 0


Wait = Callable[[Callable[[], object], str], None]


@contextlib.contextmanager
def kopf(kubeconfig: Path, group: str, namespace: str, log: Path) -> Iterator[Wait]:
    """The operator at work; a function that waits for what it must do."""
    script = CLIENTS / "python" / "kopf_operator.py"
    command = [sys.executable, "-m", "kopf", "run", "--standalone", f"--namespace={namespace}", str(script)]
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "WIDGETS_GROUP": group}
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env=environment)

    def wait(holds: Callable[[], object], what: str) -> None:
        try:
            until(lambda: process.poll() is not None or holds() or None, what, 120, every=0.3)
        except AssertionError as failure:
            raise AssertionError(f"{failure}\n{log.read_text()[-6000:]}") from None
        assert process.poll() is None, log.read_text()[-6000:]

    try:
        yield wait
    finally:
        process.terminate()
        try:
            process.wait(30)
        finally:
            process.kill()


def play(where: Cluster, kubeconfig: Path, group: str, log: Path) -> object:
    """Ten Widgets come, grow and go; what is there at the end of each."""
    kind = f"widgets.{group}"

    def every(size: int) -> list[object]:
        return [
            {"apiVersion": f"{group}/v1", "kind": "Widget", "metadata": {"name": f"w{n}"}, "spec": {"size": size + n}}
            for n in range(10)
        ]

    def apply(size: int) -> None:
        where.ok("apply", "-f", "-", manifest={"apiVersion": "v1", "kind": "List", "items": every(size)})

    def sizes() -> dict[str, str]:
        items = where.get("configmaps")["items"]
        return {each["metadata"]["name"]: each["data"]["size"] for each in items if "size" in each.get("data", {})}

    def grown(size: int) -> dict[str, str]:
        return {f"w{n}": str(size + n) for n in range(10)}

    until(lambda: where.kubectl("get", kind).returncode == 0, "the kind is served")
    where.ok("create", "-f", "-", manifest=config_map("ledger", begun="yes"))
    found: list[object] = []
    with kopf(kubeconfig, group, where.namespace, log) as wait:
        apply(1)
        wait(lambda: sizes() == grown(1), "each Widget has its ConfigMap")
        made = where.get(kind)["items"]
        wait(lambda: all("create" in each.get("status", {}) for each in where.get(kind)["items"]), "statuses")
        found += [each["metadata"]["finalizers"] for each in made]
        found += [each["status"] for each in where.get(kind)["items"]]
        apply(100)
        wait(lambda: sizes() == grown(100), "each ConfigMap has grown")
        wait(lambda: all(each["status"].get("size", 0) >= 100 for each in where.get(kind)["items"]), "sizes are told")
        found += [each["status"] for each in where.get(kind)["items"]]
        where.ok("delete", kind, "--all", "--timeout=120s")
        found.append(where.get("configmap", "ledger")["data"])
        wait(lambda: sizes() == {}, "the ConfigMaps are gone with their owners")
    return found


def test_an_operator_of_kopf_does_what_it_does_directly(gateway: ApiGateway, namespace: str, tmp_path: Path) -> None:
    admin = gateway.plane.cluster
    outcomes = []
    ways = {"direct": gateway.plane.kubeconfig(tmp_path), "gateway": gateway.kubeconfig()}
    for way, kubeconfig in ways.items():
        where = replace(admin, namespace=f"{namespace}-{way}")
        group = f"{way}.{namespace}.example"
        admin.ok("create", "namespace", where.namespace)
        admin.ok("apply", "-f", "-", manifest=widgets(group))
        try:
            admin.ok("wait", "--for=condition=Established", f"crd/widgets.{group}", "--timeout=60s")
            told = json.dumps(play(where, kubeconfig, group, tmp_path / f"{way}.log"))
            outcomes.append(json.loads(told.replace(group, "GROUP")))
        finally:
            admin.ok("delete", "namespace", where.namespace, "--wait=false")
            admin.ok("delete", "crd", f"widgets.{group}", "--wait=false")
    assert outcomes[0] == outcomes[1]
