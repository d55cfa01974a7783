"""The store and the console in a cluster: what agents do is found, replayed, approved, ended, and nothing gets lost."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml
from support import release as releases
from support.full_cluster import SYSTEM, FullCluster
from support.helm import CHART
from support.kubectl_pods import kubectl, kubectl_pods
from support.review_cluster import VALUES, Console, console_port, database, issuer, taken_away
from support.shop import NAMESPACE, Shop
from support.ssh_pods import SshPods, ssh_pods
from support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow]

ACCOUNTS = ("reviewer", "viewer", "ender")
ALICE = ("alice", "dba")
"""May answer in the example, as a member of dba; may see no recording."""


@dataclass
class World:
    """A gateway of each protocol, their agents, the store and the console."""

    release: FullCluster
    shop: Shop
    ssh: SshPods
    cluster: FullCluster
    port: int
    desks: int = 0

    @property
    def system(self) -> FullCluster:
        return self.release.within(SYSTEM)

    def namespaces(self) -> list[str]:
        return [NAMESPACE, self.ssh.cluster.namespace, self.cluster.namespace]

    def with_token(self, account: str) -> Console:
        """A ServiceAccount at the console, with a token of the cluster."""
        token = self.system.ok("create", "token", account, "--duration=1h").strip()
        return self.browser(token)

    def signed_in(self, user: str, *groups: str) -> Console:
        console = self.browser()
        console.sign_in(user, *groups)
        return console

    def browser(self, token: str = "") -> Console:
        """Somebody at a desk of their own: sign-ins are limited by address."""
        self.desks += 1
        return Console(self.port, f"192.0.2.{self.desks}", token)

    def in_store(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`ostiary …` where the database's address is."""
        script = 'OSTIARY_STORE=$(cat /run/ostiary/database/url) exec ostiary "$@"'
        return self.system.kubectl("exec", "deployment/ostiary-store", "--", "sh", "-c", script, "sh", *arguments)

    def sql(self, text: str) -> str:
        """What the store's database says itself."""
        script = 'PGPASSWORD="$POSTGRES_PASSWORD" psql -U postgres -d ostiary -XqAt -v ON_ERROR_STOP=1'
        command = ["exec", "-i", "deployment/store-database", "--", "sh", "-c", script]
        return self.system.ok(*command, text=text).strip()


