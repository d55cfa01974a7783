"""Helm installs, upgrades, tests, rolls back and uninstalls a chart through the gateway, as it does directly."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.kubectl_pairs import Kubectl, same

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

CHART = str(Path(__file__).parent / "chart")
WAIT = ("--wait", "--timeout=3m")


def test_the_life_of_a_release(sides: tuple[Kubectl, Kubectl]) -> None:
    def session(k: Kubectl) -> None:
        helm = replace(k, program="helm")
        helm.ok("install", "web", CHART, "--dry-run=server")
        helm.ok("install", "web", CHART, *WAIT)
        k.ok("get", "deployment,service,configmap,secret", "-o", "custom-columns=K:.kind,N:.metadata.name")
        helm.ok("test", "web", "--timeout=3m")
        helm.ok("upgrade", "web", CHART, "--set", "greeting=good evening,replicas=2", *WAIT)
        helm.ok("test", "web", "--timeout=3m")
        helm.fails("upgrade", "web", CHART, "--set", "replicas=-1", *WAIT)
        helm.fails("install", "web", CHART)
        helm.ok("get", "all", "web")
        helm.ok("rollback", "web", "1", *WAIT)
        helm.ok("history", "web", "-o", "json")
        assert k.get("configmap", "web")["data"]["index.html"] == "hello"
        helm.ok("list", "--all", "-o", "json")
        helm.ok("get", "manifest", "web")
        helm.ok("uninstall", "web", *WAIT)
        assert not [each for each in k.get("all,secrets,configmaps")["items"] if each["metadata"]["name"] == "web"]
        helm.fails("status", "web")

    same(session, *sides)
