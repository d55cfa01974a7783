"""The console before a real API server: what people see, decide and end is what that server lets them."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from support import cluster as clusters
from support.batches import Hand, record
from support.certificates import Authority, make_authority
from support.cluster import Unavailable
from support.console import Browser
from support.guarded import Guarded, guarded
from support.oidc_provider import CLIENT, SECRET, Provider, path_of

from ostiary_console.run import serve
from ostiary_console.settings import Settings
from ostiary_gateway.admin.console import ConsoleDesk
from ostiary_gateway.admin.http import HttpServer
from ostiary_gateway.admin.sessions import SessionsDesk
from ostiary_gateway.approvals.people import Approvers
from ostiary_gateway.kube.client import KubeClient
from ostiary_gateway.workers.place import ALONE
from ostiary_store.settings import parse_as
from ostiary_store.sqlite.store import SqliteStore

pytestmark = pytest.mark.cluster

PEOPLE = {"alice": ["dba"], "bob": ["dba"], "carol": ["dba"], "dave": ["devs"], "planner": ["dba"], "olga": ["dba"]}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def provider(authority: Authority) -> Iterator[Provider]:
    with Provider(authority.server, people=dict(PEOPLE)).running() as provider:
        yield provider


@pytest.fixture(scope="module")
def world(provider: Provider, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """An API server of its own: it must trust the provider."""
    flags = (
        f"--oidc-issuer-url={provider.issuer} --oidc-client-id={CLIENT} --oidc-ca-file={authority.ca} "
        "--oidc-username-claim=sub --oidc-username-prefix=- --oidc-groups-claim=groups"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLUSTER_APISERVER_ARGS", flags)
        patch.delenv("KUBECONFIG", raising=False)
        try:
            with clusters.cluster(tmp_path_factory.mktemp("cluster")) as found:
                found.ok("apply", "--server-side", "-f", str(clusters.ROOT / "crds"))
                found.ok("wait", "--for=condition=Established", "--timeout=60s", "-f", str(clusters.ROOT / "crds"))
                with guarded(found) as made:
                    yield made
        except Unavailable as reason:
            pytest.skip(str(reason))


@dataclass(frozen=True)
class Site:
    """A console that runs, and how somebody gets in."""

    base: str
    store: SqliteStore
    world: Guarded
    provider: Provider
    authority: Authority

    async def by_token(self, account: str) -> Browser:
        """Somebody with the token of a ServiceAccount."""
        token = self.world.cluster.ok("create", "token", account, "--duration", "1h").strip()
        browser = Browser(self.base)
        answer = await browser.sign_in(token)
        assert answer.status == 303, await answer.text()
        return browser

    async def at_provider(self, user: str) -> Browser:
        self.provider.user = user
        browser = Browser(self.base)
        answer = await browser.get("/signin/oidc?provider=corp")
        back = await at_the_provider(answer.headers["Location"], self.authority)
        answer = await browser.get(path_of(back))
        assert answer.status == 303, await answer.text()
        return browser


async def at_the_provider(url: str, authority: Authority) -> str:
    """The browser goes there; where it is sent back to."""
    context = ssl.create_default_context(cafile=str(authority.ca))
    async with aiohttp.ClientSession() as session, session.get(url, ssl=context, allow_redirects=False) as answer:
        return answer.headers["Location"]


def kubeconfig_of(world: Guarded, account: str, folder: Path) -> Path:
    """A kubeconfig with the token of a ServiceAccount: what a pod of it has."""
    config: dict[str, Any] = json.loads(world.cluster.ok("config", "view", "--raw", "--minify", "-o", "json"))
    token = world.cluster.ok("create", "token", account, "--duration", "1h").strip()
    config["users"] = [{"name": config["users"][0]["name"], "user": {"token": token}}]
    path = folder / f"{account}.kubeconfig"
    path.write_text(json.dumps(config))
    return path


@asynccontextmanager
async def site(
    world: Guarded, provider: Provider, authority: Authority, folder: Path, *, use: str = "IDToken"
) -> AsyncIterator[Site]:
    """A console with the ServiceAccount `console`."""
    secret = folder / "secret"
    secret.write_text(SECRET)
    port = clusters._free_ports(1)
    base = f"http://127.0.0.1:{port}"
    text = f"""
listen: 127.0.0.1:{port}
url: {base}
store: {{url: "sqlite:{folder / 'store.db'}"}}
cluster: {{kubeconfig: {kubeconfig_of(world, 'console', folder)}}}
signin:
  tokens: true
  oidc:
  - {{name: corp, issuer: "{provider.issuer}", clientID: {CLIENT}, clientSecretFile: {secret}, caFile: {authority.ca},
     scopes: [openid, groups], usernamePrefix: "-", groupsClaim: groups, use: {use}}}
