"""What the parts of the protocol ask each other: something that an agent asks for, and what is said of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from ostiary_gateway.visible import visible

if TYPE_CHECKING:
    from ostiary_gateway.checkpoint import Gate, Verdict
    from ostiary_gateway.masking.detectors import Detectors
    from ostiary_gateway.masking.streaming import StreamMask

Kind = Literal["exec", "shell", "subsystem", "sftp", "scp", "forward", "agent", "x11", "env"]
Outcome = Literal["ok", "error", "denied", "skipped", "lost"]

PREFIX: Final = "ostiary: "
"""What every line begins with that the gateway itself says on stderr."""
EXIT_STATUS: Final = 126
"""Of a command that was not run: what a shell gives for one that may not be executed (POSIX, 2.8.2)."""


@dataclass(slots=True, eq=False)
class Question:
    """May this be? Made by the core or by a file protocol, answered by the desk with an Admission.

    `facts` need only those that are not neutral (facts.py has makers, which are the way to get one). `text` is one line
    for people and for the record.
    """

    kind: Kind
    facts: dict[str, object]
    text: str
    channel: int | None = None
    """The core's own key of the channel that it is about; None: of none."""
    detail: dict[str, object] = field(default_factory=dict)
    """More for its record."""
    exact: tuple[bytes, ...] = ()
    """What was sent, byte for byte, where the facts are only a reading of it: a grant is for these bytes."""
    tell: Callable[[str], None] | None = None
    """Takes a line for the client while it is held (with PREFIX, without the line's end). None: nobody can be told."""
    find: Callable[[Callable[[str, str], None]], None] | None = None
    """Begins to find out `ssh.realPath` and `ssh.realTarget`, and gives both to what it is called with: empty where it
    cannot be known. Called while `decide` runs, before it returns, and only if a rule needs it. None: they cannot be
    found out."""
    quiet: bool = False
    """If it is allowed it makes no record of its own (`number` 0, no `end`): what reads names and attributes, by the
    hundred. A refusal is recorded."""
    tag: object = None
    """Whoever asks keeps here what is to go on."""


@dataclass(slots=True, eq=False)
class Admission:
    """What is said of a question. It is already recorded, durably where the Connection is Strict: act on it at once.

    If it is `allowed` and `number` is not 0, `end` must be called for it once, whatever becomes of it.
    """

    allowed: bool
    verdict: Verdict | None = None
    """None if it could not be recorded, and so was refused."""
    lines: tuple[str, ...] = ()
    """What the client is told, without PREFIX: why it is refused, the essence first, then the hint, then JSON for
    agents. For what is allowed: who approved it, if somebody did. Nothing in them steers a terminal."""
    detectors: Detectors | None = None
    """What is masked in text that goes to the client; None: nothing."""
    gate: Gate | None = None
    keeps: bool = False
    """Whether what the client sees of it is kept: `record` does nothing otherwise."""
    whole: bool = False
    """Whether it may go on only as long as it is kept: what runs in a shell is known from nothing else."""

    @property
    def number(self) -> int:
        """Of the request in its session; 0: it has no record."""
        return self.verdict.number if self.verdict is not None else 0

    @property
    def request(self) -> str:
        """The id of its record; empty if it has none."""
        return self.verdict.request if self.verdict is not None else ""

    @property
    def mask(self) -> Callable[[], StreamMask] | None:
        """Makes what goes over one stream to the client: one each for stdout and stderr, and for each file."""
        if self.detectors is None:
            return None
        from ostiary_gateway.masking.streaming import StreamMask

        detectors = self.detectors
        return lambda: StreamMask(detectors)

    def record(self, data: bytes | memoryview) -> None:
        """Keeps frames of what the client has seen (audit/stream_recording.py, its header first)."""
        if self.keeps and self.gate is not None:
            self.gate.response(self.number, data)

    def end(self, outcome: Outcome, detail: Mapping[str, object] | bytes, size: int) -> None:
        """It is over. `detail`: exit status or signal, bytes, digests. `size`: bytes that went to the client."""
        if self.number and self.allowed and self.gate is not None:
            gate, self.gate = self.gate, None
            gate.end(self.number, outcome, detail, 0, size)

    def stderr(self, *, pty: bool = False) -> bytes:
        """The lines as a person sees them in their terminal; empty if there are none."""
        end = "\r\n" if pty else "\n"
        return "".join(f"{PREFIX}{line}{end}" for line in self.lines).encode()

    @property
    def message(self) -> str:
        """One line: for CHANNEL_OPEN_FAILURE, a disconnect, a status of SFTP."""
        parts = [line for line in self.lines if not line.startswith("{")]
        return PREFIX + " ".join(parts)


Decided = Admission | Awaitable[Admission]
"""What a desk says: at once where nothing must be waited for. Whoever waits may be cancelled at any time."""


def told(text: str) -> str:
    """Words from elsewhere as one line that cannot steer a terminal."""
    return visible(" ".join(text.split()))
