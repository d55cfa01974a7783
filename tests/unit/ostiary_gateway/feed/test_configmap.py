"""The feed of a pod, step by step: what each change at the API server makes of what is served."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from support.feeds import Api, bundle, connection, policy

from ostiary_gateway.feed.configmap import ConfigMapFeed
from ostiary_gateway.feed.kept import KeptBundle
from ostiary_gateway.feed.loading import Loaded, Rejected

DENY = policy("deny", "true", action="Deny")


class Fed:
    """A feed under test, and the API server behind it."""

    def __init__(self, data: Path) -> None:
        self.api = Api()
        self.data = data
        self.feed: ConfigMapFeed
        self._changes: AsyncGenerator[Loaded | Rejected, None]

    async def start(self) -> None:
        kube: Any = self.api
        self.feed = ConfigMapFeed(kube, "shop", "app", KeptBundle(self.data, "app"), first=0.2)
        await self.feed.start()
        self._changes = self.feed.changes()

    async def stop(self) -> None:
        await self._changes.aclose()
        await self.feed.close()

    async def again(self) -> None:
        """As when the last outcome could not be put in force."""
        await self._changes.aclose()
        self._changes = self.feed.changes()

    async def outcome(self) -> Loaded | Rejected:
        """What comes next."""
        async with asyncio.timeout(20):
            return await anext(self._changes)

    async def loaded(self) -> Loaded:
        found = await self.outcome()
        assert isinstance(found, Loaded), found
        return found

    def good(self) -> Any:
        """A bundle whose Secrets are there."""
        secrets = self.api.secret("db", username="u", password="p"), self.api.token()
        return bundle(connection(), policy(), secrets=secrets)


@pytest.fixture
async def fed(tmp_path: Path) -> AsyncIterator[Fed]:
    made = Fed(tmp_path)
    await made.start()
    yield made
    await made.stop()


async def test_the_bundle_and_its_secrets_come_together(fed: Fed) -> None:
    packed = fed.good()
    fed.api.publish(packed)
    found = await fed.loaded()
    assert found.revision == packed.revision
    assert set(found.bundle.connections) == {("shop", "app")}
    assert found.secrets["shop", "db"].text("password") == "p"
    assert (found.problems, found.closed, fed.feed.trouble) == ((), {}, "")


async def test_a_secret_is_read_again_only_when_the_bundle_names_another_version(fed: Fed) -> None:
    db, token = fed.api.secret("db", username="u", password="p"), fed.api.token()
    fed.api.publish(bundle(connection(), secrets=(db, token)))
    await fed.loaded()
    fed.api.publish(bundle(connection(), policy(), secrets=(db, token)))
    await fed.loaded()
    assert [each for each in fed.api.asked if each.startswith("secrets/")] == ["secrets/db", "secrets/planner"]
    rotated = fed.api.secret("db", username="u", password="q")
    fed.api.publish(bundle(connection(), policy(), secrets=(rotated, token)))
    assert (await fed.loaded()).secrets["shop", "db"].text("password") == "q"
    assert fed.api.asked.count("secrets/planner") == 1


async def test_a_bundle_in_parts_is_not_taken_before_all_are_there(fed: Fed) -> None:
    packed = bundle(connection(), *(policy(f"p{n}") for n in range(12)), max_part_bytes=500)
    assert len(packed.parts) > 3
    fed.api.publish(packed, parts=slice(2, None))
    waiting = asyncio.create_task(fed.loaded())
    async with asyncio.timeout(20):
        while "not found" not in fed.feed.trouble:
            await asyncio.sleep(0.01)
    assert not waiting.done()
    fed.api.publish(packed, parts=slice(0, 2))
    found = await waiting
    assert len(found.bundle.policies) == 12
    assert fed.feed.trouble == ""


async def test_a_corrupt_bundle_is_refused_once_and_a_good_one_heals(fed: Fed) -> None:
    packed = fed.good()
    fed.api.publish(packed)
    await fed.loaded()
    data = packed.config_maps("app")["ostiary-app"]
    fed.api.put("configmaps", "ostiary-app", {"data": {**data, "bundle.jsonl": data["bundle.jsonl"] + "x"}})
    assert isinstance(await fed.outcome(), Rejected)
    assert "is not that of its revision" in fed.feed.trouble
    fed.api.publish(bundle(connection(), DENY, secrets=(fed.api.secret("db", username="u", password="p"),)))
    assert set((await fed.loaded()).bundle.policies) == {("shop", "deny")}
    assert fed.feed.trouble == ""


async def test_a_bundle_that_admission_does_not_guard_is_not_taken(fed: Fed) -> None:
    fed.api.publish(fed.good())
    await fed.loaded()
    forged = bundle(connection(), secrets=()).config_maps("app")["ostiary-app"]
    fed.api.put("configmaps", "ostiary-app", {"data": forged}, labels={})
    waiting = asyncio.create_task(fed.loaded())
    async with asyncio.timeout(20):
        while "of the operator's (app.kubernetes.io/managed-by: ostiary-operator)" not in fed.feed.trouble:
            await asyncio.sleep(0.01)
    assert not waiting.done()
    fed.api.publish(bundle(connection(), DENY, secrets=(fed.api.secret("db", username="u", password="p"),)))
    assert set((await waiting).bundle.policies) == {("shop", "deny")}
    assert fed.feed.trouble == ""


async def test_nor_is_a_part_of_one(fed: Fed) -> None:
    packed = bundle(connection(), *(policy(f"p{n}") for n in range(12)), max_part_bytes=500)
    others = dict(packed.config_maps("app"))
    fed.api.put("configmaps", "ostiary-app-part-1", {"data": others.pop("ostiary-app-part-1")}, labels={})
    for name, data in reversed(others.items()):
        fed.api.put("configmaps", name, {"data": data})
    waiting = asyncio.create_task(fed.loaded())
    async with asyncio.timeout(20):
        while "ConfigMap ostiary-app-part-1 is not the operator's" not in fed.feed.trouble:
            await asyncio.sleep(0.01)
    fed.api.publish(packed)
    assert len((await waiting).bundle.policies) == 12


async def test_what_is_no_bundle_at_all_is_refused(fed: Fed) -> None:
    fed.api.put("configmaps", "ostiary-app", {"data": {"revision": "1", "parts": "1e9", "bundle.jsonl": ""}})
    assert isinstance(await fed.outcome(), Rejected)
    fed.api.put("configmaps", "ostiary-app", {"binaryData": {"x": "AA=="}})
    assert isinstance(await fed.outcome(), Rejected)


async def test_a_bundle_that_cannot_be_compiled_is_refused(fed: Fed, monkeypatch: pytest.MonkeyPatch) -> None:
    fed.api.publish(fed.good())
    before = await fed.loaded()

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patched:
        patched.setattr("ostiary_gateway.feed.configmap.compile_feed", broken)
        fed.api.publish(bundle(connection(), DENY, secrets=(fed.api.secret("db", username="u", password="p"),)))
        assert isinstance(await fed.outcome(), Rejected)
    assert "it cannot be compiled: RuntimeError" in fed.feed.trouble
    fed.api.publish(bundle(connection(), policy("better")))
    assert (await fed.loaded()).revision != before.revision


async def test_the_bundle_of_another_namespace_is_refused(fed: Fed) -> None:
    fed.api.publish(bundle(namespace="elsewhere"))
    found = await fed.outcome()
    assert isinstance(found, Rejected)
    assert "it is for namespace elsewhere, not for shop" in found.problems[0].message


async def test_what_could_not_be_put_in_force_comes_again(fed: Fed) -> None:
    packed = fed.good()
    fed.api.publish(packed)
    assert (await fed.loaded()).revision == packed.revision
    await fed.again()
    assert (await fed.loaded()).revision == packed.revision


async def test_a_missing_secret_closes_its_connection_only_and_comes_later(fed: Fed) -> None:
    db, token = fed.api.secret("db", username="u", password="p"), fed.api.token()
    fed.api.forbidden = {"db"}
    spec: Any = {"mode": "Disable"}
    other = connection("other", port=6000, secret="planner", upstream={"host": "x", "tls": spec})
    fed.api.publish(bundle(connection(), other, secrets=(db, token)))
    found = await fed.loaded()
    assert set(found.closed) == {("shop", "app"), ("shop", "other")}
    assert "the gateway may not read it yet" in found.closed["shop", "app"]
    assert "Secret planner has no password" in found.closed["shop", "other"]
    assert [(each.kind, each.name, each.field) for each in found.problems] == [
        ("Connection", "app", "spec.credentials.static.secretRef"),
        ("Connection", "other", "spec.credentials.static.secretRef"),
    ]
    fed.api.forbidden = set()
    assert set((await fed.loaded()).closed) == {("shop", "other")}


async def test_a_token_whose_new_version_cannot_be_read_opens_nothing(fed: Fed) -> None:
    db = fed.api.secret("db", username="u", password="p")
    fed.api.publish(bundle(connection(), secrets=(db, fed.api.token())))
    assert ("shop", "planner") in (await fed.loaded()).secrets
    fed.api.forbidden = {"planner", "db"}
    newer = fed.api.secret("db", username="u", password="q"), fed.api.token()
    fed.api.publish(bundle(connection(), secrets=newer))
    found = await fed.loaded()
    assert ("shop", "planner") not in found.secrets
    assert found.secrets["shop", "db"].text("password") == "p"
    assert found.closed == {}
    assert [(each.kind, each.name) for each in found.problems] == [("Secret", "db"), ("Secret", "planner")]


async def test_a_secret_that_the_bundle_names_no_more_is_forgotten(fed: Fed) -> None:
    fed.api.publish(fed.good())
    await fed.loaded()
    fed.api.publish(bundle(connection(), policy()))
    found = await fed.loaded()
    assert found.secrets == {}
    assert "it does not exist" in found.closed["shop", "app"]


async def test_a_deleted_config_map_changes_nothing_and_is_told(fed: Fed) -> None:
    packed = fed.good()
    fed.api.publish(packed)
    await fed.loaded()
    waiting = asyncio.create_task(fed.loaded())
    await asyncio.sleep(0.05)
    fed.api.remove("configmaps", "ostiary-app")
    async with asyncio.timeout(20):
        while "there is no ConfigMap ostiary-app any more" not in fed.feed.trouble:
            await asyncio.sleep(0.01)
    fed.api.publish(packed)
    async with asyncio.timeout(20):
        while fed.feed.trouble:
            await asyncio.sleep(0.01)
    assert not waiting.done()
    waiting.cancel()


async def test_after_a_restart_without_an_api_server_the_copy_is_served_and_closed(fed: Fed) -> None:
    packed = fed.good()
    fed.api.publish(packed)
    await fed.loaded()
    later = asyncio.create_task(fed.outcome())
    async with asyncio.timeout(20):
        while not (fed.data / "bundle.json").exists():
            await asyncio.sleep(0.01)
    later.cancel()
    await asyncio.gather(later, return_exceptions=True)
    await fed.stop()
    fed.api.leave()
    await fed.start()
    found = await fed.loaded()
    assert found.revision == packed.revision
    assert "cannot be reached" in found.closed["shop", "app"]
    assert "the API server is not heard" in fed.feed.trouble
    fed.api.away = False
    while found.closed:
        found = await fed.loaded()
    assert found.secrets["shop", "db"].text("password") == "p"


async def test_a_restart_on_a_corrupt_bundle_serves_the_copy(fed: Fed) -> None:
    await fed.stop()
    packed = fed.good()
    KeptBundle(fed.data, "app").write(packed.revision, "".join(packed.parts))
    fed.api.put("configmaps", "ostiary-app", {"data": {"revision": "x", "parts": "1", "bundle.jsonl": "y"}})
    await fed.start()
    assert isinstance(await fed.outcome(), Rejected)
    assert (await fed.loaded()).revision == packed.revision
    assert "is not taken, and the last good bundle stays" in fed.feed.trouble


async def test_another_system_namespace_takes_rights_away(fed: Fed) -> None:
    spec = policy().spec.model_copy(update={"priority": 5})
    high = policy("high").model_copy(update={"spec": spec})
    system = high.model_copy(update={"metadata": high.metadata.model_copy(update={"namespace": "ostiary-system"})})
    fed.api.publish(bundle(connection(), system))
    assert not (await fed.loaded()).bundle.policies["ostiary-system", "high"].problems
    fed.api.publish(bundle(connection(), system, system_namespace="elsewhere"))
    assert any("only for policies in namespace elsewhere" in each.message for each in (await fed.loaded()).problems)


async def test_no_bundle_yet_is_said_so(fed: Fed) -> None:
    waiting = asyncio.create_task(fed.outcome())
    async with asyncio.timeout(20):
        while "there is no ConfigMap ostiary-app yet" not in fed.feed.trouble:
            await asyncio.sleep(0.01)
    assert (await fed.feed.load()).bundle.connections == {}
    fed.api.publish(bundle())
    found = await waiting
    assert isinstance(found, Loaded)
    assert found.bundle.connections == {}


async def test_the_copy_has_no_secret_in_it(fed: Fed) -> None:
    db = fed.api.secret("db", username="sesame", password="open-sesame")
    fed.api.publish(bundle(connection(), policy(), secrets=(db,)))
    await fed.loaded()
    later = asyncio.create_task(fed.outcome())
    async with asyncio.timeout(20):
        while not (fed.data / "bundle.json").exists():
            await asyncio.sleep(0.01)
    later.cancel()
    text = (fed.data / "bundle.json").read_text()
    assert "sesame" not in text
    assert json.loads(text)["revision"]
    assert (fed.data / "bundle.json").stat().st_mode & 0o777 == 0o600
