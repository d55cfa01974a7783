"""The directory feed, on real files: what a change on the disk makes of the bundle in force."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ostiary_gateway.feed.directory import DirectoryFeed
from ostiary_gateway.feed.loading import Loaded, Rejected

CONNECTION = """\
apiVersion: ostiary.dev/v1alpha1
kind: Connection
metadata: {name: app, namespace: prod}
spec:
  protocol: Postgres
  upstream: {host: db.example}
  credentials: {static: {secretRef: {name: login}}}
  listener: {port: 6432}
---
apiVersion: v1
kind: Secret
metadata: {name: login, namespace: prod}
stringData: {username: app, password: hunter2}
"""

POLICY = """\
apiVersion: ostiary.dev/v1alpha1
kind: GatewayPolicy
metadata: {name: guard, namespace: prod}
spec:
  rules:
  - {name: readers, action: Allow, expression: "EXPRESSION"}
"""

GOOD = POLICY.replace("EXPRESSION", "sql.statements.all(s, s.readOnly)")
BETTER = POLICY.replace("EXPRESSION", "request.subject.username == 'ann'")
WRONG = POLICY.replace("EXPRESSION", "sql.statments.all(s, s.readOnly)")


@pytest.fixture
def manifests(tmp_path: Path) -> Path:
    folder = tmp_path / "manifests"
    folder.mkdir()
    (folder / "app.yaml").write_text(CONNECTION)
    (folder / "guard.yaml").write_text(GOOD)
    return folder


class Watched:
    """A feed that has loaded once, and its next outcomes."""

    def __init__(self, *paths: Path) -> None:
        self.feed = DirectoryFeed(paths, interval=0.02, settled=0.02)
        self.changes: AsyncIterator[Loaded | Rejected] = self.feed.changes()

    async def first(self) -> Loaded:
        outcome = await self.feed.load()
        assert isinstance(outcome, Loaded), outcome
        return outcome

    async def next(self) -> Loaded | Rejected:
        return await asyncio.wait_for(anext(self.changes), 5)

    async def good(self) -> Loaded:
        outcome = await self.next()
        assert isinstance(outcome, Loaded), outcome
        return outcome

    async def nothing(self) -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(self.changes), 0.3)
        self.changes = self.feed.changes()


async def test_a_changed_policy_is_a_new_bundle(manifests: Path) -> None:
    watched = Watched(manifests)
    first = await watched.first()
    assert set(first.bundle.connections) == {("prod", "app")}
    (manifests / "guard.yaml").write_text(BETTER)
    second = await watched.good()
    assert second.bundle.revision != first.bundle.revision
    assert second.problems == ()


async def test_a_policy_that_does_not_compile_keeps_its_last_accepted_revision(manifests: Path) -> None:
    watched = Watched(manifests)
    first = await watched.first()
    (manifests / "guard.yaml").write_text(WRONG)
    second = await watched.good()
    assert second.bundle.policies["prod", "guard"] is first.bundle.policies["prod", "guard"]
    problem = second.problems[0]
    assert str(problem.location) == f"{manifests / 'guard.yaml'}:6"
    assert "statments" in problem.message


async def test_a_file_that_is_no_yaml_leaves_everything_as_it_is(manifests: Path) -> None:
    watched = Watched(manifests)
    await watched.first()
    (manifests / "guard.yaml").write_text("kind: [")
    refused = await watched.next()
    assert isinstance(refused, Rejected)
    assert refused.problems[0].location.file == str(manifests / "guard.yaml")
    (manifests / "guard.yaml").write_text(GOOD)
    assert (await watched.good()).problems == ()


async def test_a_connection_that_does_not_parse_leaves_everything_as_it_is(manifests: Path) -> None:
    watched = Watched(manifests)
    await watched.first()
    (manifests / "app.yaml").write_text(CONNECTION.replace("port: 6432", "port: 0"))
    refused = await watched.next()
    assert isinstance(refused, Rejected)
    assert [problem.field for problem in refused.problems] == ["spec.listener.port"]


async def test_a_secret_that_changes_is_loaded_though_no_policy_changed(manifests: Path) -> None:
    watched = Watched(manifests)
    first = await watched.first()
    (manifests / "app.yaml").write_text(CONNECTION.replace("hunter2", "hunter3"))
    second = await watched.good()
    assert second.bundle.revision == first.bundle.revision
    secret = second.manifests.secret("prod", "login")
    assert secret is not None
    assert secret.text("password") == "hunter3"


async def test_an_editor_that_replaces_the_file_is_seen(manifests: Path) -> None:
    watched = Watched(manifests / "app.yaml", manifests / "guard.yaml")
    first = await watched.first()
    (manifests / ".guard.yaml.swp").write_text(BETTER)
    (manifests / ".guard.yaml.swp").rename(manifests / "guard.yaml")
    assert (await watched.good()).bundle.revision != first.bundle.revision


async def test_a_mounted_configmap_that_swaps_its_link_is_one_change(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    for version, policy in (("..1", GOOD), ("..2", BETTER)):
        (mount / version).mkdir(parents=True)
        (mount / version / "app.yaml").write_text(CONNECTION)
        (mount / version / "guard.yaml").write_text(policy)
    (mount / "..data").symlink_to("..1")
    for name in ("app.yaml", "guard.yaml"):
        (mount / name).symlink_to(Path("..data") / name)
    watched = Watched(mount)
    first = await watched.first()
    (mount / "..data_tmp").symlink_to("..2")
    (mount / "..data_tmp").replace(mount / "..data")
    assert (await watched.good()).bundle.revision != first.bundle.revision
    await watched.nothing()


async def test_files_that_are_touched_or_of_no_concern_change_nothing(manifests: Path) -> None:
    watched = Watched(manifests)
    await watched.first()
    os.utime(manifests / "app.yaml")
    (manifests / "README.md").write_text("not a manifest")
    await watched.nothing()


async def test_a_directory_that_goes_away_leaves_everything_as_it_is(manifests: Path) -> None:
    watched = Watched(manifests)
    await watched.first()
    manifests.rename(manifests.with_name("gone"))
    refused = await watched.next()
    assert isinstance(refused, Rejected)
    assert "No such file" in refused.problems[0].message


async def test_poke_loads_at_once_though_nothing_changed(manifests: Path) -> None:
    watched = Watched(manifests)
    first = await watched.first()
    watched.feed.poke()
    assert (await watched.good()).bundle.revision == first.bundle.revision
