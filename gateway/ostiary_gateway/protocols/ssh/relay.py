"""One client's session after its login: the two legs, the core between them, and the desk that decides."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .desk import Desk
    from .transport import Leg, Receiver


class Relay:
    """From the end of the agent's login to the close.

    The target's leg may come later (`attach`): until then nothing is sent to it, and clients wait. `client_side` and
    `target_side` are the receivers of the legs; the lobby sets `leg.receiver` to them.
    """

    def __init__(self, desk: Desk, client: Leg) -> None:
        self.client_side: Receiver
        self.target_side: Receiver
        self.over: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Why the session is over, once it is. `run` ends with that."""
        self.active = 0.0
        """time.monotonic() when a packet came last from either side."""
        self.rows = self.bytes = self.written = 0
        """What the session has read and written (checkpoint.Tally)."""
        raise NotImplementedError

    def attach(self, target: Leg) -> None:
        """The target is there, logged in."""

    async def run(self) -> str:
        """Until the session is over, however it ends; says why. Cancelled: both legs are closed, all requests ended."""
        raise NotImplementedError

    @property
    def idle(self) -> bool:
        """True while no channel is open and nothing is being decided."""
        raise NotImplementedError

    def leave(self, message: str) -> None:
        """Ends as soon as nothing is under way."""

    def stop(self, message: str) -> None:
        """Ends now: running channels hear why on stderr, then SSH_MSG_DISCONNECT with the same words."""

    def target_away(self, message: str) -> None:
        """The target could not be reached, or refuses the login: the client is told by SSH_MSG_DISCONNECT."""

    def recheck(self) -> None:
        """Other policies are in force: what they would not let through ends."""

    def end_request(self, number: int, message: str) -> bool:
        """Ends one running request of this session. False: it does not run."""
        raise NotImplementedError

    def count_bytes(self) -> None:
        """Tells the counters what went through since the last time."""
