"""Gateways of a cluster as the console asks them: whom it believes, and whose session it ends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ostiary_console.gateways import Found, Gateways
from ostiary_console.problems import Problem


async def test_a_session_is_ended_by_its_connection_and_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway can claim the id of another's session. Whoever may end sessions there may not end that one by it."""
    real = {"session": "01aaaa", "connection": "shop/app", "gateway": "shop/app", "at": "10.0.0.1:1"}
    claimed = {**real, "connection": "evil/app", "gateway": "evil/gw", "at": "10.0.0.2:1"}
    asked: list[str] = []

    async def live() -> Found:
        return Found([real, claimed])

    async def ask(method: str, address: str, *_: object) -> Mapping[str, Any]:
        asked.append(address)
        return {"ended": "01aaaa"}

    async def records() -> list[Mapping[str, object]]:
        return []

    gateways = Gateways(records, None)
    monkeypatch.setattr(gateways, "live", live)
    monkeypatch.setattr(gateways, "_ask", ask)
    await gateways.end("mallory", "evil/app", "01aaaa", "")
    assert asked == ["10.0.0.2:1"]
    await gateways.end("ann", "shop/app", "01aaaa-2", "")
    assert asked[1:] == ["10.0.0.1:1"]
    with pytest.raises(Problem, match="open at no gateway"):
        await gateways.end("ann", "shop/other", "01aaaa", "")
