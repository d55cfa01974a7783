"""What people do in the console: keys, the look, answers to questions, following and ending sessions."""

from __future__ import annotations

import re
import threading

import psycopg
import pytest
from playwright.sync_api import expect
from support.console_scene import Scene
from support.waiting import until
from support.watched_page import Watched


@pytest.mark.parametrize(
    ("keys", "path"),
    [("gs", "/sessions"), ("gl", "/live"), ("ga", "/approvals"), ("gp", "/policies"), ("gc", "/connections")],
)
def test_two_keys_go_to_a_page(desk: Watched, keys: str, path: str) -> None:
    page = desk.open("/replay")
    for key in keys:
        page.keyboard.press(key)
    page.wait_for_url(f"**{path}")


def test_j_and_k_move_and_enter_opens(desk: Watched) -> None:
    page = desk.open("/sessions")
    rows = page.locator("tr[data-row]")
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(rows.nth(1)).to_have_class(re.compile("here"))
    page.keyboard.press("k")
    expect(rows.nth(0)).to_have_class(re.compile("here"))
    wanted = rows.nth(0).locator("a[data-open]").get_attribute("href")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{wanted}")


def test_keys_do_nothing_while_one_types(desk: Watched) -> None:
    page = desk.open("/sessions")
    page.keyboard.press("/")
    box = page.get_by_label("Words in statements")
    expect(box).to_be_focused()
    page.keyboard.type("g p j ? a d")
    expect(box).to_have_value("g p j ? a d")
    expect(page.locator("#help")).not_to_be_visible()
    assert page.url.endswith("/sessions")


def test_a_question_mark_shows_the_keys(desk: Watched) -> None:
    page = desk.open("/live")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_be_visible()
    desk.accessible()
    page.keyboard.press("g")
    page.keyboard.press("p")
    assert page.url.endswith("/live")
    page.keyboard.press("Escape")
    expect(page.locator("#help")).not_to_be_visible()


def test_dark_or_light_is_kept(desk: Watched) -> None:
    page = desk.open("/policies")

    def ground() -> str:
        return str(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))

    light = ground()
    page.get_by_role("button", name="Dark or light").click()
    dark = ground()
    assert light != dark
    desk.open("/connections")
    assert ground() == dark
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    desk.accessible()


def test_the_first_tab_leads_past_the_menu(desk: Watched) -> None:
    page = desk.open("/sessions")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()


def test_a_question_is_answered_after_its_evidence_was_shown(desk: Watched, scene: Scene) -> None:
    scene.ask("update orders set state = 'returned' where placed > date '2026-11-10' and state <> 'packed'")
    page = desk.open("/approvals")
    question = page.locator(".question", has_text="returned")
    expect(question).to_contain_text("rows")
    question.get_by_role("link", name="Approve").click()
    page.wait_for_url("**?verdict=Approve")
    expect(page.locator("pre.said")).to_contain_text("set state = 'returned'")
    expect(page.get_by_role("heading", name="What PostgreSQL says it would do")).to_be_visible()
    expect(page.locator("pre.plain")).to_contain_text("Seq Scan on")
    expect(page.get_by_role("button", name="Deny")).to_have_count(0)
    page.get_by_label("Reason").fill("ticket 47")
    page.get_by_role("button", name="Approve, once").click()
    expect(page.get_by_text("Approved. The request may run once now.")).to_be_visible()
    expect(page.locator(".marks .state")).to_contain_text("approved")
    expect(page.locator(".answers")).to_contain_text("ticket 47")
    scene.ask("update orders set state = 'returned' where placed > date '2026-11-10' and state <> 'packed'")
    changed = "select count(*) from orders where state = 'returned'"
    assert int(scene.server.sql(changed, "shop").strip()) > 50