@pytest.fixture(scope="module")
def world(release: FullCluster, shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    system = release.within(SYSTEM)
    database(system)
    issuer(system)
    values = tmp_path_factory.mktemp("values") / "values.yaml"
    values.write_text(yaml.safe_dump(VALUES))
    release.step("install", HELM_ARGS=f"--values {values}")
    for name in ("store", "console"):
        system.ok("rollout", "status", f"deployment/ostiary-{name}", "--timeout=240s")
    releases.settled(release, shop)
    for name in ACCOUNTS:
        system.kubectl("create", "serviceaccount", name)
    with ssh_pods(release) as ssh, kubectl_pods(release) as cluster, console_port(system) as port:
        for namespace in (NAMESPACE, ssh.cluster.namespace, cluster.namespace):
            there = release.within(namespace)
            for role, account in (
                ("ostiary-reviewer", "reviewer"), ("view", "viewer"), ("ostiary-reviewer", "ender"),
                ("ostiary-terminator", "ender"),
            ):  # fmt: skip
                binding = f"test-{role}-{account}"
                there.kubectl(
                    "create", "rolebinding", binding, f"--clusterrole={role}", f"--serviceaccount={SYSTEM}:{account}"
                )
        yield World(release, shop, ssh, cluster, port)
    if os.environ.get("E2E_KEEP"):
        return
    release.step("install")
    releases.settled(release, shop)
    taken_away(system, *ACCOUNTS, "former")


def word() -> str:
    return f"needle{uuid.uuid4().hex[:10]}"


def found(console: Console, text: str, **query: str) -> list[dict[str, Any]]:
    """Requests that the console finds by a word, as soon as there are any and they have ended: then all is there."""

    def look() -> list[dict[str, Any]]:
        requests: list[dict[str, Any]] = console.api("/sessions", q=text, **query)["requests"]
        return requests if all(each["outcome"] for each in requests) else []

    return until(look, f"{text} is found", 60, every=0.3)


def test_the_release_finds_itself_well(world: World) -> None:
    assert "Succeeded" in world.release.helm_ok("test", "ostiary")


# One session of each protocol, found and replayed


def test_the_conditions_say_that_the_record_arrives(world: World) -> None:
    for cluster, name in ((world.shop.cluster, "shop"), (world.ssh.cluster, "web"), (world.cluster, "cluster")):
        conditions = {each["type"]: each["status"] for each in cluster.get("gwconn", name)["status"]["conditions"]}
        assert conditions["Recorded"] == "True", conditions


def test_a_statement_is_found_by_a_word_and_its_result_is_shown(world: World) -> None:
    needle = word()
    assert world.shop.rows(f"select '{needle}' as needle, count(*) from orders") == [f"{needle}|6000"]
    console = world.with_token("reviewer")
    (request,) = found(console, needle)
    assert (request["connection"], request["protocol"]) == (f"{NAMESPACE}/shop", "Postgres")
    assert (request["action"], request["outcome"], request["rows"]) == ("Allow", "ok", 1)
    assert request["username"] == f"system:serviceaccount:{NAMESPACE}:planner"
    shown = json.dumps(console.api(f"/sessions/{request['session']}/requests/{request['number']}"))
    assert shown.count(needle) >= 2, "the statement, and what came back"
    assert "6000" in shown
    page = console.get(f"/sessions/{request['session']}")
    assert (page.status, needle in page.text) == (200, True)


def test_an_api_call_is_found_and_shown(world: World) -> None:
    needle = word()
    assert "not found" in kubectl(world.cluster, "get", "deployment", needle).stderr
    console = world.with_token("reviewer")
    request = found(console, needle, connection=f"{world.cluster.namespace}/cluster")[0]
    assert request["protocol"] == "Kubernetes"
    shown = console.get(f"/sessions/{request['session']}/requests/{request['number']}")
    assert (shown.status, needle in shown.text) == (200, True)


def test_a_command_is_found_and_replayed(world: World) -> None:
    needle = word()
    done = world.ssh.ssh(f"ls /tmp/{needle}")
    assert "No such file" in done.stderr
    console = world.with_token("reviewer")
    request = found(console, needle, protocol="SSH")[0]
    cast = console.get(f"/sessions/{request['session']}/requests/{request['number']}/cast")
    assert cast.status == 200, cast.text
    header, *events = [json.loads(line) for line in cast.text.splitlines()]
    assert header["version"] == 2
    assert needle in "".join(event[2] for event in events if event[1] == "o")


def test_what_was_denied_is_found_by_its_rule(world: World) -> None:
    needle = word()
    assert world.shop.refusal(f"/* {needle} */ delete from orders")["rule"] == "bounded-changes"
    console = world.with_token("reviewer")
    (request,) = found(console, needle, decision="Deny")
    assert (request["policy"], request["rule"]) == (f"{NAMESPACE}/guard-rails", "bounded-changes")
    by_rule = console.api("/sessions", rule=f"{NAMESPACE}/guard-rails/bounded-changes")["requests"]
    assert needle in json.dumps(by_rule)


def test_the_command_line_finds_the_same(world: World) -> None:
    needle = word()
    world.shop.rows(f"select '{needle}'")
    found(world.with_token("reviewer"), needle)
    done = world.in_store("search", needle)
    assert (done.returncode, needle in done.stdout) == (0, True), done.stderr


# Who sees what


def test_who_may_not_review_does_not_learn_that_a_session_exists(world: World) -> None:
    needle = word()
    world.shop.rows(f"select '{needle}'")
    (request,) = found(world.with_token("reviewer"), needle)
    viewer = world.with_token("viewer")
    assert viewer.api("/sessions", q=needle)["requests"] == []
    assert viewer.api("/sessions", view="sessions")["sessions"] == []
    for path in ("", f"/requests/{request['number']}", f"/requests/{request['number']}/cast"):
        assert viewer.get(f"/api/v1/sessions/{request['session']}{path}").status == 404, path
    nothing = viewer.get("/api/v1/sessions/none")
    assert nothing.status == 404
    assert viewer.api("/live")["sessions"] == []


def test_nobody_gets_in_without_a_token_of_the_cluster(world: World) -> None:
    assert world.browser().get("/api/v1/sessions").status == 401
    assert world.browser("guessed").get("/api/v1/sessions").status == 401
    other = world.system.ok("create", "token", "reviewer", "--audience=ostiary").strip()
    assert world.browser(other).get("/api/v1/sessions").status == 401
    page = world.browser().get("/sessions")
    assert (page.status, page.headers["location"].partition("?")[0]) == (303, "/signin")


def test_who_guesses_is_held_up(world: World) -> None:
    browser = world.browser()
    statuses = []
    for guess in range(20):
        browser.token = f"guess-{guess}"
        statuses.append(browser.get("/api/v1/sessions").status)
    assert 429 in statuses
    assert world.with_token("reviewer").get("/api/v1/sessions").status == 200, "others are not held up by it"


def test_a_right_that_is_taken_away_is_gone_within_seconds(world: World) -> None:
    world.system.kubectl("create", "serviceaccount", "former")
    there = world.shop.cluster
    there.ok("create", "rolebinding", "former", "--clusterrole=ostiary-reviewer", f"--serviceaccount={SYSTEM}:former")
    console = world.with_token("former")
    until(lambda: console.api("/sessions", view="sessions")["sessions"], "the sessions are seen", 30, every=0.5)
    there.ok("delete", "rolebinding", "former")
    until(lambda: not console.api("/sessions", view="sessions")["sessions"], "they are gone", 30, every=0.5)


# Approvals, decided by the API server's admission


def test_an_approver_answers_in_the_console_and_the_statement_runs(world: World) -> None:
    before = world.shop.questions()
    waiting = world.shop.begin("update orders set note = '' where id > 2400")
    try:
        name = world.shop.new_question(before)
        alice = world.signed_in(*ALICE)
        path = f"/approvals/{NAMESPACE}/{name}"
        asked = until(lambda: [each for each in alice.api("/approvals")["waiting"] if each["name"] == name], "it waits")
        assert "update orders" in json.dumps(asked)
        fields = alice.form(path)
        assert fields["hash"]
        answer = alice.ask("POST", f"{path}/decide", {**fields, "verdict": "Approve", "reason": "month's end"})
        assert (answer.status, answer.headers["location"]) == (303, f"{path}?done=approved"), answer.text
        out, err = waiting.communicate(timeout=120)
    finally:
        waiting.kill()
    assert out.splitlines() == ["UPDATE 3600"], err
    (decision,) = world.shop.question(name)["spec"]["decisions"]
    assert (decision["approver"], decision["verdict"], decision["reason"]) == ("alice", "Approve", "month's end")
    # Her answer opens no recording to her.
    assert alice.api("/sessions", view="sessions")["sessions"] == []


def test_who_is_in_no_approver_group_is_refused_by_the_api_server(world: World) -> None:
    before = world.shop.questions()
    waiting = world.shop.begin("update orders set note = '' where id > 2300")
    try:
        name = world.shop.new_question(before)
        given = world.shop.cluster
        given.kubectl("create", "rolebinding", "mallory", "--clusterrole=ostiary-approver", "--user=mallory")
        mallory = world.signed_in("mallory", "developers")
        path = f"/approvals/{NAMESPACE}/{name}"
        fields = world.signed_in(*ALICE).form(path)
        told = {**mallory.form(path), "hash": fields["hash"], "verdict": "Approve", "reason": ""}
        answer = mallory.ask("POST", f"{path}/decide", told)
        assert answer.status == 403, answer.text
        assert not world.shop.question(name)["spec"].get("decisions")
        # A form of another site, or of somebody else's page, is no answer at all.
        forged = {**told, "csrf": "guessed"}
        assert mallory.ask("POST", f"{path}/decide", forged).status == 403
        assert mallory.ask("POST", f"{path}/decide", told, Origin="https://evil.example").status == 403
        alice = world.signed_in(*ALICE)
        denied = {**alice.form(path), "verdict": "Deny", "reason": "not today"}
        assert alice.ask("POST", f"{path}/decide", denied).status == 303
        _, err = waiting.communicate(timeout=120)
    finally:
        waiting.kill()
    assert "not today" in err


# Live sessions


def test_a_live_session_is_seen_and_ended(world: World) -> None:
    needle = word()
    script = f"(echo \"select '{needle}';\"; sleep 120) | /scripts/shop -At"
    command = ["kubectl", "--namespace", NAMESPACE, "exec", "deployment/planner", "--", "sh", "-c", script]
    agent = subprocess.Popen(
        command, env=world.shop.cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        ender = world.with_token("ender")
        (request,) = found(ender, needle)
        session = request["session"]

        def live(console: Console) -> list[dict[str, Any]]:
            return [each for each in console.api("/live")["sessions"] if each["session"] == session]

        (seen,) = until(lambda: live(ender), "it is live", 30, every=0.5)
        assert seen["can_end"] is True
        reviewer = world.with_token("reviewer")
        (only_seen,) = live(reviewer)
        assert only_seen["can_end"] is False
        refused = reviewer.ask("POST", f"/api/v1/sessions/{session}/kill", {"reason": "no"})
        assert refused.status == 403
        ended = ender.ask("POST", f"/api/v1/sessions/{session}/kill", {"reason": "it went astray"})
        assert ended.status == 200, ended.text
        until(lambda: not live(ender), "it is live no more", 30, every=0.5)
        until(lambda: ender.api(f"/sessions/{session}")["session"]["state"] == "closed", "the record says so", 30)
        shown = ender.get(f"/sessions/{session}").text
        assert "it went astray" in shown
    finally:
        agent.kill()
        agent.communicate(timeout=30)


def test_a_gateway_takes_no_end_from_anybody_else(world: World) -> None:
    """Its admin port is open to the operator's namespace: only the console's token, made for that gateway, counts."""
    (pod, *_) = world.shop.gateway_pods()
    address = world.shop.cluster.get("pod", pod)["status"]["podIP"]
    script = (
        "import sys,urllib.request as u,urllib.error as e\n"
        "r=u.Request(sys.argv[1],headers={'Authorization':'Bearer '+sys.argv[2]})\n"
        "try: print(u.urlopen(r,timeout=10).status)\n"
        "except e.HTTPError as x: print(x.code)\n"
    )

    def asked(token: str) -> str:
        url = f"http://{address}:9911/sessions/live"
        command = ["exec", "deployment/ostiary-store", "--", "/opt/ostiary/bin/python", "-c", script, url, token]
        return world.system.ok(*command).strip()

    def token(account: str, gateway: str) -> str:
        audience = f"--audience=ostiary-gateway-admin/{gateway}"
        return world.system.ok("create", "token", account, audience).strip()

    assert asked(token("ostiary-console", f"{NAMESPACE}/shop")) == "200"
    assert asked(token("ostiary-console", f"{NAMESPACE}/other")) == "401"
    assert asked(token("reviewer", f"{NAMESPACE}/shop")) == "403"
    assert asked("guessed") == "401"


# Nothing is lost, nothing is doubled


@dataclass
class Load:
    """Agents that run numbered statements, one after the other, in sessions of many statements."""

    shop: Shop
    needle: str
    processes: list[subprocess.Popen[str]]

    @classmethod
    def begin(cls, shop: Shop, agents: int = 3) -> Load:
        needle = word()
        processes = []
        for agent in range(agents):
            script = (
                "n=0; while true; do n=$((n+1));"
                f" for i in 0 1 2 3 4 5 6 7 8 9; do echo \"select '{needle}-{agent}-$n$i';\"; sleep 0.05; done"
                " | /scripts/shop -At; done"
            )
            command = ["kubectl", "--namespace", NAMESPACE, "exec", "deployment/planner", "--", "sh", "-c", script]
            processes.append(
                subprocess.Popen(
                    command, env=shop.cluster.environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
                )
            )
        return cls(shop, needle, processes)

    def end(self) -> set[str]:
        """What the agents were answered."""
        self.shop.cluster.kubectl("exec", "deployment/planner", "--", "sh", "-c", f"pkill -f {self.needle}")
        answered: set[str] = set()
        for process in self.processes:
            out, _ = process.communicate(timeout=60)
            answered |= {line for line in out.splitlines() if line.startswith(f"{self.needle}-")}
        return answered


def recorded(world: World, needle: str) -> Counter[str]:
    """How often each numbered statement is in the store, by what it says."""
    rows = world.sql(f"select text from ostiary.request where text like '%{needle}%';").splitlines()
    said = (re.search(rf"'({needle}-\d+-\d+)'", row) for row in rows)
    return Counter(each[1] for each in said if each)


def test_the_store_killed_and_away_under_load_loses_nothing_and_doubles_nothing(world: World) -> None:
    system = world.system
    load = Load.begin(world.shop)
    try:
        for _ in range(3):
            time.sleep(3)
            system.ok("delete", "pod", "-l", "app.kubernetes.io/name=ostiary-store", "--grace-period=0", "--force")
        # The database as well, by a crash.
        system.kubectl("exec", "deployment/store-database", "--", "sh", "-c", "pkill -9 -f 'postgres: ' || true")
        time.sleep(3)
        system.ok("scale", "deployment/ostiary-store", "--replicas=0")
        time.sleep(15)
        system.ok("scale", "deployment/ostiary-store", "--replicas=2")
        time.sleep(5)
    finally:
        answered = load.end()
    assert len(answered) > 50, "the agents were held up"
    system.ok("rollout", "status", "deployment/ostiary-store", "--timeout=180s")
    until(lambda: answered <= recorded(world, load.needle).keys(), "all that was answered is stored", 120, every=2)
    sent = recorded(world, load.needle)
    print(f"{len(answered)} statements were answered, {len(sent)} are in the store")
    twice = {name: count for name, count in recorded(world, load.needle).items() if count > 1}
    assert not twice
    world.shop.cluster.ok("wait", "--for=condition=Recorded", "gwconn/shop", "--timeout=120s")


def test_a_gateways_pod_that_goes_takes_nothing_with_it(world: World) -> None:
    load = Load.begin(world.shop, agents=2)
    try:
        time.sleep(4)
        for pod in world.shop.gateway_pods():
            world.shop.cluster.ok("delete", "pod", pod, "--wait=false")
            time.sleep(6)
        until(world.shop.at_rest, "the gateway's pods are new", 240, every=1)
    finally:
        answered = load.end()
    assert answered
    until(lambda: answered <= recorded(world, load.needle).keys(), "all that was answered is in the store", 90, every=2)
    assert max(recorded(world, load.needle).values()) == 1


def test_what_is_in_the_store_verifies_and_an_edit_is_named(world: World) -> None:
    needle = word()
    world.shop.rows(f"select '{needle}'")
    (request,) = found(world.with_token("reviewer"), needle)
    time.sleep(10)  # the next seal, and its anchor
    anchor = world.system.get("configmap", "ostiary-seals")
    assert anchor.get("data"), "the last seal is noted outside"
    done = world.in_store("verify", "--anchor", f"configmap:{SYSTEM}/ostiary-seals")
    assert done.returncode == 0, done.stdout + done.stderr
    world.sql(f"update ostiary.request set text = replace(text, '{needle}', 'harmless') where text like '%{needle}%';")
    done = world.in_store("verify")
    assert done.returncode != 0
    assert request["session"] in done.stdout + done.stderr
    world.sql(f"update ostiary.request set text = replace(text, 'harmless', '{needle}') where text like '%harmless%';")


# What is not to be seen


def test_the_databases_address_is_with_store_and_console_only(world: World) -> None:
    secret = world.system.get("secret", "store-database")["data"]["url"]
    for namespace in world.namespaces():
        pods = world.release.within(namespace).ok("get", "pods,configmaps,deployments", "-o", "json")
        assert secret not in pods
        assert "store-database" not in pods
    for name in ("store", "console"):
        logs = world.system.ok("logs", f"deployment/ostiary-{name}", "--tail=-1")
        assert "only-for-this-test" not in logs
    for pod in world.shop.gateway_pods():
        assert "only-for-this-test" not in world.shop.cluster.ok("logs", pod, "-c", "gateway", "--tail=-1")


def test_what_alerts_read_is_there(world: World) -> None:
    def metrics(namespace: str, label: str) -> str:
        pods = world.release.within(namespace).get("pods", "-l", label)["items"]
        names = [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        paths = [f"/api/v1/namespaces/{namespace}/pods/{name}:9911/proxy/metrics" for name in names]
        return "".join(world.system.ok("get", "--raw", path) for path in paths)

    text = metrics(SYSTEM, "app.kubernetes.io/name=ostiary-store") + metrics(NAMESPACE, "ostiary.dev/gateway=shop")
    rules = yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    (group,) = [each for each in rules["groups"] if each["name"] == "ostiary-store"]
    text += metrics(SYSTEM, "app.kubernetes.io/name=ostiary-console")
    for rule in group["rules"]:
        for name in re.findall(r"ostiary_(?!store_export)\w+", rule["expr"]):
            # A family without a sample yet has its type only.
            assert re.search(rf"^(# TYPE )?{name}\b", text, re.MULTILINE), name