"""
    settings = parse_as(Settings, text)
    stopping, there = asyncio.Event(), asyncio.Event()
    async with AsyncExitStack() as stack:
        store = await SqliteStore.open(folder / "store.db")
        stack.push_async_callback(store.close)
        serving = asyncio.create_task(serve(settings, stopping, lambda _: there.set()))
        waiting = asyncio.create_task(there.wait())
        await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED, timeout=20)
        waiting.cancel()
        if serving.done():
            await serving
        try:
            yield Site(base, store, world, provider, authority)
        finally:
            stopping.set()
            await asyncio.wait_for(serving, 20)


@pytest.fixture(scope="module", autouse=True)
def accounts(world: Guarded) -> None:
    """`reviewer` may see all of the namespace, `auditor` one Connection, `everywhere` all, `stranger` nothing."""
    cluster, space = world.cluster, world.namespace
    for name in ("console", "reviewer", "auditor", "everywhere", "stranger"):
        cluster.ok("create", "serviceaccount", name)
    cluster.ok("create", "role", "review", "--verb=review,terminate", "--resource=connections.ostiary.dev")
    cluster.ok("create", "role", "one", "--verb=review", "--resource=connections.ostiary.dev", "--resource-name=db")
    cluster.ok("create", "rolebinding", "review", "--role=review", f"--serviceaccount={space}:reviewer")
    cluster.ok("create", "rolebinding", "one", "--role=one", f"--serviceaccount={space}:auditor")
    cluster.ok("create", "clusterrole", f"review-{space}", "--verb=review", "--resource=connections.ostiary.dev")
    cluster.ok(
        "create", "clusterrolebinding", f"review-{space}", f"--clusterrole=review-{space}",
        f"--serviceaccount={space}:everywhere",
    )  # fmt: skip
    rules = [
        {"apiGroups": [""], "resources": ["users", "groups"], "verbs": ["impersonate"]},
    ]
    metadata = {"name": f"console-{space}"}
    manifest = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": metadata}
    cluster.ok("create", "-f", "-", manifest={**manifest, "rules": rules})
    cluster.ok(
        "create", "clusterrolebinding", f"console-{space}", f"--clusterrole=console-{space}",
        f"--serviceaccount={space}:console",
    )  # fmt: skip


async def recorded(found: Site) -> None:
    """A session of each of three Connections, one of another namespace."""
    space = found.world.namespace
    hand = Hand(record(f"{space}/db"))
    await found.store.record(hand.ref)
    for name, connection in (("01db", f"{space}/db"), ("01files", f"{space}/files"), ("01bank", "bank/ledger")):
        hand.open(name, connection=connection)
        hand.whole(name, 1, f"select {name}")
    await found.store.append(hand.batch())


async def sees(browser: Browser) -> set[str]:
    return {each["id"] for each in (await browser.json("/sessions"))["sessions"]}


async def test_people_see_what_the_api_server_lets_them(
    world: Guarded, provider: Provider, authority: Authority, tmp_path: Path
) -> None:
    async with site(world, provider, authority, tmp_path) as found:
        await recorded(found)
        expected = {
            "everywhere": {"01db", "01files", "01bank"}, "reviewer": {"01db", "01files"}, "auditor": {"01db"},
            "stranger": set(),
        }  # fmt: skip
        for account, sessions in expected.items():
            async with await found.by_token(account) as browser:
                assert await sees(browser) == sessions, account
                assert (await browser.get("/sessions/01bank")).status == (200 if "01bank" in sessions else 404)
                assert (await browser.get("/sessions/01files/requests/1")).status == (
                    200 if "01files" in sessions else 404
                )
                assert f"serviceaccount:{world.namespace}:{account}" in await browser.text("/sessions")
        async with Browser(found.base) as nobody:
            await nobody.get("/signin")
            answer = await nobody.post("/signin/token", {"token": "eyJhbGciOiJub25lIn0.e30.x"})
            assert (answer.status, "does not take" in await answer.text()) == (403, True)


async def test_rights_that_are_taken_are_gone_within_seconds(
    world: Guarded, provider: Provider, authority: Authority, tmp_path: Path
) -> None:
    async with site(world, provider, authority, tmp_path) as found, await found.by_token("auditor") as browser:
        await recorded(found)
        assert await sees(browser) == {"01db"}
        world.cluster.ok("delete", "rolebinding", "one")
        try:
            deadline = time.monotonic() + 15
            while await sees(browser):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.5)
        finally:
            space = world.namespace
            world.cluster.ok("create", "rolebinding", "one", "--role=one", f"--serviceaccount={space}:auditor")


@pytest.mark.parametrize("use", ["IDToken", "Impersonate"])
async def test_an_answer_is_given_as_the_person_and_judged_by_the_api_server(
    world: Guarded, provider: Provider, authority: Authority, tmp_path: Path, use: str
) -> None:
    """With the person's own ID token, which the API server trusts; and by impersonation."""
    async with site(world, provider, authority, tmp_path, use=use) as found:
        await recorded(found)
        name = world.settled(world.asked(), "Pending")
        path = f"/approvals/{world.namespace}/{name}"
        spec = world.cluster.get("apr", name)["spec"]
        fields = {"verdict": "Approve", "hash": spec["request"]["hash"], "reason": "the migration of today"}
        refusals = {
            "carol": "has not the verb approve", "dave": "of none of the groups", "planner": "asked for",
            "olga": "on whose behalf",
        }  # fmt: skip
        for who in refusals:
            async with await found.at_provider(who) as browser:
                await browser.get("/replay")
                answer = await browser.post(f"{path}/decide", fields)
                text = await answer.text()
                assert answer.status in (403, 409, 422), (who, text)
                assert "The API server" in text, who
        assert not world.cluster.get("apr", name)["spec"].get("decisions")
        async with await found.at_provider("alice") as alice:
            assert name in await alice.text("/approvals")
            await alice.text(path)
            changed = await alice.post(f"{path}/decide", {**fields, "hash": "0" * 64})
            assert changed.status == 409
            answer = await alice.post(f"{path}/decide", fields)
            assert answer.status == 303, await answer.text()
            assert answer.headers["Location"] == f"{path}?done=approved"
            again = await alice.post(f"{path}/decide", fields)
            assert again.status in (409, 422), await again.text()
        assert world.cluster.get("apr", name)["spec"]["decisions"] == [
            {"approver": "alice", "verdict": "Approve", "reason": "the migration of today"}
        ]


