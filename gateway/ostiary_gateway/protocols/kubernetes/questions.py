"""What the parts of the protocol ask each other: a request to decide, what is said of it, a question upstream."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ostiary_gateway.checkpoint import Verdict

    from .request_info import RequestInfo
    from .wire import Request

Header = tuple[bytes, bytes]
"""Name, in lower case, and value."""


@dataclass(slots=True)
class Ask:
    """One request that is to be decided.

    `verb` is the policy's, `text` one line for people: method and target. `facts` are `k8s` without what is costly.
    `detail` goes into the record with it.
    """

    request: Request
    info: RequestInfo
    verb: str
    text: str
    facts: dict[str, object]
    detail: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """A response that the gateway makes by itself, whole. `close`: the connection ends with it."""

    status: int
    body: bytes = field(repr=False)
    headers: tuple[Header, ...] = ()
    content_type: bytes = b"application/json"
    close: bool = False


class BodyMask(Protocol):
    """Goes over a body as it streams. What comes out may lag behind what went in, by a bounded amount."""

    touched: bool
    """Whether anything was changed."""

    def feed(self, data: bytes) -> list[bytes]: ...

    def finish(self) -> list[bytes]:
        """The body has ended: the rest."""


class Unmaskable(Exception):
    """A response cannot be masked, so that nothing of it may reach the client. The message says why."""


Shaper = Callable[[int, bytes], BodyMask | None]
"""Makes what goes over a response's body, from its status and content type; None: it passes. Raises Unmaskable."""


@dataclass(slots=True)
class Admission:
    """What is said of a request.

    `forward` is what goes upstream, before credentials and hop-by-hop headers are put right; None: it does not, and
    `reply` is the answer. `shapers` go over the response in this order. `headers` are more for the response. `settle`
    is asked about a 409 or 422 (status, body): with an Admission the request goes on by that, with None the answer
    passes. It goes upstream only when `waiter` has ended.
    """

    verdict: Verdict
    forward: Request | None
    reply: Reply | None = None
    shapers: tuple[Shaper, ...] = ()
    headers: tuple[Header, ...] = ()
    settle: Callable[[int, bytes], Awaitable[Admission | None]] | None = None
    waiter: Awaitable[None] | None = None
    recorder: Shaper | None = None
    """Goes over what is recorded of the response, after the shapers."""
    ask: Ask | None = None
    """What it was said of; None if the request could not even be understood."""
    start: bytes = b""
    """The part of the forwarded head that is the same for everybody, if it is known already."""


@dataclass(frozen=True, slots=True)
class Question:
    """Something that the gateway asks of the API server itself. `limit`: bytes of the answer that are taken."""

    method: str
    target: bytes
    headers: tuple[Header, ...] = ()
    body: bytes = field(default=b"", repr=False)
    limit: int = 64 << 20


@dataclass(frozen=True, slots=True)
class UpstreamAnswer:
    """The API server's answer to a Question."""

    status: int
    content_type: bytes
    body: bytes = field(repr=False)
    headers: tuple[Header, ...] = ()


class QuestionFailed(Exception):
    """A Question got no whole answer. The message says why."""
