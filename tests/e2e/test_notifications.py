"""The operator tells of approvals: the chart's rights and policies, a real API server, a receiver that verifies."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.approvals import question
from support.cluster import ROOT, Cluster
from support.guarded import no_release
from support.operator import Operator, Release, eventually, operator
from support.receivers import SECRET, Receiver, receiver, verify

pytestmark = pytest.mark.cluster

ALICE = ("--as=alice", "--as-group=dba", "--as-group=system:authenticated")


@pytest.fixture(scope="module")
def guarded(release: Release) -> Iterator[Release]:
    """With the admission policies that the chart makes for this operator."""
    no_release(release.cluster)
    made = subprocess.run(
        ["helm", "template", "ostiary", str(ROOT / "charts" / "ostiary"), "--namespace", release.system,
         "--set", f"fullnameOverride={release.system}", "--show-only", "templates/admission.yaml"],
        env=release.cluster.environment, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    release.cluster.ok("apply", "--server-side", "--force-conflicts", "-f", "-", text=made.stdout)
    _in_force(release)
    yield release
    release.cluster.ok("delete", "--ignore-not-found", "-f", "-", text=made.stdout)


def _in_force(release: Release) -> None:
    """Those of tests before this module's name another operator, and the API server takes a moment to forget them. Who
    may not write that a message was sent sends it again, so this would count too many."""
    there = release.of_system
    found = question("probe").to_manifest()
    found["metadata"] = {"name": "probe", "namespace": release.system}
    there.ok("create", "-f", "-", manifest=found)
    operator = f"--as=system:serviceaccount:{release.system}:{release.system}-operator"
    patch = ("patch", "apr", "probe", "--subresource=status", "--type=merge", "--dry-run=server", operator)
    writes = (*patch, "-p", json.dumps({"status": {"observedGeneration": 1}}))
    eventually(lambda: there.kubectl(*writes).returncode == 0, why=lambda: there.kubectl(*writes).stderr)
    there.ok("delete", "apr", "probe")


@contextmanager
def telling(release: Release, name: str, *receivers: dict[str, Any]) -> Iterator[Operator]:
    settings = release.settings(notifications={"consoleURL": "https://console.example", "receivers": list(receivers)})
    with operator(release, name, settings) as found:
        eventually(lambda: found.ready, why=found.tail)
        yield found


def webhook(bot: Receiver, directory: Path, **more: Any) -> dict[str, Any]:
    (directory / "whsec").write_text(SECRET)
    where = {"name": "bot", "type": "Webhook", "url": bot.url, "insecure": True}
    return {**where, "secretFiles": [str(directory / "whsec")], **more}


def slack(room: Receiver) -> dict[str, Any]:
    return {"name": "room", "type": "Slack", "url": room.url, "insecure": True}


def ask(shop: Cluster, name: str, text: str = "update orders set paid = true") -> None:
    found = question(name, text).to_manifest()
    found["metadata"] = {"name": name, "namespace": shop.namespace}
    shop.ok("create", "-f", "-", manifest=found)


def answer(shop: Cluster, release: Release, name: str, verdict: str = "Approve") -> None:
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "approvers", "namespace": shop.namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
                    "name": f"{release.system}-approver"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "dba"}],
    }  # fmt: skip
    shop.ok("apply", "-f", "-", manifest=binding)
    entry = {"approver": "alice", "verdict": verdict, "reason": "as agreed"}
    patch = json.dumps([{"op": "add", "path": "/spec/decisions", "value": [entry]}])
    eventually(lambda: shop.kubectl("patch", "apr", name, "--type=json", "-p", patch, *ALICE).returncode == 0)


def told(shop: Cluster, name: str) -> dict[str, list[str]]:
    found = (shop.get("apr", name).get("status") or {}).get("told") or []
    return {each["receiver"]: each["steps"] for each in found}


def test_people_are_told_what_is_asked_and_what_became_of_it(guarded: Release, shop: Cluster, tmp_path: Path) -> None:
    with receiver() as bot, receiver() as room:
        with telling(guarded, "told", webhook(bot, tmp_path), slack(room)) as running:
            ask(shop, "apr-1")
            # Also of what other tests have asked, in namespaces of their own.
            here = shop.namespace
            eventually(lambda: (len(bot.about(here)), len(room.about(here))) == (1, 1), why=running.tail)
            answer(shop, guarded, "apr-1")
            eventually(lambda: (len(bot.about(here)), len(room.about(here))) == (2, 2), why=running.tail)
            both = {"bot": ["Asked", "Approved"], "room": ["Asked", "Approved"]}
            eventually(lambda: told(shop, "apr-1") == both, why=running.tail)
            eventually(lambda: running.metric("ostiary_operator_notifications_total", result="sent") >= 4)
            log = running.log.read_text()
        for came in bot.came:
            verify(came)
        first, second = (came.json for came in bot.about(here))
        assert (first["type"], second["type"]) == ("approval.asked", "approval.approved")
        assert first["data"]["approval"]["uid"] == shop.get("apr", "apr-1")["metadata"]["uid"]
        assert first["data"]["link"] == f"https://console.example/approvals/{shop.namespace}/apr-1"
        assert (second["data"]["by"], second["data"]["answers"][0]["reason"]) == ("alice", "as agreed")
        assert "update orders set paid = true" in room.about(here)[0].body.decode()
    assert "update orders" not in log
    assert SECRET not in log


def test_a_new_leader_tells_nothing_again_and_what_was_not_sent(
    guarded: Release, shop: Cluster, tmp_path: Path
) -> None:
    with receiver() as bot, receiver(503) as room:
        with telling(guarded, "first", webhook(bot, tmp_path), slack(room)) as running:
            ask(shop, "apr-1")
            eventually(lambda: told(shop, "apr-1") == {"bot": ["Asked"]} and room.came, why=running.tail)
            running.kill()
        answer(shop, guarded, "apr-1", "Deny")
        room.usual = 200
        with telling(guarded, "second", webhook(bot, tmp_path), slack(room)) as running:
            eventually(lambda: told(shop, "apr-1").get("room") == ["Asked", "Denied"], why=running.tail)
            eventually(lambda: told(shop, "apr-1").get("bot") == ["Asked", "Denied"], why=running.tail)
            time.sleep(2)
        assert [came.json["type"] for came in bot.about(shop.namespace)] == [
            "approval.asked", "approval.denied",
        ]  # fmt: skip
        assert [came.json["blocks"][0]["text"]["text"].partition(":")[0] for came in room.about(shop.namespace)] == [
            "Approval asked for", "Denied",
        ]  # fmt: skip


def test_of_two_replicas_the_leader_tells(guarded: Release, shop: Cluster, tmp_path: Path) -> None:
    with receiver() as bot:
        where = webhook(bot, tmp_path)
        with telling(guarded, "one", where) as one, telling(guarded, "two", where) as two:
            eventually(lambda: one.leads or two.leads)
            ask(shop, "apr-1")
            eventually(lambda: told(shop, "apr-1") == {"bot": ["Asked"]}, why=one.tail)
            leader, other = (one, two) if one.leads else (two, one)
            leader.kill()
            eventually(lambda: other.leads, why=other.tail)
            ask(shop, "apr-2", "delete from orders")
            eventually(lambda: told(shop, "apr-2") == {"bot": ["Asked"]}, why=other.tail)
        assert sorted(came.json["data"]["approval"]["name"] for came in bot.about(shop.namespace)) == ["apr-1", "apr-2"]


def test_a_receiver_that_is_set_up_today_hears_nothing_of_before(
    guarded: Release, shop: Cluster, tmp_path: Path
) -> None:
    ask(shop, "apr-1")
    made = time.time()
    with receiver() as bot:
        settings = guarded.settings(
            notifications={"freshFor": "1m", "receivers": [webhook(bot, tmp_path)]},
        )
        time.sleep(max(0.0, made + 62 - time.time()))
        with operator(guarded, "late", settings) as running:
            eventually(lambda: running.leads and running.ready, why=running.tail)
            ask(shop, "apr-2", "delete from orders")
            eventually(lambda: told(shop, "apr-2") == {"bot": ["Asked"]}, why=running.tail)
        assert [came.json["data"]["approval"]["name"] for came in bot.about(shop.namespace)] == ["apr-2"]
