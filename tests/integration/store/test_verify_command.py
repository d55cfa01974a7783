"""`ostiary verify --store`, as a person runs it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.sealed_store import Site
from support.sealed_store import site as site_of

from ostiary_cli.main import cli
from ostiary_store.store import Store


@pytest.fixture
async def site(address: str, store: Store, tmp_path: Path) -> AsyncIterator[Site]:
    site = await site_of(address, store, tmp_path)
    site.gateway.session("s1", 2)
    site.gateway.close("s1")
    await site.sealed()
    yield site
    await site.gateway.recorder.close()


async def run(*arguments: str) -> Result:
    """In a thread: the command has a loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, cli, arguments)


async def test_a_whole_store(site: Site, tmp_path: Path) -> None:
    keys = tmp_path / "copy.pub"
    keys.write_text(f"{site.key.line}\n")
    done = await run("verify", "--store", site.address, "--keys", str(keys))
    assert done.exit_code == 0, done.output
    assert "2 sessions, " in done.output
    assert "3 requests, " in done.output
    assert "last seal 1:" in done.output
    assert "✓ The store is whole." in done.output
    assert "note:" not in done.output


async def test_without_a_copy_of_the_key_it_says_what_that_is_worth(site: Site) -> None:
    done = await run("verify", "--store", site.address)
    assert done.exit_code == 0
    assert f"note: seals were checked with the key that the store itself names ({site.key.id})" in done.output
    seal = site.sealer.last
    assert seal is not None
    done = await run("verify", "--store", site.address, "--anchor", f"{seal.number}:{seal.hash.hex()}")
    assert done.exit_code == 0
    assert "note:" not in done.output


async def test_what_was_changed_is_named(site: Site) -> None:
    await site.sql("update request set text = 'select 3' where session = {s1} and number = 2")
    done = await run("verify", "--store", site.address)
    assert done.exit_code == 1
    assert "s1: the text of request 2 in the search was changed to 'select 3', from 'select 2'\n" in done.output
    assert "✗ 1 finding: the store is not as it was written." in done.output
    done = await run("verify", "--store", site.address, "--session", "s1", "--json")
    told = json.loads(done.output)
    assert (done.exit_code, told["ok"], told["found"], told["sessions"]) == (1, False, 1, 1)
    done = await run("verify", "--store", site.address, "--quick")
    assert done.exit_code == 0
    assert "leave out --quick" in done.output


async def test_by_the_settings_of_the_service(site: Site, tmp_path: Path) -> None:
    (tmp_path / "url").write_text(site.address)
    settings = f"store: {{urlFile: url}}\nrecordings: {{bucket: 'file://{tmp_path}/bucket'}}\n"
    (tmp_path / "store.yaml").write_text(settings)
    done = await run("verify", "--config", str(tmp_path / "store.yaml"))
    assert done.exit_code == 0, done.output
    assert "✓ The store is whole." in done.output


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("--session", "nobody"), 3, "nobody"),
        (("--anchor", "7"), 3, "not an anchor"),
        (("--keys", "/nowhere/keys"), 3, "cannot be read"),
        (("--since", "yesterday"), 2, "--since"),
    ],
)
async def test_what_cannot_be_done_is_said(site: Site, arguments: tuple[str, ...], status: int, says: str) -> None:
    done = await run("verify", "--store", site.address, *arguments)
    assert done.exit_code == status, done.output
    assert says in done.output


async def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    done = await run("verify", "--store", "postgresql://nobody@127.0.0.1:1/none")
    assert done.exit_code == 3
    assert "Error: " in done.output


async def test_what_expired_is_listed(site: Site) -> None:
    done = await run("store", "retention", "--store", site.address, "--record", "90d")
    assert (done.exit_code, done.output) == (0, "Nothing has expired, and nothing is due.\n")


async def test_a_file_that_is_not_there_is_no_whole_store(tmp_path: Path) -> None:
    for command in ("verify", "store retention"):
        done = await run(*command.split(), "--store", f"sqlite:{tmp_path / 'mistyped.db'}")
        assert (done.exit_code, "There is no store at" in done.output) == (3, True), done.output
    assert not (tmp_path / "mistyped.db").exists()