def test_keys_open_an_answer_and_do_not_send_it(desk: Watched, scene: Scene) -> None:
    scene.ask("delete from orders where placed < date '2026-11-12' and id > 3")
    page = desk.open("/approvals")
    row = page.locator(".question", has_text="id > 3")
    for _ in range(10):
        page.keyboard.press("j")
        if "here" in (row.get_attribute("class") or ""):
            break
    page.keyboard.press("d")
    page.wait_for_url("**?verdict=Deny")
    expect(page.locator("#decide")).to_be_visible()
    page.get_by_label("Reason").fill("not at night")
    page.get_by_role("button", name="Deny").click()
    expect(page.get_by_text("Denied. The agent is told so")).to_be_visible()
    page = desk.open("/approvals?all=1")
    expect(page.locator("tr", has_text="id > 3")).to_contain_text("not at night")


def test_an_answer_without_scripts(plain: Watched, scene: Scene) -> None:
    scene.ask("delete from orders where placed < date '2026-11-13' and id > 4")
    page = plain.open("/approvals")
    page.locator(".question", has_text="id > 4").get_by_role("link", name="Deny").click()
    page.get_by_label("Reason").fill("no")
    page.get_by_role("button", name="Deny").click()
    expect(page.get_by_text("Denied. The agent is told so")).to_be_visible()


def test_sessions_come_and_go_by_themselves(desk: Watched, scene: Scene) -> None:
    page = desk.open("/live")
    expect(page.locator("tr[data-session]").first).to_contain_text("pg_sleep")
    with psycopg.connect(scene.dsn("passing by"), autocommit=True) as session:
        session.execute("select 1")
        expect(page.locator("tr[data-session]")).to_have_count(2)
        expect(page.locator("#count")).to_have_text("2 open sessions")
    expect(page.locator("tr[data-session]")).to_have_count(1)


def test_a_session_is_followed(desk: Watched, scene: Scene) -> None:
    with psycopg.connect(scene.dsn("followed"), autocommit=True) as session:
        session.execute("select 'the first'")
        page = desk.open("/live")
        page.locator("tr[data-session]").filter(has_text="idle").get_by_role("link", name="Follow").click()
        expect(page.locator("[data-follow]")).to_have_attribute("aria-pressed", "true")
        session.execute("select 'the second'")
        expect(page.locator(".request", has_text="the second")).to_be_visible()
        session.execute("select 'the third'")
        expect(page.locator(".request", has_text="the third")).to_be_visible()
        expect(page.locator(".request")).to_have_count(3)
    expect(page.locator("#state")).to_contain_text("closed")


def test_a_session_is_ended_with_a_reason(desk: Watched, scene: Scene) -> None:
    told: list[str] = []

    def wait() -> None:
        try:
            with psycopg.connect(scene.dsn("to be ended"), autocommit=True) as session:
                session.execute("select pg_sleep(300), 'to be ended'")
        except psycopg.Error as error:
            told.append(str(error))

    agent = threading.Thread(target=wait)
    agent.start()
    page = desk.open("/live")
    page.locator("tr[data-session]", has_text="to be ended").get_by_role("link", name=re.compile("End")).click()
    expect(page.get_by_role("heading", name="End the session of planner?")).to_be_visible()
    desk.accessible()
    expect(page.locator("main")).to_contain_text("pg_sleep(300)")
    page.get_by_label("Reason").fill("maintenance of the shop")
    page.get_by_role("button", name="End it now").click()
    expect(page.locator(".banner.good")).to_be_visible()
    agent.join(20)
    assert not agent.is_alive()
    assert "maintenance of the shop" in told[0]
    until(lambda: any(each["state"] == "closed" for each in scene.recorded()), "the record has its end")


def test_one_signs_out(stranger: Watched, scene: Scene) -> None:
    page = stranger.page
    page.goto(scene.link())
    page.locator("details.who > summary").click()
    stranger.accessible()
    page.get_by_role("button", name="Sign out").click()
    expect(page.locator("nav.places")).to_have_count(0)
    stranger.open("/sessions")
    assert "/signin" in page.url
