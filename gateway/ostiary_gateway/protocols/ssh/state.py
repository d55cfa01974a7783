"""One SSH session in the middle, without I/O: packets of the connection protocol (RFC 4254) in, packets and questions
out.

Both legs have sent their packets 80 to 100 here; what is to be sent stands in `to_client` and `to_target`, and what is
to be decided in `questions`. Whoever empties `questions` says `answer` for each, at once or later, in any order, unless
the question is in `withdrawn` by then: nobody waits for it any more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .questions import Admission, Question
    from .talks import Talk


class Session:
    """All channels and global requests of one client and its target.

    now: seconds of a clock that only grows. talks: the talk of a question that was allowed; None: a plain stream.
    """

    def __init__(
        self, *, now: Callable[[], float], talks: Callable[[Question, Admission], Talk | None] = lambda _q, _a: None
    ) -> None:
        self.to_client: list[bytes] = []
        self.to_target: list[bytes] = []
        self.questions: list[Question] = []
        self.withdrawn: list[Question] = []
        """Questions that nobody waits for any more: the client closed the channel."""
        self.over = ""
        """Why the gateway must end the whole connection (a client or a target that breaks the protocol)."""
        self._now, self._talks = now, talks

    def from_client(self, payload: bytes) -> None:
        """One packet, message number first."""
        raise NotImplementedError

    def from_target(self, payload: bytes) -> None:
        raise NotImplementedError

    def answer(self, question: Question, admission: Admission) -> None:
        """It is decided, and durably recorded if it must be."""
        raise NotImplementedError

    def find(self, question: Question) -> None:
        """A costly fact is wanted of a question that a talk has asked. It comes again in `questions`."""
        raise NotImplementedError

    def tell(self, question: Question, line: str) -> None:
        """One line on the standard error of the question's channel, if it has one: that an approval is waited for."""
        raise NotImplementedError

    def recheck(self, still: Callable[[Question, Admission], str]) -> None:
        """Ends what runs and for which `still` says why it may not any more."""
        raise NotImplementedError

    def end_request(self, number: int, message: str) -> bool:
        """Ends one running request, saying why. False: there is none of that number."""
        raise NotImplementedError

    @property
    def due(self) -> float | None:
        """Seconds from now until `tick` is wanted, for output that is held back; None: it is not."""
        raise NotImplementedError

    def tick(self) -> None:
        raise NotImplementedError

    @property
    def idle(self) -> bool:
        """True if no channel is open and nothing is being decided."""
        raise NotImplementedError

    def target_lost(self, problem: str) -> None:
        """The target is gone: clients hear why on the standard error of what ran; then everything is over."""
        raise NotImplementedError

    def client_lost(self) -> None:
        """The client is gone: every begun request ends."""
        raise NotImplementedError

    def stop(self, message: str) -> None:
        """The gateway ends the session: each channel hears why."""
        raise NotImplementedError
