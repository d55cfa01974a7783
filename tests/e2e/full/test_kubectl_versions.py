"""Other versions of kubectl through the gateway: what each of them sees directly.

KUBECTL_VERSIONS is a list of programs with `:` between them; tests/clients/kubectl/build makes them. Without it that of
PATH is asked, in both ways that it knows to open streams.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from support.kubectl_objects import config_map, deployment, pod
from support.kubectl_pairs import Kubectl, page, same
from support.presence import missing

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

VERSIONS = [each for each in os.environ.get("KUBECTL_VERSIONS", "kubectl").split(":") if each]
STREAMS = {"websocket": "true", "spdy": "false"}


@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("program", VERSIONS)
def test_a_version_does_through_the_gateway_what_it_does_directly(
    sides: tuple[Kubectl, Kubectl], program: str, streams: str
) -> None:
    variables = {f"KUBECTL_{name}_WEBSOCKETS": STREAMS[streams] for name in ("REMOTE_COMMAND", "PORT_FORWARD")}

    def session(k: Kubectl) -> None:
        if k.aside("version", "--client").returncode:
            missing(f"{program} does not run")
        k.ok("version", "--client")
        k.ok("apply", "-f", "-", manifest=config_map("settings", a="1"))
        k.ok("apply", "-f", "-", manifest=config_map("settings", a="2"))
        k.ok("apply", "--server-side", "--force-conflicts", "-f", "-", manifest=config_map("settings", a="third"))
        assert k("diff", "-f", k.file("next.json", config_map("settings", a="4"))).returncode == 1
        k.ok("get", "cm", "settings", "-o", "yaml")
        k.ok("edit", "cm", "settings", KUBE_EDITOR="sed -i s/third/fifth/")
        k.ok("explain", "deployment.spec.replicas")
        k.ok("auth", "can-i", "create", "deployments")
        k.ok("create", "-f", "-", manifest=deployment())
        k.aside("rollout", "status", "deployment/web", "--timeout=120s")
        k.ok("scale", "deployment/web", "--replicas=2")
        k.ok("set", "env", "deployment/web", "A=B")
        k.ok("patch", "deployment/web", "--type=json", "-p", '[{"op": "remove", "path": "/metadata/labels/app"}]')
        k.ok("rollout", "undo", "deployment/web")
        k.fails("scale", "deployment/web", "--replicas=-1")
        k.ok("delete", "deployment/web")
        k.ok("create", "-f", "-", manifest=pod("web"))
        k.ok("wait", "--for=condition=Ready", "pod/web", "--timeout=120s")
        # Only what it says first: probes are logged as they come.
        k.ok("logs", "web", "--limit-bytes=6")
        assert k("exec", "web", "--", "sh", "-c", "echo out; exit 3").returncode == 3
        assert k.ok("exec", "-i", "web", "--", "cat", text="said") == "said"
        k.ok("cp", "next.json", "web:/tmp/next.json")
        k.fetch("web:/tmp/next.json", "back.json")
        assert (k.directory / "back.json").read_text() == (k.directory / "next.json").read_text()
        with k.forwarding("pod/web", 8080) as local:
            assert b"Directory listing" in page(local)
        k.ok("delete", "pod/web", "--now")

    direct, gateway = (
        replace(side, program=program, environment={**side.environment, **variables}, seen=[]) for side in sides
    )
    same(session, direct, gateway)
