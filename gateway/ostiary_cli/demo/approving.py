"""The scene in which a person is asked: a large update waits, is approved, runs once, and asks again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from ostiary_cli.admin_socket import AdminSocket, Item
from ostiary_cli.demo.clients import Outcome

if TYPE_CHECKING:
    from ostiary_cli.demo.stage import Stage

LARGE: Final = "update orders set status = 'delivered' where id <= 4000"
TRUTH: Final = "select count(*) from orders where status = 'delivered' and id <= 4000"
PATIENCE: Final = 150.0
"""Seconds that the agent's client waits; the rule holds it for two minutes."""


async def play(stage: Stage, *, answer: bool) -> str:
    """Plays it; `answer`: the demo approves by itself, else a person must. What was not as it should be."""
    stage.show.question(LARGE)
    running = asyncio.create_task(stage.client.run(stage.agent, [LARGE], PATIENCE))
    try:
        item = await _asked(stage, running)
        if item is None:
            return "nobody was asked"
        name = item["approval"]["metadata"]["name"]
        stage.show.asked(item, stage.called(f"approve {name}"), by_itself=answer)
        if answer:
            await asyncio.to_thread(AdminSocket(stage.data).decide, name, "Approve", "the demo says yes")
        seen = await running
    finally:
        running.cancel()
    held = await stage.client.run(stage.database, [TRUTH])
    # In a transaction nobody waits, so the answer comes at once.
    again = await stage.client.run(stage.agent, ["begin", LARGE, "rollback"])
    decided = str((await asyncio.to_thread(AdminSocket(stage.data).approval, name))["state"])
    wrong = _wrong(decided, seen, held, again) if answer else ""
    stage.show.answered(stage.client.name, seen.text, held.text, again.text, decided, wrong)
    return wrong


async def _asked(stage: Stage, running: asyncio.Task[Outcome]) -> Item | None:
    """The question, once it is there."""
    socket = AdminSocket(stage.data)
    while not running.done():
        found = await asyncio.to_thread(socket.approvals)
        if found:
            return found[0]
        await asyncio.sleep(0.1)
    return None


def _wrong(decided: str, seen: Outcome, held: Outcome, again: Outcome) -> str:
    if decided != "Consumed" or "UPDATE 4000" not in seen.text or seen.failed:
        return "it did not run when it was approved"
    if "4000" not in held.text:
        return "the database does not show the change"
    if "#large-changes" not in again.text or not again.failed:
        return "the same text did not ask again"
    return ""
