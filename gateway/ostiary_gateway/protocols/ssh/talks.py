"""A talk: a protocol inside one channel, such as SFTP, of which each operation is decided. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .questions import Admission, Question

Piece = bytes | memoryview


class Talk(Protocol):
    """Sits between the two directions of one channel. The core empties the lists after each call."""

    to_client: list[Piece]
    """Standard output towards the client."""
    to_stderr: list[bytes]
    """Standard error towards the client, of the gateway's own."""
    to_target: list[Piece]
    """Standard input of the target."""
    questions: list[Question]
    """To be decided; until `answer` the talk holds what follows in that channel."""
    over: str
    """Not empty: the channel must end, for this reason."""
    held: int
    """Bytes of the client that wait for a decision: no window is given for them."""
    client_done: bool
    """After `client_eof`: nothing is held any more, so that EOF may go on to the target."""

    def passes_up(self, data: Piece) -> bool:
        """True if all of this goes on to the target as it is, and nothing else happens; it was counted then, and is not
        given to `from_client`."""

    def passes_down(self, data: Piece) -> bool:
        """The same from the target to the client."""

    def from_client(self, data: Piece) -> None: ...

    def from_target(self, data: Piece) -> None:
        """The target's standard output. Its standard error passes by."""

    def client_eof(self) -> None: ...

    def target_eof(self) -> None: ...

    def answer(self, question: Question, admission: Admission) -> None: ...

    def recheck(self, still: Callable[[Question, Admission], str]) -> None:
        """Other policies are in force: what `still` says of why it may not go on goes no further."""

    def ended(self) -> None:
        """The channel is over, whichever way: ends every request that was begun."""

    def end_detail(self) -> dict[str, object]:
        """For the record of the request that the channel itself was."""
