"""Sessions of kubectl in the console: calls, the change that a write makes, answers, refusals."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Browser, expect
from support import api_gateway, console_scene
from support import cluster as clusters
from support.api_gateway import ApiGateway, policy, rule
from support.servers import free_port
from support.waiting import until
from support.watched_page import DESK, Watched

pytestmark = pytest.mark.cluster

SECRETS = rule("no-secrets", "k8s.resource == 'secrets'", "Deny", message="Secrets are not for agents.")
BOUNDED = rule(
    "bounded",
    "k8s.resource == 'deployments' && k8s.verb in ['create', 'update', 'patch'] && k8s.object.spec.replicas > 50",
    "Deny",
)
"""Reads the resulting object, so that the gateway asks for a dry run."""
DEPLOYMENT = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "web"},
    "spec": {
        "replicas": 2,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "registry.example.com/web:1"}]},
        },
    },
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiGateway]:
    """A gateway before an API server, with its console, and what an agent did through it."""
    try:
        with clusters.cluster(tmp_path_factory.mktemp("plane")) as found:
            namespace = f"console-{free_port()}"
            found.ok("create", "namespace", namespace)
            target = replace(api_gateway.plane(found), cluster=replace(found, namespace=namespace))
            made = api_gateway.prepare(target, policy("agents", SECRETS, BOUNDED, rule("rest")))
            made.arguments = ("--console", f"127.0.0.1:{free_port()}")
            try:
                made.start()
                work(made)
                yield made
            finally:
                made.destroy()
                found.ok("delete", "namespace", namespace, "--wait=false")
    except clusters.Unavailable as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason))
        pytest.skip(str(reason))


def work(gateway: ApiGateway) -> None:
    gateway.ok("apply", "-f", "-", manifest=DEPLOYMENT)
    gateway.ok("scale", "deployment/web", "--replicas", "5")
    gateway.ok("get", "deployments")
    assert gateway.kubectl("get", "secrets").returncode != 0


def test_calls_are_shown_with_what_they_change(chromium: Browser, gateway: ApiGateway) -> None:
    base = f"http://{gateway.arguments[1]}"
    until(lambda: console_scene.listening(base), "the console answers", 30)
    context = chromium.new_context(viewport=DESK, reduced_motion="reduce")
    watched = Watched(context.new_page(), base)
    page = watched.page
    page.goto(gateway.run("console", "--link").strip().rpartition(" ")[2])
    until(lambda: _hits(watched, "scale") > 0, "the store has it", 20)
    page.locator(".hit a.what", has_text="scale").first.click()
    expect(page.locator("pre.said")).to_contain_text("/deployments/web/scale")
    expect(page.locator(".d.add", has_text="replicas: 5")).to_be_visible()
    expect(page.locator(".d.cut", has_text="replicas: 2")).to_be_visible()
    expect(page.locator(".result")).to_have_text("200")
    watched.accessible_everywhere()
    page.set_viewport_size(DESK)
    _hits(watched, "secrets")
    page.locator(".hit.denied a.what").first.click()
    expect(page.locator(".decided")).to_contain_text("Secrets are not for agents.")
    _hits(watched, "deployments limit")
    page.locator(".hit a.what").first.click()
    expect(page.locator("table.grid tbody tr").first).to_contain_text("web")
    watched.accessible()
    context.close()
    watched.clean()


def _hits(watched: Watched, words: str) -> int:
    watched.open(f"/sessions?view=requests&q={words}")
    return watched.page.locator(".hit").count()
