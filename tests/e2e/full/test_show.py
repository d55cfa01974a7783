"""From an empty cluster to an agent at work: the chart, the example, and psql in the agent's pod."""

from __future__ import annotations

import pytest
from support.shop import Shop, denial
from support.waiting import until

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


def test_the_connection_says_where_agents_connect_and_what_holds(shop: Shop) -> None:
    status = shop.cluster.get("gwconn", "shop")["status"]
    assert status["endpoint"] == {"host": "ostiary-shop.demo.svc", "port": 5432}
    conditions = {each["type"]: each["status"] for each in status["conditions"]}
    assert conditions == dict.fromkeys(["Accepted", "ResolvedRefs", "Programmed", "UpstreamReachable"], "True")
    assert {each["name"] for each in status["policies"]} >= {"guard-rails", "planner", "personal-data"}


def test_what_is_allowed_runs(shop: Shop) -> None:
    assert shop.rows("select count(*) from customers", "select status from orders where id = 1") == ["2000", "paid"]


def test_a_small_change_is_allowed(shop: Shop) -> None:
    changed = shop.rows("update orders set status = 'packed' where id = 7", "select status from orders where id = 7")
    assert changed == ["UPDATE 1", "packed"]


@pytest.mark.parametrize(
    ("sql", "rule"),
    [
        ("delete from orders", "bounded-changes"),
        ("drop table customers", "no-drop"),
        ("select 1; truncate orders", "no-drop"),
        ("do $$ begin execute (select note from orders where id = 1); end $$", "nothing-opaque"),
    ],
)
def test_what_is_denied_does_not_run_and_says_why(shop: Shop, sql: str, rule: str) -> None:
    told = shop.refusal(sql)
    assert (told["decision"], told["rule"]) == ("Deny", rule)
    assert shop.rows("select count(*) from orders") == ["6000"]


def test_a_denial_does_not_end_the_session(shop: Shop) -> None:
    done = shop.psql("delete from orders", "select count(*) from orders")
    assert "42501" in done.stderr
    assert done.stdout.splitlines() == ["6000"]


def test_answers_are_masked(shop: Shop) -> None:
    assert shop.rows("select email as contact from customers where id = 1") == ["[email]"]
    (number,) = shop.rows("select number from cards where customer_id = 3")
    assert number.endswith("1111")
    assert number != "4111111111111111"
    (note,) = shop.rows("select note from orders where id = 3")
    assert "4111111111111111" not in note
    assert note.endswith("declined")


def test_only_the_agents_own_token_opens_the_door(shop: Shop) -> None:
    def login(password: str) -> str:
        script = f"PGPASSWORD={password} psql -X -c 'select 1'"
        return shop.cluster.kubectl("exec", "deployment/planner", "--", "sh", "-c", script).stderr

    assert "no token that is known" in login("guessed")
    for_the_api_server = shop.cluster.ok("create", "token", "planner").strip()
    assert "audience" in login(for_the_api_server)
    other = shop.cluster.ok("create", "token", "default", "--audience=ostiary").strip()
    assert denial(login(other))["decision"] == "Deny"


def test_the_agent_holds_no_password_of_the_database(shop: Shop) -> None:
    password = shop.cluster.get("secret", "shop-database")["data"]["password"]
    pod = shop.cluster.ok("get", "pods", "-l", "app=planner", "-o", "json")
    assert password not in pod
    assert "shop-database" not in pod
    bundle = shop.cluster.ok("get", "configmaps", "-o", "json", "-l", "ostiary.dev/gateway=shop")
    assert password not in bundle
    assert "known-to-the-gateway-only" not in bundle


def test_a_large_change_waits_for_a_person_and_runs_once(shop: Shop) -> None:
    large = "update orders set status = 'paid' where id <= 3000"
    told = shop.refusal(large)
    assert told["decision"] == "RequireApproval"
    name = told["approval"]["name"]
    question = shop.question(name)
    assert question["spec"]["requester"]["username"] == "system:serviceaccount:demo:planner"
    assert question["spec"]["request"]["summary"] == large
    assert shop.rows("select count(*) from orders where status = 'paid' and id <= 3000") != ["3000"]

    nobody = ("--as=mallory", "--as-group=developers", "--as-group=system:authenticated")
    assert "forbidden" in shop.answer(name, nobody, "mallory").lower()
    assert "in your own name" in shop.answer(name, approver="bob")
    assert shop.answer(name) == ""
    shop.wait_for_state(name, "Approved")

    # Anything else is another question.
    other = shop.refusal("update orders set status = 'paid' where id <= 3001")
    assert other["approval"]["name"] != name
    assert shop.rows(large) == ["UPDATE 3000"]
    shop.wait_for_state(name, "Consumed")
    again = shop.refusal(large)
    assert again["decision"] == "RequireApproval"
    assert again["approval"]["name"] != name


def test_who_waits_goes_on_when_somebody_approves(shop: Shop) -> None:
    before = shop.questions()
    waiting = shop.begin("update orders set note = '' where id > 2500")
    try:
        name = shop.new_question(before)
        assert "Update on" in shop.cluster.ok("describe", "apr", name)
        assert shop.answer(name) == ""
        out, err = waiting.communicate(timeout=120)
    finally:
        waiting.kill()
    assert out.splitlines() == ["UPDATE 3500"], err
    shop.wait_for_state(name, "Consumed")


def test_a_denial_by_a_person_is_told(shop: Shop) -> None:
    before = shop.questions()
    waiting = shop.begin("delete from orders where id > 1500")
    try:
        name = shop.new_question(before)
        assert shop.answer(name, verdict="Deny") == ""
        _, err = waiting.communicate(timeout=120)
    finally:
        waiting.kill()
    assert "alice" in err
    assert "looked at it" in err
    shop.wait_for_state(name, "Denied")
    assert shop.rows("select count(*) from orders") == ["6000"]


def test_gateways_and_operator_expose_what_alerts_read(shop: Shop) -> None:
    def metrics(namespace: str, label: str, port: int) -> str:
        """Of all pods together: what the leader of the operators does, its follower does not."""
        pods = shop.cluster.within(namespace).get("pods", "-l", label)["items"]
        names = [pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]
        paths = [f"/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy/metrics" for name in names]
        return "".join(shop.cluster.ok("get", "--raw", path) for path in paths)

    def reached() -> str:
        found = metrics("demo", "ostiary.dev/gateway=shop", 9911)
        return found if 'ostiary_upstream_reachable{connection="demo/shop"} 1.0' in found else ""

    gateway = until(reached, "the database is seen to be reachable", 60)
    assert "\nostiary_feed_problem 0.0" in gateway
    assert "\nostiary_kube_last_heard_seconds " in gateway
    operator = metrics("ostiary-system", "app.kubernetes.io/name=ostiary-operator", 8080)
    for name in ("leader", "watch_age_seconds", "reconcile_seconds_bucket", "propagation_seconds_bucket"):
        assert f"\nostiary_operator_{name}" in operator
