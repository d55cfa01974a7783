"""Looks at questions, and has receivers told what they were not told yet. What they were told is kept with each.

Each receiver hears of one question in order, one step after the other. A message is sent at least once; its id is the
same whoever sends it, so that a receiver can drop the second of two.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Final

import orjson

from ostiary_api.approval import ApprovalRequest, ToldReceiver
from ostiary_api.logs import get_logger
from ostiary_notify.happened import Happening, identity, merged, message_id, next_untold, of_receiver, with_told
from ostiary_notify.payload import Place, webhook
from ostiary_notify.sender import Message, Result, Sender
from ostiary_notify.settings import Notifications, Receiver
from ostiary_notify.slack import slack

log = get_logger(__name__)

MAX_REMEMBERED: Final = 10_000

Wake = Callable[[str], None]
"""Called with the key (namespace/name) of a question that has to be looked at again."""


class Notifier:
    """`look` at a question whenever it changed, and when woken; store what it returns in the question's status.

    It runs with `Sender.run`: nothing is sent otherwise.
    """

    def __init__(
        self,
        settings: Notifications,
        sender: Sender,
        wake: Wake,
        *,
        cluster: bool,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._settings = settings
        self._sender = sender
        self._wake = wake
        self._place = Place(settings.console_url, cluster)
        self._clock = clock
        self._told: dict[str, dict[str, ToldReceiver]] = {}
        """What was told and may not be stored yet, by question and receiver."""
        self._busy: set[tuple[str, str]] = set()

    def look(self, request: ApprovalRequest) -> tuple[ToldReceiver, ...] | None:
        """Has sent what is due. What the status must say from now on; None: as it does."""
        which = identity(request)
        here = self._told.get(which, {})
        wanted: list[ToldReceiver] = []
        for receiver in self._settings.receivers:
            stored = of_receiver(request.status, receiver.name)
            told = merged(stored, here.get(receiver.name))
            if told is not None:
                wanted.append(told)
            self._next(request, which, receiver, told)
        if all(each == of_receiver(request.status, each.receiver) for each in wanted):
            self._told.pop(which, None)
            return None
        return tuple(wanted)

    def _next(self, request: ApprovalRequest, which: str, receiver: Receiver, told: ToldReceiver | None) -> None:
        if (which, receiver.name) in self._busy:
            return
        due = next_untold(request, receiver, told, self._clock(), self._settings.fresh_for)
        if due is None:
            return
        build = webhook if receiver.type == "Webhook" else slack
        body = orjson.dumps(build(request, due, self._place, evidence=receiver.evidence))
        message = Message(message_id(request, due), body, f"{due.step} {request.key}")
        if self._sender.offer(receiver.name, message, partial(self._done, request.key, which, receiver.name, due)):
            self._busy.add((which, receiver.name))

    def _done(self, key: str, which: str, receiver: str, due: Happening, result: Result) -> None:
        """Told, or given up: either way it is not told again."""
        self._busy.discard((which, receiver))
        while len(self._told) >= MAX_REMEMBERED:
            # Those of questions that went before their status could be written.
            self._told.pop(next(iter(self._told)))
        here = self._told.setdefault(which, {})
        here[receiver] = with_told(here.get(receiver), receiver, due)
        self._wake(key)