async def test_live_sessions_are_listed_and_ended_in_a_persons_name(
    world: Guarded, provider: Provider, authority: Authority, tmp_path: Path
) -> None:
    """Tokens by TokenRequest and TokenReview, for this gateway and no other."""
    space, cluster = world.namespace, world.cluster
    console = f"system:serviceaccount:{space}:console"
    cluster.ok("create", "role", "own-tokens", "--verb=create", "--resource=serviceaccounts/token",
               "--resource-name=console")  # fmt: skip
    cluster.ok("create", "rolebinding", "own-tokens", "--role=own-tokens", f"--serviceaccount={space}:console")
    cluster.ok("create", "clusterrole", f"reviews-{space}", "--verb=create", "--resource=tokenreviews")
    cluster.ok("create", "clusterrolebinding", f"reviews-{space}", f"--clusterrole=reviews-{space}",
               f"--serviceaccount={space}:gateway")  # fmt: skip
    ended: list[tuple[str, str]] = []
    live = [
        {"session": "01live", "connection": f"{space}/db", "protocol": "Postgres", "username": "planner",
         "client": {}, "opened": time.time(), "requests": 1, "onBehalfOf": "",
         "running": [{"request": "01live-1", "since": time.time(), "text": "select pg_sleep(60)"}]},
        {"session": "01alien", "connection": "bank/ledger", "opened": time.time(), "running": []},
    ]  # fmt: skip

    async def end(target: str, message: str) -> bool:
        ended.append((target, message))
        return True

    async with site(world, provider, authority, tmp_path) as found, KubeClient(world.access("gateway")) as kube:
        desk = ConsoleDesk(SessionsDesk(lambda: live, end, Approvers(), ALONE), kube, console, f"{space}/db")
        admin = HttpServer(desk.routes)
        host, port = await admin.listen("127.0.0.1", 0)
        ref = replace(record(f"{space}/db"), address=f"{host}:{port}")
        await found.store.record(ref)
        await found.store.record(replace(record(f"{space}/gone", "gone-0"), address="127.0.0.1:9"))
        try:
            async with await found.by_token("reviewer") as browser, await found.by_token("auditor") as auditor:
                page = await browser.json("/live")
                assert [(each["session"], each["can_end"]) for each in page["sessions"]] == [("01live", True)]
                assert page["unreachable"] == [f"{space}/gone (gone-0)"]
                assert [each["can_end"] for each in (await auditor.json("/live"))["sessions"]] == [False]
                assert (await auditor.post("/sessions/01live/kill")).status == 403
                text = await browser.text("/sessions/01live/kill")
                assert "pg_sleep" in text
                answer = await browser.post("/sessions/01live/kill", {"reason": "too long", "target": "01live"})
                assert answer.status == 303, await answer.text()
                reviewer = f"system:serviceaccount:{space}:reviewer"
                assert ended == [("01live", f"Ended by {reviewer}: too long.")]
            # Nobody else, however they come by a token.
            for account in ("reviewer", "console"):
                token = cluster.ok("create", "token", account, "--audience", f"ostiary-gateway-admin/{space}/other")
                async with Browser(f"http://{host}:{port}") as direct:
                    headers = {"Authorization": f"Bearer {token.strip()}"}
                    assert (await direct.get("/sessions/live", headers=headers)).status == 401
            token = cluster.ok("create", "token", "reviewer", "--audience", f"ostiary-gateway-admin/{space}/db").strip()
            async with Browser(f"http://{host}:{port}") as direct:
                headers = {"Authorization": f"Bearer {token}"}
                assert (await direct.get("/sessions/live", headers=headers)).status == 403
        finally:
            await admin.close()

