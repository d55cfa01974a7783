"""Each page in a real browser: what it says, in each look, without a complaint of axe, CSP or the console."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect
from support.console_scene import MANY, XSS, Scene
from support.waiting import until
from support.watched_page import Watched

PLACES = ["/sessions", "/sessions?q=orders", "/sessions?q=nothinglikethis", "/live", "/approvals", "/approvals?all=1",
          "/policies", "/connections", "/replay"]  # fmt: skip


def path_of(watched: Watched, query: str, name: str = "planner") -> str:
    """Of the newest session that this search lists."""
    watched.open(f"/sessions?{query}")
    link = watched.page.locator("tr[data-row] a[data-open]").first
    return str(link.get_attribute("href"))


def of_request(watched: Watched, words: str) -> str:
    """Where the newest request with these words is."""
    watched.open(f"/sessions?view=requests&q={words}")
    return str(watched.page.locator(".hit a.what").first.get_attribute("href"))


@pytest.mark.parametrize("path", PLACES)
def test_a_page_in_each_look(desk: Watched, path: str) -> None:
    page = desk.open(path)
    expect(page.locator("main h1")).to_be_attached()
    desk.accessible_everywhere()


def test_a_session_of_statements_in_each_look(desk: Watched) -> None:
    page = desk.open(path_of(desk, "connection=default/shop&decision=Deny"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("planner on default/shop")
    expect(page.locator(".request")).to_have_count(9)
    desk.accessible_everywhere()


def test_one_request_in_each_look(desk: Watched) -> None:
    page = desk.open(of_request(desk, "Göteborg"))
    expect(page.get_by_role("heading", name="The decision")).to_be_visible()
    desk.accessible_everywhere()


def test_a_terminal_in_each_look(desk: Watched) -> None:
    page = desk.open(of_request(desk, "shell&protocol=SSH"))
    expect(page.locator(".ap-player")).to_be_visible()
    desk.accessible_everywhere()


def test_a_question_in_each_look(desk: Watched) -> None:
    desk.open("/approvals")
    desk.page.locator("a[data-approve]").first.click()
    expect(desk.page.get_by_role("heading", level=1)).to_contain_text("May planner do this?")
    desk.accessible_everywhere()


def test_a_session_tells_what_was_asked_decided_and_seen(desk: Watched) -> None:
    page = desk.open(path_of(desk, "connection=default/shop&decision=Deny"))
    first = page.locator("#r1")
    expect(first.locator("pre.said")).to_have_text(
        "select id, name, email, card from customers where city = 'Göteborg' order by id limit 8"
    )
    expect(first.locator(".c-word").first).to_have_text("select")
    expect(first.locator(".decided")).to_contain_text("allowed by default/guard-rails#work")
    expect(first.locator(".decided")).to_contain_text("would deny default/next#no-cards in Audit mode")
    expect(first.locator(".masks")).to_contain_text("public.customers.email (Partial)")
    expect(first.locator("table.grid tbody tr")).to_have_count(8)
    expect(first.locator("table.grid tbody tr").first).to_contain_text("************4242")
    denied = page.locator(".request.denied").first
    expect(denied.locator("pre.said")).to_have_text("delete from orders")
    expect(denied).to_contain_text("A DELETE or UPDATE without WHERE changes every row.")
    expect(denied).to_contain_text("Say which rows you mean with WHERE.")
    failed = page.locator(".request.failed")
    expect(failed).to_contain_text('column "nme" does not exist')
    expect(page.locator(".tally")).to_contain_text("2 denied")
    expect(page.locator(".null")).to_have_text("NULL")


def test_what_agents_send_stays_text(desk: Watched) -> None:
    page = desk.open(path_of(desk, "connection=default/shop&decision=Deny"))
    expect(page.locator(".request").filter(has_text="onerror=alert(1)").first).to_be_visible()
    expect(page.locator("main img[src=x], main script, main b:text('bold')")).to_have_count(0)
    page = desk.open("/sessions?q=onerror")
    expect(page.locator(".hit").first).to_contain_text(XSS)
    expect(page.locator("main img[src=x], main script")).to_have_count(0)
    page = desk.open(f"/sessions?user={XSS}&q=%22%3E%3Cscript%3Ealert(3)%3C/script%3E&view=requests")
    expect(page.locator(".chips")).to_contain_text(XSS)
    expect(page.locator("main img[src=x], main script")).to_have_count(0)


def test_a_search_marks_what_it_found(desk: Watched) -> None:
    page = desk.open("/sessions")
    page.get_by_label("Words in statements").fill("orders -drop")
    page.get_by_role("button", name="Search").click()
    page.wait_for_url("**q=orders**")
    expect(page.locator(".hit mark").first).to_have_text("orders")
    for hit in page.locator(".hit").all():
        assert "orders" in hit.inner_text().lower()
    page.locator(".facets a", has_text="denied").click()
    expect(page.locator(".chips")).to_contain_text("denied")
    expect(page.locator(".hit .verdict.deny")).to_have_count(page.locator(".hit").count())
    page.locator(".chips a", has_text="denied").click()
    expect(page.locator(".chips")).not_to_contain_text("denied")


def test_a_long_session_comes_piece_by_piece(desk: Watched) -> None:
    page = desk.open(path_of(desk, "connection=default/shop&decision=Allow&until=2100-01-01"))
    sessions = page.context.request.get(f"{desk.base}/api/v1/sessions?connection=default/shop").json()["sessions"]
    session = next(each for each in sessions if each["requests"] == MANY)
    page = desk.open(f"/sessions/{session['id']}")
    assert page.locator(".request").count() < MANY
    for _ in range(20):
        page.mouse.wheel(0, 20_000)
        page.wait_for_timeout(150)
    expect(page.locator(".request")).to_have_count(MANY)
    expect(page.locator(f"#r{MANY} pre.said")).to_contain_text(f"select {MANY} as step")


def test_a_session_without_scripts(plain: Watched) -> None:
    page = plain.open(path_of(plain, "connection=default/shop&decision=Deny"))
    expect(page.locator(".request").first).to_be_visible()
    plain.open("/sessions?q=orders")
    expect(page.locator(".hit").first).to_be_visible()
    page.locator(".hit a.what").first.click()
    expect(page.get_by_role("heading", name="The decision")).to_be_visible()
    plain.open("/live")
    expect(page.locator("tr[data-session]").first).to_contain_text("pg_sleep")


def test_a_command_tells_its_programs_output_and_end(desk: Watched) -> None:
    page = desk.open(of_request(desk, "uname"))
    expect(page.locator(".notes")).to_contain_text("runs cd, uname, echo")
    expect(page.locator(".result")).to_have_text(re.compile("^exit 3"))
    expect(page.locator(".stream.stderr pre")).to_have_text("two")
    page = desk.open(of_request(desk, "important"))
    expect(page.locator(".decided")).to_contain_text("denied by default/hosts#no-rm")
    expect(page.locator(".decided")).to_contain_text("Agents remove nothing here.")


def test_a_terminal_is_played(desk: Watched) -> None:
    page = desk.open(of_request(desk, "shell&protocol=SSH"))
    player = page.locator(".ap-player")
    expect(player).to_be_visible()
    player.click()
    shown = page.locator(".ap-term-text")
    until(lambda: "deploy$" in shown.inner_text(), "the terminal shows its prompt", 15)
    page.get_by_label("Speed").select_option("10")
    expect(page.locator(".ap-player")).to_be_visible()
    page.locator(".ap-wrapper").focus()
    page.keyboard.press("9")
    until(lambda: "green" in shown.inner_text(), "the terminal is at its end", 15)
    expect(page.locator(".stream.terminal pre")).to_contain_text("Disk:")


def test_policies_tell_what_they_did(desk: Watched) -> None:
    page = desk.open("/policies")
    rule = page.locator(".a-rule", has_text="bounded-changes").first
    expect(rule).to_contain_text("A DELETE or UPDATE without WHERE changes every row.")
    expect(rule.get_by_role("link", name="1 hit")).to_be_visible()
    expect(rule.get_by_role("img")).to_have_count(1)
    expect(page.locator(".panel.audit")).to_contain_text("default/next#no-cards")
    rule.get_by_role("link", name="1 hit").click()
    expect(page.locator(".hit")).to_have_count(1)
    expect(page.locator(".hit")).to_contain_text("delete from orders")


def test_connections_tell_their_health(desk: Watched) -> None:
    page = desk.open("/connections")
    row = page.locator("tr", has_text="default/shop")
    expect(row).to_contain_text("well")
    expect(row.get_by_role("img")).to_be_visible()
    expect(page.get_by_role("heading", name="Gateways that send their record")).to_be_visible()


def test_a_policy_is_tried_on_what_was_recorded(desk: Watched) -> None:
    page = desk.open("/replay")
    page.get_by_label("GatewayPolicy manifests").fill(
        "apiVersion: ostiary.dev/v1alpha1\nkind: GatewayPolicy\nmetadata: {name: guard-rails, namespace: default}\n"
        "spec:\n  match: {protocols: [Postgres]}\n  rules:\n"
        "  - {name: only-customers, action: Allow, expression: \"sql.text.contains('customers')\"}\n"
    )
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_role("heading", name=re.compile("verdicts? change"))).to_be_visible(timeout=40_000)
    expect(page.locator(".change").filter(has_text="opens").first).to_contain_text("drop table customers")
    desk.accessible()
    page.get_by_label("GatewayPolicy manifests").fill("kind: GatewayPolicy\nspec: {rules: [")
    desk.expected = ("status of 422",)
    page.get_by_role("button", name="Replay").click()
    expect(page.get_by_text("The candidates are not accepted:")).to_be_visible()


def test_an_error_says_what_to_do_next(desk: Watched) -> None:
    desk.expected = ("status of 404",)
    answer = desk.page.goto(f"{desk.base}/sessions/00000000000000000000")
    assert answer is not None
    assert answer.status == 404
    expect(desk.page.get_by_text("What next?")).to_be_visible()
    desk.accessible()


def test_a_stranger_is_asked_to_sign_in(stranger: Watched) -> None:
    page: Page = stranger.open("/policies")
    assert "/signin" in page.url
    expect(page.get_by_role("heading", level=1)).to_have_text("Ostiary")
    stranger.accessible_everywhere()


def test_a_link_signs_in_once(stranger: Watched, scene: Scene) -> None:
    link = scene.link()
    stranger.page.goto(link)
    expect(stranger.page.locator("nav.places")).to_be_visible()
    stranger.page.context.clear_cookies()
    stranger.expected = ("status of 403",)
    stranger.page.goto(link)
    expect(stranger.page.locator("nav.places")).to_have_count(0)
