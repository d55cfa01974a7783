"""What the console needs beside the store: rights, approvals, policies and live sessions. In a cluster, or here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from ostiary_console.signed_in import SignedIn
from ostiary_store.model import Scope

REVIEW: Final = "review"
TERMINATE: Final = "terminate"
Verb = Literal["review", "terminate", "approve"]

Manifest = Mapping[str, Any]
Item = Mapping[str, Any]
"""An approval: {"approval": ApprovalRequest, "state": …, "acting": {approver: capacity}}."""


@dataclass(frozen=True, slots=True)
class Decidable:
    """An approval, and whether this person may answer it as far as can be told before."""

    item: Item
    can_decide: bool
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class LiveNow:
    """Open sessions as gateways tell them (see `Gate.live`), each with its `gateway`; those that did not answer."""

    items: Sequence[Mapping[str, Any]]
    unreachable: tuple[str, ...] = ()


class World(Protocol):
    """Every method raises Problem; `who` is always the person who asks, and only what that person may is done."""

    standalone: bool

    async def scope(self, who: SignedIn) -> Scope:
        """The Connections whose recordings the person may see."""

    async def may(self, who: SignedIn, verb: Verb, connection: str) -> bool:
        """connection: `namespace/name`."""

    async def approvals(self, who: SignedIn, *, closed: bool) -> Sequence[Decidable]: ...

    async def approval(self, who: SignedIn, namespace: str, name: str) -> Decidable: ...

    async def decide(
        self, who: SignedIn, namespace: str, name: str, verdict: str, reason: str, shown_hash: str
    ) -> None:
        """Answers the question whose hash was shown; another one is refused."""

    async def pending(self, who: SignedIn) -> int | None:
        """How many questions wait, as it was some seconds ago at most; None if that is not known."""

    async def policies(self, who: SignedIn) -> Sequence[Manifest]: ...

    async def connections(self, who: SignedIn) -> Sequence[Manifest]: ...

    async def live(self) -> LiveNow:
        """Of all; the caller leaves out what a person may not see."""

    async def end(self, who: SignedIn, connection: str, target: str, reason: str) -> str:
        """Ends a live session or request of this Connection; its whole id. The caller has checked the right to it."""

    async def close(self) -> None: ...
