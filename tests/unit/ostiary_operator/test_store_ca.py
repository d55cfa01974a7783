"""Who may sign the store's certificate: what is taken for a list of authorities, and that a new one is told."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ostiary_operator import store_ca

ONE = "-----BEGIN CERTIFICATE-----\nb25l\n-----END CERTIFICATE-----\n"
TWO = ONE.replace("b25l", "dHdv")


@pytest.mark.parametrize(
    "content",
    [b"", b"no certificate", b"\xff\xfe", ONE.encode() + b"-----BEGIN RSA PRIVATE KEY-----", ONE.encode() * 3000],
    ids=["empty", "other", "bytes", "a key", "too long"],
)
def test_what_is_no_list_of_authorities_is_left_out(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "ca.crt"
    file.write_bytes(content)
    assert store_ca.read(str(file)) == ""


def test_without_a_file_the_images_authorities_hold(tmp_path: Path) -> None:
    assert store_ca.read("") == ""
    assert store_ca.read(str(tmp_path / "none")) == ""
    assert store_ca.read(str(tmp_path)) == ""


async def test_a_new_file_is_told_once_and_one_that_is_gone_is_not(tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_text(ONE)
    told: asyncio.Queue[str] = asyncio.Queue()
    watching = asyncio.create_task(store_ca.watch(str(file), store_ca.read(str(file)), told.put_nowait, every=0.01))
    try:
        await asyncio.sleep(0.05)
        file.unlink()
        await asyncio.sleep(0.05)
        assert told.empty()
        file.write_text(TWO)
        assert await asyncio.wait_for(told.get(), 5) == TWO
        await asyncio.sleep(0.05)
        assert told.empty()
    finally:
        watching.cancel()
