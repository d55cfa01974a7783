"""The copy of the bundle on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.feeds import bundle, connection

from ostiary_api.bundle_feed import BundleError
from ostiary_gateway.feed.kept import FILE, KeptBundle


def test_what_was_written_is_read(tmp_path: Path) -> None:
    packed = bundle(connection())
    kept = KeptBundle(tmp_path / "data", "app")
    assert kept.read() is None
    kept.write(packed.revision, "".join(packed.parts))
    found = kept.read()
    assert found is not None
    assert found.revision == packed.revision
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == [FILE]


@pytest.mark.parametrize("damage", [b"", b"{", b'{"revision": "x", "text": "y"}', b"[1]", b"\xff"])
def test_what_was_damaged_is_not_taken(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / FILE).write_bytes(damage)
    with pytest.raises(BundleError):
        KeptBundle(tmp_path, "app").read()


def test_the_bundle_of_another_gateway_is_not_taken(tmp_path: Path) -> None:
    packed = bundle(connection())
    KeptBundle(tmp_path, "app").write(packed.revision, "".join(packed.parts))
    with pytest.raises(BundleError, match="is for gateway app, not for other"):
        KeptBundle(tmp_path, "other").read()
